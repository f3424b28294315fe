"""Exact sums of money. Python's own decimal sums round to 28 digits; a ledger's amounts have up to 38."""

from collections.abc import Iterable
from decimal import Context, Decimal

_EXACT = Context(prec=200)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Add amounts up without rounding; 0 for none."""
    found = Decimal(0)
    for amount in amounts:
        found = _EXACT.add(found, amount)
    return found
