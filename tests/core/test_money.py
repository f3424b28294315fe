"""Sums of money keep every digit, beyond the 28 of Python's default."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.money import total

amounts = st.decimals(min_value="-1e19", max_value="1e19", places=18, allow_nan=False, allow_infinity=False)


def test_a_digit_at_each_end_survives() -> None:
    assert total([Decimal("-99999999999999.000000000000000001"), Decimal(1250)]) == Decimal(
        "-99999999998749.000000000000000001"
    )
    assert total([]) == 0


@given(st.lists(amounts, max_size=20))
def test_sums_are_those_of_fractions(values: list[Decimal]) -> None:
    assert Fraction(total(values)) == sum((Fraction(value) for value in values), Fraction(0))
