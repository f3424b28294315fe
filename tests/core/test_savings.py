"""How rows of a rule become findings, and how findings on the same dollars are counted: cases worked out by hand."""

from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

from gpuledger.core.savings import Atom, Finding, Piece, Rule, count, findings, money, number, percent

D = Decimal
MONDAY, TUESDAY = date(2026, 10, 5), date(2026, 10, 6)


def rule(*, releases: bool = False) -> Rule:
    def tell(seen: Any) -> tuple[str, str]:  # noqa: ANN401  # a row
        return f"cost {seen['cost']}, {seen.get('hours')} h", "act"

    parts = {"CONFIDENCE": Decimal("0.5"), "RISK": "low", "RELEASES": releases, "tell": tell}
    return cast("Rule", SimpleNamespace(**parts))


def claim(name: str, confidence: str, *pieces: tuple[int, str, str, str]) -> Finding:
    claimed = tuple(Piece(key, *map(Decimal, amounts)) for key, *amounts in pieces)
    return Finding(name, "scope", claimed, "", "", Decimal(confidence), "low")


def test_shares_of_atoms_become_money_and_owners_are_those_who_bear_it() -> None:
    atoms = {
        1: Atom(Decimal("10.000000000000000001"), MONDAY, owner="ada", team="nlp"),
        2: Atom(Decimal(40), TUESDAY, team="vision"),
    }
    rows = [
        {"scope": "job a", "atom": 1, "touched": None, "low": 0, "high": 1, "sum_hours": 2},
        {"scope": "job a", "atom": 2, "touched": 0.5, "low": 0.25, "high": 0.5, "sum_hours": 3},
    ]
    (found,) = findings(rule(), "r", rows, atoms)
    assert (found.low, found.high, found.touched) == (
        D(10),
        Decimal("30.000000000000000001"),
        Decimal("30.000000000000000001"),
    )
    assert found.owners == ("vision", "ada")
    assert found.names == {"ada", "nlp", "vision"}
    assert (found.since, found.until) == (MONDAY, TUESDAY)
    assert found.evidence == "cost 30.000000000000000001, 5 h"


def test_two_claims_of_a_scope_on_an_atom_are_one_within_its_cost() -> None:
    rows = [
        {"scope": "s", "atom": 1, "low": 0.5, "high": 0.75},
        {"scope": "s", "atom": 1, "low": 0.25, "high": 0.5},
    ]
    (found,) = findings(rule(), "r", rows, {1: Atom(Decimal(8), MONDAY)})
    assert found.pieces == (Piece(1, Decimal(8), Decimal(6), Decimal(8)),)


def test_what_a_commitment_pays_for_is_not_saved_for_sure_when_it_is_freed() -> None:
    atoms = {1: Atom(Decimal(8), MONDAY, committed=True), 2: Atom(Decimal(2), MONDAY)}
    rows = [{"scope": "s", "atom": key, "low": 1, "high": 1} for key in atoms]
    (found,) = findings(rule(releases=True), "r", rows, atoms)
    assert (found.low, found.high) == (D(2), D(10))
    assert "8.00 of it is on committed capacity" in found.evidence
    (kept,) = findings(rule(), "r", rows, atoms)
    assert kept.low == 10


def test_a_saving_of_the_whole_is_spread_to_the_last_digit() -> None:
    atoms = {key: Atom(Decimal(1), MONDAY) for key in (1, 2, 3)}
    rows = [{"scope": "s", "atom": key, "low_total": 1, "high_total": Decimal(2)} for key in atoms]
    (found,) = findings(rule(), "r", rows, atoms)
    assert (found.low, found.high, found.touched) == (D(1), D(2), D(3))
    assert found.pieces[0].high == Decimal("0.666666666666666666")
    more = [{**row, "high_total": 100} for row in rows]
    assert findings(rule(), "r", more, atoms)[0].high == 3, "never more than was spent"
    none = [{**row, "high_total": -5} for row in rows]
    assert findings(rule(), "r", none, atoms) == []


def test_credits_and_shares_that_mean_nothing_claim_nothing() -> None:
    atoms = {1: Atom(Decimal(-5), MONDAY), 2: Atom(Decimal(5), MONDAY)}
    rows = [
        {"scope": "s", "atom": 1, "low": 1, "high": 1},
        {"scope": "s", "atom": 2, "low": 0, "high": float("nan")},
    ]
    assert findings(rule(), "r", rows, atoms) == []


def test_the_better_finding_gets_the_dollar_and_the_other_the_rest() -> None:
    """Idle for 60 of 100 (sure), then cheaper by half elsewhere: half of the 40 that stay."""
    atoms = {1: Atom(Decimal(100), MONDAY)}
    idle = claim("idle", "0.9", (1, "60", "60", "60"))
    cheaper = claim("cheaper", "0.5", (1, "100", "0", "50"))
    first, second = count([cheaper, idle], atoms)
    assert (first.finding.rule, first.finding.high, first.finding.covered_by) == ("idle", D(60), ())
    assert (second.finding.high, second.finding.touched, second.finding.covered_by) == (
        D(20),
        D(40),
        ("idle",),
    )
    assert second.alone.high == 50


def test_what_a_finding_uses_up_is_gone_and_lacking_it_lessens_it() -> None:
    """Two moves want the same 100 idle dollars: the surer takes 75, so 25 of 50 are left, and half of 80 is saved."""
    atoms = {1: Atom(Decimal(100), MONDAY), 2: Atom(Decimal(90), MONDAY), 3: Atom(Decimal(80), MONDAY)}
    sure = claim("move", "0.9", (2, "90", "90", "90"), (1, "75", "0", "0"))
    other = claim("other", "0.5", (3, "80", "80", "80"), (1, "50", "0", "0"))
    stranded = claim("stranded", "0.3", (1, "100", "0", "100"))
    found = {one.finding.rule: one.finding for one in count([stranded, other, sure], atoms)}
    assert (found["move"].high, found["other"].high, found["stranded"].high) == (D(90), D(40), D(0))


def test_numbers_in_words() -> None:
    assert money(Decimal("1234567.891")) == "1,234,567.89"
    assert number(Decimal(1200)) == "1,200"
    assert number(0.25, 3) == "0.25"
    assert percent(0.6100469) == "61 %"
    assert percent(Decimal("0.125")) == "12.5 %"
