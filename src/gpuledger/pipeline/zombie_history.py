"""Idle runs of every card and holder over a whole look-back: zombie pods told apart from the troughs of a day."""

from collections.abc import Callable
from datetime import UTC, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from gpuledger.core.zombies import History, Limits
from gpuledger.pipeline.zombie_metrics import Reader, opened
from gpuledger.pipeline.zombie_prices import card_price, wasted
from gpuledger.pipeline.zombies import Settings

HOUR: Final = timedelta(hours=1)


def idle_history(
    url: str, settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a row per card and holder with its idle runs of an hour and more, the longest sum first, and totals."""
    rows: list[dict[str, Any]] = []
    with opened(url, settings.environ) as client:
        at = settings.at or client.clock()
        reader = Reader(client, at, settings.look_back, settings.limits, settings.match)
        for one, told in reader.history(progress):
            held = one.holdings[0] if one.holdings else None
            runs = told.runs_of(HOUR)
            seconds = int(sum(runs, timedelta(0)).total_seconds())
            price = card_price(one, None, settings.price, at.astimezone(UTC).date())
            rows.append(
                {
                    "gpu": one.gpu,
                    "node": one.node,
                    "gpu_model": one.gpu_model or one.model_name,
                    "namespace": held.namespace if held else None,
                    "pod": held.pod if held else None,
                    "pattern": pattern(told, settings.limits),
                    "start": told.start,
                    "end": told.end,
                    "samples": told.samples,
                    "highest": _rounded(told.highest),
                    "mean": _rounded(told.mean),
                    "idle_share": _rounded(Decimal(told.idle_share.numerator) / told.idle_share.denominator),
                    "idle_runs": len(runs),
                    "longest_idle_seconds": int(max(told.runs, default=timedelta(0)).total_seconds()),
                    "idle_seconds": seconds,
                    "usd_per_hour": price.usd_per_hour,
                    "wasted_usd": wasted(price.usd_per_hour, seconds),
                }
            )
    rows.sort(key=lambda row: (-row["idle_seconds"], row["gpu"], row["pod"] or ""))
    return rows, {
        "cards_and_holders": len(rows),
        "zombies": sum(row["pattern"] == "zombie" for row in rows),
        "troughs": sum(row["pattern"] == "trough" and row["idle_runs"] > 0 for row in rows),
        "idle_runs": sum(row["idle_runs"] for row in rows),
        "idle_gpu_hours": _rounded(Decimal(sum(row["idle_seconds"] for row in rows)) / 3600),
    }


def pattern(told: History, limits: Limits) -> str | None:
    """Tell what hardly ever works (over six hours and more) from what works at other times; None: too short to say."""
    if told.idle_share < limits.zombie_share:
        return "trough" if told.idle_share > Fraction(0) else "busy"
    return "zombie" if told.end - told.start >= limits.zombie_span else None


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.000001"))
