"""What idle commitments of the ledger would absorb of a mistake: GPUs that are paid for and unused off-hours.

Per hour, what stayed unused is worth what it would have bought on demand (the commitment's own ratio of covered on-demand
cost to cost; its bare cost where that isn't known, which is less). The median over the off-hours of the last four weeks,
hours without idleness included, divided by the pool's price, are its GPUs. A commitment counts for one pool only.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple

from gpuledger.core.calendar import WorkingHours
from gpuledger.core.windows import Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.pipeline import commitments
from gpuledger.pipeline.blast_radius import Written

_WEEKS: Final = timedelta(days=28)


class Placed(NamedTuple):
    """A pool and what kind of machine it is."""

    written: Written
    provider: str
    region: str
    gpu_model: str | None


def absorbed(
    con: duckdb.Connection, pools: Sequence[Placed], hours: WorkingHours
) -> tuple[list[Written], list[Diagnostic]]:
    """Return the pools with `idle_commitment_gpus` where commitments leave any idle, and what could not be told."""
    newest = con.execute(
        "SELECT max(ChargePeriodEnd) FROM cost_and_usage WHERE CommitmentDiscountId IS NOT NULL"
    ).fetchone()
    if newest is None or newest[0] is None:
        return [one.written for one in pools], []
    window = Window(newest[0] - _WEEKS, newest[0])
    idle: dict[int, dict[datetime, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    sources: dict[int, set[str]] = defaultdict(set)
    even: set[int] = set()
    left_out: set[str] = set()
    dearest = sorted(
        range(len(pools)), key=lambda place: -Decimal(pools[place].written.values["usd_per_gpu_hour"])
    )
    for row in commitments.idle_hours(con, window):
        if row["currency"] != "USD":
            continue
        place = next((one for one in dearest if _fits(pools[one], row)), None)
        if place is None:
            if row["idle_cost"] > 0 and row["gpu_model"] is None and row["instance_type"] is None:
                left_out.add(row["commitment_id"])
            continue
        moment = row["hour"].replace(tzinfo=None)
        if hours.next_opening(moment) == moment:
            continue
        idle[place][row["hour"]] += _worth(row)
        sources[place].add(row["commitment_id"])
        if row["even"]:
            even.add(place)
    found = [
        _with(pools[place].written, idle.get(place, {}), sources[place], window, is_even=place in even)
        for place in range(len(pools))
    ]
    notes = [_unclear(left_out)] if left_out else []
    return found, notes


def _fits(pool: Placed, row: Mapping[str, Any]) -> bool:
    return (
        row["gpu_model"] is not None
        and row["gpu_model"] == pool.gpu_model
        and row["provider"] == pool.provider
        and row["region"] in {None, pool.region}
    )


def _worth(row: Mapping[str, Any]) -> Fraction:
    """What the idle part of an hour would have bought on demand."""
    cost = Fraction(row["idle_cost"])
    if row["covered_on_demand"] is None or not row["covered_cost"]:
        return cost
    return max(cost, cost * Fraction(row["covered_on_demand"]) / Fraction(row["covered_cost"]))


def _with(
    written: Written,
    by_hour: Mapping[datetime, Fraction],
    names: Iterable[str],
    window: Window,
    *,
    is_even: bool,
) -> Written:
    if not by_hour:
        return written
    ranked = sorted(by_hour.values())
    median, tenth = (ranked[(percent * len(ranked) + 99) // 100 - 1] for percent in (50, 10))
    price = Fraction(written.values["usd_per_gpu_hour"])
    gpus = int(median / price)
    if not gpus:
        return written
    said = ", ".join(sorted(one.rpartition("/")[2] for one in names))
    basis = "spread evenly, as the bill tells them by the day or month" if is_even else "hour by hour"
    origin = (
        f"ledger: P50 of what {said} left idle in {len(ranked)} off-hours (UTC) up to {window.end:%Y-%m-%d}, {basis}: "
        f"{float(median):,.2f} USD an hour on demand ÷ {written.values['usd_per_gpu_hour']} a GPU; P10: {int(tenth / price)} GPUs"
    )
    return replace(
        written,
        values={**written.values, "idle_commitment_gpus": str(gpus)},
        origins={**written.origins, "idle_commitment_gpus": origin},
    )


def _unclear(names: Iterable[str]) -> Diagnostic:
    return Diagnostic(
        "blast-radius-idle-unclear", "info", "ledger",
        f"idle commitments that cover several kinds of machine absorb nothing here: {', '.join(sorted(names))[:200]}",
        "Give idle_commitment_gpus=… if you know how many GPUs they would pay.",
    )  # fmt: skip
