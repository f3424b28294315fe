"""Idle runs of every card and holder over a whole look-back: zombie pods told apart from the troughs of a day."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from gpuledger.core.card_facts import Holder, canonical, holder, own, slice_of
from gpuledger.core.zombies import History, Limits, Observation, history
from gpuledger.pipeline.zombie_metrics import ACTIVITY, ENGINE, UTIL, Reader, named, node_of, opened
from gpuledger.pipeline.zombie_prices import card_price, wasted
from gpuledger.pipeline.zombies import Settings

HOUR: Final = timedelta(hours=1)
_AT_ONCE: Final = 250


def idle_history(
    url: str, settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a row per card and holder with its idle runs of an hour and more, the longest sum first, and totals."""
    rows: list[dict[str, Any]] = []
    with opened(url, settings.environ) as client:
        at = settings.at or client.clock()
        reader = Reader(client, at, settings.look_back, settings.limits, settings.match)
        for one, told in histories(reader, progress):
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


def histories(
    reader: Reader, progress: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[Observation, History]]:
    """Yield every card and holder of the look-back with its idle runs. Fetches samples, some cards at a time."""
    back = f"[{int(reader.look_back.total_seconds())}s]"
    metric = ENGINE
    listed = reader.client.instant(f"count_over_time({reader.selector(metric)}{back})", reader.at)
    if not listed:
        metric = UTIL
        listed = reader.client.instant(f"count_over_time({reader.selector(metric)}{back})", reader.at)
    uuids = sorted({own(labels).get("UUID", "") for labels, _ in listed} - {""})
    for start in range(0, len(uuids), _AT_ONCE):
        some = uuids[start : start + _AT_ONCE]
        progress(f"{some[0]} and {len(some) - 1} more")
        yield from _histories(reader, reader.selector(metric, some), ACTIVITY[metric])


def _histories(reader: Reader, selector: str, scale: int) -> Iterator[tuple[Observation, History]]:
    found: dict[tuple[tuple[str, str | None], Holder | None], dict[datetime, Decimal]] = defaultdict(dict)
    labels: dict[tuple[tuple[str, str | None], Holder | None], dict[str, str]] = {}
    answer = reader.client.samples(selector, reader.look_back, reader.at)
    exported = any(series.labels.get("exported_pod") for series in answer)
    for series in answer:
        told = own(series.labels)
        key = ((told.get("UUID", ""), slice_of(told)[0]), holder(series.labels, exported=exported))
        labels[key] = told
        for when, value in series.values.items():
            if 0 <= value <= scale:
                found[key][when] = max(found[key].get(when, Decimal(0)), value / scale)
    for key in sorted(found, key=lambda one: (one[0][0], one[0][1] or "", str(one[1]))):
        summed = history(sorted(found[key].items()), reader.limits.idle)
        if summed is None:
            continue
        (uuid, slice_id), by = key
        name = labels[key].get("modelName")
        one = Observation(
            gpu=uuid if slice_id is None else f"{uuid}/{slice_id}",
            now=reader.at,
            node=node_of(labels[key]),
            gpu_model=canonical(name),
            model_name=name,
            holdings=() if by is None else (named(by),),
        )
        yield one, summed


def pattern(told: History, limits: Limits) -> str | None:
    """Tell what hardly ever works (over six hours and more) from what works at other times; None: too short to say."""
    if told.idle_share < limits.zombie_share:
        return "trough" if told.idle_share > Fraction(0) else "busy"
    return "zombie" if told.end - told.start >= limits.zombie_span else None


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.000001"))
