"""Burst figures with intervals: the same numbers as other formulas give, laws, and intervals that mean something."""

import random
from statistics import fmean, pstdev, pvariance

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuledger.core import burst, burst_index
from gpuledger.core.burst_index import Drawing, Figure

DAYS = Drawing(24, draws=300, seed=1)
NO_DRAWS = Drawing(24, draws=0)
loads = st.lists(st.floats(0.01, 1000), min_size=1, max_size=80)


def figures(found: list[Figure]) -> dict[str, float | None]:
    return {one.measure: one.value for one in found}


@given(loads)
@settings(deadline=None)
def test_values_are_those_of_plain_formulas(load: list[float]) -> None:
    found = figures(burst_index.of_levels(load, NO_DRAWS))
    assert found["peak_to_mean"] == pytest.approx(max(load) / fmean(load))
    assert found["cv"] == pytest.approx(pstdev(load) / fmean(load), abs=1e-9)
    p99 = burst.quantile(load, 0.99)
    assert p99 is not None
    assert found["p99_to_mean"] == pytest.approx(p99 / fmean(load))
    assert burst_index.of_counts(load, NO_DRAWS).value == pytest.approx(
        pvariance(load) / fmean(load), abs=1e-9
    )
    assert burst_index.of_gaps(load, NO_DRAWS).value == pytest.approx(
        (pstdev(load) - fmean(load)) / (pstdev(load) + fmean(load)), abs=1e-9
    )


@given(loads, st.floats(0.1, 50), st.floats(0.1, 50))
@settings(deadline=None)
def test_prices_dont_matter_and_a_load_against_itself_is_1(
    load: list[float], one: float, other: float
) -> None:
    found = figures(burst_index.against([one * x for x in load], [other * x for x in load], NO_DRAWS))
    assert found["burst_index"] == pytest.approx(1)
    assert found["peak_to_mean"] == pytest.approx(1)


def test_the_index_by_hand() -> None:
    """A flat load against 98 hours of 1 and two of 51: mean 2, and p99 lies a hundredth of the way from 51 to 51."""
    bursty, flat = [1.0] * 98 + [51.0] * 2, [7.0] * 100
    found = {one.measure: one for one in burst_index.against(bursty, flat, DAYS)}
    assert found["burst_index"].value == pytest.approx(51 / 2)
    assert found["cv"].value is None, "a flat load has no variation to divide by"
    levels = {one.measure: one for one in burst_index.of_levels(bursty, DAYS)}
    assert levels["peak_to_mean"].value == pytest.approx(25.5)
    with pytest.raises(ValueError, match="100 windows against 99"):
        burst_index.against(bursty, flat[1:], DAYS)


def test_lift_is_over_the_windows_own_hours() -> None:
    off = [False, True, True, False]
    (lift,) = (
        one
        for one in burst_index.of_levels([3.0, 1.0, 1.0, 3.0], DAYS, off)
        if one.measure == "off_hours_lift"
    )
    assert lift.value == pytest.approx((2 / 8) / (2 / 4))
    flat = figures(burst_index.of_levels([2.0] * 4, DAYS, off))
    assert flat["off_hours_lift"] == pytest.approx(1)
    assert figures(burst_index.of_levels([2.0] * 4, DAYS, [False] * 4))["off_hours_lift"] is None


def test_intervals_are_seeded_and_tell_one_event_from_a_habit() -> None:
    rng = random.Random(2)
    habit = [10 + (10 if hour % 24 == 9 else 0) + rng.random() for hour in range(24 * 30)]
    event = [10 + rng.random() + (100 if 300 <= hour < 311 else 0) for hour in range(24 * 30)]
    found = {one.measure: one for one in burst_index.of_levels(habit, DAYS)}["p99_to_mean"]
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 0.05 * found.value
    once = {one.measure: one for one in burst_index.of_levels(event, DAYS)}["p99_to_mean"]
    assert once.value is not None
    assert once.low is not None
    assert once.value > 9
    assert once.low < 1.2, "draws without the event have no burst"
    assert burst_index.of_levels(habit, DAYS) == burst_index.of_levels(habit, DAYS)
    assert burst_index.of_levels(habit, DAYS) != burst_index.of_levels(habit, Drawing(24, 300, seed=2))


def test_the_interval_of_a_known_process_covers_the_truth() -> None:
    """Poisson arrivals have a Fano factor of 1 and B of 0; 90 % intervals hold these most times."""
    held = {"fano": 0, "goh_barabasi": 0}
    for seed in range(40):
        rng = random.Random(seed)
        moments, at = [], 0.0
        while at < 600 * 3600:
            at += rng.expovariate(1 / 900)
            moments.append(at)
        counts = burst.counts(moments, 0, 600 * 3600)
        gaps = burst.gaps(moments, 0, 600 * 3600)
        for figure, truth in (
            (burst_index.of_counts(counts, DAYS), 1.0),
            (burst_index.of_gaps(gaps, DAYS), 0.0),
        ):
            assert figure.low is not None
            assert figure.high is not None
            held[figure.measure] += figure.low <= truth <= figure.high
    assert min(held.values()) >= 30, held


def test_what_has_no_value_or_no_interval_is_none() -> None:
    assert figures(burst_index.of_levels([0.0, 0.0], DAYS)) == {
        "peak_to_mean": None,
        "p99_to_mean": None,
        "cv": None,
    }
    assert figures(burst_index.of_levels([], DAYS, [])) == dict.fromkeys(
        ("peak_to_mean", "p99_to_mean", "cv", "off_hours_lift")
    )
    assert burst_index.of_counts([], DAYS) == Figure("fano", None)
    assert burst_index.of_gaps([], DAYS) == Figure("goh_barabasi", None)
    short = burst_index.of_levels([1.0, 2.0] * 23, DAYS)
    assert {one.low for one in short} == {None}
    assert {one.low for one in burst_index.of_levels([1.0] * 100, Drawing(24, draws=0))} == {None}
