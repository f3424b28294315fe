"""What could be saved: every rule asked over the ledger, ranked, each dollar counted once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from gpuledger import registry
from gpuledger.config import SavingsSection
from gpuledger.core import savings as core
from gpuledger.core import windows
from gpuledger.core.money import total
from gpuledger.core.savings import Atom, Counted, Finding, Need, Rule
from gpuledger.core.windows import Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.models.savings import Relations
from gpuledger.models.usage import usage_current
from gpuledger.pipeline import allocation_state, costs
from gpuledger.pipeline import savings_relations as made
from gpuledger.pipeline.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: `rules` None means all. `least` is the smallest saving (its high end) that is shown.

    `owner` keeps findings of that owner, team or cost centre. `show_all` adds what other findings cover, what was looked
    for in vain and what can't be measured.
    """

    rules: Sequence[str] | None = None
    least: Decimal = Decimal(1)
    owner: str | None = None
    where: Sequence[str] = ()
    show_all: bool = False


@dataclass(slots=True)
class Savings:
    """Rows as the command prints them, the largest saving first; totals over the findings that are shown."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def savings(ledger: Ledger, window: str, wanted: Wanted | None = None) -> Savings:
    """Ask the rules about a window of the ledger.

    Raises LedgerError when there is no ledger, UsageError for an unknown rule and for charges in several currencies.
    """
    ledger.require()
    con = ledger.connect()
    try:
        found = ask(con, windows.parse(window, datetime.now(UTC)), ledger.config.savings, wanted)
    finally:
        con.close()
    found.diagnostics = allocation_state.stale(ledger.store, ledger.config.allocation) + found.diagnostics
    found.totals["window"] = window
    return found


def ask(
    con: duckdb.Connection,
    window: Window,
    settings: SavingsSection | None = None,
    wanted: Wanted | None = None,
) -> Savings:
    """Answer over the views of a ledger connection; it gets temporary tables."""
    wanted, settings = wanted or Wanted(), settings or SavingsSection.model_validate({})
    rules = {name: registry.savings_rule(name) for name in wanted.rules or registry.savings_names()}
    currency = _prepare(con, window, wanted.where)
    relations = Relations(con, window, _values(settings), made.MAKERS)
    _facts(con, settings)
    atoms = _atoms(relations)
    found: list[Finding] = []
    missing: dict[str, list[Need]] = {}
    seen: dict[Need, bool] = {}
    for name, rule in rules.items():
        missing[name] = [need for need in rule.NEEDS if not _known(relations, need, seen)]
        if not missing[name]:
            found += core.findings(rule, name, relations.rows(rule.SQL), atoms)
    counted = core.count(found, atoms)
    answer = Savings()
    shown = [one for one in counted if _kept(one.finding, wanted)]
    shown.sort(key=lambda one: (-one.finding.expected, one.finding.rule, one.finding.scope))
    answer.rows = [_row(one, "open") for one in shown]
    if wanted.show_all:
        rest = [one for one in counted if one not in shown and _of(one.alone, wanted.owner)]
        answer.rows += [_row(one, "covered" if one.finding.covered_by else "small") for one in rest]
        told = {one.alone.rule for one in counted}
        answer.rows += [
            _silent(name, rules[name], needs) for name, needs in missing.items() if name not in told
        ]
    answer.totals = _totals(shown, atoms, missing) | {"currency": currency, "window": None}
    answer.diagnostics = list(_unmeasured(missing))
    return answer


def _prepare(con: duckdb.Connection, window: Window, where: Sequence[str]) -> str | None:
    """Create the views that relations rest on; return the charges' currency."""
    question = costs.Question(where=where, window=window, allocated=True)
    currencies = costs.one_currency(con, "allocated", question)
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW savings_charge AS SELECT * FROM allocated WHERE {costs.predicate(question)}"
    )
    whole = costs.predicate(costs.Question(window=window))
    con.execute(f"CREATE OR REPLACE TEMP VIEW savings_whole AS SELECT * FROM cost_and_usage WHERE {whole}")
    days = f"x_BillingPeriod BETWEEN '{window.start:%Y-%m-%d}' AND '{window.end:%Y-%m-%d}'"
    told = usage_current(con, f"(SELECT * FROM usage_interval WHERE {days})")
    con.execute(f"CREATE OR REPLACE TEMP VIEW held_usage AS {told}")
    return currencies[0] if currencies else None


def _values(settings: SavingsSection) -> dict[str, str]:
    return {
        "headroom": str(settings.headroom),
        "goodput": str(settings.goodput),
        "cold_start": f"{settings.cold_start_minutes} * 60",
        "expiry_days": str(settings.expiry_days),
    }


def _facts(con: duckdb.Connection, settings: SavingsSection) -> None:
    con.execute("CREATE OR REPLACE TEMP TABLE fact (name VARCHAR, key VARCHAR, value VARCHAR)")
    for name, facts in settings.facts.items():
        for key, value in facts.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            con.execute("INSERT INTO fact VALUES (?, ?, ?)", [name, key.replace("_", "-"), text])


def _atoms(relations: Relations) -> dict[int, Atom]:
    rows = relations.rows(
        "SELECT atom, cost, day, commitment_status = 'Used' AS committed, owner, team, cost_center FROM atom"
    )
    return {
        row["atom"]: Atom(
            row["cost"], row["day"], bool(row["committed"]), row["owner"], row["team"], row["cost_center"]
        )
        for row in rows
    }


def _known(relations: Relations, need: Need, seen: dict[Need, bool]) -> bool:
    if need not in seen:
        query = (
            f"SELECT 1 AS one FROM {need.relation} WHERE {need.column} IS NOT NULL AND ({need.where}) LIMIT 1"
        )
        seen[need] = bool(relations.rows(query))
    return seen[need]


def _of(finding: Finding, owner: str | None) -> bool:
    return owner is None or owner.strip().casefold() in finding.names


def _kept(finding: Finding, wanted: Wanted) -> bool:
    return finding.high > 0 and finding.high >= wanted.least and _of(finding, wanted.owner)


def _row(counted: Counted, status: str) -> dict[str, Any]:
    one = counted.finding
    return {
        "rule": one.rule,
        "scope": one.scope,
        "owner": ", ".join(one.owners) or None,
        "saving_low": one.low,
        "saving_high": one.high,
        "confidence": one.confidence,
        "evidence": one.evidence,
        "action": one.action,
        "reversal_risk": one.risk,
        "touched_cost": one.touched,
        "window": None if one.since is None else f"{one.since}..{one.until}",
        "status": status,
        "alone_low": counted.alone.low,
        "alone_high": counted.alone.high,
        "covered_by": list(one.covered_by),
    }


def _silent(name: str, rule: Rule, needs: Sequence[Need]) -> dict[str, Any]:
    """Return the row of a rule that found nothing, or that can't be measured."""
    telemetry = [need for need in needs if not need.bill]
    nothing = Finding(name, "", (), "", "", Decimal(0), rule.RISK)
    row = _row(Counted(nothing, nothing), "nothing found")
    row |= dict.fromkeys(
        ("scope", "saving_low", "saving_high", "confidence", "touched_cost", "alone_low", "alone_high")
    )
    row |= {"evidence": f"{rule.TITLE}: looked for, not found", "action": ""}
    if telemetry and len(telemetry) == len(needs):
        row["status"] = "unmeasured"
        row["evidence"] = f"{rule.TITLE}: nobody tells {'; nor '.join(need.what for need in telemetry)}"
        row["action"] = " ".join(dict.fromkeys(need.add for need in telemetry))
    elif needs:
        row["status"] = "nothing of the kind"
        row["evidence"] = f"{rule.TITLE}: no charges for {needs[0].what if needs[0].bill else 'it'}"
    return row


def _totals(
    shown: Sequence[Counted], atoms: Mapping[int, Atom], missing: Mapping[str, Sequence[Need]]
) -> dict[str, Any]:
    unmeasured = [name for name, needs in missing.items() if needs and not any(need.bill for need in needs)]
    return {
        "saving_low": total(one.finding.low for one in shown),
        "saving_high": total(one.finding.high for one in shown),
        "touched_cost": total(one.finding.touched for one in shown),
        "spend": total(atom.cost for atom in atoms.values()),
        "findings": len(shown),
        "rules": len(missing),
        "unmeasured_rules": unmeasured,
    }


def _unmeasured(missing: Mapping[str, Sequence[Need]]) -> Iterable[Diagnostic]:
    """One diagnostic per thing that nobody tells, with the rules that wait for it."""
    by_need: dict[Need, list[str]] = {}
    for name, needs in missing.items():
        if not any(need.bill for need in needs):
            for need in needs:
                by_need.setdefault(need, []).append(name)
    for need, names in sorted(by_need.items(), key=lambda item: (-len(item[1]), item[0].what)):
        yield Diagnostic(
            "savings-unmeasured", "info", ", ".join(names), f"nobody tells {need.what}", need.add
        )
