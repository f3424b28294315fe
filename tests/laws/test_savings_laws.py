"""Laws of savings: never more than the spend that they touch, nor each other in sum; and the order of rules is no matter."""

import random
from collections import defaultdict
from datetime import date
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.money import total
from gpuledger.core.savings import Atom, Counted, Finding, Piece, count

DAY = date(2026, 10, 5)
MONEY = st.decimals(min_value=0, max_value=10**9, places=18, allow_nan=False, allow_infinity=False)
SHARE = st.integers(min_value=0, max_value=100)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[int, Atom], list[Finding]]:
    """Atoms, and findings that claim parts of them."""
    costs = draw(st.lists(MONEY, min_size=1, max_size=6))
    atoms = {key: Atom(cost, DAY) for key, cost in enumerate(costs)}
    found = []
    for number in range(draw(st.integers(min_value=0, max_value=7))):
        keys = draw(st.lists(st.sampled_from(sorted(atoms)), min_size=1, max_size=4, unique=True))
        pieces = []
        for key in keys:
            touched = part(atoms[key].cost, draw(SHARE))
            high = part(touched, draw(SHARE))
            pieces.append(Piece(key, touched, part(high, draw(SHARE)), high))
        confidence = Decimal(draw(st.integers(min_value=1, max_value=99))) / 100
        found.append(
            Finding(f"rule-{number % 3}", f"scope {number}", tuple(pieces), "seen", "do", confidence, "low")
        )
    return atoms, found


def part(amount: Decimal, percent: int) -> Decimal:
    return min(amount, (amount * percent / 100).quantize(Decimal(1).scaleb(-18)))


def by_atom(counted: list[Counted]) -> dict[int, list[Piece]]:
    pieces = defaultdict(list)
    for one in counted:
        for piece in one.finding.pieces:
            pieces[piece.atom].append(piece)
    return pieces


@given(worlds())
def test_no_dollar_is_counted_twice(world: tuple[dict[int, Atom], list[Finding]]) -> None:
    atoms, found = world
    counted = count(found, atoms)
    for key, pieces in by_atom(counted).items():
        assert total(piece.touched for piece in pieces) <= atoms[key].cost
        assert total(piece.high for piece in pieces) <= atoms[key].cost
    assert total(one.finding.high for one in counted) <= total(atom.cost for atom in atoms.values())


@given(worlds())
def test_a_saving_is_within_what_it_touches_and_within_what_it_was_alone(
    world: tuple[dict[int, Atom], list[Finding]],
) -> None:
    atoms, found = world
    counted = count(found, atoms)
    assert len(counted) == len(found)
    for one in counted:
        assert 0 <= one.finding.low <= one.finding.high <= one.finding.touched
        assert one.finding.low <= one.alone.low
        assert one.finding.high <= one.alone.high
        assert (one.finding.touched < one.alone.touched) <= bool(one.finding.covered_by)


@given(worlds(), st.integers())
def test_the_order_in_which_rules_are_asked_is_no_matter(
    world: tuple[dict[int, Atom], list[Finding]], seed: int
) -> None:
    atoms, found = world
    mixed = list(found)
    random.Random(seed).shuffle(mixed)
    assert count(found, atoms) == count(mixed, atoms)


@given(worlds())
def test_the_surest_saving_per_dollar_is_counted_whole(world: tuple[dict[int, Atom], list[Finding]]) -> None:
    atoms, found = world
    counted = count(found, atoms)
    assert [one.alone.density for one in counted] == sorted((one.density for one in found), reverse=True)
    if counted:
        assert counted[0].finding.high == counted[0].alone.high
    assert all(one.alone.density >= other.alone.density for one, other in pairwise(counted))
