"""Commitments on a demand: by hand, and against trying every size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.reserve import cheapest, committed

levels = st.lists(st.floats(0, 40), min_size=1, max_size=30)


def test_by_hand() -> None:
    found = committed([1, 3, 5], 3)
    assert found.utilization == pytest.approx(7 / 9)
    assert found.coverage == pytest.approx(7 / 9)
    assert (found.stranded, found.spill) == (2, 2)
    none = committed([1, 3], 0)
    assert (none.utilization, none.coverage, none.spill) == (None, 0, 4)
    assert committed([0, 0], 2).coverage is None
    best = cheapest([2, 2, 2, 10], 0.5)
    assert (best.size, best.cost) == (2, 4 * 2 * 0.5 + 8)
    assert best.of_on_demand == pytest.approx(12 / 16)
    assert cheapest([5, 0, 0], 0.5).size == 0, "used a third of the time: break-even is half"
    assert cheapest([], 0.5).of_on_demand is None


@given(levels, st.integers(0, 60))
def test_used_and_stranded_are_what_was_committed(found: list[float], size: int) -> None:
    made = committed(found, size)
    used = sum(found) - made.spill
    assert used + made.stranded == pytest.approx(size * len(found), abs=1e-6)
    assert made.stranded >= -1e-9
    assert made.spill >= -1e-9


@given(levels, st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))
def test_no_size_costs_less(found: list[float], discount: float) -> None:
    best = cheapest(found, discount)

    def cost(size: int) -> float:
        return size * len(found) * (1 - discount) + sum(max(level - size, 0) for level in found)

    assert best.cost == pytest.approx(cost(best.size), abs=1e-6)
    assert best.cost <= min(cost(size) for size in range(45)) + 1e-6


def test_what_is_no_size_or_discount_is_refused() -> None:
    with pytest.raises(ValueError, match="not a size"):
        committed([1], -1)
    with pytest.raises(ValueError, match="not a discount"):
        cheapest([1], 1.5)
