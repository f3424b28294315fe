"""Anthropic usage reports: pages of `/v1/organizations/usage_report/messages`, as tokens by model.

Documented by Anthropic: Admin API, "Get messages usage report". Its input is told in disjoint parts: uncached, read from
a cache, written to one; input tokens here are their sum. The costs of the same usage are the source `anthropic`. Intervals
are the report's own buckets (minute, hour or day). The team is the workspace.
Known to be missing: requests, latencies and reasoning tokens, which the report doesn't tell; server tools.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gpuledger.core.contracts import Connection
from gpuledger.core.file_columns import bucket_results
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError

TYPE: Final = "anthropic-usage"
TITLE: Final = "Anthropic usage reports"
TABLE: Final = "token_interval"
SUFFIXES: Final = (".json", ".json.gz", ".jsonl")
_FIELDS: Final = (
    "model", "workspace_id", "uncached_input_tokens", "cache_read_input_tokens", "output_tokens",
    "cache_creation.ephemeral_1h_input_tokens", "cache_creation.ephemeral_5m_input_tokens",
)  # fmt: skip


def relation(
    con: Connection, files: Sequence[tuple[str, Path]], scratch: Path
) -> tuple[str, list[Diagnostic]]:
    """Return SQL of the intervals. Raises SourceError when there is no such result."""
    del scratch
    bucket_results(con, files, "anthropic_result", ("starting_at", "ending_at"), _FIELDS)
    chosen = "uncached_input_tokens IS NOT NULL"
    row = con.execute(f"SELECT count(*) FROM anthropic_result WHERE {chosen}").fetchone()
    if row is None or not row[0]:
        raise SourceError(
            "no results of a usage report of messages",
            where=files[0][0],
            hint="Keep answers as the API sends them, one page a file.",
        )
    sql = f"""
        SELECT 'Anthropic' AS provider, model, model AS deployment, workspace_id AS team,
            instant(starting) AS start, instant(ending) AS "end",
            sum(uncached + coalesce(cached, 0) + coalesce(written, 0)) AS input_tokens, sum(cached) AS cached_input_tokens,
            sum(written) AS cache_write_tokens, sum(quantity(output_tokens)) AS output_tokens
        FROM (
            SELECT *, quantity(uncached_input_tokens) AS uncached, quantity(cache_read_input_tokens) AS cached,
                CASE WHEN coalesce(ephemeral_1h_input_tokens, ephemeral_5m_input_tokens) IS NOT NULL
                    THEN coalesce(quantity(ephemeral_1h_input_tokens), 0) + coalesce(quantity(ephemeral_5m_input_tokens), 0)
                END AS written
            FROM anthropic_result WHERE {chosen}
        )
        GROUP BY model, workspace_id, starting, ending"""
    return sql, []
