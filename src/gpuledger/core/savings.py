"""Savings: what a rule finds, the dollars that it touches, and how findings on the same dollars are told apart.

Spend is cut into *atoms*: one job, machine, model or commitment on one day. A rule claims a part of some atoms and says
what of that could be saved. `count` goes through the findings, the surest saving per dollar first, and gives each what
earlier ones left: no dollar is touched twice, so savings never exceed the spend they touch, nor the spend in sum.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_DOWN, Context, Decimal, localcontext
from typing import Any, Final, Literal, Protocol, runtime_checkable

from gpuledger.core.money import total

Row = Mapping[str, Any]
Risk = Literal["low", "medium", "high"]

_DIGITS: Final = Decimal(1).scaleb(-18)
_EXACT: Final = Context(prec=80)
ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Need:
    """What must be known before a rule can say anything: a column of a relation with a value in some row.

    `what` names it for a person, `add` says how to get it. Of the bill, absence means that there is nothing to look at;
    of anything else, that the rule can't be measured.
    """

    relation: str
    column: str
    what: str
    add: str = ""
    where: str = "true"

    @property
    def bill(self) -> bool:
        """Whether it is about charges, not telemetry."""
        return self.relation == "atom"


@runtime_checkable
class Rule(Protocol):
    """One savings rule: a module of `gpuledger.savings`.

    SQL reads the relations of `gpuledger.models.savings` and gives a row per scope and atom: `scope`, `atom`, and as
    shares of the atom's cost `low`, `high` and, if not all of it, `touched`; or, for the scope as a whole, money
    `low_total` and `high_total`. More columns are evidence for `tell`, which gives evidence and action in words; a
    column `confidence` takes the place of CONFIDENCE, and columns `sum_X` are added up to `X`. RELEASES: it frees capacity, which saves nothing for sure while a
    commitment pays for it.
    """

    TITLE: str
    FORMULA: str
    NEEDS: Sequence[Need]
    CONFIDENCE: Decimal
    RISK: Risk
    RELEASES: bool
    SQL: str

    def tell(self, seen: Row) -> tuple[str, str]:
        """Say what was seen and what to do. `seen` is a scope's first row, with `cost`, `low` and `high` of all."""
        ...


@dataclass(frozen=True, slots=True)
class Atom:
    """A piece of spend that is counted once, and who bears it."""

    cost: Decimal
    day: date
    committed: bool = False
    owner: str | None = None
    team: str | None = None
    cost_center: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """What a finding claims of an atom: `touched` of its cost, of which `low` to `high` could be saved."""

    atom: int
    touched: Decimal
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says of one scope. `covered_by` names the rules that took dollars from it when counting."""

    rule: str
    scope: str
    pieces: tuple[Piece, ...]
    evidence: str
    action: str
    confidence: Decimal
    risk: Risk
    owners: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    since: date | None = None
    until: date | None = None
    covered_by: tuple[str, ...] = ()

    @property
    def low(self) -> Decimal:
        """What is saved at least."""
        return total(piece.low for piece in self.pieces)

    @property
    def high(self) -> Decimal:
        """What is saved at most."""
        return total(piece.high for piece in self.pieces)

    @property
    def touched(self) -> Decimal:
        """The spend that it is about."""
        return total(piece.touched for piece in self.pieces)

    @property
    def expected(self) -> Decimal:
        """The middle of the range, times how sure it is."""
        return (self.low + self.high) / 2 * self.confidence

    @property
    def density(self) -> Decimal:
        """The expected saving per dollar that would be saved on."""
        touched = total(piece.touched for piece in self.pieces if piece.high)
        return self.expected / touched if touched else ZERO


@dataclass(frozen=True, slots=True)
class Counted:
    """A finding after its overlaps were taken off, beside what it said alone."""

    alone: Finding
    finding: Finding


def findings(rule: Rule, name: str, rows: Iterable[Row], atoms: Mapping[int, Atom]) -> list[Finding]:
    """Make findings of a rule's rows, one per scope, in the order of the scopes."""
    scopes: dict[str, list[Row]] = {}
    for row in rows:
        if row["atom"] in atoms:
            scopes.setdefault(row["scope"], []).append(row)
    found = []
    for scope, mine in sorted(scopes.items()):
        pieces = _claimed(rule, mine, atoms) if "low_total" not in mine[0] else _spread(mine, atoms)
        one = _finding(rule, name, scope, mine, pieces)
        if one.high > 0:
            found.append(_owned(one, rule, _seen(mine), atoms))
    return found


def _seen(rows: Sequence[Row]) -> Row:
    """Return a scope's first row, with sums of what is to be added up."""
    summed = {
        key.removeprefix("sum_"): sum(Decimal(str(row[key] or 0)) for row in rows)
        for key in rows[0]
        if key.startswith("sum_")
    }
    return {**rows[0], **summed}


def _finding(rule: Rule, name: str, scope: str, rows: Sequence[Row], pieces: Sequence[Piece]) -> Finding:
    confidence = rows[0].get("confidence")
    return Finding(
        rule=name,
        scope=scope,
        pieces=tuple(pieces),
        evidence="",
        action="",
        confidence=rule.CONFIDENCE if confidence is None else share(confidence),
        risk=rule.RISK,
    )


def _owned(one: Finding, rule: Rule, seen: Row, atoms: Mapping[int, Atom]) -> Finding:
    """Add words, owners and the days that the evidence is of."""
    mine = [atoms[piece.atom] for piece in one.pieces]
    borne: dict[str, Decimal] = {}
    for piece, atom in zip(one.pieces, mine, strict=True):
        label = atom.owner or atom.team or atom.cost_center
        if label is not None:
            borne[label] = borne.get(label, ZERO) + piece.touched
    evidence, action = rule.tell({**seen, "cost": one.touched, "low": one.low, "high": one.high})
    committed = total(
        piece.high for piece, atom in zip(one.pieces, mine, strict=True) if atom.committed and rule.RELEASES
    )
    if committed:
        evidence += (
            f"; {money(committed)} of it is on committed capacity and comes back only if something fills it"
        )
    names = {word for atom in mine for word in (atom.owner, atom.team, atom.cost_center) if word}
    days = [atom.day for atom in mine]
    return replace(
        one, evidence=evidence, action=action, since=min(days), until=max(days),
        owners=tuple(sorted(borne, key=lambda label: (-borne[label], label))),
        names=frozenset(word.casefold() for word in names),
    )  # fmt: skip


def _claimed(rule: Rule, rows: Sequence[Row], atoms: Mapping[int, Atom]) -> list[Piece]:
    claims: dict[int, Piece] = {}
    for row in rows:
        atom = atoms[row["atom"]]
        if atom.cost <= 0:
            continue
        touched = _of(atom.cost, 1 if row.get("touched") is None else row["touched"])
        high = min(_of(atom.cost, row["high"]), touched)
        low = ZERO if rule.RELEASES and atom.committed else min(_of(atom.cost, row["low"]), high)
        before = claims.get(row["atom"])
        piece = Piece(row["atom"], touched, low, high)
        claims[piece.atom] = piece if before is None else _joined(before, piece, atom.cost)
    return list(claims.values())


def _joined(one: Piece, other: Piece, cost: Decimal) -> Piece:
    """Two claims of a scope on one atom, never more than all of it."""
    touched = min(cost, one.touched + other.touched)
    high = min(touched, one.high + other.high)
    return Piece(one.atom, touched, min(high, one.low + other.low), high)


def _spread(rows: Sequence[Row], atoms: Mapping[int, Atom]) -> list[Piece]:
    """Spread a scope's saving over its atoms in proportion to their cost; the last one takes what rounding left."""
    mine = list(dict.fromkeys(row["atom"] for row in rows if atoms[row["atom"]].cost > 0))
    whole = total(atoms[key].cost for key in mine)
    high = min(whole, max(ZERO, Decimal(rows[0]["high_total"] or 0)))
    low = min(high, max(ZERO, Decimal(rows[0]["low_total"] or 0)))
    pieces, left_low, left_high = [], low, high
    for place, key in enumerate(mine, 1):
        cost = atoms[key].cost
        last = place == len(mine)
        part_high = left_high if last else min(left_high, _part(high, cost, whole))
        part_high = min(part_high, cost)
        part_low = min(left_low if last else _part(low, cost, whole), part_high)
        left_low, left_high = left_low - part_low, left_high - part_high
        pieces.append(Piece(key, cost, part_low, part_high))
    return pieces


def count(found: Iterable[Finding], atoms: Mapping[int, Atom]) -> list[Counted]:
    """Give each finding what the surer ones left of its dollars.

    A piece that saves nothing itself is used up by the others of its finding (idle committed hours that jobs move
    onto): what is missing of it lessens them.
    """
    with localcontext(_EXACT):
        left = {key: atom.cost for key, atom in atoms.items()}
        taken: dict[int, list[str]] = {}
        ordered = sorted(found, key=lambda one: (-one.density, -one.expected, one.rule, one.scope))
        return [_take(one, left, taken) for one in ordered]


def _take(one: Finding, left: dict[int, Decimal], taken: dict[int, list[str]]) -> Counted:
    used = [piece for piece in one.pieces if not piece.high]
    wanted = sum((piece.touched for piece in used), ZERO)
    room = sum((min(piece.touched, left[piece.atom]) for piece in used), ZERO)
    pieces, others = [], []
    for piece in one.pieces:
        want = piece.touched if not wanted or not piece.high else _part(piece.touched, room, wanted)
        got = max(ZERO, min(want, left[piece.atom]))
        if got < piece.touched:
            others += taken.get(piece.atom, [])
        if not got:
            continue
        kept = got == piece.touched
        high = piece.high if kept else _part(piece.high, got, piece.touched)
        low = piece.low if kept else min(high, _part(piece.low, got, piece.touched))
        pieces.append(Piece(piece.atom, got, low, high))
        left[piece.atom] -= got
        taken.setdefault(piece.atom, []).append(one.rule)
    rules = tuple(sorted(set(others)))
    return Counted(one, replace(one, pieces=tuple(pieces), covered_by=rules))


def _part(amount: Decimal, piece: Decimal, whole: Decimal) -> Decimal:
    return _cut(_EXACT.divide(_EXACT.multiply(amount, piece), whole))


def _of(cost: Decimal, part: object) -> Decimal:
    return _cut(_EXACT.multiply(cost, share(part or 0)))


def _cut(amount: Decimal) -> Decimal:
    """Round down to the digits of money."""
    return amount.quantize(_DIGITS, ROUND_DOWN, _EXACT)


def share(value: object) -> Decimal:
    """Read a share, 0 to 1, that SQL computed; what rounding put outside is brought back."""
    found = Decimal(str(value))
    if not found.is_finite():
        return ZERO
    return max(ZERO, min(Decimal(1), found.quantize(Decimal(1).scaleb(-15), ROUND_DOWN, _EXACT)))


def money(value: object) -> str:
    """Write an amount for a person."""
    return f"{Decimal(str(value or 0)):,.2f}"


def number(value: object, digits: int = 0) -> str:
    """Write a number for a person; digits after the point only where they say something."""
    text = f"{Decimal(str(value or 0)):,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(value: object) -> str:
    """Write a share for a person."""
    return f"{number(Decimal(str(value or 0)) * 100, 1)} %"
