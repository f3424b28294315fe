"""Fleets: the integer program against every fleet there is, exact money, the published example, and laws."""

from decimal import Decimal
from fractions import Fraction
from itertools import product
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuledger.core import hardware
from gpuledger.core.hardware import Kind

BIG = Kind("big", Decimal("10.01"), {"all": 1000.0})
SMALL = Kind("small", Decimal("1.37"), {"all": 120.0})
# The example of Mélange's own repository: requests a second by size, prices an hour, and the answer it prints.
MELANGE = [
    Kind("A10G", Decimal("1.01"), {"a": 2.0, "b": 1.0, "c": 5.0, "d": 2.0}),
    Kind("A100-80GB", Decimal("3.67"), {"a": 20.0, "b": 20.0, "c": 40.0, "d": 20.0}),
]
RATES = {"a": 6.0, "b": 3.0, "c": 15.0, "d": 6.0}


def exhaustive(kinds: list[Kind], load: int, headroom: Fraction) -> Decimal:
    """Least cost of carrying a load of one size, by trying every number of replicas."""
    per = [Fraction(int(kind.capacity["all"])) * headroom for kind in kinds]
    most = [ceil(Fraction(load) / one) for one in per]
    return min(
        sum((kind.usd_per_hour * n for kind, n in zip(kinds, counts, strict=True)), Decimal(0))
        for counts in product(*(range(one + 1) for one in most))
        if sum(n * one for n, one in zip(counts, per, strict=True)) >= load
    )


kinds = st.lists(st.tuples(st.integers(1, 900), st.integers(20, 400)), min_size=1, max_size=3).map(
    lambda found: [
        Kind(f"k{i}", Decimal(cents) / 100, {"all": float(x)}) for i, (cents, x) in enumerate(found)
    ]
)


@given(kinds, st.integers(1, 1500))
@settings(max_examples=60, deadline=None)
def test_the_cheapest_fleet_is_the_cheapest_of_all(found: list[Kind], load: int) -> None:
    fleet = hardware.cheapest(found, {"all": float(load)}, 0.8)
    assert fleet
    assert fleet.usd_per_hour == exhaustive(found, load, Fraction(4, 5))
    assert hardware.carries(found, fleet, {"all": float(load)}, 0.8)


sized = st.lists(
    st.tuples(st.integers(1, 900), st.tuples(*[st.integers(0, 300)] * 3)), min_size=1, max_size=4
).map(
    lambda found: [
        Kind(f"k{i}", Decimal(cents) / 100, dict(zip("abc", map(float, speeds), strict=True)))
        for i, (cents, speeds) in enumerate(found)
    ]
)
loads = st.fixed_dictionaries({name: st.floats(0, 2000).map(lambda x: round(x, 2)) for name in "abc"})


@given(sized, loads, st.sampled_from([0.6, 0.8, 1.0]), st.sampled_from([None, 1, 3]))
@settings(max_examples=60, deadline=None)
def test_never_worse_than_greedy_or_one_kind_and_priced_exactly(
    found: list[Kind], demand: dict[str, float], headroom: float, slices: int | None
) -> None:
    fleet = hardware.cheapest(found, demand, headroom, slices=slices)
    greedy = hardware.greedy(found, demand, headroom)
    alone = [one for kind in found if (one := hardware.single(kind, demand, headroom))]
    if fleet is None:
        assert greedy is None
        assert alone == []
        return
    assert greedy
    assert all(fleet.usd_per_hour <= other.usd_per_hour for other in [greedy, *alone])
    prices = {kind.name: kind.usd_per_hour for kind in found}
    assert fleet.usd_per_hour == sum((prices[n] * count for n, count in fleet.replicas.items()), Decimal(0))
    assert hardware.carries(found, fleet, demand, headroom)


@given(sized, loads)
@settings(max_examples=40, deadline=None)
def test_twice_the_price_is_twice_the_cost_and_more_demand_never_costs_less(
    found: list[Kind], demand: dict[str, float]
) -> None:
    fleet = hardware.cheapest(found, demand, 0.8)
    dear = [Kind(kind.name, 2 * kind.usd_per_hour, kind.capacity) for kind in found]
    twice = hardware.cheapest(dear, demand, 0.8)
    more = hardware.cheapest(found, {size: 1.5 * load for size, load in demand.items()}, 0.8)
    assert (fleet is None) == (twice is None) == (more is None)
    if fleet and twice and more:
        assert twice.usd_per_hour == 2 * fleet.usd_per_hour
        assert more.usd_per_hour >= fleet.usd_per_hour


def test_a_big_card_and_small_ones_for_the_rest() -> None:
    """1,000 tok/s at 80 %: two big ones are 20.02, eleven small ones 15.07, one big and three small ones 14.12."""
    fleet = hardware.cheapest([BIG, SMALL], {"all": 1000.0}, 0.8)
    assert fleet
    assert fleet.replicas == {"big": 1, "small": 3}
    assert fleet.usd_per_hour == Decimal("14.12")
    one = hardware.single(BIG, {"all": 1000.0}, 0.8)
    assert one
    assert (one.replicas, one.usd_per_hour) == ({"big": 2}, Decimal("20.02"))


def test_the_published_example_of_melange() -> None:
    """3 A10G and 1 A100-80GB for $6.70, each request size whole; a size that may be split makes it 1 and 1."""
    fleet = hardware.cheapest(MELANGE, RATES, 1.0, slices=1)
    assert fleet
    assert (fleet.replicas, fleet.usd_per_hour) == ({"A10G": 3, "A100-80GB": 1}, Decimal("6.70"))
    split = hardware.cheapest(MELANGE, RATES, 1.0)
    assert split
    # 9/8 of an A100; the eighth is 5 of the 15 requests/s of size c, what one A10G does
    assert (split.replicas, split.usd_per_hour) == ({"A10G": 1, "A100-80GB": 1}, Decimal("4.68"))
    assert split.carried["c", "A10G"] == pytest.approx(5)


def test_whole_replicas_and_at_least_so_many() -> None:
    exactly = hardware.single(
        SMALL, {"all": (0.1 + 0.2) * 10 * 96}, 0.8
    )  # 3.0000000000000004 replicas' worth
    assert exactly
    assert exactly.replicas == {"small": 3}
    idle = hardware.cheapest([BIG, SMALL], {"all": 0.0}, 0.8, at_least=2)
    assert idle
    assert (idle.replicas, idle.usd_per_hour) == ({"small": 2}, Decimal("2.74"))
    kept = hardware.cheapest([BIG, SMALL], {"all": 1000.0}, 0.8, at_least=12)
    assert kept
    assert sum(kept.replicas.values()) == 12


def test_what_serves_nothing_of_a_size_is_no_answer() -> None:
    assert hardware.single(SMALL, {"long": 1.0}, 0.8) is None
    assert hardware.cheapest([BIG, SMALL], {"long": 1.0}, 0.8) is None
    helper = Kind("helper", Decimal(50), {"long": 10.0})
    fleet = hardware.cheapest([BIG, helper], {"long": 1.0, "all": 10.0}, 0.8)
    assert fleet
    assert fleet.replicas == {"big": 1, "helper": 1}


def test_the_front() -> None:
    points = [
        (Decimal(1), 10.0),
        (Decimal(2), 20.0),
        (Decimal(2), 15.0),
        (Decimal(3), 20.0),
        (None, 99.0),
        (Decimal(1), None),
    ]
    assert hardware.pareto(points) == [True, True, False, False, None, None]
    assert hardware.pareto([(Decimal(1), 5.0), (Decimal(1), 5.0)]) == [True, True]
    assert hardware.front([(1, 9), (2, 8), (2, 7), (3, 8), (4, 1)]) == [(1, 9), (3, 8), (4, 1)]


def test_units() -> None:
    """$3.60 an hour at 1,000 tok/s: 3.6 M tokens an hour, $1 a million, 277.8 tok/s per $/h; that times 3600 a dollar."""
    assert hardware.usd_per_mtok(Decimal("3.6"), Decimal(1000)) == 1
    rate = hardware.tps_per_dollar(Decimal("3.6"), Decimal(1000))
    assert rate == pytest.approx(Decimal("277.7777777777777777777777778"))
    assert hardware.usd_per_mtok(Decimal(1), Decimal(0)) is None
    assert hardware.tps_per_dollar(Decimal(0), Decimal(5)) is None
