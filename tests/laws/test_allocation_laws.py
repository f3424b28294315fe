"""Laws of allocation, held by generated machines, bills and usage: nothing lost, nothing below zero, order is nothing."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.models.allocation_rows import AMOUNTS, T0, by_reference, by_sql, connect, load

from gpuledger.core.allocation import (
    COSTS,
    QUANTITIES,
    Allocated,
    Charge,
    UnitPrice,
    allocate,
    apportion,
)
from gpuledger.core.usage import NodeInterval, UsageInterval

Interval = TypeVar("Interval", NodeInterval, UsageInterval)
NODES = (("east", "n1"), ("east", "n2"), ("west", "n1"))
thorough = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ample = settings(max_examples=200, deadline=None)


@dataclass(frozen=True)
class World:
    """Everything that one allocation reads."""

    charges: tuple[Charge, ...]
    nodes: tuple[NodeInterval, ...]
    usage: tuple[UsageInterval, ...]
    prices: tuple[UnitPrice, ...]

    def allocate(self) -> list[Allocated]:
        return allocate(self.charges, self.nodes, self.usage, self.prices)


# Minutes mostly, now and then a moment that no bucket fits.
offsets = st.one_of(
    st.integers(0, 96).map(lambda n: timedelta(minutes=15 * n)),
    st.integers(0, 24 * 60).map(lambda n: timedelta(minutes=n)),
    st.integers(0, 24 * 3_600_000_000).map(lambda n: timedelta(microseconds=n)),
)
money = st.one_of(
    st.none(),
    st.sampled_from([Decimal(0), Decimal("98.32"), Decimal("-98.32"), Decimal(1)]),
    st.decimals(min_value="-1e12", max_value="1e12", places=18, allow_nan=False, allow_infinity=False),
)
quantity = st.one_of(st.none(), st.decimals(min_value="-1e6", max_value="1e6", places=14, allow_nan=False))
amounts = st.fixed_dictionaries(
    {**dict.fromkeys(COSTS, money), **dict.fromkeys(QUANTITIES, quantity), "x_GpuHours": quantity}
)
shares = st.one_of(
    st.none(),
    st.sampled_from([Fraction(1), Fraction(1, 7), Fraction(3, 7), Fraction(1, 4), Fraction(1, 48)]),
    st.fractions(min_value=0, max_value=1, max_denominator=90_000),
)
asked = st.one_of(
    st.none(),
    st.sampled_from([Decimal(0), Decimal(1), Decimal(2), Decimal(8), Decimal("0.25")]),
    st.decimals(min_value=0, max_value=200, places=9, allow_nan=False),
    st.decimals(min_value=0, max_value=200, places=14, allow_nan=False),
)


@st.composite
def spans(draw: st.DrawFn) -> tuple[timedelta, timedelta]:
    first, second = draw(offsets), draw(offsets)
    return min(first, second), max(first, second) + timedelta(minutes=draw(st.sampled_from([0, 15, 60])))


@st.composite
def charges(draw: st.DrawFn, number: int) -> Charge:
    cluster, node = draw(st.sampled_from(NODES))
    start, end = draw(
        st.one_of(spans(), st.integers(0, 23).map(lambda h: (timedelta(hours=h), timedelta(hours=h + 1))))
    )
    return Charge(
        charge_id=f"c{number}", cluster=cluster, node=node, start=T0 + start, end=T0 + end, amounts=draw(amounts),
        part=draw(st.sampled_from([None, None, None, "gpu", "cpu", "memory"])),
        gpu_count=draw(st.sampled_from([None, Decimal(8)])),
        machine_seconds=draw(st.one_of(st.none(), st.sampled_from([Decimal(3600)]), st.decimals(0, 90_000, places=3))),
    )  # fmt: skip


@st.composite
def node_intervals(draw: st.DrawFn) -> NodeInterval:
    cluster, node = draw(st.sampled_from(NODES))
    start, end = draw(st.one_of(st.just((timedelta(0), timedelta(days=1))), spans()))
    return NodeInterval(
        cluster=cluster, node=node, start=T0 + start, end=T0 + end,
        cpu_cores=draw(st.sampled_from([None, Decimal(96), Decimal(192), Decimal("3.92")])),
        memory_gib=draw(st.sampled_from([None, Decimal(1152), Decimal("1076.4453125"), Decimal("15.33333333333333")])),
        gpu_count=draw(st.sampled_from([None, Decimal(0), Decimal(1), Decimal(8), Decimal("0.125")])),
        gpu_model=draw(st.sampled_from([None, "A100", "H100"])),
        instance_type=draw(st.sampled_from([None, "p5.48xlarge"])),
        region=draw(st.sampled_from([None, "us-east-1", "eu-west-1"])),
    )  # fmt: skip


@st.composite
def usage_intervals(draw: st.DrawFn) -> UsageInterval:
    cluster, node = draw(st.sampled_from(NODES))
    start, end = draw(spans())
    pod = draw(st.sampled_from([None, "a", "b"]))
    return UsageInterval(
        cluster=cluster, node=node, job_id=f"{cluster}/{draw(st.sampled_from(['j1', 'j2', 'j3']))}",
        resource=draw(st.sampled_from(["gpu", "gpu", "gpu", "cpu", "memory", "storage"])),
        start=T0 + start, end=T0 + end, requested=draw(asked), used=draw(asked),
        namespace=draw(st.sampled_from([None, "default"])), pod=pod,
        pod_uid=draw(st.sampled_from([None, "u1", "u2"])), container=draw(st.sampled_from([None, "main", "side"])),
        attempt=draw(st.sampled_from([1, 1, 2])), device=draw(st.sampled_from([None, "GPU-0", "GPU-1"])),
        sharing=draw(st.sampled_from([None, "whole", "mig", "time-slicing", "hami", "dra"])), share=draw(shares),
        state=draw(st.sampled_from(["running", "running", "held"])),
    )  # fmt: skip


@st.composite
def prices(draw: st.DrawFn) -> UnitPrice:
    price = st.one_of(
        st.none(),
        st.sampled_from([Decimal(0), Decimal("2.933908"), Decimal("0.031611"), Decimal("0.004237")]),
    )
    return UnitPrice(
        gpu=draw(price), cpu=draw(price), memory=draw(price),
        valid_from=draw(st.one_of(st.none(), offsets.map(lambda offset: T0 + offset))),
        gpu_model=draw(st.sampled_from([None, "h100"])), instance_type=draw(st.sampled_from([None, "p5.48xlarge"])),
        region=draw(st.sampled_from([None, "us-east-1"])),
    )  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> World:
    default = UnitPrice(Decimal("2.933908"), Decimal("0.031611"), Decimal("0.004237"))
    return World(
        tuple(draw(charges(number)) for number in range(draw(st.integers(1, 4)))),
        tuple(draw(st.lists(node_intervals(), max_size=5))),
        tuple(draw(st.lists(usage_intervals(), max_size=14))),
        (*draw(st.lists(prices(), max_size=3)), *draw(st.sampled_from([(default,), ()]))),
    )


def rows_of(allocated: Sequence[Allocated], charge_id: str) -> list[Allocated]:
    return [row for row in allocated if row.charge_id == charge_id]


@ample
@given(st.integers(0, 10**32), st.lists(st.integers(0, 10**20), min_size=1, max_size=12))
def test_apportioned_shares_sum_to_the_total(total: int, weights: list[int]) -> None:
    if not any(weights):
        weights[0] = 1
    found = apportion(total, weights)
    assert sum(found) == total
    whole = sum(weights)
    for share, weight in zip(found, weights, strict=True):
        assert abs(share * whole - total * weight) < whole  # at most one unit off
        assert share == 0 or weight > 0


@thorough
@given(worlds())
def test_sql_equals_the_reference(world: World) -> None:
    clusters = {charge.charge_id: charge.cluster for charge in world.charges}
    with connect() as con:
        inputs = load(con, world.charges, world.nodes, world.usage, world.prices)
        assert by_sql(con, inputs) == by_reference(world.allocate(), clusters)


@thorough
@given(worlds(), st.integers(1, 3))
def test_sql_of_small_batches_and_by_container_equals_the_reference(world: World, limit: int) -> None:
    clusters = {charge.charge_id: charge.cluster for charge in world.charges}
    expected = allocate(world.charges, world.nodes, world.usage, world.prices, by_container=True)
    with connect() as con:
        inputs = load(con, world.charges, world.nodes, world.usage, world.prices)
        assert by_sql(con, inputs, by_container=True, limit=limit) == by_reference(expected, clusters)


@ample
@given(worlds())
def test_allocated_idle_and_unknown_sum_to_the_charge(world: World) -> None:
    allocated = world.allocate()
    for charge in world.charges:
        rows = rows_of(allocated, charge.charge_id)
        for name in AMOUNTS:
            amount = charge.amounts[name]
            if amount is None:
                assert {row.amounts[name] for row in rows} == {None}
            else:
                known = [row.amounts[name] for row in rows]
                assert sum(value for value in known if value is not None) == amount
                assert all(value is not None and value * amount >= 0 for value in known)


@ample
@given(worlds())
def test_every_grouping_sums_to_the_bill(world: World) -> None:
    allocated = world.allocate()
    for name in COSTS:
        total = sum((charge.amounts[name] or Decimal(0) for charge in world.charges), Decimal(0))
        for key in ("state", "job", "pod", "namespace", "attempt", "charge"):
            groups: dict[object, Decimal] = defaultdict(Decimal)
            for row in allocated:
                held = row.holder
                group = {
                    "state": row.state, "charge": row.charge_id, "job": held and held.job_id, "pod": held and held.pod,
                    "namespace": held and held.namespace, "attempt": held and held.attempt,
                }[key]  # fmt: skip
                groups[group] += row.amounts[name] or Decimal(0)
            assert sum(groups.values(), Decimal(0)) == total


@ample
@given(worlds())
def test_written_ratios_of_a_charge_sum_to_exactly_one(world: World) -> None:
    allocated = world.allocate()
    for charge in world.charges:
        written = [
            element["AllocatedRatio"]
            for row in rows_of(allocated, charge.charge_id)
            for element in json.loads(row.details, parse_float=Decimal, parse_int=Decimal)["Elements"]
        ]
        assert sum(written, Decimal(0)) == 1
        assert all(0 <= ratio <= 1 for ratio in written)


@ample
@given(worlds(), st.randoms(use_true_random=False), st.lists(offsets, min_size=1, max_size=4))
def test_cutting_and_shuffling_intervals_changes_nothing(
    world: World, random: Random, cuts: list[timedelta]
) -> None:
    def cut(rows: Sequence[Interval]) -> list[Interval]:
        pieces = list(rows)
        for moment in (T0 + offset for offset in cuts):
            pieces = [
                piece
                for row in pieces
                for piece in (
                    (replace(row, end=moment), replace(row, start=moment))
                    if row.start < moment < row.end
                    else (row,)
                )
            ]
        random.shuffle(pieces)
        return pieces

    again = allocate(world.charges, cut(world.nodes), cut(world.usage), list(world.prices)[::-1])
    assert again == world.allocate()


@ample
@given(worlds())
def test_a_credit_is_split_as_what_it_credits(world: World) -> None:
    charge = world.charges[0]
    negated = {name: None if value is None else -value for name, value in charge.amounts.items()}
    credit = replace(charge, charge_id="credit", amounts=negated)
    rows = allocate([charge, credit], world.nodes, world.usage, world.prices)
    plus, minus = rows_of(rows, charge.charge_id), rows_of(rows, "credit")
    assert [(row.holder, row.state, row.ratios) for row in plus] == [
        (row.holder, row.state, row.ratios) for row in minus
    ]
    for one, other in zip(plus, minus, strict=True):
        for name in AMOUNTS:
            mine, theirs = one.amounts[name], other.amounts[name]
            assert (mine is None and theirs is None) or (
                mine is not None and theirs is not None and mine == -theirs
            )


@ample
@given(worlds())
def test_idle_and_held_hours_never_exceed_the_machine_nor_fall_below_zero(world: World) -> None:
    for row in world.allocate():
        assert all(hours >= 0 for hours in row.hours.values())
        assert all(ratio > 0 for ratio in row.ratios.values())


@ample
@given(worlds())
def test_without_telemetry_cost_is_unknown_not_idle(world: World) -> None:
    for row in allocate(world.charges, [], world.usage, world.prices):
        assert row.holder is None
        assert (row.state, row.ratio) == ("unknown", Decimal(1))
