"""OpenAI usage reports: pages of `/v1/organization/usage/completions` and `/embeddings`, as tokens and requests by model.

Documented by OpenAI: API reference, "Usage". `input_tokens` includes `input_cached_tokens` (and cache writes). The costs
of the same usage are the source `openai`, whose pages these are, too; here they are tokens, also requests, for models
whose bill isn't read or has no quantities. Intervals are the report's own buckets (minute, hour or day).
Known to be missing: failed requests; latencies; usage reports of images and audio.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gpuledger.core.contracts import Connection
from gpuledger.core.file_columns import bucket_results
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError

TYPE: Final = "openai-usage"
TITLE: Final = "OpenAI usage reports"
TABLE: Final = "token_interval"
SUFFIXES: Final = (".json", ".json.gz", ".jsonl")
_FIELDS: Final = (
    "object", "model", "project_id", "user_id", "input_tokens", "input_cached_tokens", "output_tokens", "num_model_requests",
)  # fmt: skip


def relation(
    con: Connection, files: Sequence[tuple[str, Path]], scratch: Path
) -> tuple[str, list[Diagnostic]]:
    """Return SQL of the intervals. Raises SourceError when there is no such result."""
    del scratch
    bucket_results(con, files, "openai_result", ("start_time", "end_time"), _FIELDS)
    chosen = "contains(object, 'organization.usage') AND input_tokens IS NOT NULL"
    row = con.execute(f"SELECT count(*) FROM openai_result WHERE {chosen}").fetchone()
    if row is None or not row[0]:
        raise SourceError(
            "no results of organization.usage with tokens",
            where=files[0][0],
            hint="Keep answers as the API sends them, one page a file.",
        )
    sql = f"""
        SELECT 'OpenAI' AS provider, model, model AS deployment, project_id AS team, user_id AS "owner",
            make_timestamptz(CAST(starting AS BIGINT) * 1000000) AS start, make_timestamptz(CAST(ending AS BIGINT) * 1000000) AS "end",
            sum(quantity(input_tokens)) AS input_tokens, sum(quantity(input_cached_tokens)) AS cached_input_tokens,
            sum(quantity(output_tokens)) AS output_tokens, sum(quantity(num_model_requests)) AS requests
        FROM openai_result WHERE {chosen}
        GROUP BY model, project_id, user_id, starting, ending"""
    return sql, []
