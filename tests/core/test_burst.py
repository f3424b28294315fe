"""Burst figures: known values, and laws that hold for any load."""

import random
from datetime import UTC, datetime, timedelta
from statistics import fmean, pstdev, pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core import burst

MONDAY = datetime(2026, 6, 1, tzinfo=UTC)
spans = st.lists(
    st.tuples(st.integers(-50, 250), st.integers(1, 120), st.integers(1, 8)).map(
        lambda found: (float(found[0]), float(found[0] + found[1]), float(found[2]))
    ),
    max_size=20,
)
values = st.lists(st.floats(0.01, 1000), min_size=1, max_size=60)


@given(spans, st.sampled_from([1, 7, 10, 60]))
def test_levels_are_time_weighted(found: list[burst.Span], window: int) -> None:
    levels = burst.levels(found, 0, 200, window)
    assert len(levels) == -(-200 // window)
    for index, level in enumerate(levels):
        low, high = index * window, min((index + 1) * window, 200)
        held = sum(h * max(0, min(e, high) - max(s, low)) for s, e, h in found)
        assert level == pytest.approx(held / window, abs=1e-9)


@given(spans, st.integers(1, 199))
def test_cutting_spans_changes_nothing(found: list[burst.Span], at: int) -> None:
    cut = [
        piece
        for start, end, level in found
        for piece in (
            [(start, float(at), level), (float(at), end, level)]
            if start < at < end
            else [(start, end, level)]
        )
    ]
    assert burst.levels(cut, 0, 200, 10) == pytest.approx(burst.levels(found, 0, 200, 10), abs=1e-9)


@given(values, st.floats(0.5, 20))
def test_ratios_dont_depend_on_the_unit(found: list[float], factor: float) -> None:
    one, other = burst.profile(found), burst.profile([value * factor for value in found])
    assert one
    assert other
    for name in ("peak_to_mean", "p99_to_mean", "cv"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-6, abs=1e-9)
    assert one.peak_to_mean is not None
    assert one.peak_to_mean >= 1 - 1e-9
    assert one.cv == pytest.approx(pstdev(found) / fmean(found), rel=1e-6, abs=1e-9)


def test_known_values() -> None:
    found = burst.profile([1, 2, 3, 4])
    assert found
    assert (found.windows, found.mean, found.minimum, found.peak, found.peak_to_mean) == (4, 2.5, 1, 4, 1.6)
    assert found.p99_to_mean == pytest.approx(3.97 / 2.5)
    assert burst.quantile([10, 20], 0.25) == 12.5
    assert burst.fano([0, 4]) == pytest.approx(pvariance([0, 4]) / 2)
    assert burst.goh_barabasi([5, 5, 5]) == -1, "a clock"
    assert burst.goh_barabasi([0, 0, 0, 0, 1000]) == pytest.approx((400 - 200) / 600)
    assert burst.counts([0, 9, 10, 29, 30, -1], 0, 30, 10) == [2, 1, 1]
    assert burst.gaps([7, 1, 4, 40], 0, 30) == [3, 3]


def test_a_poisson_process_is_neither_bursty_nor_regular() -> None:
    rng = random.Random(7)
    moments, at = [], 0.0
    while at < 1_000_000:
        at += rng.expovariate(1 / 50)
        moments.append(at)
    assert burst.fano(burst.counts(moments, 0, 1_000_000, 1000)) == pytest.approx(1, abs=0.15)
    assert burst.goh_barabasi(burst.gaps(moments, 0, 1_000_000)) == pytest.approx(0, abs=0.02)


def test_a_flat_load_has_the_lift_1() -> None:
    found = burst.off_hours([3.0] * 168, MONDAY)
    assert found.share == pytest.approx(108 / 168)
    assert found.baseline == pytest.approx(108 / 168)
    assert found.lift == pytest.approx(1)
    assert found.weekend_share == pytest.approx(48 / 168)
    at_work = [0.0 if burst.Calendar().off(MONDAY + timedelta(hours=hour)) else 1.0 for hour in range(168)]
    assert sum(at_work) == 60
    assert burst.off_hours(at_work, MONDAY).share == 0
    assert burst.Calendar(0, 24).baseline == pytest.approx(48 / 168)


def test_what_has_no_value_is_none() -> None:
    assert burst.profile([]) is None
    nothing = burst.profile([0, 0])
    assert nothing
    assert (nothing.peak_to_mean, nothing.p99_to_mean, nothing.cv) == (None, None, None)
    assert burst.fano([]) is None
    assert burst.fano([0, 0]) is None
    assert burst.goh_barabasi([]) is None
    assert burst.goh_barabasi([0]) is None
    assert burst.quantile([], 0.5) is None
    assert burst.off_hours([], MONDAY).share is None
    assert burst.off_hours([0.0], MONDAY).lift is None
    with pytest.raises(ValueError, match="no windows"):
        burst.levels([], 10, 0)


def test_the_interval_is_repeatable_and_covers_the_figure() -> None:
    rng = random.Random(1)
    load = [10 + (hour % 24) + rng.random() for hour in range(24 * 30)]

    def cv(found: object) -> float | None:
        profile = burst.profile(found)  # type: ignore[arg-type]
        return profile.cv if profile else None

    found = burst.interval(load, cv, draws=200)
    assert found
    assert found == burst.interval(load, cv, draws=200)
    figure = cv(load)
    assert figure
    assert found[0] <= figure <= found[1]
    assert found[1] - found[0] < 0.1 * figure, "days are alike"
    assert burst.interval(load[:40], cv) is None
    assert burst.interval([0.0] * 100, cv) is None
