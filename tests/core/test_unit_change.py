"""Decompositions by hand: one factor at a time, and where factors meet."""

from decimal import Decimal

import pytest

from gpuledger.core.unit_change import FACTORS, Cell, Change, decompose

D = Decimal


def cell(quantity: object, tokens: object, cost: object, idle: object = 0, stranded: object = 0) -> Cell:
    return Cell(*(D(str(value)) for value in (quantity, tokens, cost, idle, stranded)))


def parts(before: dict[str, Cell], after: dict[str, Cell]) -> dict[str, Decimal]:
    found = decompose(before, after)
    assert isinstance(found, Change)
    assert sum(found.parts.values()) == found.after - found.before
    return {name: value for name, value in found.parts.items() if value}


BEFORE = {"a": cell(100, 10_000_000, 200, 50, 10)}  # $2 an hour, 100,000 tokens an hour: $26 per million


@pytest.mark.parametrize(
    ("after", "factor", "amount"),
    [
        (cell(100, 10_000_000, 300, 75, 15), "price", 13),  # $3 an hour, the same shares of it
        (cell(300, 10_000_000, 600, 150, 30), "load", 52),  # a third of the tokens an hour
        (cell(100, 10_000_000, 200, 80, 10), "idle", 3),
        (cell(100, 10_000_000, 200, 50, 0), "stranded", -1),
    ],
)
def test_one_factor_alone_takes_all(after: Cell, factor: str, amount: int) -> None:
    assert parts(BEFORE, {"a": after}) == {factor: amount}


def test_more_of_the_same_changes_no_cost_per_token() -> None:
    assert parts(BEFORE, {"a": cell(700, 70_000_000, 1400, 350, 70)}) == {}


def test_volume_is_a_factor_of_cost() -> None:
    found = decompose(BEFORE, {"a": cell(700, 70_000_000, 1400, 350, 70)}, "cost")
    assert found is not None
    assert (found.before, found.after) == (D(260), D(1820))
    assert found.parts == {**dict.fromkeys(FACTORS, D(0)), "volume": D(1560)}


def test_mix_between_two_cells_that_stay_as_they_are() -> None:
    # $1 and $4 per million; half of the hours become a tenth of them.
    before = {"a": cell(50, 50_000_000, 50), "b": cell(50, 50_000_000, 200)}
    after = {"a": cell(90, 90_000_000, 90), "b": cell(10, 10_000_000, 40)}
    assert parts(before, after) == {"mix": D("-1.2")}


def test_what_is_new_or_gone_is_mix() -> None:
    before = {"a": cell(50, 50_000_000, 50)}
    assert parts(before, {"b": cell(50, 50_000_000, 200)}) == {"mix": 3}
    assert parts(before, {**before, "b": cell(50, 50_000_000, 200)}) == {"mix": D("1.5")}


def test_an_endpoint_that_makes_nothing_lowers_the_load() -> None:
    found = parts(
        {"a": cell(10, 10_000_000, 10), "b": cell(10, 10_000_000, 10)},
        {"a": cell(10, 10_000_000, 10), "b": cell(10, 0, 10)},
    )
    assert found == {"load": 1}


def test_two_factors_share_what_they_did_together() -> None:
    # Price x 2 and tokens an hour / 2: $1 becomes $4. Alone each is +1, together +1 more, half of it each.
    assert parts({"a": cell(1, 1_000_000, 1)}, {"a": cell(1, 500_000, 2)}) == {
        "price": D("1.5"),
        "load": D("1.5"),
    }


def test_thirds_add_up_all_the_same() -> None:
    before, after = {"a": cell(3, 7_000_000, 1, 1, 1)}, {"a": cell(7, 3_000_000, 11, 5, "0.3")}
    found = decompose(before, after)
    assert found is not None
    assert sum(found.parts.values()) == found.after - found.before
    assert (found.before, found.after) == (D("0.428571428571"), D("5.433333333333"))


def test_a_share_of_what_cost_nothing_counts_by_the_hour() -> None:
    assert parts({"a": cell(10, 1_000_000, 0, 1)}, {"a": cell(10, 1_000_000, 0, 3)}) == {"idle": 2}


def test_where_some_order_makes_nothing_the_whole_is_decomposed() -> None:
    before = {"a": cell(1, 1_000_000, 1), "b": cell(0, 0, 0)}
    after = {"a": cell(1, 0, 1), "b": cell(1, 1_000_000, 1)}
    found = decompose(before, after)
    assert found is not None
    assert found.merged
    assert found.parts == {**dict.fromkeys(FACTORS, D(0)), "load": D(1)}


def test_no_tokens_or_no_quantity_no_decomposition() -> None:
    assert decompose(BEFORE, {"a": cell(1, 0, 1)}) is None
    assert decompose({}, BEFORE) is None
    assert decompose(BEFORE, {"a": cell(0, 1, 1)}) is None
