"""The Anthropic bill of the example: pages of the usage report and of the cost report, as the API answers.

Forms: platform.claude.com/docs/en/api/admin/usage_report and …/cost_report. Amounts are decimal text in cents. A cost
is a day's tokens times the list price, so both reports agree to the last digit.
"""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from gpuledger.demo import files
from gpuledger.demo.company import COMPANY, DAY, HOUR, ZERO, busy, plain, stream
from gpuledger.demo.truth import Fact, Truth

PROVIDER: Final = "anthropic"
LOOP: Final = "agent_retry_loop"
LOOP_HOURS: Final = 3
LOOP_FACTOR: Final = 8
_KINDS: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
ACCOUNT: Final = "5e0f0007-0000-4000-8000-0000000000c7"
# Cents per token; list prices of the models that the example calls.
_CENTS: Final = {
    "claude-sonnet-4-5-20250929": ("3", "15", "0.3", "3.75", "6"),
    "claude-haiku-4-5-20251001": ("1", "5", "0.1", "1.25", "2"),
}
_NAMES: Final = {
    "claude-sonnet-4-5-20250929": "Claude Sonnet 4.5",
    "claude-haiku-4-5-20251001": "Claude Haiku 4.5",
}
_TOKENS: Final = (
    ("uncached_input_tokens", "Input Tokens"),
    ("output_tokens", "Output Tokens"),
    ("cache_read_input_tokens", "Input Tokens, Cache Read"),
    ("cache_creation.ephemeral_5m_input_tokens", "Input Tokens, Cache Write"),
    ("cache_creation.ephemeral_1h_input_tokens", "Input Tokens, Cache Write 1h"),
)
# Workspace, key, model, and its usual tokens an hour: input, output, cache read, cache write 5 m and 1 h.
_CALLERS: Final = (
    (
        "wrkspc_synthetic_agents",
        "apikey_synthetic_agents",
        "claude-sonnet-4-5-20250929",
        (7_600_000, 1_680_000, 24_000_000, 1_600_000, 0),
    ),
    (
        "wrkspc_synthetic_agents",
        "apikey_synthetic_agents",
        "claude-haiku-4-5-20251001",
        (2_500_000, 500_000, 3_000_000, 0, 0),
    ),
    (
        "wrkspc_synthetic_rag",
        "apikey_synthetic_rag",
        "claude-haiku-4-5-20251001",
        (6_000_000, 700_000, 9_000_000, 0, 90_000),
    ),
    (
        "wrkspc_synthetic_data",
        "apikey_synthetic_data",
        "claude-sonnet-4-5-20250929",
        (300_000, 90_000, 0, 0, 0),
    ),
    (None, None, "claude-sonnet-4-5-20250929", (60_000, 20_000, 0, 0, 0)),
)


def iso(moment: datetime) -> str:
    """UTC time as the API writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def pages(buckets: list[dict[str, Any]], size: int) -> Iterator[dict[str, Any]]:
    """Cut buckets into pages of the API's form."""
    for index in range(0, len(buckets), size):
        more = index + size < len(buckets)
        cursor = b64encode(str(buckets[index + size]["starting_at"]).encode()).decode() if more else None
        yield {
            "data": buckets[index : index + size],
            "has_more": more,
            "next_page": f"page_{cursor}" if more else None,
        }


def _usage(setting: files.Setting) -> Iterator[tuple[datetime, int, tuple[int, ...], tuple[int, ...]]]:
    """Tokens by hour and caller: as they were, and as they would have been without the retry loop."""
    month = setting.month
    rng = stream(setting.seed, month, PROVIDER)
    loop_end = month.retry_loop + timedelta(hours=LOOP_HOURS)
    for index in range(month.hours):
        when = month.hour(index)
        for caller, (_, _, model, usual) in enumerate(_CALLERS):
            level = rng.randint(70, 135) if busy(when) else rng.randint(4, 25)
            normal = tuple(tokens * level // 100 + rng.randrange(997) * (tokens > 0) for tokens in usual)
            looping = caller == 0 and month.retry_loop <= when < loop_end and "sonnet" in model
            yield (
                when,
                caller,
                tuple(tokens * LOOP_FACTOR for tokens in normal) if looping else normal,
                normal,
            )


def calls(
    setting: files.Setting,
) -> Iterator[tuple[datetime, str | None, str, tuple[int, int, int, int, int]]]:
    """Hour, workspace, model and tokens of every caller: uncached input, output, cache read, written 5 m and 1 h."""
    for when, caller, (fresh, output, read, short, long), _ in _usage(setting):
        workspace, _key, model, _usual = _CALLERS[caller]
        yield when, workspace, model, (fresh, output, read, short, long)


def _bucket(start: datetime, length: timedelta, results: list[dict[str, Any]]) -> dict[str, Any]:
    return {"starting_at": iso(start), "ending_at": iso(start + length), "results": results}


def _usage_result(caller: int, tokens: tuple[int, ...]) -> dict[str, Any]:
    workspace, key, model, _ = _CALLERS[caller]
    return {
        "account_id": None,
        "api_key_id": key,
        "cache_creation": {"ephemeral_1h_input_tokens": tokens[4], "ephemeral_5m_input_tokens": tokens[3]},
        "cache_read_input_tokens": tokens[2],
        "context_window": "0-200k",
        "inference_geo": "not_available",
        "model": model,
        "output_tokens": tokens[1],
        "server_tool_use": {"web_search_requests": 0},
        "service_account_id": None,
        "service_tier": "standard",
        "uncached_input_tokens": tokens[0],
        "workspace_id": workspace,
    }


def _cost_result(workspace: str | None, model: str, kind: int, cents: Decimal) -> dict[str, Any]:
    token_type, words = _TOKENS[kind]
    return {
        "amount": plain(cents),
        "context_window": "0-200k",
        "cost_type": "tokens",
        "currency": "USD",
        "description": f"{_NAMES[model]} Usage - {words}",
        "inference_geo": None,
        "model": model,
        "service_tier": "standard",
        "token_type": token_type,
        "workspace_id": workspace,
    }


def write(setting: files.Setting, truth: Truth) -> list[files.Written]:
    """Write both reports. Only the cost report is money."""
    month = setting.month
    names = {id_: f"{id_.rpartition('_')[2]} (synthetic)" for caller in _CALLERS for id_ in caller[:2] if id_}
    files.write_labels(setting.root / PROVIDER, ACCOUNT, COMPANY, names)
    hourly: list[dict[str, Any]] = []
    costs: dict[tuple[datetime, str | None, str, int], list[Decimal]] = {}
    extra = [0] * len(_KINDS)
    for when, caller, tokens, normal in _usage(setting):
        if not hourly or hourly[-1]["starting_at"] != iso(when):
            hourly.append(_bucket(when, HOUR, []))
        hourly[-1]["results"].append(_usage_result(caller, tokens))
        workspace, _, model, _ = _CALLERS[caller]
        day = when.replace(hour=0)
        for kind, price in enumerate(_CENTS[model]):
            if tokens[kind]:
                cents = Decimal(price) / 10_000
                sums = costs.setdefault((day, workspace, model, kind), [ZERO, ZERO])
                sums[0] += tokens[kind] * cents
                sums[1] += (tokens[kind] - normal[kind]) * cents
            extra[kind] += tokens[kind] - normal[kind]
    truth.incident(
        LOOP, provider=PROVIDER, kind="tokens", what=f"an agent retries: {LOOP_FACTOR} times its usual tokens",
        start=month.retry_loop.isoformat(), hours=str(LOOP_HOURS), workspace="wrkspc_synthetic_agents",
        api_key="apikey_synthetic_agents", model=_CALLERS[0][2], extra_tokens=dict(zip(_KINDS, map(str, extra), strict=True)),
    )  # fmt: skip
    found = []
    for number, page in enumerate(pages(hourly, 168), start=1):
        path = f"{PROVIDER}/usage_report_messages/page-{number:04d}.json"
        files.write_json(setting.root / path, page)
        found.append(
            files.written(
                setting, setting.root / path, PROVIDER, sum(len(b["results"]) for b in page["data"])
            )
        )
    daily: list[dict[str, Any]] = []
    facts: list[list[Fact]] = []
    for day in (month.start + index * DAY for index in range(month.days)):
        results, known = [], []
        for (when, workspace, model, kind), (cents, injected) in costs.items():
            if when == day:
                results.append(_cost_result(workspace, model, kind, cents))
                fact = Fact(cents / 100, cents / 100)
                known.append(replace(fact, incident=LOOP, injected=injected / 100) if injected else fact)
        daily.append(_bucket(day, DAY, results))
        facts.append(known)
    done = 0
    for number, page in enumerate(pages(daily, 7), start=1):
        path = f"{PROVIDER}/cost_report/page-{number:04d}.json"
        files.write_json(setting.root / path, page)
        rows = [fact for known in facts[done : done + len(page["data"])] for fact in known]
        done += len(page["data"])
        for index, fact in enumerate(rows, start=1):
            truth.add(PROVIDER, path, index, fact)
        found.append(files.written(setting, setting.root / path, PROVIDER, len(rows)))
    return found
