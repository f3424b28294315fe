"""How bursty demand is: levels by window, arrivals, off-hours, each by a stated definition. Pure functions of numbers.

Statistics are floats and never money. A figure depends on its window: compare only figures of equal windows, and
Fano factors only at similar means. What has no value (the ratio to a mean of zero, a gap of a single event) is None.
Moments are population moments; quantiles interpolate linearly, as SQL's `quantile_cont`.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from math import ceil, floor, sqrt
from typing import Final

HOUR: Final = 3600
_WEEK: Final = 7 * 24
_SATURDAY: Final = 5

Span = tuple[float, float, float]
"""Start and end in seconds, and the level held from start to end."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Levels of equal windows: how many, mean, extremes, and three figures of unevenness."""

    windows: int
    mean: float
    minimum: float
    peak: float
    peak_to_mean: float | None
    p99_to_mean: float | None
    cv: float | None


@dataclass(frozen=True, slots=True)
class OffHours:
    """Shares of a load outside working hours and at weekends; `baseline` is the share of a flat load.

    `lift` is share over baseline: a flat load has 1.
    """

    share: float | None
    weekend_share: float | None
    baseline: float
    lift: float | None


@dataclass(frozen=True, slots=True)
class Calendar:
    """Working hours: Monday to Friday from `opens` to `closes`, whole hours of one zone."""

    opens: int = 8
    closes: int = 20

    def off(self, moment: datetime) -> bool:
        """Say whether an hour that starts then is outside working hours."""
        return moment.weekday() >= _SATURDAY or not self.opens <= moment.hour < self.closes

    @property
    def baseline(self) -> float:
        """Share of a week that is outside working hours."""
        return 1 - 5 * (self.closes - self.opens) / _WEEK


def levels(spans: Iterable[Span], start: float, end: float, window: float = HOUR) -> list[float]:
    """Return the time-weighted mean level of each window from `start` to before `end`, in seconds."""
    count = _windows(start, end, window)
    part = [0.0] * (count + 1)  # level-seconds of windows that a span only touches
    step = [0.0] * (count + 2)  # changes of the level that holds for whole windows
    for since, until, level in spans:
        low, high = (max(since, start) - start) / window, (min(until, end) - start) / window
        if low >= high:
            continue
        first, last = floor(low), min(floor(high), count)
        if first == last:
            part[first] += (high - low) * level
            continue
        part[first] += (first + 1 - low) * level
        part[last] += (high - last) * level
        step[first + 1] += level
        step[last] -= level
    found, held = [], 0.0
    for index in range(count):
        held += step[index]
        found.append(held + part[index])
    return found


def counts(moments: Iterable[float], start: float, end: float, window: float = HOUR) -> list[int]:
    """Return the number of events in each window from `start` to before `end`."""
    found = [0] * _windows(start, end, window)
    for moment in moments:
        if start <= moment < end:
            found[floor((moment - start) / window)] += 1
    return found


def gaps(moments: Iterable[float], start: float, end: float) -> list[float]:
    """Return the times between events that follow each other, both from `start` to before `end`."""
    return [
        after - before for before, after in pairwise(sorted(one for one in moments if start <= one < end))
    ]


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the value below which that share lies, between neighbours by linear interpolation; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def profile(values: Sequence[float]) -> Profile | None:
    """Return peak to mean (max / mean), p99 / mean and CV (standard deviation / mean); None without windows."""
    if not values:
        return None
    mean, deviation = _moments(values)
    p99 = quantile(values, 0.99)
    return Profile(
        len(values), mean, min(values), max(values), share_of(max(values), mean),
        None if p99 is None else share_of(p99, mean), share_of(deviation, mean),
    )  # fmt: skip


def fano(numbers: Sequence[float]) -> float | None:
    """Return the index of dispersion of counts: variance / mean. A Poisson process has 1 at any window."""
    if not numbers:
        return None
    mean, deviation = _moments(numbers)
    return share_of(deviation * deviation, mean)


def goh_barabasi(times: Sequence[float]) -> float | None:
    """Return B = (sd - mean) / (sd + mean) of times between events: 0 for a Poisson process, toward 1 bursty, -1 regular."""
    if not times:
        return None
    mean, deviation = _moments(times)
    return share_of(deviation - mean, deviation + mean)


def off_hours(values: Sequence[float], start: datetime, calendar: Calendar | None = None) -> OffHours:
    """Return how much of hourly levels, the first at `start`, falls outside working hours."""
    hours = calendar or Calendar()
    whole = sum(values)
    moments = [start + timedelta(hours=index) for index in range(len(values))]
    off = sum(value for value, moment in zip(values, moments, strict=True) if hours.off(moment))
    weekend = sum(
        value for value, moment in zip(values, moments, strict=True) if moment.weekday() >= _SATURDAY
    )
    share = share_of(off, whole)
    lift = None if share is None else share_of(share, hours.baseline)
    return OffHours(share, share_of(weekend, whole), hours.baseline, lift)


def interval(
    values: Sequence[float],
    statistic: Callable[[Sequence[float]], float | None],
    *,
    block: int = 24,
    draws: int = 500,
    confidence: float = 0.9,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the interval of a statistic by a circular block bootstrap: windows near each other are alike.

    Blocks of `block` windows are drawn with replacement from any start, the end being followed by the beginning. None
    when there is less than two blocks, or when a draw has no value.
    """
    if len(values) < 2 * block or draws < 1:
        return None
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    number, ring = ceil(len(values) / block), [*values, *values[:block]]
    found = []
    for _ in range(draws):
        drawn: list[float] = []
        for _ in range(number):
            at = rng.randrange(len(values))
            drawn += ring[at : at + block]
        value = statistic(drawn[: len(values)])
        if value is None:
            return None
        found.append(value)
    low, high = quantile(found, (1 - confidence) / 2), quantile(found, (1 + confidence) / 2)
    return None if low is None or high is None else (low, high)


def _windows(start: float, end: float, window: float) -> int:
    if window <= 0 or end < start:
        raise ValueError(f"no windows of {window} from {start} to {end}")
    return ceil((end - start) / window)


def _moments(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def share_of(number: float, by: float) -> float | None:
    """Return the ratio of two numbers; None when there is nothing to divide by."""
    return number / by if by else None
