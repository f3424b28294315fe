"""Why the cost of a token changed: an exact additive decomposition between two windows.

A *cell* is a deployment on a card model. In each window it has a quantity q (GPU-hours; tokens, of an API), tokens T,
cost E, and its shares of idle machines and stranded commitments. With price p = E/q, load l = T/q, idle ratio a and
stranded ratio b (each of E):

    cost per token = Σ q p (1 + a + b) / Σ q l        cost = tokens x cost per token

The five factors are vectors over all cells: *price* p, *load* l, *mix* q (only the proportions count), *idle* a,
*stranded* b; a change of cost has *volume*, the tokens, too. Each factor's part is its Shapley value: the mean of its
effect over all orders in which factors go from before to after. No order is privileged, and the parts add up to the
change. (L. Shapley 1953; F. Ang, "Energy decomposition analysis" 2015, calls it additive Shapley/Sun.)

Rounding rule `largest-takes-rest`: the figures before and after and the parts are rounded half even to DIGITS decimals,
and the part that is largest in size takes what rounding left, so that Σ parts = after - before to the last digit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from itertools import combinations
from math import factorial
from typing import Final, Literal

from gpuledger.core.money import total
from gpuledger.core.unit_economics import DIGITS

Of = Literal["cost_per_mtok", "cost"]
FACTORS: Final = ("price", "load", "mix", "idle", "stranded")
ROUNDING: Final = "largest-takes-rest"
_PRECISION: Final = 80
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Cell:
    """One deployment on one card model in one window. All amounts are sums."""

    quantity: Decimal
    tokens: Decimal
    cost: Decimal
    idle: Decimal = Decimal(0)
    stranded: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Change:
    """Figure before and after, and its parts by factor, whose sum is after - before exactly.

    `merged` says that cells had to be taken as one, so that mix can't be told from load.
    """

    of: Of
    before: Decimal
    after: Decimal
    parts: Mapping[str, Decimal]
    merged: bool = False

    @property
    def change(self) -> Decimal:
        """After - before, exactly: the sum of the parts."""
        return total((self.after, self.before.copy_negate()))


@dataclass(frozen=True, slots=True)
class _Rates:
    """A cell in one window: its quantity, and what doesn't depend on it."""

    quantity: Decimal
    price: Decimal
    load: Decimal
    idle: tuple[Decimal, Decimal]  # of its cost, and per quantity where it cost nothing
    stranded: tuple[Decimal, Decimal]


def decompose(
    before: Mapping[str, Cell], after: Mapping[str, Cell], of: Of = "cost_per_mtok"
) -> Change | None:
    """Decompose the change between two windows; None when one of them has no tokens, or a cost without a quantity.

    A cell that is missing in one window has quantity 0 there and the rates of the other: it is all mix.
    """
    cells = [cell for window in (before, after) for cell in window.values()]
    if any(cell.cost + cell.idle + cell.stranded and not cell.quantity for cell in cells):
        return None
    if any(sum((cell.tokens for cell in window.values()), Decimal(0)) <= 0 for window in (before, after)):
        return None
    with localcontext(Context(prec=_PRECISION)):
        try:
            return _shapley(_paired(before, after), of, _volume(before), _volume(after), merged=False)
        except ZeroDivisionError:
            # In some order nothing at all would be produced: what is left is the change of the whole.
            whole = _paired({"": _sum(before)}, {"": _sum(after)})
            return _shapley(whole, of, _volume(before), _volume(after), merged=True)


def _volume(window: Mapping[str, Cell]) -> Decimal:
    return sum((cell.tokens for cell in window.values()), Decimal(0))


def _sum(window: Mapping[str, Cell]) -> Cell:
    cells = window.values()
    zero = Decimal(0)
    return Cell(
        sum((cell.quantity for cell in cells), zero), _volume(window), sum((cell.cost for cell in cells), zero),
        sum((cell.idle for cell in cells), zero), sum((cell.stranded for cell in cells), zero),
    )  # fmt: skip


def _paired(before: Mapping[str, Cell], after: Mapping[str, Cell]) -> list[tuple[_Rates, _Rates]]:
    """Both windows of each cell, in the order of their names."""
    found = []
    for name in sorted({*before, *after}):
        old, new = (
            _rates(window[name]) if name in window and window[name].quantity else None
            for window in (before, after)
        )
        if old is None and new is None:
            continue
        known = old or new
        assert known is not None  # noqa: S101  # one of the two is
        absent = _Rates(Decimal(0), known.price, known.load, known.idle, known.stranded)
        found.append((old or absent, new or absent))
    return found


def _rates(cell: Cell) -> _Rates:
    def ratio(amount: Decimal) -> tuple[Decimal, Decimal]:
        return (amount / cell.cost, Decimal(0)) if cell.cost else (Decimal(0), amount / cell.quantity)

    price, load = cell.cost / cell.quantity, cell.tokens / cell.quantity
    return _Rates(cell.quantity, price, load, ratio(cell.idle), ratio(cell.stranded))


def _figure(cells: Sequence[tuple[_Rates, _Rates]], after: frozenset[str]) -> Decimal:
    """Cost per token with the factors of `after` as they are after, the others as before."""
    price, load, mix, idle, stranded = (int(name in after) for name in FACTORS)
    money = made = Decimal(0)
    for pair in cells:
        quantity = pair[mix].quantity
        if quantity:
            of_idle, of_stranded = pair[idle].idle, pair[stranded].stranded
            rate = pair[price].price * (1 + of_idle[0] + of_stranded[0]) + of_idle[1] + of_stranded[1]
            money += quantity * rate
            made += quantity * pair[load].load
    if not made:
        raise ZeroDivisionError
    return money / made


def _shapley(
    cells: Sequence[tuple[_Rates, _Rates]],
    of: Of,
    tokens_before: Decimal,
    tokens_after: Decimal,
    *,
    merged: bool,
) -> Change:
    per_token = {
        chosen: _figure(cells, chosen)
        for size in range(len(FACTORS) + 1)
        for chosen in map(frozenset, combinations(FACTORS, size))
    }
    if of == "cost":
        names: tuple[str, ...] = (*FACTORS, "volume")

        def figure(chosen: frozenset[str]) -> Decimal:
            volume = tokens_after if "volume" in chosen else tokens_before
            return volume * per_token[chosen - {"volume"}]
    else:
        names = FACTORS

        def figure(chosen: frozenset[str]) -> Decimal:
            return _MILLION * per_token[chosen]

    parts = {name: _value(name, names, figure) for name in names}
    return _rounded(of, figure(frozenset()), figure(frozenset(names)), parts, merged=merged)


def _value(name: str, names: Sequence[str], figure: Callable[[frozenset[str]], Decimal]) -> Decimal:
    """Mean effect of one factor over all orders of all of them."""
    others = [other for other in names if other != name]
    total = Decimal(0)
    for size in range(len(others) + 1):
        orders = factorial(size) * factorial(len(others) - size)
        for chosen in map(frozenset, combinations(others, size)):
            total += orders * (figure(chosen | {name}) - figure(chosen))
    return total / factorial(len(names))


def _rounded(
    of: Of, before: Decimal, after: Decimal, parts: Mapping[str, Decimal], *, merged: bool
) -> Change:
    step = Decimal(1).scaleb(-DIGITS)
    old, new = before.quantize(step), after.quantize(step)
    found = {name: value.quantize(step) + 0 for name, value in parts.items()}  # + 0: no negative zero
    largest = max(found, key=lambda name: (abs(found[name]), name))
    found[largest] += new - old - sum(found.values(), Decimal(0))
    return Change(of, old, new, found, merged)
