"""Langfuse observations, exported: from its blob storage (JSON lines, JSON, CSV, Parquet) or its UI (CSV, JSON).

Documented by Langfuse: "Blob storage export field reference", "Model usage and cost tracking". Usage types are disjoint:
Langfuse adds up all whose name has `input` in it, and all with `output`; so does this, and input tokens therefore include
those of a cache. Only generations and embeddings have usage. Cost is Langfuse' own figure in USD and no bill. The
deployment is the trace's name, the owner its user, where the export has them; the provider isn't told.
Known to be missing: teams; who called, in exports of observations without their traces.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gpuledger.core import file_columns
from gpuledger.core.contracts import Connection
from gpuledger.diagnostics import Diagnostic
from gpuledger.models.token_requests import intervals

TYPE: Final = "langfuse"
TITLE: Final = "Langfuse observations"
TABLE: Final = "token_interval"
SUFFIXES: Final = file_columns.SUFFIXES
_NEEDED: Final = ("start_time", "end_time", "usage")
_COLUMNS: Final = {
    "start_time": (),
    "end_time": (),
    "completion_start_time": (),
    "usage": ("usage_details",),
    "model": ("provided_model_name", "model_name"),
    "type": (),
    "level": (),
    "total_cost": ("calculated_total_cost",),
    "cost_details": (),
    "user_id": (),
    "trace_name": (),
}


def _sum(chosen: str) -> str:
    """SQL of the sum of usage types; null when none of them is told."""
    return f"list_sum(list_transform(list_filter(map_entries(told), lambda e: {chosen}), lambda e: quantity(e.value)))"


def relation(
    con: Connection, files: Sequence[tuple[str, Path]], scratch: Path
) -> tuple[str, list[Diagnostic]]:
    """Return SQL of the intervals. Raises SourceError when it isn't such an export."""
    del scratch
    table = file_columns.text_table(con, files, _COLUMNS, _NEEDED, TITLE)
    is_input, is_output = "contains(lower(e.key), 'input')", "contains(lower(e.key), 'output')"
    cached = f"{is_input} AND contains(lower(e.key), 'cache')"
    written = "(contains(lower(e.key), 'creat') OR contains(lower(e.key), 'write'))"
    reasoning = f"{is_output} AND contains(lower(e.key), 'reasoning')"
    requests = f"""
        SELECT 'langfuse' AS provider, model, coalesce(trace_name, model) AS deployment, NULL::VARCHAR AS team, user_id AS "owner",
            instant(start_time) AS start, instant(completion_start_time) AS first_token, instant(end_time) AS "end",
            {_sum(is_input)} AS input_tokens, {_sum(f"{cached} AND NOT {written}")} AS cached_input_tokens,
            {_sum(f"{is_input} AND {written}")} AS cache_write_tokens, {_sum(is_output)} AS output_tokens,
            {_sum(reasoning)} AS reasoning_tokens, coalesce(level, 'DEFAULT') <> 'ERROR' AS ok,
            money(coalesce(total_cost, json_extract_string(TRY_CAST(cost_details AS JSON), '$.total'))) AS spend,
            'USD' AS currency
        FROM (SELECT *, tag_map(usage) AS told FROM ({table}))
        WHERE upper(coalesce(type, 'GENERATION')) IN ('GENERATION', 'EMBEDDING')"""
    return intervals(requests), []
