"""Policy decisions on files, before anything is scheduled."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpuledger.core.policy import Budget, Decision, History, Submission, Surroundings, decide
from gpuledger.core.policy.estimate import NO_HISTORY
from gpuledger.core.policy.model import Policy
from gpuledger.core.policy.periods import period_of
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.focus.schema import ALLOCATED_COST
from gpuledger.pipeline import policy_prices
from gpuledger.pipeline.manifest_files import Entry, read
from gpuledger.pipeline.policy_files import LoadedPolicy

if TYPE_CHECKING:
    from gpuledger.pipeline.ledger import Ledger

_COLUMNS: Final = {column.name for column in ALLOCATED_COST}


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a ledger knows: rates by GPU model, earlier runs, and what budgets have spent in their period."""

    rates: Mapping[str, Decimal]
    history: History
    spent: Mapping[str, Decimal]


NOTHING_LEARNT = Learnt({}, NO_HISTORY, {})


@dataclass(frozen=True, slots=True)
class Checked:
    """One object and the decision on it; None for one that can't be read, or that runs nothing."""

    entry: Entry
    decision: Decision | None
    outcome: str


def check(
    paths: Sequence[Path], loaded: LoadedPolicy, learnt: Learnt, now: datetime, namespace: str | None = None
) -> Iterator[Checked]:
    """Decide on every object of files. What can't be read is denied where the policy enforces, else warned about."""
    around = Surroundings(
        now=now,
        rates=policy_prices.rates(loaded.policy, learnt.rates, now.date()),
        history=learnt.history,
        registers=loaded.registers,
        left=lambda budget: _left(budget, learnt),
    )
    unread = "deny" if loaded.policy.mode == "enforce" else "warn"
    for entry in read(paths, namespace):
        if entry.submission is None:
            yield Checked(entry, None, unread if entry.unread else "allow")
            continue
        decision = decide(loaded.policy, entry.submission, around)
        yield Checked(entry, decision, decision.outcome)


def learn(ledger: "Ledger", policy: Policy, now: datetime) -> tuple[Learnt, list[Diagnostic]]:
    """Return what a ledger knows; nothing, and a diagnostic, where there is none yet."""
    if not ledger.units():
        told = Diagnostic(
            "no-ledger",
            "info",
            ledger.location,
            "there is no ledger: list prices, no earlier runs, no budget's remainder",
            "Ingest bills and telemetry for rates and quantiles of your own.",
        )
        return NOTHING_LEARNT, [told]
    con = ledger.connect()
    spent = {budget.name: _spent(con, budget, now) for budget in policy.budget}
    return Learnt(policy_prices.learnt_rates(con), policy_prices.history(con), spent), []


def _spent(con: duckdb.Connection, budget: Budget, now: datetime) -> Decimal:
    """Return what the budget's workloads cost since its period began, as far as the ledger knows by now."""
    start, end = period_of(budget.period, now)
    parts = [
        f"{_told(name)} = {duckdb.literal(value)}"
        for name, value in (budget.match or {"budget": budget.name}).items()
    ]
    found = con.execute(
        f"""SELECT sum(a.EffectiveCost) FROM allocated AS a LEFT JOIN jobs AS j ON j.job_id = a.x_JobId
            WHERE a.BillingCurrency = 'USD' AND a.ChargePeriodStart >= $start AND a.ChargePeriodStart < $end
                AND {" AND ".join(parts)}""",
        {"start": start, "end": end},
    ).fetchone()
    return (found[0] if found else None) or Decimal(0)


def _told(dimension: str) -> str:
    """Return SQL for a dimension of an allocated charge: its job's, else its own tag's."""
    column = f"x_{dimension.title().replace('_', '')}"
    own = f", a.{column}" if column in _COLUMNS else ""
    return f"coalesce(j.{dimension}{own})"


def _left(budget: Budget, learnt: Learnt) -> Decimal | None:
    spent = learnt.spent.get(budget.name)
    return None if spent is None else budget.amount_usd - spent


def row(one: Checked) -> dict[str, Any]:
    """Return a checked object as the command line's contract has it."""
    submission, decision = one.entry.submission, one.decision
    price = decision.estimate if decision else None
    draw = decision.draw if decision else None
    return {
        "file": one.entry.file,
        "line": one.entry.line,
        "object": one.entry.label,
        "decision": one.outcome,
        "reasons": _reasons(one),
        "gpus": _gpus(submission),
        "gpu_model": submission.gpu_model if submission else None,
        "usd_per_hour": price.usd_per_hour if price else None,
        "hours_p50": price.hours_p50 if price else None,
        "hours_p90": price.hours_p90 if price else None,
        "est_cost_p50": price.cost_p50 if price else None,
        "est_cost_p90": price.cost_p90 if price else None,
        "price_basis": list(price.basis) if price else [],
        "budget": draw.budget.name if draw else None,
        "budget_left": draw.left if draw else None,
        "would": decision.would if decision else one.outcome,
        "mode": decision.mode if decision else None,
        "filled": {name: filled.value for name, filled in decision.filled.items()} if decision else {},
    }


def _gpus(submission: Submission | None) -> Decimal | int | None:
    if submission is None:
        return 0
    gpus = submission.gpus
    if gpus is None:
        return None
    return int(gpus) if gpus.denominator == 1 else Decimal(gpus.numerator) / Decimal(gpus.denominator)


def _reasons(one: Checked) -> list[str]:
    if one.decision is None:
        return [one.entry.reason]
    decision = one.decision
    told = [
        reason.text
        if reason.lifted_by is None
        else f"{reason.message} (lifted by exemption {reason.lifted_by})"
        for reason in decision.reasons
    ]
    price, asks = decision.estimate, one.entry.submission is not None and one.entry.submission.accelerated
    if asks and (price.usd_per_hour is None or price.cost_p90 is None):
        told.append(f"cost not known: {price.basis[-1]}")
    return [*told, *decision.notes] or ["fine" if asks else "asks for no card"]
