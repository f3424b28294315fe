"""Load curves of one serving replica: how many tokens a second, and how slow, at which concurrency.

Throughput is fitted as `tok_s(c) = X c / (c + K)`: X is what a saturated replica would do, K the concurrency at which it
does half of that. TTFT and TPOT are fitted by isotonic regression, since neither falls as load grows; between the
concurrencies that were seen they are interpolated linearly. Within limits of both, capacity is the throughput at the
largest concurrency that keeps them. Pure functions of floats; seconds and tokens a second. No figure is money.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, inf, sqrt
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random

FEWEST: Final = 3
"""Fewest concurrencies that a curve is fitted to; fewer are single operating points."""
_GRID: Final = 120
_ROUNDS: Final = 4


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One measured load: concurrency (requests at once; None when not told), tokens/s of the replica, p95 latencies.

    `ttft` and `tpot` are seconds, None when not measured. `weight` is how long it was measured for, in any unit.
    """

    concurrency: float | None
    tok_s: float
    ttft: float | None = None
    tpot: float | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Curve:
    """A fitted curve. `ttft` and `tpot` are (concurrency, seconds), rising; empty when not measured.

    `residuals` are relative, one per point of `at`: measured / fitted - 1, by kind (tok_s, ttft, tpot).
    """

    saturated: float
    half: float
    at: tuple[float, ...]
    ttft: tuple[tuple[float, float], ...]
    tpot: tuple[tuple[float, float], ...]
    residuals: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def highest(self) -> float:
        """Return the highest concurrency seen."""
        return self.at[-1]

    def tok_s(self, concurrency: float) -> float:
        """Return the fitted tokens a second at a concurrency."""
        return self.saturated * concurrency / (concurrency + self.half)

    def load_for(self, tok_s: float) -> float | None:
        """Return the concurrency at which the replica does so much; None at or above saturation."""
        return None if tok_s >= self.saturated else self.half * tok_s / (self.saturated - tok_s)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a replica must keep: p95 seconds (None: no limit), and requests at once that its memory holds."""

    ttft: float | None = None
    tpot: float | None = None
    memory: float | None = None
    beyond: float = 1.0
    """How far beyond the highest concurrency seen the curve may be followed, as a factor."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a replica does within the limits: None for what isn't known.

    `tok_s` 0 means that it can't keep the limits at any load that was seen. `binding` says which limit it runs into: ttft,
    tpot, memory, or `range`, the highest load seen (it may be able to do more, nobody has measured it). `single` says
    that there is no curve, only the best of single measured points.
    """

    tok_s: float
    concurrency: float | None
    ttft: float | None
    tpot: float | None
    binding: str
    extrapolated: bool = False
    single: bool = False


def fit(points: Sequence[LoadPoint]) -> Curve | None:
    """Fit a curve; None when fewer than three concurrencies were seen, as two parameters then say nothing."""
    seen = _by_concurrency(points)
    if len(seen) < FEWEST:
        return None
    at = tuple(point.concurrency or 0.0 for point in seen)
    weights = [point.weight for point in seen]
    saturated, half = _saturating(at, [point.tok_s for point in seen], weights)
    curve = Curve(saturated, half, at, _rising(seen, "ttft"), _rising(seen, "tpot"))
    spare = sqrt(len(at) / (len(at) - 2))  # two parameters were fitted: residuals are that much too small
    residuals = {
        "tok_s": tuple(spare * (point.tok_s / curve.tok_s(c) - 1) for point, c in zip(seen, at, strict=True))
    }
    for name in ("ttft", "tpot"):
        fitted = dict(getattr(curve, name))
        measured = [(point.concurrency or 0.0, getattr(point, name)) for point in seen]
        residuals[name] = tuple(
            value / fitted[c] - 1 for c, value in measured if value is not None and fitted[c] > 0
        )
    return Curve(saturated, half, at, curve.ttft, curve.tpot, residuals)


def capacity(curve: Curve, limits: Limits) -> Capacity | None:
    """Return the most tokens a second within the limits; None when a limit is set on what was never measured."""
    highest = curve.highest * max(limits.beyond, 1.0)
    loads = {"range": highest}
    for name in ("ttft", "tpot"):
        limit, steps = getattr(limits, name), getattr(curve, name)
        if limit is None:
            continue
        if not steps:
            return None
        loads[name] = _largest(steps, limit)
    if limits.memory is not None:
        loads["memory"] = limits.memory
    binding = min(loads, key=lambda name: (loads[name], name == "range"))
    load = min(loads[binding], highest)
    if load < curve.at[0]:
        ttft, tpot = latency(curve.ttft, curve.at[0]), latency(curve.tpot, curve.at[0])
        return Capacity(0.0, curve.at[0], ttft, tpot, binding)
    ttft, tpot = latency(curve.ttft, load), latency(curve.tpot, load)
    return Capacity(curve.tok_s(load), load, ttft, tpot, binding, extrapolated=load > curve.highest)


def best_point(points: Sequence[LoadPoint], limits: Limits) -> Capacity | None:
    """Return the best single measured point within the limits, where there is no curve; None as for `capacity`."""
    wanted = [name for name in ("ttft", "tpot") if getattr(limits, name) is not None]
    known = [point for point in points if all(getattr(point, name) is not None for name in wanted)]
    if not known:
        return None
    kept = [
        point for point in known
        if all(getattr(point, name) <= getattr(limits, name) for name in wanted)
        and (limits.memory is None or point.concurrency is None or point.concurrency <= limits.memory)
    ]  # fmt: skip
    if kept:
        best = max(kept, key=lambda point: point.tok_s)
        return Capacity(best.tok_s, best.concurrency, best.ttft, best.tpot, "range", single=True)
    least = min(known, key=lambda point: (point.concurrency or 0.0, point.tok_s))
    binding = next((name for name in wanted if getattr(least, name) > getattr(limits, name)), "memory")
    return Capacity(0.0, least.concurrency, least.ttft, least.tpot, binding, single=True)


def latency(steps: Sequence[tuple[float, float]], concurrency: float) -> float | None:
    """Return seconds at a concurrency: interpolated, the lowest seen below it; beyond the range by the steepest slope."""
    if not steps:
        return None
    if concurrency <= steps[0][0]:
        return steps[0][1]
    for (low, before), (high, after) in pairwise(steps):
        if concurrency <= high:
            return before + (after - before) * (concurrency - low) / (high - low)
    return steps[-1][1] + _steepest(steps) * (concurrency - steps[-1][0])


def redrawn(curve: Curve, rng: "random.Random") -> Curve:
    """Return a curve as another measurement might have given it: residuals are drawn anew, and it is fitted again."""
    points = []
    for c in curve.at:
        value = curve.tok_s(c) * max(1 + rng.choice(curve.residuals["tok_s"]), 0.05)
        slow: dict[str, float | None] = {}
        for name in ("ttft", "tpot"):
            steps: Sequence[tuple[float, float]] = getattr(curve, name)
            found = dict(steps).get(c)
            drawn = max(1 + rng.choice(curve.residuals[name]), 0.05) if found is not None else 1.0
            slow[name] = None if found is None else found * drawn
        points.append(LoadPoint(c, value, slow["ttft"], slow["tpot"]))
    return fit(points) or curve


def requests_in_memory(
    *, gib: float, weights_gib: float, kv_gib_per_1k_tokens: float | None, tokens: float | None
) -> float | None:
    """Return how many requests of a size a replica's memory holds beside the weights; 0 when these don't fit.

    `gib` is what of the cards' memory may be used. None when the size of a request's cache isn't known.
    """
    if weights_gib > gib:
        return 0.0
    if not kv_gib_per_1k_tokens or not tokens:
        return None
    return (gib - weights_gib) / (kv_gib_per_1k_tokens * tokens / 1000)


def steffen(at: Sequence[float], values: Sequence[float], where: float) -> float:
    """Interpolate between rising places without overshooting, never below 0 (M. Steffen, A&A 239, 443, 1990).

    Raises ValueError outside of the places given, or for fewer than two.
    """
    if len(at) < 2 or not at[0] <= where <= at[-1]:  # noqa: PLR2004
        raise ValueError(f"{where} is not between the places that were measured")
    steps = [b - a for a, b in pairwise(at)]
    slopes = [(b - a) / step for (a, b), step in zip(pairwise(values), steps, strict=True)]
    tangents = [_at_the_end(slopes[:2], steps[:2])]
    for place in range(1, len(at) - 1):
        one, other = slopes[place - 1], slopes[place]
        mean = (one * steps[place] + other * steps[place - 1]) / (steps[place - 1] + steps[place])
        sign = (one > 0) - (one < 0) + (other > 0) - (other < 0)
        tangents.append(sign * min(abs(one), abs(other), abs(mean) / 2))
    tangents.append(_at_the_end(slopes[:-3:-1], steps[:-3:-1]))
    place = min(next(i for i in range(len(steps)) if where <= at[i + 1]), len(steps) - 1)
    t, step = where - at[place], steps[place]
    a = (tangents[place] + tangents[place + 1] - 2 * slopes[place]) / step**2
    b = (3 * slopes[place] - 2 * tangents[place] - tangents[place + 1]) / step
    return max(0.0, values[place] + t * (tangents[place] + t * (b + t * a)))


def _at_the_end(slopes: Sequence[float], steps: Sequence[float]) -> float:
    """Slope at the first place: of the parabola through three places, limited so that the curve doesn't turn."""
    if len(slopes) == 1:
        return slopes[0]
    part = steps[0] / (steps[0] + steps[1])
    found = slopes[0] * (1 + part) - slopes[1] * part
    if found * slopes[0] <= 0:
        return 0.0
    return 2 * slopes[0] if abs(found) > 2 * abs(slopes[0]) else found


def _by_concurrency(points: Sequence[LoadPoint]) -> list[LoadPoint]:
    """One point per concurrency, weighted means of what was measured there, lowest first."""
    found: dict[float, list[LoadPoint]] = {}
    for point in points:
        if point.concurrency is not None and point.concurrency > 0 and point.tok_s > 0:
            found.setdefault(point.concurrency, []).append(point)
    merged = []
    for c in sorted(found):
        some = found[c]
        whole = sum(point.weight for point in some)
        slow: dict[str, float | None] = {}
        for name in ("ttft", "tpot"):
            told = [(getattr(p, name), p.weight) for p in some if getattr(p, name) is not None]
            weight = sum(w for _, w in told)
            slow[name] = sum(value * w for value, w in told) / weight if weight else None
        speed = sum(point.tok_s * point.weight for point in some) / whole
        merged.append(LoadPoint(c, speed, slow["ttft"], slow["tpot"], whole))
    return merged


def _saturating(
    at: Sequence[float], values: Sequence[float], weights: Sequence[float]
) -> tuple[float, float]:
    """Least squares of X c/(c+K): X has a closed form for each K, and K is found on grids that close in on it."""
    import numpy as np

    c, y, w = (np.asarray(some, dtype=float) for some in (at, values, weights))

    def errors(halves: Any) -> tuple[Any, Any]:  # noqa: ANN401 - arrays
        basis = c / (c + halves[:, None])
        best = (w * y * basis).sum(axis=1) / (w * basis * basis).sum(axis=1)
        return best, (w * (y - best[:, None] * basis) ** 2).sum(axis=1)

    low, high = float(np.log(c.min() * 1e-3)), float(np.log(c.max() * 1e3))
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, _GRID)
        best, error = errors(np.exp(grid))
        place = int(error.argmin())
        low, high = float(grid[max(place - 1, 0)]), float(grid[min(place + 1, _GRID - 1)])
    return float(best[place]), float(np.exp(grid[place]))


def _rising(points: Sequence[LoadPoint], name: str) -> tuple[tuple[float, float], ...]:
    told = [
        (p.concurrency or 0.0, getattr(p, name), p.weight) for p in points if getattr(p, name) is not None
    ]
    if not told:
        return ()
    from scipy.optimize import isotonic_regression

    found = isotonic_regression([value for _, value, _ in told], weights=[weight for _, _, weight in told]).x
    return tuple((c, float(value)) for (c, _, _), value in zip(told, found, strict=True))


def _largest(steps: Sequence[tuple[float, float]], limit: float) -> float:
    """Largest concurrency at which the seconds keep a limit; 0 when they never do, infinite when they always do."""
    if steps[0][1] > limit:
        return 0.0
    largest = steps[0][0]
    for (low, before), (high, after) in pairwise(steps):
        if after <= limit:
            largest = high
        elif before <= limit:
            return low + (high - low) * (limit - before) / (after - before)
    slope = _steepest(steps)
    return inf if slope <= 0 else largest + (limit - steps[-1][1]) / slope


def _steepest(steps: Sequence[tuple[float, float]]) -> float:
    return max(((b - a) / (high - low) for (low, a), (high, b) in pairwise(steps)), default=0.0)


def whole_replicas(load: float) -> int:
    """Round up to whole replicas; a billionth more than whole ones is a rounding error of floats."""
    return ceil(load - 1e-9 * max(1.0, load))
