"""Which fleet of serving replicas carries a demand at least cost: whole replicas, one kind or several.

Demand is tokens a second by request size; a kind of hardware has a capacity by request size (tokens a second within the
service levels, see `load_curves`) and a price of a whole replica. With headroom h, replicas n_g and load λ_bg of size b
on kind g:

    minimise Σ_g price_g n_g   subject to   Σ_b λ_bg / (h X_bg) <= n_g,   Σ_g λ_bg = λ_b,   n_g whole

That is the form of Mélange (Griggs et al. 2024, arXiv 2404.14527), there with demand cut into slices that don't divide
(`slices`). Solved with SciPy's HiGHS in floats; the cost of what it finds is summed in Decimal, and it is never worse
than the best single kind or the greedy choice, which are worked out beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from gpuledger.core.load_curves import whole_replicas
from gpuledger.core.money import total

_TOLERANCE: Final = 1e-7
_MOST_SECONDS: Final = 10.0

Load = Mapping[str, float]
"""Tokens a second by request size."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of replica: its name, USD an hour of a whole one, and tokens a second within the limits by request size.

    A size that isn't there, or has 0, can't be served by it.
    """

    name: str
    usd_per_hour: Decimal
    capacity: Mapping[str, float]

    def serves(self, size: str) -> bool:
        """Say whether it can serve requests of a size."""
        return self.capacity.get(size, 0.0) > 0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Whole replicas by kind, and how much of each request size each kind carries (tokens a second)."""

    replicas: Mapping[str, int]
    carried: Mapping[tuple[str, str], float]
    usd_per_hour: Decimal

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds that it has, by name."""
        return tuple(sorted(name for name, count in self.replicas.items() if count))


def single(kind: Kind, demand: Load, headroom: float, at_least: int = 0) -> Fleet | None:
    """Return the fleet of one kind; None when it can't serve a size that is asked for."""
    wanted = {size: load for size, load in demand.items() if load > 0}
    if not all(kind.serves(size) for size in wanted):
        return None
    needed = sum(load / (headroom * kind.capacity[size]) for size, load in wanted.items())
    count = max(whole_replicas(needed), at_least)
    return Fleet(
        {kind.name: count}, {(size, kind.name): load for size, load in wanted.items()},
        kind.usd_per_hour * count,
    )  # fmt: skip


def greedy(kinds: Sequence[Kind], demand: Load, headroom: float, at_least: int = 0) -> Fleet | None:
    """Return the fleet in which each request size goes to the kind that carries it at least cost per token."""
    carried: dict[tuple[str, str], float] = {}
    needed: dict[str, float] = {}
    for size, load in demand.items():
        able = [kind for kind in kinds if kind.serves(size)]
        if load <= 0:
            continue
        if not able:
            return None
        best = min(able, key=lambda kind: (float(kind.usd_per_hour) / kind.capacity[size], kind.name))
        carried[size, best.name] = load
        needed[best.name] = needed.get(best.name, 0.0) + load / (headroom * best.capacity[size])
    counts = {name: whole_replicas(load) for name, load in needed.items()}
    return _padded(_priced(kinds, counts, carried), kinds, at_least)


def cheapest(
    kinds: Sequence[Kind], demand: Load, headroom: float, *, at_least: int = 0, slices: int | None = None
) -> Fleet | None:
    """Return the fleet of least cost; None when some size can't be served by any kind.

    `slices`: each size's demand in so many parts that stay whole; by default it may be split at will. Of fleets that
    cost the same, one kind alone goes before several.
    """
    alone = [found for kind in kinds if (found := single(kind, demand, headroom, at_least))]
    mixed = [greedy(kinds, demand, headroom, at_least), _solved(kinds, demand, headroom, at_least, slices)]
    fleets = [*alone, *(found for found in mixed if found)]
    return min(fleets, key=lambda fleet: (fleet.usd_per_hour, len(fleet.kinds), fleet.kinds), default=None)


def carries(kinds: Sequence[Kind], fleet: Fleet, demand: Load, headroom: float) -> bool:
    """Say whether a fleet carries a demand with headroom, up to the rounding of floats."""
    for kind in kinds:
        load = sum(
            amount / (headroom * kind.capacity[size])
            for (size, name), amount in fleet.carried.items()
            if name == kind.name
        )
        if load > fleet.replicas.get(kind.name, 0) * (1 + _TOLERANCE) + _TOLERANCE:
            return False
    for size, load in demand.items():
        found = sum(amount for (one, _), amount in fleet.carried.items() if one == size)
        if abs(found - load) > _TOLERANCE * max(1.0, load):
            return False
    return True


def pareto(points: Sequence[tuple[Decimal | float | None, float | None]]) -> list[bool | None]:
    """Say of each (cost, tokens a second per user) whether no other is as good in both and better in one.

    None where either isn't known: it can't be compared.
    """
    known = [(float(cost), speed) for cost, speed in points if cost is not None and speed is not None]
    found: list[bool | None] = []
    for cost, speed in points:
        if cost is None or speed is None:
            found.append(None)
            continue
        mine = float(cost)
        found.append(not any(c <= mine and s >= speed and (c < mine or s > speed) for c, s in known))
    return found


def usd_per_mtok(usd_per_hour: Decimal, tok_s: Decimal) -> Decimal | None:
    """Return USD per million tokens: `usd_per_hour / (tok_s × 3600 / 10^6)`; None without tokens."""
    return usd_per_hour * 1_000_000 / (tok_s * 3600) if tok_s else None


def tps_per_dollar(usd_per_hour: Decimal, tok_s: Decimal) -> Decimal | None:
    """Return tokens a second per (dollar an hour); None when it costs nothing."""
    return tok_s / usd_per_hour if usd_per_hour else None


def mean_cost(fleets: Iterable[Fleet]) -> Decimal | None:
    """Return the mean cost of an hour; None without hours."""
    costs = [fleet.usd_per_hour for fleet in fleets]
    return total(costs) / len(costs) if costs else None


def _priced(
    kinds: Sequence[Kind], counts: Mapping[str, int], carried: Mapping[tuple[str, str], float]
) -> Fleet:
    prices = {kind.name: kind.usd_per_hour for kind in kinds}
    return Fleet(
        {name: count for name, count in counts.items() if count}, dict(carried),
        total(prices[name] * count for name, count in counts.items()),
    )  # fmt: skip


def _padded(fleet: Fleet, kinds: Sequence[Kind], at_least: int) -> Fleet:
    """Add replicas of the cheapest kind up to the least number."""
    short = at_least - sum(fleet.replicas.values())
    if short <= 0 or not kinds:
        return fleet
    least = min(kinds, key=lambda kind: (kind.usd_per_hour, kind.name)).name
    counts = {**fleet.replicas, least: fleet.replicas.get(least, 0) + short}
    return _priced(kinds, counts, fleet.carried)


def _solved(
    kinds: Sequence[Kind], demand: Load, headroom: float, at_least: int, slices: int | None
) -> Fleet | None:
    """Solve the integer program. None when it can't be done, or when the solver's answer doesn't carry the demand."""
    parts = [
        (size, load / (slices or 1)) for size, load in demand.items() if load > 0 for _ in range(slices or 1)
    ]
    if not parts or not kinds:
        return None
    found = _optimum(kinds, parts, headroom, at_least, whole=slices is not None)
    if found is None:
        return None
    width = len(kinds)
    counts = {kind.name: round(found[place]) for place, kind in enumerate(kinds)}
    carried: dict[tuple[str, str], float] = {}
    for number, (size, load) in enumerate(parts):
        shares = [max(0.0, float(found[width + number * width + place])) for place in range(width)]
        whole = sum(shares)
        for kind, share in zip(kinds, shares, strict=True):
            if share > 0 and whole > 0:
                carried[size, kind.name] = carried.get((size, kind.name), 0.0) + load * share / whole
    fleet = _priced(kinds, counts, carried)
    return fleet if carries(kinds, fleet, demand, headroom) else None


def _optimum(
    kinds: Sequence[Kind],
    parts: Sequence[tuple[str, float]],
    headroom: float,
    at_least: int,
    *,
    whole: bool,
) -> Any:  # noqa: ANN401 - an array of scipy, or None
    """Variables: replicas by kind, then for each part its share on each kind."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import lil_array

    width, count = len(kinds), len(kinds) * (1 + len(parts))
    fits, split = lil_array((width, count)), lil_array((len(parts), count))
    upper = np.full(count, np.inf)
    for place, kind in enumerate(kinds):
        fits[place, place] = -1.0
        for number, (size, load) in enumerate(parts):
            column = width + number * width + place
            split[number, column] = 1.0
            upper[column] = 1.0 if kind.serves(size) else 0.0
            if kind.serves(size):
                fits[place, column] = load / (headroom * kind.capacity[size])
    least = np.zeros((1, count))
    least[0, :width] = 1.0
    cost = np.zeros(count)
    cost[:width] = [float(kind.usd_per_hour) for kind in kinds]
    integral = np.zeros(count)
    integral[:width] = 1
    if whole:
        integral[width:] = 1
    answer = milp(
        cost,
        constraints=[
            LinearConstraint(fits.tocsr(), -np.inf, 0.0),
            LinearConstraint(split.tocsr(), 1.0, 1.0),
            LinearConstraint(least, at_least, np.inf),
        ],
        bounds=Bounds(np.zeros(count), upper),
        integrality=integral,
        options={"time_limit": _MOST_SECONDS, "mip_rel_gap": 0.0},
    )
    return answer.x


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return of (tokens a second per user, tokens a second per card) those that none exceeds in both, by the first."""
    best = [
        (speed, rate) for speed, rate in set(points)
        if not any(s >= speed and r >= rate and (s, r) != (speed, rate) for s, r in points)
    ]  # fmt: skip
    ordered = sorted(best)
    assert all(b[1] < a[1] for a, b in pairwise(ordered)), "a front falls"  # noqa: S101
    return ordered
