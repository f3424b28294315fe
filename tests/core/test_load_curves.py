"""Load curves: parameters that are known come back, limits are kept, and what wasn't measured isn't claimed."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuledger.core import load_curves
from gpuledger.core.load_curves import Limits, LoadPoint

LOADS = (1, 2, 4, 8, 16, 32, 64)


def exact(saturated: float, half: float, loads: tuple[float, ...] = LOADS) -> list[LoadPoint]:
    """Points on a curve, with latencies that rise in straight lines: TPOT 10 ms + 1 ms, TTFT 50 ms + 5 ms a request."""
    return [
        LoadPoint(c, saturated * c / (c + half), ttft=0.05 + 0.005 * c, tpot=0.01 + 0.001 * c) for c in loads
    ]


@given(st.floats(10, 1e5), st.floats(0.2, 200))
@settings(deadline=None)
def test_parameters_that_are_known_come_back(saturated: float, half: float) -> None:
    curve = load_curves.fit(exact(saturated, half))
    assert curve
    assert curve.saturated == pytest.approx(saturated, rel=1e-3)
    assert curve.half == pytest.approx(half, rel=2e-3)
    assert curve.tok_s(8) == pytest.approx(saturated * 8 / (8 + half), rel=1e-4)


def test_the_fit_is_the_least_squares_one() -> None:
    """No neighbour of the fitted parameters has a smaller sum of squares."""
    rng = random.Random(3)
    points = [LoadPoint(p.concurrency, p.tok_s * rng.uniform(0.9, 1.1)) for p in exact(900, 12)]
    curve = load_curves.fit(points)
    assert curve

    def error(saturated: float, half: float) -> float:
        return sum(
            (p.tok_s - saturated * p.concurrency / (p.concurrency + half)) ** 2
            for p in points
            if p.concurrency
        )

    best = error(curve.saturated, curve.half)
    for up in (0.98, 0.99, 1, 1.01, 1.02):
        for side in (0.98, 0.99, 1, 1.01, 1.02):
            assert error(curve.saturated * up, curve.half * side) >= best - 1e-9 * best


def test_capacity_is_where_the_first_limit_is_met() -> None:
    curve = load_curves.fit(exact(1000, 10))
    assert curve
    by_tpot = load_curves.capacity(curve, Limits(ttft=10, tpot=0.03))  # 0.01 + 0.001 c = 0.03: c = 20
    assert by_tpot
    assert (by_tpot.binding, by_tpot.extrapolated) == ("tpot", False)
    assert by_tpot.concurrency == pytest.approx(20)
    assert by_tpot.tok_s == pytest.approx(1000 * 20 / 30, rel=1e-3)
    by_ttft = load_curves.capacity(curve, Limits(ttft=0.11, tpot=0.03))  # 0.05 + 0.005 c = 0.11: c = 12
    assert by_ttft
    assert by_ttft.binding == "ttft"
    assert by_ttft.concurrency == pytest.approx(12)
    by_memory = load_curves.capacity(curve, Limits(tpot=0.03, memory=5))
    assert by_memory
    assert by_memory.binding == "memory"
    assert by_memory.tok_s == pytest.approx(1000 * 5 / 15, rel=1e-3)


def test_nothing_beyond_what_was_measured_unless_asked_and_then_it_is_said() -> None:
    curve = load_curves.fit(exact(1000, 10))
    assert curve
    within = load_curves.capacity(curve, Limits(ttft=10, tpot=1))
    assert within
    assert (within.binding, within.concurrency, within.extrapolated) == ("range", 64, False)
    beyond = load_curves.capacity(curve, Limits(tpot=0.09, beyond=2))  # c = 80 by the straight line
    assert beyond
    assert (beyond.binding, beyond.extrapolated) == ("tpot", True)
    assert beyond.concurrency == pytest.approx(80)
    assert beyond.tpot == pytest.approx(0.09)


def test_limits_that_no_load_keeps_and_limits_on_what_nobody_measured() -> None:
    curve = load_curves.fit(exact(1000, 10))
    assert curve
    none = load_curves.capacity(curve, Limits(tpot=0.005))
    assert none
    assert (none.tok_s, none.binding, none.concurrency) == (0, "tpot", 1)
    assert none.tpot == pytest.approx(0.011)
    silent = load_curves.fit([LoadPoint(c, 100 * c / (c + 5)) for c in LOADS])
    assert silent
    assert load_curves.capacity(silent, Limits(tpot=1)) is None
    assert load_curves.capacity(silent, Limits()) is not None


def test_few_points_are_no_curve_but_single_points() -> None:
    points = exact(1000, 10, (4, 32))
    assert load_curves.fit(points) is None
    best = load_curves.best_point(points, Limits(tpot=0.05))
    assert best
    assert (best.concurrency, best.single) == (32, True)
    assert best.tok_s == pytest.approx(1000 * 32 / 42)
    slow = load_curves.best_point(points, Limits(tpot=0.02))
    assert slow
    assert slow.concurrency == 4
    never = load_curves.best_point(points, Limits(tpot=0.001))
    assert never
    assert (never.tok_s, never.binding) == (0, "tpot")
    assert load_curves.best_point([LoadPoint(None, 5.0)], Limits(ttft=1)) is None
    alone = load_curves.best_point([LoadPoint(None, 5.0)], Limits())
    assert alone
    assert alone.tok_s == 5


measured = st.lists(
    st.tuples(st.sampled_from(LOADS), st.floats(1, 1000), st.floats(0.01, 5), st.floats(0.001, 1)),
    min_size=8, max_size=30,
)  # fmt: skip


@given(measured, st.floats(0.01, 5), st.floats(0.001, 1), st.floats(1, 2))
@settings(deadline=None)
def test_looser_limits_never_lower_the_capacity(
    found: list[tuple[int, float, float, float]], ttft: float, tpot: float, looser: float
) -> None:
    curve = load_curves.fit([LoadPoint(float(c), *rest) for c, *rest in found])
    if curve is None:
        return
    for steps in (curve.ttft, curve.tpot):
        assert all(after >= before - 1e-12 for (_, before), (_, after) in pairwise(steps))
    tight = load_curves.capacity(curve, Limits(ttft, tpot))
    loose = load_curves.capacity(curve, Limits(ttft * looser, tpot * looser))
    assert tight
    assert loose
    assert loose.tok_s >= tight.tok_s - 1e-9
    if tight.tok_s:
        assert tight.ttft is not None
        assert tight.tpot is not None
        assert tight.ttft <= ttft * (1 + 1e-9)
        assert tight.tpot <= tpot * (1 + 1e-9)


def test_drawing_anew_is_seeded_and_scatters_around_the_fit() -> None:
    rng = random.Random(5)
    points = [
        LoadPoint(p.concurrency, p.tok_s * rng.uniform(0.9, 1.1), p.ttft, p.tpot) for p in exact(900, 12)
    ]
    curve = load_curves.fit(points)
    assert curve
    draws = [load_curves.redrawn(curve, random.Random(seed)).tok_s(32) for seed in range(60)]
    assert draws == [load_curves.redrawn(curve, random.Random(seed)).tok_s(32) for seed in range(60)]
    assert min(draws) < curve.tok_s(32) < max(draws)
    assert max(draws) < 1.3 * min(draws)


def test_memory() -> None:
    assert load_curves.requests_in_memory(gib=72, weights_gib=140, kv_gib_per_1k_tokens=0.3, tokens=4096) == 0
    assert (
        load_curves.requests_in_memory(gib=72, weights_gib=16, kv_gib_per_1k_tokens=None, tokens=4096) is None
    )
    # 56 GiB left, 0.125 GiB × 4.096 a request
    assert load_curves.requests_in_memory(
        gib=72, weights_gib=16, kv_gib_per_1k_tokens=0.125, tokens=4096
    ) == pytest.approx(56 / 0.512)


def test_steffens_spline() -> None:
    """A straight line stays one, points are met, and between falling points the curve falls."""
    assert load_curves.steffen([0, 1, 3, 4], [0, 2, 6, 8], 2.2) == pytest.approx(4.4)
    at, values = [10.0, 20.0, 50.0, 90.0], [900.0, 850.0, 200.0, 10.0]
    assert [load_curves.steffen(at, values, where) for where in at] == pytest.approx(values)
    between = [load_curves.steffen(at, values, 10 + 80 * step / 200) for step in range(201)]
    assert all(after <= before + 1e-9 for before, after in pairwise(between))
    assert min(between) >= 0
    # By hand: slopes 1, 3 and 1, 1 apart; tangents at 1 and 2 are 2 min(1, 3, 1) = 2; half way (2+5)/... of Hermite:
    # (1 + 4)/2 + (2 - 2)/8 = 2.5
    assert load_curves.steffen([0, 1, 2, 3], [0, 1, 4, 5], 1.5) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="not between"):
        load_curves.steffen(at, values, 91)
