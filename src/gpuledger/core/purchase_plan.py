"""How much to commit to: the quantile rule, several offers at once by integer programming, and whether it would have paid.

Demand is by hour, in any unit whose on-demand price is one: dollars an hour, or cards. A commitment of level Q at the
rate r (committed over on-demand price) costs r Q in every hour, used or not, and saves min(demand, Q). One rate: the best
level is the smallest that demand exceeds in at most the share r of hours (the newsvendor's quantile F^-1(1 - r)). Several
offers, some of them good for one group of demand and some for any: a mixed integer program by HiGHS. Levels found in
floating point are priced again by the caller. Pure functions; random draws are seeded.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Final

from gpuledger.core.burst import quantile
from gpuledger.core.reserve import cheapest

BLOCK: Final = 24
DRAWS: Final = 400
_GAP: Final = 0.0001
_SECONDS: Final = 20.0


def cost_of(levels: Sequence[float], size: float, rate: float) -> float:
    """Cost of a demand with a commitment of that size, in the on-demand price of a unit for an hour."""
    return rate * size * len(levels) + sum(level - size for level in levels if level > size)


def best_level(levels: Sequence[float], rate: float, step: float | None = None) -> float:
    """Return the cheapest level by the quantile rule; with a `step`, the cheaper of its neighbours that are multiples.

    0 where a commitment would not pay. Raises ValueError for a rate outside 0 to 1.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"not a rate: {rate}")
    if not levels:
        return 0.0
    ordered = sorted(levels, reverse=True)
    place = floor(rate * len(ordered) + 1e-12)
    found = ordered[place] if place < len(ordered) else 0.0
    if step is None:
        return found
    if step == 1:
        return float(cheapest(levels, 1 - rate).size)
    near = (floor(found / step + 1e-9) * step, ceil(found / step - 1e-9) * step)
    return min(near, key=lambda size: (cost_of(levels, size, rate), size))


@dataclass(frozen=True, slots=True)
class Spread:
    """10th, 50th and 90th percentile of something over resampled histories."""

    p10: float
    p50: float
    p90: float


def resampled(
    levels: Sequence[float], statistics: Sequence[Callable[[Sequence[float]], float]], *, seed: int = 0
) -> list[Spread] | None:
    """Return the spread of statistics over block-resampled histories; None with less than two days of demand.

    Blocks of a day are drawn from any start, the end being followed by the beginning: hours near each other are alike.
    """
    if len(levels) < 2 * BLOCK:
        return None
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    ring = [*levels, *levels[:BLOCK]]
    found: list[list[float]] = [[] for _ in statistics]
    for _ in range(DRAWS):
        drawn: list[float] = []
        while len(drawn) < len(levels):
            at = rng.randrange(len(levels))
            drawn += ring[at : at + BLOCK]
        del drawn[len(levels) :]
        for place, statistic in enumerate(statistics):
            found[place].append(statistic(drawn))
    return [Spread(*(quantile(one, share) or 0.0 for share in (0.1, 0.5, 0.9))) for one in found]


@dataclass(frozen=True, slots=True)
class Backtest:
    """What policies would have cost, period after period, each deciding by what it had seen, and their regret.

    `regret` is what a policy cost more than the best level of each period, known only afterwards. `periods` were tested.
    """

    periods: int
    cost: Mapping[str, float]
    regret: Mapping[str, float]
    hindsight: float


def walk_forward(
    levels: Sequence[float], rate: float, *, first: int = 7 * BLOCK, period: int = 7 * BLOCK
) -> Backtest | None:
    """Let policies choose a level from all that came before, week by week; None when there is no week to test.

    Policies: `quantile` (ours), `nothing`, `mean`, `peak` of what was seen.
    """
    policies: dict[str, Callable[[Sequence[float]], float]] = {
        "quantile": lambda seen: best_level(seen, rate),
        "nothing": lambda _: 0.0,
        "mean": lambda seen: sum(seen) / len(seen),
        "peak": max,
    }
    cost = dict.fromkeys(policies, 0.0)
    hindsight, periods = 0.0, 0
    for at in range(first, len(levels) - BLOCK + 1, period):
        seen, then = levels[:at], levels[at : at + period]
        hindsight += cost_of(then, best_level(then, rate), rate)
        for name, policy in policies.items():
            cost[name] += cost_of(then, policy(seen), rate)
        periods += 1
    if not periods:
        return None
    return Backtest(periods, cost, {name: spent - hindsight for name, spent in cost.items()}, hindsight)


@dataclass(frozen=True, slots=True)
class Offer:
    """Something to commit to: a rate, the groups of demand that it is good for, the step that it is sold in, and the most."""

    name: str
    rate: float
    groups: tuple[int, ...]
    step: float = 1.0
    most: float = float("inf")


@dataclass(frozen=True, slots=True)
class Purchase:
    """Levels by offer, what all demand costs with them, and how far from the optimum that can be at most (a share)."""

    levels: tuple[float, ...]
    cost: float
    gap: float


@dataclass(slots=True)
class _Program:
    """Columns: steps of each offer, then what each offer covers of each group in each kind of hour."""

    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    worth: list[float] = field(default_factory=list)

    def column(self, worth: float) -> int:
        self.worth.append(worth)
        return len(self.worth) - 1

    def row(self, limit: float, entries: Sequence[tuple[int, float]]) -> None:
        for column, value in entries:
            self.rows.append(len(self.upper))
            self.columns.append(column)
            self.values.append(value)
        self.upper.append(limit)


def purchase(demand: Sequence[Sequence[float]], offers: Sequence[Offer]) -> Purchase:
    """Return the levels of all offers together that cost least; `demand` is by group, then by hour.

    Hours that are the same in all groups are one. Raises ArithmeticError when HiGHS finds nothing in its time.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    hours: dict[tuple[float, ...], int] = {}
    for values in zip(*demand, strict=True):
        key = tuple(round(value, 9) for value in values)
        hours[key] = hours.get(key, 0) + 1
    length = sum(hours.values())
    program = _Program()
    bought = [program.column(-offer.rate * offer.step * length) for offer in offers]
    for key, count in hours.items():
        covering: dict[int, list[tuple[int, float]]] = {}
        for number, offer in enumerate(offers):
            mine = []
            for group in offer.groups:
                if key[group] > 0:
                    column = program.column(float(count))
                    mine.append((column, 1.0))
                    covering.setdefault(group, []).append((column, 1.0))
            if mine:
                program.row(0.0, [*mine, (bought[number], -offer.step)])
        for group, entries in covering.items():
            program.row(key[group], entries)
    whole = sum(sum(values) for values in demand)
    if not program.upper:
        return Purchase(tuple(0.0 for _ in offers), whole, 0.0)
    matrix = csr_array(
        (program.values, (program.rows, program.columns)), shape=(len(program.upper), len(program.worth))
    )
    integral = np.zeros(len(program.worth))
    integral[: len(offers)] = 1
    found = milp(
        -np.asarray(program.worth),
        constraints=LinearConstraint(matrix, ub=program.upper),
        integrality=integral,
        bounds=Bounds(
            0,
            np.asarray(
                [
                    *(
                        ceil(offer.most / offer.step - 1e-9) if offer.most < np.inf else np.inf
                        for offer in offers
                    ),
                    *[np.inf] * (len(program.worth) - len(offers)),
                ]
            ),
        ),
        options={"mip_rel_gap": _GAP, "time_limit": _SECONDS},
    )
    if found.x is None:
        raise ArithmeticError(f"HiGHS found no plan: {found.message}")
    steps = [float(round(value)) for value in found.x[: len(offers)]]
    saved = -float(found.fun)
    bound = -float(found.mip_dual_bound) if found.mip_dual_bound is not None else saved
    levels = tuple(step * offer.step for step, offer in zip(steps, offers, strict=True))
    return Purchase(levels, whole - saved, max(0.0, (bound - saved) / bound) if bound > 0 else 0.0)
