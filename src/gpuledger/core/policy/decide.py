"""One decision: policy and workload in, allow, warn or deny out, with words that the submitter can act on.

Pure and quick: no clock, no input or output. What can't be told never lets a workload pass by accident: an unknown
number of cards counts as enough for every rule, an unknown cost as more than any limit.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from gpuledger.core.policy.estimate import (
    NO_HISTORY,
    Estimate,
    History,
    Rates,
    cents_up,
    estimate,
    exact_hours,
)
from gpuledger.core.policy.model import Budget, Calendar, Exemption, Limit, Mode, Policy, Require, When
from gpuledger.core.policy.periods import period_of
from gpuledger.core.policy.submission import Submission

Outcome = Literal["allow", "warn", "deny"]
_SHOWN: Final = 6  # values that a refusal lists
_WEEKEND: Final = 5


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: the rule's name, what is wrong in words, how to mend it, and the exemption that lifts it, if one does."""

    rule: str
    message: str
    fix: str = ""
    lifted_by: str | None = None
    only_warns: bool = False

    @property
    def text(self) -> str:
        """Return what the submitter reads."""
        return f"{self.message}. {self.fix}".strip() if self.fix else f"{self.message}."


class Filled(NamedTuple):
    """A value that was filled in, and where it came from."""

    value: str
    source: str


class Draw(NamedTuple):
    """What a workload draws from a budget: `needs` at its P90, `left` before it; None where that isn't known."""

    budget: Budget
    needs: Decimal | None
    left: Decimal | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer. `would` is what enforcing would have said; `mode` and `scope` say why `outcome` may be milder."""

    outcome: Outcome
    would: Outcome
    mode: Mode
    scope: str
    reasons: tuple[Reason, ...]
    filled: Mapping[str, Filled]
    estimate: Estimate
    draw: Draw | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the workload: the moment, prices, earlier runs, registers' values and what budgets have left.

    `left` gives a budget's dollars by name, None when they aren't known.
    """

    now: datetime
    rates: Rates
    history: History = NO_HISTORY
    registers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    left: Callable[[Budget], Decimal | None] = lambda _: None


def decide(policy: Policy, submission: Submission, around: Surroundings) -> Decision:
    """Return the decision on a workload."""
    mode, scope = _mode(policy, submission)
    price = estimate(submission, around.rates, around.history)
    if mode == "off":
        return Decision("allow", "allow", mode, scope, (), {}, price)
    filled: dict[str, Filled] = {
        rule.dimension: given
        for rule in policy.require
        if matches(rule.when, submission, unknown=True) and (given := _default(rule, submission)) is not None
    }
    values = {name: said.value for name, said in submission.said.items()} | {
        name: one.value for name, one in filled.items()
    }
    draw = _draw(policy, submission, values, price, around)
    found = [
        *_required(policy, submission, values, around),
        *_limits(policy, submission, price, around),
        *_budget(draw, price),
        *_named_budget(policy, values, submission),
    ]
    reasons = tuple(_lifted(policy, submission, reason, around) for reason in found)
    broken = [reason for reason in reasons if reason.lifted_by is None]
    would: Outcome = "allow"
    if broken:
        would = "warn" if all(reason.only_warns for reason in broken) else "deny"
    mildest: dict[Mode, Outcome] = {"enforce": would, "warn": "warn" if broken else "allow"}
    notes = (*submission.problems, *_expired(policy, submission, around))
    return Decision(mildest.get(mode, "allow"), would, mode, scope, reasons, filled, price, draw, notes)


def matches(when: When, submission: Submission, *, unknown: bool) -> bool:
    """Say whether a `when` is for a workload; `unknown` is the answer where the workload doesn't tell."""
    if not submission.accelerated and not when.without_gpus:
        return False
    if when.planes and submission.plane not in when.planes:
        return False
    places = (
        (when.namespaces, "kubernetes", submission.namespace),
        (when.partitions, "slurm", submission.partition),
    )
    for patterns, plane, place in places:
        if patterns and (submission.plane != plane or not _like(patterns, place, unknown=unknown)):
            return False
    kind_of_work = submission.said.get("workload_type")
    return (
        _like(when.clusters, submission.cluster, unknown=unknown)
        and _like(when.kinds, submission.kind, unknown=unknown)
        and _like(when.names, submission.name, unknown=unknown)
        and _like(when.submitters, submission.submitter, unknown=unknown)
        and _like(when.workload_types, kind_of_work.value if kind_of_work else None, unknown=unknown)
        and (
            when.min_gpus is None
            or (unknown if (gpus := submission.gpus) is None else gpus >= Fraction(when.min_gpus))
        )
    )


def _like(patterns: tuple[str, ...], value: str | None, *, unknown: bool) -> bool:
    if not patterns:
        return True
    return unknown if value is None else any(fnmatchcase(value, pattern) for pattern in patterns)


def _mode(policy: Policy, submission: Submission) -> tuple[Mode, str]:
    for scope in policy.scope:
        if matches(scope.when, submission, unknown=False):
            return scope.mode, scope.name
    return policy.mode, "policy"


def _default(rule: Require, submission: Submission) -> Filled | None:
    if rule.dimension in submission.said:
        return None
    for source in rule.default_from:
        if value := submission.offered.get(source, {}).get(rule.dimension):
            return Filled(value, source)
    return Filled(rule.default, "policy") if rule.default is not None else None


def _required(
    policy: Policy, submission: Submission, values: Mapping[str, str], around: Surroundings
) -> Iterator[Reason]:
    for rule in policy.require:
        if not matches(rule.when, submission, unknown=True):
            continue
        name, value = rule.dimension, values.get(rule.dimension)
        place = submission.fields.get(name, name)
        allowed = _allowed(rule, around)
        if value is None:
            example = (
                f" ({listed_values(allowed)})" if allowed else f" ({rule.pattern})" if rule.pattern else ""
            )
            yield Reason(name, f"{name} is missing", f"Add {place}{example}.")
            continue
        if allowed is not None and value not in allowed:
            close = get_close_matches(value, sorted(allowed), 1)
            hint = f"Did you mean {close[0]}?" if close else f"Use one of: {listed_values(allowed)}."
            where = (
                f"the register {rule.register}" if rule.register and not rule.values else "the values allowed"
            )
            yield Reason(name, f"{name} {value!r} is not in {where}", f"{hint} It is read from {place}.")
        elif rule.pattern is not None and not _compiled(rule.pattern).fullmatch(value):
            yield Reason(
                name,
                f"{name} {value!r} does not match {rule.pattern}",
                f"It is read from {place}.",
            )
        earlier = (submission.before or {}).get(name)
        if rule.immutable and earlier is not None and earlier != value:
            yield Reason(
                name,
                f"{name} can't be changed from {earlier!r} to {value!r} while the workload lives",
                "Delete the workload and submit it again.",
            )


def _allowed(rule: Require, around: Surroundings) -> frozenset[str] | None:
    if rule.values:
        return frozenset(rule.values)
    return around.registers.get(rule.register) if rule.register is not None else None


def listed_values(values: frozenset[str] | None) -> str:
    """Return the first values as a refusal lists them, and how many more there are."""
    ordered = sorted(values or ())
    more = f" … {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _limits(
    policy: Policy, submission: Submission, price: Estimate, around: Surroundings
) -> Iterator[Reason]:
    for limit in policy.limit:
        if matches(limit.when, submission, unknown=True):
            yield from _limit(limit, submission, price, policy.calendar, around.now)


def _limit(
    limit: Limit, submission: Submission, price: Estimate, calendar: Calendar, now: datetime
) -> Iterator[Reason]:
    gpus, hours = submission.gpus, submission.hours
    most = submission.most_gpus if submission.most_gpus is not None else gpus
    deadline = submission.fields.get("deadline", "a deadline")
    wanted = (
        ("cards", limit.max_gpus, most, "Ask for fewer cards."),
        ("hours", limit.max_hours, None if submission.serves else hours, f"Set {deadline}."),
        (
            "card-hours",
            limit.max_gpu_hours,
            None if gpus is None or hours is None or submission.serves else gpus * exact_hours(hours),
            f"Ask for fewer cards, or set {deadline}.",
        ),
        (
            "USD expected (P90)",
            limit.max_cost_usd,
            price.cost_p90,
            f"Ask for fewer cards, or set {deadline}.",
        ),
    )
    for unit, allowed, asked, fix in wanted:
        if allowed is None or (asked is not None and asked <= Fraction(allowed)):
            continue
        if asked is None:
            yield Reason(
                limit.name,
                f"{limit.name} allows {_text(allowed)} {unit}, and how many this takes can't be told",
                fix,
            )
        else:
            yield Reason(
                limit.name, f"{limit.name} allows {_text(allowed)} {unit}, this takes {_text(asked)}", fix
            )
    if limit.deadline is None or hours is not None or submission.serves:
        return
    if limit.deadline == "always" or off_hours(calendar, now):
        when = "" if limit.deadline == "always" else " outside working hours"
        yield Reason(limit.name, f"{limit.name} wants a deadline{when}", f"Set {deadline}.")


def off_hours(calendar: Calendar, now: datetime) -> bool:
    """Say whether nobody is at work at a moment."""
    # Minimal machines have no time zone data, but everybody knows UTC.
    local = now.astimezone(UTC if calendar.timezone == "UTC" else ZoneInfo(calendar.timezone))
    return (
        local.weekday() >= _WEEKEND
        or local.date() in calendar.holidays
        or not calendar.opens <= local.hour < calendar.closes
    )


def budget_of(policy: Policy, values: Mapping[str, str]) -> Budget | None:
    """Return the budget that a workload with these dimensions draws on: the one it names, else the first it matches."""
    named = values.get("budget")
    for budget in policy.budget:
        if named is not None and budget.name == named:
            return budget
    for budget in policy.budget if named is None else ():
        if budget.match and all(values.get(name) == value for name, value in budget.match.items()):
            return budget
    return None


def _draw(
    policy: Policy, submission: Submission, values: Mapping[str, str], price: Estimate, around: Surroundings
) -> Draw | None:
    budget = budget_of(policy, values)
    if budget is None or not submission.accelerated:
        return None
    needs = price.cost_p90
    if submission.serves and price.usd_per_hour is not None:
        _, end = period_of(budget.period, around.now)
        seconds = Fraction((end - around.now.astimezone(UTC)).total_seconds())
        needs = cents_up(Fraction(price.usd_per_hour) * seconds / 3600)
    return Draw(budget, needs, around.left(budget))


def _budget(draw: Draw | None, price: Estimate) -> Iterator[Reason]:
    if draw is None:
        return
    budget, needs, left = draw.budget, draw.needs, draw.left
    mild = budget.on_exceed == "warn"
    if needs is None:
        yield Reason(
            budget.name,
            f"budget {budget.name} of {budget.owner} can't reserve a cost that can't be told: {'; '.join(price.basis)}",
            "Set a deadline.",
            only_warns=mild,
        )
    elif left is not None and needs > left:
        yield overdrawn(draw)


def overdrawn(draw: Draw) -> Reason:
    """Return the refusal of a budget that has less left than is needed: its name, owner, remainder and reset."""
    budget = draw.budget
    left = "an unknown amount" if draw.left is None else f"{_text(draw.left)} USD"
    needs = "an unknown amount" if draw.needs is None else f"{_text(draw.needs)} USD"
    return Reason(
        budget.name,
        f"budget {budget.name} has {left} left, this needs {needs}",
        f"Ask {budget.owner}, or wait for the next {budget.period}.",
        only_warns=budget.on_exceed == "warn",
    )


def _named_budget(policy: Policy, values: Mapping[str, str], submission: Submission) -> Iterator[Reason]:
    named = values.get("budget")
    known = frozenset(budget.name for budget in policy.budget)
    if named is not None and known and named not in known and submission.accelerated:
        yield Reason("budget", f"there is no budget {named!r}", f"Use one of: {listed_values(known)}.")


def _lifted(policy: Policy, submission: Submission, reason: Reason, around: Surroundings) -> Reason:
    for one in _exemptions(policy, submission):
        holds = around.now.astimezone(UTC).date() <= one.expires
        if holds and (not one.rules or reason.rule in one.rules):
            return Reason(reason.rule, reason.message, reason.fix, one.name, reason.only_warns)
    return reason


def _expired(policy: Policy, submission: Submission, around: Surroundings) -> Iterator[str]:
    for one in _exemptions(policy, submission):
        if around.now.astimezone(UTC).date() > one.expires:
            yield f"the exemption {one.name} expired on {one.expires}"


def _exemptions(policy: Policy, submission: Submission) -> Iterator[Exemption]:
    return (one for one in policy.exemption if matches(one.when, submission, unknown=False))


def _text(number: Decimal | Fraction) -> str:
    if isinstance(number, Fraction) and number.denominator != 1:
        return f"{float(number):.3g}"
    return format(Decimal(int(number)) if isinstance(number, Fraction) else number, "f")
