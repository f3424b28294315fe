"""LiteLLM's spend logs, exported: rows of its table LiteLLM_SpendLogs as CSV, JSON, JSON lines or Parquet.

Documented by LiteLLM: schema.prisma (LiteLLM_SpendLogs) and "Spend tracking". litellm/llms/anthropic adds cache reads
and writes to `prompt_tokens`, so that these include cached tokens for every vendor. Cached, written and reasoning tokens
are in `metadata` (`usage_object`, `additional_usage_values`). Spend is the proxy's own figure in USD and no bill.
The team is its alias where the metadata has it; the owner is the user, or else the key's alias, never the key. A model
that answers from the proxy's own cache (`cache_hit`) took no tokens of anybody: such requests count, their tokens don't.
Known to be missing: output tokens of streams whose client left.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gpuledger.core import file_columns
from gpuledger.core.contracts import Connection
from gpuledger.core.file_columns import inside
from gpuledger.diagnostics import Diagnostic
from gpuledger.models.token_requests import intervals

TYPE: Final = "litellm-spend-logs"
TITLE: Final = "LiteLLM spend logs"
TABLE: Final = "token_interval"
SUFFIXES: Final = file_columns.SUFFIXES
_NEEDED: Final = ("startTime", "endTime", "model", "prompt_tokens", "completion_tokens")
_COLUMNS: Final = dict.fromkeys(
    (*_NEEDED, "completionStartTime", "model_group", "custom_llm_provider", "spend", "team_id", "user", "status", "metadata", "cache_hit"),
    (),
)  # fmt: skip


def _used(path: str) -> str:
    return inside("metadata", f"usage_object.{path}", f"additional_usage_values.{path}")


def relation(
    con: Connection, files: Sequence[tuple[str, Path]], scratch: Path
) -> tuple[str, list[Diagnostic]]:
    """Return SQL of the intervals. Raises SourceError when it isn't such a table."""
    del scratch
    table = file_columns.text_table(con, files, _COLUMNS, _NEEDED, TITLE)
    cached = f"coalesce({_used('cache_read_input_tokens')}, {_used('prompt_tokens_details.cached_tokens')})"
    written = f"coalesce({_used('cache_creation_input_tokens')}, {_used('prompt_tokens_details.cache_creation_tokens')})"
    vendor = "lower(coalesce(cache_hit, '')) <> 'true'"
    counts = {
        "input_tokens": "prompt_tokens",
        "cached_input_tokens": cached,
        "cache_write_tokens": written,
        "output_tokens": "completion_tokens",
        "reasoning_tokens": _used("completion_tokens_details.reasoning_tokens"),
    }
    counted = ", ".join(
        f"CASE WHEN {vendor} THEN quantity({value}) END AS {name}" for name, value in counts.items()
    )
    requests = f"""
        SELECT coalesce(custom_llm_provider, 'litellm') AS provider, model, coalesce(model_group, model) AS deployment,
            coalesce({inside("metadata", "user_api_key_team_alias")}, team_id) AS team,
            coalesce("user", {inside("metadata", "user_api_key_alias")}) AS "owner",
            instant("startTime") AS start, instant("completionStartTime") AS first_token, instant("endTime") AS "end",
            {counted}, coalesce(status, {inside("metadata", "status")}, 'success') = 'success' AS ok,
            money(spend) AS spend, 'USD' AS currency
        FROM ({table})"""
    return intervals(requests), []
