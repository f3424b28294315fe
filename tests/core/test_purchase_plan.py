"""Levels to commit to: by hand, against trying every level, and what the past would have said."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.purchase_plan import Offer, best_level, cost_of, purchase, resampled, walk_forward

demands = st.lists(st.integers(0, 30).map(float), min_size=1, max_size=40)
rates = st.sampled_from([0.1, 0.35, 0.5, 0.72, 0.9, 1.0])


def test_by_hand() -> None:
    """Demand is above 2 in one of four hours: worth committing to 10 only if the rate is below a quarter."""
    levels = [2.0, 2.0, 2.0, 10.0]
    assert best_level(levels, 0.5) == 2
    assert best_level(levels, 0.2) == 10
    assert best_level(levels, 1.0) == 0
    assert cost_of(levels, 2, 0.5) == 4 * 2 * 0.5 + 8
    assert best_level([], 0.5) == 0
    with pytest.raises(ValueError, match="not a rate"):
        best_level(levels, 1.2)


@given(demands, rates)
def test_no_level_costs_less(levels: list[float], rate: float) -> None:
    best = cost_of(levels, best_level(levels, rate), rate)
    assert best <= min(cost_of(levels, size / 2, rate) for size in range(61)) + 1e-9


@given(demands, rates, st.sampled_from([1.0, 4.0]))
def test_in_steps_none_of_the_steps_costs_less(levels: list[float], rate: float, step: float) -> None:
    size = best_level(levels, rate, step)
    assert size % step == 0
    assert cost_of(levels, size, rate) <= min(cost_of(levels, n * step, rate) for n in range(35)) + 1e-9


def test_several_offers_cost_what_the_best_of_all_combinations_costs() -> None:
    """Two groups, an offer for each, and a dearer one for both: 6 x 6 x 6 combinations tried."""
    demand = [[5.0, 1.0, 5.0, 1.0], [0.0, 4.0, 1.0, 4.0]]
    offers = [Offer("a", 0.6, (0,)), Offer("b", 0.6, (1,)), Offer("any", 0.75, (0, 1))]
    found = purchase(demand, offers)

    def cost(sizes: tuple[int, ...]) -> float:
        spent = 0.0
        for one, other in zip(*demand, strict=True):
            left = max(one - sizes[0], 0) + max(other - sizes[1], 0)
            spent += 0.6 * (sizes[0] + sizes[1]) + 0.75 * sizes[2] + max(left - sizes[2], 0)
        return spent

    assert found.cost == pytest.approx(min(cost(sizes) for sizes in product(range(6), repeat=3)))
    assert found.cost == pytest.approx(cost(tuple(int(size) for size in found.levels)))
    assert found.gap <= 0.01


def test_an_offer_is_bought_up_to_its_most() -> None:
    found = purchase([[10.0] * 5], [Offer("long", 0.4, (0,), most=3.0), Offer("short", 0.7, (0,))])
    assert found.levels == (3.0, 7.0)
    assert found.cost == pytest.approx(5 * (3 * 0.4 + 7 * 0.7))
    assert purchase([[0.0, 0.0]], [Offer("any", 0.4, (0,))]).levels == (0.0,)


def test_the_past_is_only_what_came_before() -> None:
    """A steady week of 4, then a week of 8: whoever committed to the mean or peak seen bought 4, hindsight 8."""
    levels = [4.0] * 168 + [8.0] * 168
    found = walk_forward(levels, 0.5)
    assert found is not None
    assert found.periods == 1
    assert found.hindsight == 168 * 8 * 0.5
    assert found.cost == {
        "quantile": 168 * (4 * 0.5 + 4), "nothing": 168 * 8, "mean": 168 * (4 * 0.5 + 4), "peak": 168 * (4 * 0.5 + 4),
    }  # fmt: skip
    assert found.regret["nothing"] == 168 * 4
    assert walk_forward(levels[:168], 0.5) is None


def test_regret_is_never_negative_and_peaks_are_dear() -> None:
    levels = [10.0 if hour % 24 < 3 else 2.0 for hour in range(744)]
    found = walk_forward(levels, 0.6)
    assert found is not None
    assert min(found.regret.values()) >= -1e-9
    assert found.regret["quantile"] == pytest.approx(0)
    assert found.regret["peak"] > found.regret["mean"] > 0


def test_resampled_histories_are_the_same_for_the_same_seed() -> None:
    levels = [float((hour * 7) % 24) for hour in range(240)]
    first = resampled(levels, [lambda one: sum(one) / len(one), max], seed=3)
    assert first is not None
    assert first == resampled(levels, [lambda one: sum(one) / len(one), max], seed=3)
    assert first != resampled([*levels[:100], *[0.0] * 140], [lambda one: sum(one) / len(one), max], seed=3)
    mean, peak = first
    assert mean.p10 == mean.p50 == mean.p90 == pytest.approx(11.5), "every day has all its hours once"
    assert peak.p90 == 23
    assert resampled(levels[:47], [max]) is None
