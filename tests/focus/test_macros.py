"""SQL macros that every connector's mapping leans on."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuledger.engines import duckdb

CON = duckdb.connect()


def times(price: Decimal, amount: Decimal) -> Decimal | None:
    row = CON.execute(
        "SELECT times(money(?), quantity(?))", [format(price, "f"), format(amount, "f")]
    ).fetchone()
    assert row is not None
    found: Decimal | None = row[0]
    return found


@given(
    st.decimals(-(10**6), 10**6, places=18, allow_nan=False),
    st.decimals(-(10**7), 10**7, places=14, allow_nan=False),
)
@settings(max_examples=200, deadline=None)
def test_a_product_of_price_and_quantity_is_exact(price: Decimal, amount: Decimal) -> None:
    with localcontext(prec=80):
        exact = price * amount
        found = times(price, amount)
        assert found is not None
        assert abs(found - exact) <= Decimal("1e-18")


@pytest.mark.parametrize(("price", "amount"), [("99999999999", "99999999999"), ("1000000", "123456789012")])
def test_a_product_that_does_not_fit_is_unknown(price: str, amount: str) -> None:
    assert times(Decimal(price), Decimal(amount)) is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-10-01", "2026-10-01 00:00:00+00"),
        ("2026-10-01 05:30:00", "2026-10-01 05:30:00+00"),
        ("2026-10-01T05:30:00+02:00", "2026-10-01 03:30:00+00"),
        ("2026-10-01 05:30:00 +0000 UTC", "2026-10-01 05:30:00+00"),
        ("4/1/25", None),  # which of them is the month?
        ("10/11/12", None),
        ("infinity", None),
        ("2023-02-01T30:00:00Z", None),
    ],
)
def test_a_time_is_read_as_it_stands_or_not_at_all(text: str, moment: str | None) -> None:
    assert CON.execute("SELECT instant(?)::VARCHAR", [text]).fetchone() == (moment,)


NUMBERS = st.decimals(0, 10**6, places=9)


@given(NUMBERS, st.lists(NUMBERS.filter(bool), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_parts_never_sum_to_more_than_the_total(total: Decimal, pieces: list[Decimal]) -> None:
    query = "SELECT part_of(money(?), money(?), money(?))"
    whole = sum(pieces)
    with localcontext(prec=80):
        for piece in pieces:
            (found,) = (
                CON.execute(query, [f"{number:f}" for number in (total, piece, whole)]).fetchone() or ()
            )
            assert 0 <= total * piece / whole - found < Decimal("1e-9")


def test_a_part_of_nothing_is_unknown() -> None:
    assert CON.execute("SELECT part_of(money('1'), money('1'), money('0'))").fetchone() == (None,)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[{"key": "it\'s", "value": "None"}]', '[{"key": "it\'s", "value": "None"}]'),
        (
            "[{'amount': Decimal('-0.5'), 'id': None, 'on': True}]",
            '[{"amount": -0.5, "id": null, "on": true}]',
        ),
        ("[{'amount': nan}]", '[{"amount": null}]'),
        ("[{'key': 'it's'}]", "[{'key': 'it's'}]"),  # which quote ends the text? it stays as it is
        ("", ""),
        (None, None),
    ],
)
def test_nested_values_of_python_are_json(text: str | None, found: str | None) -> None:
    assert CON.execute("SELECT json_text(?)", [text]).fetchone() == (found,)
