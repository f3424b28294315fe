"""Laws of allocation, held by generated machines, bills and usage: nothing lost, nothing below zero, order is nothing."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from random import Random
from typing import TypeVar

import duckdb
import pytest
from hypothesis import given, settings
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
from gpuledger.models.allocation import DEFAULT, Allocation, share_idle
from gpuledger.models.allocation.overhead import Method

Interval = TypeVar("Interval", NodeInterval, UsageInterval)
Value = TypeVar("Value")
SECOND = 1_000_000  # microseconds
NODES = (*((("east", "n1"),) * 4), ("east", "n2"), ("west", "n1"))  # crowded, so that records meet
thorough = settings(max_examples=40, deadline=None)
ample = settings(max_examples=400, deadline=None)


@dataclass(frozen=True)
class World:
    """Everything that one allocation reads."""

    charges: tuple[Charge, ...]
    nodes: tuple[NodeInterval, ...]
    usage: tuple[UsageInterval, ...]
    prices: tuple[UnitPrice, ...]

    def allocate(self) -> list[Allocated]:
        return allocate(self.charges, self.nodes, self.usage, self.prices)


@dataclass(frozen=True)
class Draw:
    """Draws one record from one number: hypothesis then has few choices to make, and drops whole records to shrink."""

    random: Random

    def one(self, *values: Value) -> Value:
        return self.random.choice(values)

    def decimal(self, low: int, high: int, places: int) -> Decimal:
        with localcontext(prec=60):
            return Decimal(self.random.randint(low * 10**places, high * 10**places)).scaleb(-places)

    def offset(self) -> timedelta:
        """Quarters of an hour mostly, now and then a moment that no bucket fits."""
        step = self.one(900 * SECOND, 900 * SECOND, 60 * SECOND, 1)
        return timedelta(microseconds=step * self.random.randint(0, 24 * 3600 * SECOND // step))

    def span(self) -> tuple[timedelta, timedelta]:
        first, second = sorted((self.offset(), self.offset()))
        return first, second + timedelta(minutes=self.one(0, 15, 60))

    def money(self) -> Decimal | None:
        large = self.decimal(-(10**12), 10**12, 18)
        return self.one(None, Decimal(0), Decimal("98.32"), Decimal("-98.32"), Decimal("1E-18"), large, large)

    def quantity(self) -> Decimal | None:
        return self.one(None, Decimal(0), Decimal(8), *(self.decimal(-(10**6), 10**6, 14),) * 3)

    def asked(self) -> Decimal | None:
        odd = self.decimal(0, 200, self.one(9, 14))
        return self.one(None, Decimal(0), Decimal(1), Decimal(2), Decimal(8), Decimal("0.25"), odd, odd)

    def share(self) -> Fraction | None:
        parts = self.random.randint(1, 90_000)
        odd = Fraction(self.random.randint(0, parts), parts)
        return self.one(
            None, Fraction(1), Fraction(1, 7), Fraction(3, 7), Fraction(1, 4), Fraction(1, 48), odd
        )

    def charge(self, number: int) -> Charge:
        cluster, node = self.one(*NODES)
        hour = timedelta(hours=self.random.randint(0, 23))
        start, end = self.one(self.span(), (hour, hour + timedelta(hours=1)))
        amounts = {name: self.money() for name in COSTS}
        amounts |= {name: self.quantity() for name in (*QUANTITIES, "x_GpuHours")}
        return Charge(
            charge_id=f"c{number}", cluster=cluster, node=node, start=T0 + start, end=T0 + end, amounts=amounts,
            part=self.one(None, None, None, "gpu", "cpu", "memory"), gpu_count=self.one(None, Decimal(8)),
            machine_seconds=self.one(None, Decimal(3600), self.decimal(0, 90_000, 3)),
        )  # fmt: skip

    def node(self) -> NodeInterval:
        cluster, node = self.one(*NODES)
        start, end = self.one(*((timedelta(0), timedelta(days=1)),) * 3, self.span())
        return NodeInterval(
            cluster=cluster, node=node, start=T0 + start, end=T0 + end,
            cpu_cores=self.one(None, Decimal(96), Decimal(192), Decimal("3.92")),
            memory_gib=self.one(None, Decimal(1152), Decimal("1076.4453125"), Decimal("15.33333333333333")),
            gpu_count=self.one(None, Decimal(0), Decimal(1), Decimal(8), Decimal("0.125")),
            gpu_model=self.one(None, "A100", "H100"), instance_type=self.one(None, "p5.48xlarge"),
            region=self.one(None, "us-east-1", "eu-west-1"),
        )  # fmt: skip

    def usage(self) -> UsageInterval:
        cluster, node = self.one(*NODES)
        start, end = self.span()
        return UsageInterval(
            cluster=cluster, node=node, job_id=f"{cluster}/{self.one('j1', 'j2', 'j3')}",
            resource=self.one("gpu", "gpu", "gpu", "cpu", "memory", "storage"), start=T0 + start, end=T0 + end,
            requested=self.asked(), used=self.asked(), namespace=self.one(None, "default"), pod=self.one(None, "a", "b"),
            pod_uid=self.one(None, "u1", "u2"), container=self.one(None, "main", "side"), attempt=self.one(1, 1, 2),
            device=self.one(None, "GPU-0", "GPU-1"), share=self.share(), state=self.one("running", "running", "held"),
            sharing=self.one(None, "whole", "mig", "time-slicing", "hami", "dra"),
        )  # fmt: skip

    def price(self) -> UnitPrice:
        gpu, cpu, memory = (
            self.one(None, Decimal(0), Decimal("2.933908"), Decimal("0.031611"), Decimal("0.004237"))
            for _ in range(3)
        )
        return UnitPrice(
            gpu=gpu, cpu=cpu, memory=memory, valid_from=self.one(None, T0 + self.offset()),
            gpu_model=self.one(None, "h100"), instance_type=self.one(None, "p5.48xlarge"), region=self.one(None, "us-east-1"),
        )  # fmt: skip


def _records(least: int, most: int) -> st.SearchStrategy[list[Draw]]:
    return st.lists(st.integers(0, 2**32), min_size=least, max_size=most).map(
        lambda numbers: [Draw(Random(number)) for number in numbers]
    )


def worlds(size: int = 4) -> st.SearchStrategy[World]:
    """Worlds of up to `size` charges."""
    return st.builds(
        lambda charges, nodes, usage, prices, default: World(
            tuple(draw.charge(number) for number, draw in enumerate(charges)),
            tuple(draw.node() for draw in nodes),
            tuple(draw.usage() for draw in usage),
            (*(draw.price() for draw in prices), *default),
        ),
        _records(1, size), _records(1, size + 2), _records(size, 4 * size), _records(0, 3), st.sampled_from([(DEFAULT,), (DEFAULT,), ()]),
    )  # fmt: skip


def total(values: Iterable[Decimal | None]) -> Decimal:
    """An exact sum; the default context would round at 28 digits."""
    with localcontext(prec=80):
        return sum((value for value in values if value is not None), Decimal(0))


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


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as made:
        made.execute("SET threads = 1")
        yield made


@thorough
@given(world=worlds(8), by_container=st.booleans(), limit=st.sampled_from([1, 3, 50_000]))
def test_sql_equals_the_reference(
    con: duckdb.DuckDBPyConnection, world: World, *, by_container: bool, limit: int
) -> None:
    clusters = {charge.charge_id: charge.cluster for charge in world.charges}
    expected = allocate(world.charges, world.nodes, world.usage, world.prices, by_container=by_container)
    inputs = load(con, world.charges, world.nodes, world.usage, world.prices)
    assert by_sql(con, inputs, by_container=by_container, limit=limit) == by_reference(expected, clusters)


@settings(max_examples=15, deadline=None)
@given(world=worlds(), method=st.sampled_from(["even", "proportional", "fixed"]))
def test_shared_idle_still_sums_to_the_charge(
    con: duckdb.DuckDBPyConnection, world: World, method: Method
) -> None:
    work = Allocation(con, load(con, world.charges, world.nodes, world.usage, world.prices))
    sums = ", ".join(f"sum({name})" for name in AMOUNTS)
    query = f"SELECT x_OriginChargeId, {sums} FROM allocated GROUP BY 1 ORDER BY 1"
    for batch in work.batches():
        work.run(batch)
        before = con.execute(query).fetchall()
        share_idle(con, method, {"research": Decimal(2), "web": Decimal(1)})
        assert con.execute(query).fetchall() == before
        ratios: dict[str, Decimal] = defaultdict(Decimal)
        for charge, details in con.execute(
            "SELECT x_OriginChargeId, AllocatedMethodDetails FROM allocated"
        ).fetchall():
            elements = json.loads(details, parse_float=Decimal, parse_int=Decimal)["Elements"]
            ratios[charge] += sum(element["AllocatedRatio"] for element in elements)
        assert set(ratios.values()) == {Decimal(1)}


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
                assert total(known) == amount
                assert all(value is not None and value * amount >= 0 for value in known)


@ample
@given(worlds())
def test_every_grouping_sums_to_the_bill(world: World) -> None:
    allocated = world.allocate()
    for name in COSTS:
        bill = total(charge.amounts[name] for charge in world.charges)
        for key in ("state", "job", "pod", "namespace", "attempt", "charge"):
            groups: dict[object, list[Decimal | None]] = defaultdict(list)
            for row in allocated:
                held = row.holder
                group = {
                    "state": row.state, "charge": row.charge_id, "job": held and held.job_id, "pod": held and held.pod,
                    "namespace": held and held.namespace, "attempt": held and held.attempt,
                }[key]  # fmt: skip
                groups[group].append(row.amounts[name])
            assert total(total(values) for values in groups.values()) == bill


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
@given(
    worlds(),
    st.randoms(use_true_random=False),
    st.lists(st.integers(0, 24 * 3600 * SECOND), min_size=1, max_size=4),
)
def test_cutting_and_shuffling_intervals_changes_nothing(
    world: World, random: Random, cuts: list[int]
) -> None:
    def cut(rows: Sequence[Interval]) -> list[Interval]:
        pieces = list(rows)
        for moment in (T0 + timedelta(microseconds=cut) for cut in cuts):
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
    negated = {name: None if value is None else value.copy_negate() for name, value in charge.amounts.items()}
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
                mine is not None and theirs is not None and mine == theirs.copy_negate()
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
