"""Fleets of candidates for a demand by hour: what they cost, how used and how fast they are, and how sure that is."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from gpuledger.core import burst, hardware, load_curves
from gpuledger.core.hardware import Fleet
from gpuledger.core.load_curves import Capacity
from gpuledger.core.money import total
from gpuledger.pipeline.hardware_kinds import Candidate, Need

CONFIDENCE: Final = 0.9
_MOST_SOLVES: Final = 400

Capacities = Mapping[str, Mapping[str, Capacity]]
"""Capacity of a replica by kind and request size."""


@dataclass(frozen=True, slots=True)
class Option:
    """Whole replicas by hour, of one kind or several. `interactivity` is of the slowest size in its busiest hour."""

    kinds: tuple[str, ...]
    fleets: Sequence[Fleet]
    usd_per_hour: Decimal
    interactivity: float | None

    @property
    def most(self) -> dict[str, int]:
        """Return the most replicas of each kind that any hour has."""
        return {name: max(fleet.replicas.get(name, 0) for fleet in self.fleets) for name in self.kinds}


@dataclass(slots=True)
class Interval:
    """Costs of an option as other measurements might have given them, and how often it was on the Pareto front."""

    costs: list[Decimal] = field(default_factory=list)
    draws: int = 0
    on_front: int = 0

    @property
    def bounds(self) -> tuple[Decimal, Decimal] | None:
        """Return the bounds between which CONFIDENCE of the costs lie; None when some draw had no cost."""
        if not self.costs or len(self.costs) < self.draws:
            return None
        ordered, last = sorted(self.costs), len(self.costs) - 1
        return (
            ordered[round((1 - CONFIDENCE) / 2 * last)], ordered[round((1 + CONFIDENCE) / 2 * last)],
        )  # fmt: skip


def demand_of(need: Need) -> Decimal:
    """Return the mean demand in tokens a second, exactly as given."""
    return total(Decimal(repr(load)) for hour in need.hours for load in hour.values()) / len(need.hours)


def alone(kind: Candidate, capacities: Capacities, need: Need) -> Option | None:
    """Return the option of one kind alone; None when it can't carry the demand within the limits."""
    priced, fleets = kind.kind(capacities[kind.name]), []
    for hour in need.hours:
        fleet = hardware.single(priced, hour, need.headroom, need.at_least)
        if fleet is None:
            return None
        fleets.append(fleet)
    return _option({kind.name: kind}, capacities, fleets)


def mixed(kinds: Sequence[Candidate], capacities: Capacities, need: Need) -> Option | None:
    """Return the cheapest option of all kinds together, hour by hour; None when no fleet carries the demand."""
    priced = [kind.kind(capacities[kind.name]) for kind in kinds]
    solved: dict[tuple[tuple[str, float], ...], Fleet | None] = {}
    fleets = []
    for hour in need.hours:
        key = tuple(sorted(hour.items()))
        if key not in solved:
            solved[key] = hardware.cheapest(
                priced, hour, need.headroom, at_least=need.at_least, slices=need.slices
            )
        fleet = solved[key]
        if fleet is None:
            return None
        fleets.append(fleet)
    used = {kind.name: kind for kind in kinds if any(fleet.replicas.get(kind.name) for fleet in fleets)}
    return _option(used, capacities, fleets)


def utilization(option: Option, capacities: Capacities) -> float | None:
    """Return load over what the replicas could carry within the limits, headroom included."""
    load = sum(
        amount / capacities[name][size].tok_s
        for fleet in option.fleets for (size, name), amount in fleet.carried.items()
    )  # fmt: skip
    return burst.share_of(load, sum(sum(fleet.replicas.values()) for fleet in option.fleets))


def intervals(
    options: Sequence[Option | None], kinds: Sequence[Candidate], need: Need
) -> list[Interval | None]:
    """Draw the residuals of every curve anew, fit again, and cost each option anew; seeded.

    None for an option of which a size has no curve, or which takes too many integer programs to draw again.
    """
    by_name = {kind.name: kind for kind in kinds}
    distinct = len({tuple(sorted(hour.items())) for hour in need.hours})
    found = [
        Interval() if one is not None and all(set(by_name[name].curves) >= set(need.sizes) for name in one.kinds)
        and (len(one.kinds) == 1 or distinct * need.draws <= _MOST_SOLVES) else None
        for one in options
    ]  # fmt: skip
    if not any(found) or need.draws < 1:
        return [None] * len(options)
    rng = random.Random(need.seed)  # noqa: S311 - repeatable on purpose
    for _ in range(need.draws):
        drawn = {kind.name: _drawn(kind, need, rng) for kind in kinds}
        again = [
            one if one is None or interval is None else _again([by_name[name] for name in one.kinds], drawn, need)
            for one, interval in zip(options, found, strict=True)
        ]  # fmt: skip
        best = hardware.pareto(
            [(one.usd_per_hour, one.interactivity) if one else (None, None) for one in again]
        )
        for one, interval, front in zip(again, found, best, strict=True):
            if interval is not None:
                interval.draws += 1
                interval.costs += [one.usd_per_hour] if one else []
                interval.on_front += front is True
    return found


def _again(kinds: Sequence[Candidate], drawn: Capacities, need: Need) -> Option | None:
    return alone(kinds[0], drawn, need) if len(kinds) == 1 else mixed(kinds, drawn, need)


def _drawn(kind: Candidate, need: Need, rng: random.Random) -> dict[str, Capacity]:
    found = dict(kind.found)
    for size in need.sizes:
        if size in kind.curves:
            again = load_curves.capacity(load_curves.redrawn(kind.curves[size], rng), kind.limits[size])
            found[size] = again or found[size]
    return found


def _option(kinds: Mapping[str, Candidate], capacities: Capacities, fleets: Sequence[Fleet]) -> Option:
    hourly = hardware.mean_cost(fleets) or Decimal(0)
    return Option(tuple(sorted(kinds)), fleets, hourly, _slowest(kinds, capacities, fleets))


def _slowest(kinds: Mapping[str, Candidate], capacities: Capacities, fleets: Sequence[Fleet]) -> float | None:
    """Tokens/s per user of the slowest size in the busiest hour: 1 / TPOT at the load that each replica then has."""
    speeds: list[float] = []
    for fleet in {id(one): one for one in fleets}.values():
        for name, count in fleet.replicas.items():
            sizes = [size for size, one in fleet.carried if one == name]
            part = sum(fleet.carried[size, name] / capacities[name][size].tok_s for size in sizes)
            for size in sizes:
                slow = _tpot(kinds[name], size, capacities[name][size], part / count)
                if not slow:
                    return None
                speeds.append(1 / slow)
    return min(speeds, default=None)


def _tpot(kind: Candidate, size: str, found: Capacity, part: float) -> float | None:
    curve = kind.curves.get(size)
    if curve is None or not curve.tpot:
        return found.tpot
    load = curve.load_for(part * found.tok_s)
    return found.tpot if load is None else load_curves.latency(curve.tpot, load)
