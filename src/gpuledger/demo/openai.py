"""The OpenAI bill of the example: pages of the completions usage and of the costs, as the API answers.

Forms: platform.openai.com/docs/api-reference/usage (organization.usage.completions.result and
organization.costs.result). `input_tokens` includes the cached ones. Costs are JSON numbers in dollars; those written
here are exact in their shortest decimal form.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from gpuledger.demo import files
from gpuledger.demo.company import COMPANY, DAY, HOUR, busy, stream
from gpuledger.demo.truth import Fact, Truth

PROVIDER: Final = "openai"
ACCOUNT: Final = "org-synthetic0000000000000001"
# Dollars per million tokens: uncached input, cached input, output.
_PRICES: Final = {
    "gpt-5-2025-08-07": (Decimal("1.25"), Decimal("0.125"), Decimal(10)),
    "gpt-5-mini-2025-08-07": (Decimal("0.25"), Decimal("0.025"), Decimal(2)),
}
_LINES: Final = ("input", "cached input", "output")
_CALLERS: Final = (
    ("proj_synthetic_rag", "gpt-5-mini-2025-08-07", (9_000_000, 6_000_000, 1_800_000)),
    ("proj_synthetic_recsys", "gpt-5-2025-08-07", (1_500_000, 500_000, 250_000)),
    ("proj_synthetic_evals", "gpt-5-2025-08-07", (2_600_000, 0, 700_000)),
)


def number(value: Decimal) -> float:
    """Value as a JSON number; refuses what its shortest text would not give back."""
    found = float(value)
    if Decimal(repr(found)) != value:
        raise ValueError(f"not exact as a float: {value}")
    return found


def _bucket(start: datetime, length: timedelta, results: list[dict[str, Any]]) -> dict[str, Any]:
    begin = int(start.timestamp())
    return {
        "object": "bucket",
        "start_time": begin,
        "end_time": begin + int(length.total_seconds()),
        "results": results,
    }


def _pages(buckets: list[dict[str, Any]], size: int) -> Iterator[dict[str, Any]]:
    for index in range(0, len(buckets), size):
        more = index + size < len(buckets)
        yield {
            "object": "page",
            "data": buckets[index : index + size],
            "has_more": more,
            "next_page": f"page_synthetic{index + size:06d}" if more else None,
        }


def _usage_result(project: str, model: str, tokens: tuple[int, ...], requests: int) -> dict[str, Any]:
    uncached, cached, output = tokens
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": uncached + cached,
        "output_tokens": output,
        "input_cached_tokens": cached,
        "input_uncached_tokens": uncached,
        "input_cache_write_tokens": 0,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "num_model_requests": requests,
        "project_id": project,
        "user_id": None,
        "api_key_id": None,
        "model": model,
        "batch": False,
        "service_tier": "default",
    }


def calls(setting: files.Setting) -> Iterator[tuple[datetime, str, str, tuple[int, int, int], int]]:
    """Hour, project, model, tokens (uncached input, cached input, output) and requests of every caller."""
    month = setting.month
    rng = stream(setting.seed, month, PROVIDER)
    for index in range(month.hours):
        when = month.hour(index)
        for project, model, (fresh, cached, output) in _CALLERS:
            level = rng.randint(60, 140) if busy(when) else rng.randint(5, 30)
            tokens = (fresh * level // 100, cached * level // 100, output * level // 100)
            yield when, project, model, tokens, level * 3


def write(setting: files.Setting, truth: Truth) -> list[files.Written]:
    """Write both reports. Only the costs are money."""
    month = setting.month
    names = {project: f"{project.rpartition('_')[2]} (synthetic)" for project, *_ in _CALLERS}
    files.write_labels(setting.root / PROVIDER, ACCOUNT, COMPANY, names)
    hourly: list[dict[str, Any]] = []
    sums: dict[tuple[datetime, str, str, int], int] = {}
    for when, project, model, tokens, requests in calls(setting):
        if not hourly or hourly[-1]["start_time"] != int(when.timestamp()):
            hourly.append(_bucket(when, HOUR, []))
        hourly[-1]["results"].append(_usage_result(project, model, tokens, requests))
        for line, count in enumerate(tokens):
            key = (when.replace(hour=0), project, model, line)
            sums[key] = sums.get(key, 0) + count
    found = []
    for page_number, page in enumerate(_pages(hourly, 168), start=1):
        path = f"{PROVIDER}/usage_completions/page-{page_number:04d}.json"
        files.write_json(setting.root / path, page)
        count = sum(len(bucket["results"]) for bucket in page["data"])
        found.append(files.written(setting, setting.root / path, PROVIDER, count))
    daily: list[dict[str, Any]] = []
    for day in (month.start + index * DAY for index in range(month.days)):
        results = []
        for (when, project, model, line), tokens_used in sums.items():
            if when == day and tokens_used:
                cost = tokens_used * _PRICES[model][line] / 1_000_000
                results.append(
                    {
                        "object": "organization.costs.result",
                        "amount": {"value": number(cost), "currency": "usd"},
                        "line_item": f"{model}, {_LINES[line]}",
                        "project_id": project,
                        "quantity": float(tokens_used),
                        "quantity_unit": "tokens",
                        "api_key_id": None,
                        "user_id": None,
                    }
                )
        daily.append(_bucket(day, DAY, results))
    for page_number, page in enumerate(_pages(daily, 7), start=1):
        path = f"{PROVIDER}/costs/page-{page_number:04d}.json"
        files.write_json(setting.root / path, page)
        rows = [result for bucket in page["data"] for result in bucket["results"]]
        for index, result in enumerate(rows, start=1):
            cost = Decimal(repr(result["amount"]["value"]))
            truth.add(PROVIDER, path, index, Fact(cost, cost))
        found.append(files.written(setting, setting.root / path, PROVIDER, len(rows)))
    return found
