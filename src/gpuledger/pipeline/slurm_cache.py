"""What job_submit.lua reads beside the policy: rates, earlier runs, and what budgets have left by Slurm's own account.

A job that was admitted has what it reserved in its AdminComment; `slurm report` adds what it cost. So what is drawn on
a budget is asked of Slurm: of the controller for jobs that wait or run, of accounting for those that ended.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.policy import History, Policy, Rate
from gpuledger.core.policy.periods import period_of
from gpuledger.core.policy.render.slurm import Left, cache
from gpuledger.pipeline.leases import Leases
from gpuledger.telemetry.slurm import Commands

_SEPARATOR: Final = "\x1f"
# Jobs that the controller took a moment ago may not be told yet: the script's own journal counts them, twice at worst.
_OVERLAP: Final = timedelta(minutes=2)
_DRAWS: Final = re.compile(r"gpuledger:decision=.*?;draws_on=([^;]+);reserved_usd=(\d+\.\d\d)")
_ALIVE: Final = frozenset({"PENDING", "RUNNING", "SUSPENDED", "REQUEUED"})
_COST: Final = re.compile(r"gpuledger:cost_usd=(\d+(?:\.\d+)?)")


@dataclass(slots=True)
class _Drawn:
    """What one submission draws: an array's tasks share a reservation, and each has its own cost in the end."""

    budget: str
    submitted: int
    reserved: Decimal
    cost: Decimal = Decimal(0)
    open: bool = False  # something of it waits or runs, or ended with a cost that isn't told yet

    @property
    def amount(self) -> Decimal:
        return max(self.reserved, self.cost) if self.open else self.cost


def written(
    policy: Policy,
    learnt: Mapping[str, Decimal],
    history: History,
    now: datetime,
    *,
    commands: Commands | None = None,
    leases: Leases | None = None,
) -> tuple[str, list[dict[str, Any]]]:
    """Return the cache's text and a row per budget. Raises SourceError when Slurm doesn't answer."""
    drawn = _drawn(commands or Commands(timeout=60), policy, now) if policy.budget else []
    left, rows = [], []
    for budget in policy.budget:
        start, end = period_of(budget.period, now)
        amount = sum(
            (one.amount for one in drawn if one.budget == budget.name and one.submitted >= start.timestamp()),
            Decimal(0),
        )
        whole = budget.amount_usd if leases is None else leases.left(budget, now)
        left.append(Left(budget.name, whole - amount, max(now - _OVERLAP, start), end))
        rows.append(
            {
                "budget": budget.name,
                "owner": budget.owner,
                "drawn": amount,
                "left": whole - amount,
                "resets": end,
            }
        )
    rates = {model: Rate(price, "your bills of 30 days") for model, price in learnt.items()}
    return cache(rates, history, left, now), rows


def _drawn(commands: Commands, policy: Policy, now: datetime) -> list[_Drawn]:
    since = min(period_of(budget.period, now)[0] for budget in policy.budget)
    found: dict[str, _Drawn] = {}
    live = _said(commands, "squeue", "-h", "-a", "-r", "-O", "ArrayJobID:24,SubmitTime:24,admin_comment:4000")
    for line in live.splitlines():
        one = _drawn_by(found, line[:24].strip(), line[24:48].strip(), line[48:].strip())
        if one is not None:
            one.open = True
    fields = "JobID,JobIDRaw,Submit,State,ElapsedRaw,AdminComment"
    begin = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    ended = _said(
        commands, "sacct", "-D", "-n", "-P", "-X", "-a", f"--delimiter={_SEPARATOR}", "-S", begin, "-E", "now", "-o", fields
    )  # fmt: skip
    attempts: dict[str, list[list[str]]] = {}
    for line in ended.splitlines():
        cells = line.split(_SEPARATOR)
        if len(cells) == 6:  # noqa: PLR2004 - the fields above
            attempts.setdefault(cells[0], []).append(cells)
    for display, records in attempts.items():
        # As squeue's ArrayJobID has it: an array's own id for its tasks, each other job's own.
        _ended(found, display.split("_")[0] if "_" in display else records[0][1], records)
    return list(found.values())


def _drawn_by(found: dict[str, _Drawn], job: str, submitted: str, comment: str) -> _Drawn | None:
    draws = _DRAWS.search(comment)
    if draws is None or not submitted.isdecimal():
        return None
    one = found.setdefault(job, _Drawn(draws[1], int(submitted), Decimal(draws[2])))
    one.submitted = min(one.submitted, int(submitted))
    return one


def _ended(found: dict[str, _Drawn], job: str, records: list[list[str]]) -> None:
    """Add the attempts of a job, task or component: what it cost, or that nobody knows it yet."""
    cost = None
    held = False
    one = None
    for _, _, submitted, state, elapsed, comment in records:
        one = _drawn_by(found, job, submitted, comment) or one
        told = _COST.search(comment)
        cost = Decimal(told[1]) if told else cost
        held = held or elapsed != "0" or state.split()[0] in _ALIVE
    if one is None:
        return
    if cost is not None:
        one.cost += cost
    elif held:  # one that was cancelled before it began costs nothing
        one.open = True


def _said(commands: Commands, *words: str) -> str:
    with commands.run(*words) as spool:
        if not spool.whole:
            raise spool.error()
        return spool.text()
