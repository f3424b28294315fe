"""Laws of metering: time times price, however it is told; a bill only ever takes estimates away; no difference is lost."""

import random
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.metering_rows import DAY, Told, bill, charge, connect, meter, rows

from gpuledger.core.metering import CustomPrice, PriceBook, Shape, clock_hours, cost, quantity
from gpuledger.core.usage import NodeInterval
from gpuledger.engines import duckdb
from gpuledger.models import metering

SECONDS = 6 * 3600
KINDS = ("x", "y")
NODES = ("a", "b")
few = settings(max_examples=15, deadline=None)
prices = st.decimals(min_value=0, max_value="1e6", places=18, allow_nan=False, allow_infinity=False)
Span = tuple[str, int, int]


@cache
def con() -> duckdb.Connection:
    return connect()


@st.composite
def spans(draw: st.DrawFn, *, step: int = 1) -> list[Span]:
    """Times in seconds of the day in which nodes ran, without overlap per node."""
    found = []
    for name in NODES:
        edges = sorted(draw(st.sets(st.integers(0, SECONDS // step), min_size=2, max_size=6)))
        found += [
            (name, first * step, last * step) for first, last in zip(edges[::2], edges[1::2], strict=False)
        ]
    return found


def told(span: Span, source: str = "k8s", kind: str = "x") -> Told:
    name, first, last = span
    start, end = DAY + timedelta(seconds=first), DAY + timedelta(seconds=last)
    return source, NodeInterval(
        "c", name, start, end, provider_id=f"i-{name}", instance_type=kind, region="r"
    )


def cut(span: Span, where: Sequence[int]) -> list[Span]:
    name, first, last = span
    edges = sorted({first, last, *(at for at in where if first < at < last)})
    return [(name, start, end) for start, end in pairwise(edges)]


def shown(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = (
        "ResourceId",
        "ChargePeriodStart",
        "ChargePeriodEnd",
        "PricingQuantity",
        "EffectiveCost",
        "ListCost",
    )
    return [tuple(row[name] for name in names) for row in found]


@few
@given(spans(), st.lists(st.integers(0, SECONDS), max_size=8), prices, st.randoms(use_true_random=False))
def test_cutting_reordering_and_retelling_change_nothing(
    times: list[Span], where: list[int], price: Decimal, chance: random.Random
) -> None:
    book = PriceBook([CustomPrice(price, instance_type="x")])
    whole = shown(meter(con(), [told(span) for span in times], book))
    pieces = [told(piece) for span in times for piece in cut(span, where)]
    pieces += [
        told(piece, "prom") for span in times for piece in cut(span, where[:3]) if chance.random() < 0.5
    ]
    chance.shuffle(pieces)
    assert shown(meter(con(), pieces, book)) == whole


@few
@given(spans(step=9), prices)
def test_the_rows_of_a_machine_are_its_time_times_its_price(times: list[Span], price: Decimal) -> None:
    found = meter(con(), [told(span) for span in times], PriceBook([CustomPrice(price, instance_type="x")]))
    for name in NODES:
        ran = sum(last - first for node, first, last in times if node == name)
        paid = sum(
            (Fraction(row["EffectiveCost"]) for row in found if row["ResourceName"] == name), Fraction(0)
        )
        # 9 seconds are 0.0025 hours; below the 18th decimal each row is rounded.
        assert abs(paid - Fraction(price) * Fraction(ran, 3600)) <= Fraction(len(found), 10**18)


@few
@given(spans(), prices)
def test_the_rows_are_those_of_the_reference(times: list[Span], price: Decimal) -> None:
    found = meter(con(), [told(span) for span in times], PriceBook([CustomPrice(price, instance_type="x")]))
    expected = [
        (f"i-{name}", start, end, quantity(start, end), cost(price, start, end))
        for name, first, last in sorted(times)
        for start, end in clock_hours(DAY + timedelta(seconds=first), DAY + timedelta(seconds=last))
    ]
    assert [row[:5] for row in shown(found)] == expected


@given(st.integers(0, 3599), st.integers(1, 3600), st.integers(0, 3600), prices)
@settings(max_examples=100)
def test_parts_of_an_hour_add_up(first: int, last: int, between: int, price: Decimal) -> None:
    low, middle, high = sorted((first, between, last))
    start, mid, end = (DAY + timedelta(seconds=at) for at in (low, middle, high))
    assert quantity(start, mid) + quantity(mid, end) == quantity(start, end)
    assert cost(price, start, mid) + cost(price, mid, end) == cost(price, start, end)


@given(
    st.lists(
        st.builds(
            CustomPrice,
            prices,
            st.sampled_from(KINDS),
            st.none(),
            st.sampled_from([None, "r", "s"]),
            st.sampled_from([None, True, False]),
            st.none() | st.integers(0, SECONDS).map(lambda at: DAY + timedelta(seconds=at)),
        ),
        max_size=8,
    ),
    st.sampled_from([Shape("x", region="r", spot=spot) for spot in (None, True, False)]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_the_order_of_prices_does_not_matter(
    entered: list[CustomPrice], shape: Shape, chance: random.Random
) -> None:
    end = DAY + timedelta(days=1)
    pieces = PriceBook(entered).over(shape, DAY, end)
    mixed = list(entered)
    chance.shuffle(mixed)
    assert PriceBook(mixed).over(shape, DAY, end) == pieces
    assert [piece.start for piece in pieces[1:]] == [piece.end for piece in pieces[:-1]]
    assert (pieces[0].start, pieces[-1].end) == (DAY, end)


@st.composite
def charges(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of a bill: hourly, daily or longer, of metered machines and others."""
    found = []
    for _ in range(draw(st.integers(0, 8))):
        start = draw(st.integers(-1, 7))
        length = draw(st.sampled_from([0.5, 1, 1, 1, 3, 24, 72]))
        resource = draw(st.sampled_from(["i-a", "arn:aws:ec2:r:1:instance/i-b", "i-c", None]))
        amount = draw(
            st.decimals(min_value=-10, max_value=10**6, places=18, allow_nan=False, allow_infinity=False)
        )
        others: dict[str, Any] = draw(
            st.sampled_from([
                {}, {"PricingCategory": "Dynamic"}, {"ListCost": None}, {"x_GpuHours": None},
                {"x_GpuHours": Decimal(12)}, {"ServiceCategory": "Networking"}, {"ServiceProviderName": "Other"},
                {"ChargeCategory": "Credit"},
            ])
        )  # fmt: skip
        found.append(charge(resource, start, start + length, format(amount, "f"), **others))
    return found


def metered(times: list[Span], price: Decimal) -> None:
    """Create `estimated`: machines of kind x have a price, those of kind y have none."""
    book = PriceBook([CustomPrice(price, instance_type="x")])
    meter(con(), [told(span, kind=KINDS[span[0] == "b" and price < 1]) for span in times], book)


@few
@given(spans(), charges(), charges(), prices)
def test_a_bill_only_takes_estimates_away(
    times: list[Span], first: list[dict[str, Any]], more: list[dict[str, Any]], price: Decimal
) -> None:
    metered(times, price)
    left = []
    for bills in ([], first, [*first, *more]):
        bill(con(), bills)
        left.append(set(shown(rows(con(), metering.unreplaced("final", "estimated")))))
    whole, some, fewer = left
    assert whole == set(shown(rows(con(), "SELECT * FROM estimated")))
    assert fewer <= some <= whole


@few
@given(spans(), charges(), prices)
def test_every_difference_has_its_class_exactly(
    times: list[Span], bills: list[dict[str, Any]], price: Decimal
) -> None:
    metered(times, price)
    bill(con(), bills)
    cells = rows(con(), metering.compare("final", "estimated", ['"ResourceId"'], "EffectiveCost"))
    nothing = Decimal(0)
    for cell in cells:
        assert cell["difference"] == (cell["final"] or nothing) - (cell["estimated"] or nothing)
        assert sum((cell[name] for name in metering.CLASSES), nothing) == cell["difference"]
    expected = sum(
        (row["EffectiveCost"] or nothing for row in rows(con(), "SELECT * FROM estimated")), nothing
    )
    assert sum((cell["estimated"] or nothing for cell in cells), nothing) == expected
    compared = sum(
        (
            row["EffectiveCost"]
            for row in bills
            if row["ChargeCategory"] == "Usage" and row["ServiceCategory"] == "Compute"
        ),
        nothing,
    )
    assert sum((cell["final"] or nothing for cell in cells), nothing) == compared
