"""OpenTelemetry's GenAI spans and metrics, as OTLP JSON: files of the collector's file exporter, or what a receiver kept.

Documented by OpenTelemetry: OTLP/JSON encoding, and the GenAI semantic conventions. `gen_ai.usage.input_tokens` "SHOULD
include all types of input tokens, including cached tokens", and `gen_ai.usage.cache_read.input_tokens` and
`.cache_creation.input_tokens` "SHOULD be included" in it. Older names (prompt_tokens, completion_tokens, gen_ai.system) are
read, too. Of spans within each other only the innermost with usage counts: agents repeat what their calls say.

The metric gen_ai.client.token.usage counts for services that have no such spans, since both tell of the same calls; its
points are deltas, or cumulative from the start that they state. Latencies are gen_ai.server.time_to_first_token and
.time_per_output_token. The deployment is the service's name.
Known to be missing: protobuf (ask the exporter for JSON); cached tokens and failed calls in metrics; latency buckets.
"""

from collections.abc import Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Final

from gpuledger.core.contracts import Connection
from gpuledger.core.file_columns import literal
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError
from gpuledger.models.token_requests import intervals

TYPE: Final = "otel-genai"
TITLE: Final = "OpenTelemetry GenAI spans and metrics (OTLP JSON)"
TABLE: Final = "token_interval"
SUFFIXES: Final = (".json", ".json.gz", ".jsonl", ".jsonl.gz")
_STEP: Final = 300_000_000  # microseconds
_VALUE: Final = "STRUCT(stringValue VARCHAR, intValue VARCHAR, doubleValue VARCHAR)"
_ATTRIBUTES: Final = f'STRUCT("key" VARCHAR, "value" {_VALUE})[]'
_RESOURCE: Final = f"STRUCT(attributes {_ATTRIBUTES})"
_SPANS: Final = f"""STRUCT(resource {_RESOURCE}, scopeSpans STRUCT(spans STRUCT(
    spanId VARCHAR, parentSpanId VARCHAR, startTimeUnixNano VARCHAR, endTimeUnixNano VARCHAR, attributes {_ATTRIBUTES},
    status STRUCT(code VARCHAR))[])[])[]"""
_POINTS: Final = f"""STRUCT(attributes {_ATTRIBUTES}, startTimeUnixNano VARCHAR, timeUnixNano VARCHAR, "count" VARCHAR,
    "sum" DOUBLE, asInt VARCHAR, asDouble DOUBLE)[]"""
_METRICS: Final = f"""STRUCT(resource {_RESOURCE}, scopeMetrics STRUCT(metrics STRUCT("name" VARCHAR,
    histogram STRUCT(dataPoints {_POINTS}, aggregationTemporality VARCHAR),
    exponentialHistogram STRUCT(dataPoints {_POINTS}, aggregationTemporality VARCHAR),
    "sum" STRUCT(dataPoints {_POINTS}, aggregationTemporality VARCHAR))[])[])[]"""


def relation(
    con: Connection, files: Sequence[tuple[str, Path]], scratch: Path
) -> tuple[str, list[Diagnostic]]:
    """Return SQL of the intervals. Raises SourceError when there is neither a span nor a metric of GenAI calls."""
    del scratch
    listed = "[" + ", ".join(literal(path) for _, path in files) + "]"
    shape = f"{{'resourceSpans': {literal(_SPANS)}, 'resourceMetrics': {literal(_METRICS)}}}"
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE otlp AS
        FROM read_json({listed}, format = 'auto', columns = {shape}, maximum_object_size = 67108864)"""
    )
    con.execute(
        """CREATE OR REPLACE TEMP MACRO attribute(found, name) AS (
            list_extract(list_transform(list_filter(found, lambda a: a.key = name), lambda a: coalesce(a.value.stringValue, a.value.intValue, a.value.doubleValue)), 1)
        )"""
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE genai_call AS {_sql('spans')}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE genai_point AS {_sql('points')}")
    found = con.execute("SELECT (SELECT count(*) FROM genai_call) + (SELECT count(*) FROM genai_point)").fetchone()  # fmt: skip
    if found is None or not found[0]:
        raise SourceError(
            "no GenAI span with usage and no GenAI metric",
            where=files[0][0],
            hint="It is OTLP JSON with attributes gen_ai.*: does the instrumentation send usage?",
        )
    return f"{intervals('FROM genai_call')} UNION ALL BY NAME {_sql('metrics').format(step=_STEP)}", []


def _sql(name: str) -> str:
    return resources(__package__).joinpath(f"otel_genai.{name}.sql").read_text("utf-8")
