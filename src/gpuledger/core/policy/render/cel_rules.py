"""The policy's rules in CEL: what `core.policy.decide` decides, as far as an API server can know it.

A check is a condition under which an object breaks a rule. Everything that isn't said here (prices, budgets, earlier
runs) is a note. The time is the object's `creationTimestamp`, which the API server sets before it validates.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR
from typing import Final

from gpuledger.core.policy.manifests import label_of, serves
from gpuledger.core.policy.model import Calendar, Limit, Mode, Policy, Require, When
from gpuledger.core.policy.render import Note, Setting
from gpuledger.core.policy.render.cel import (
    Variable,
    both,
    chosen,
    double,
    either,
    get,
    has,
    is_re2,
    like,
    listed,
    quoted,
    whole,
)
from gpuledger.core.policy.render.cel_dimensions import (
    SUBMITTER,
    default,
    dimensions_of,
    namespace_places,
    places,
    said,
)
from gpuledger.core.policy.render.cel_objects import CONTROLLED, RESOURCES, cards, seconds

_SHOWN: Final = 6
MODES: Final[tuple[Mode, ...]] = ("enforce", "warn", "audit")


@dataclass(frozen=True, slots=True)
class Check:
    """Under `broken` an object breaks the rule; `message` says so, `told` is CEL that says it with the value."""

    rule: str
    broken: str
    message: str
    told: str | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """Variables in their order, checks, and what isn't kept. `variables.mode` is the mode for the object at hand."""

    variables: tuple[Variable, ...]
    checks: tuple[Check, ...]
    exemptions: tuple[tuple[str, str], ...]
    notes: tuple[Note, ...]

    @property
    def used(self) -> tuple[Variable, ...]:
        """Variables that a check or an exemption needs, directly or by another."""
        return needed(
            self.variables, [one.broken + (one.told or "") for one in self.checks] + ["variables.mode"]
        )


def needed(variables: tuple[Variable, ...], expressions: list[str]) -> tuple[Variable, ...]:
    """Return those variables that expressions use, directly or by another, in their order."""
    kept: list[Variable] = []
    text = "\n".join(expressions)
    for one in reversed(variables):
        if re.search(rf"variables\.{one.name}\b", text):
            kept.append(one)
            text += f"\n{one.expression}"
    return tuple(reversed(kept))


def program(policy: Policy, setting: Setting) -> Program:
    """Return the rules of a policy in CEL."""
    rules = tuple(rule for rule in policy.require if _possible(rule.when))
    notes = [*_notes(policy), *_expired(policy, setting)]
    checks = [*_required(rules, setting, notes), *_limits(policy, setting), *_budget(policy)]
    lifted = list(_exemptions(policy, setting))
    final = tuple(_lift(check, lifted) for check in checks)
    modes = {
        _matches(scope.when, setting, unknown=False): quoted(scope.mode) for scope in reversed(policy.scope)
    }
    ordered = {condition: modes[condition] for condition in reversed(modes)}
    variables = (*_variables(policy, rules, setting), Variable("mode", chosen(ordered, quoted(policy.mode))))
    return Program(variables, final, tuple((name, condition) for name, condition, _ in lifted), tuple(notes))


def _possible(when: When) -> bool:
    return not when.partitions and (not when.planes or "kubernetes" in when.planes)


def _variables(policy: Policy, rules: tuple[Require, ...], setting: Setting) -> Iterator[Variable]:
    names = dimensions_of(rules)
    if policy.budget and "budget" not in names:
        names.append("budget")
    if "workload_type" not in names:
        names.append("workload_type")
    namespace = get("object", "metadata", "namespace", default=get("request", "namespace", default='""'))
    called = get(
        "object", "metadata", "name", default=get("object", "metadata", "generateName", default='""')
    )
    yield Variable("space", namespace)
    yield Variable("name", called)
    yield Variable("submitter", SUBMITTER)
    stamp = "object.metadata.creationTimestamp"  # null where the API server hasn't set it yet
    known = f"{has('object', 'metadata', 'creationTimestamp')} && type({stamp}) == string"
    yield Variable("created", f'{known} ? {stamp} : ""')
    yield CONTROLLED
    yield from cards()
    yield from seconds()
    yield from places(old=False)
    yield from places(old=True)
    yield from namespace_places()
    for name in names:
        yield said(name)
        yield said(name, "ns_")
        yield said(name, "old_")
    for name in names:
        value = '""'
        for rule in rules:  # of several rules the last that fills in counts
            if rule.dimension == name and (rule.default is not None or rule.default_from):
                applies = _matches(rule.when, setting, unknown=True)
                value = f'[{default(rule)}].map(d, ({applies}) && d != "" ? d : {value})[0]'
        yield Variable(f"value_{name}", f'variables.said_{name} != "" ? variables.said_{name} : {value}')


def _matches(when: When, setting: Setting, *, unknown: bool) -> str:
    """Return the condition that a `when` is for the object; `unknown` is the answer where CEL can't tell."""
    if not _possible(when):
        return "false"
    conditions = ["true" if when.without_gpus else "variables.accelerated"]
    if when.clusters:
        cluster = setting.cluster
        conditions.append(
            ("true" if unknown else "false") if cluster is None else like(quoted(cluster), when.clusters)
        )
    if when.namespaces:
        test = like("variables.space", when.namespaces)
        empty = 'variables.space == ""'
        conditions.append(f"({empty} || {test})" if unknown else f'variables.space != "" && {test}')
    if when.kinds:
        conditions.append(like("object.kind", when.kinds))
    if when.names:
        conditions.append(like("variables.name", when.names))
    if when.submitters:
        test = like("variables.submitter", when.submitters)
        conditions.append(
            f'(variables.submitter == "" || {test})' if unknown else f'variables.submitter != "" && {test}'
        )
    if when.workload_types:
        test = like("variables.said_workload_type", when.workload_types)
        empty = 'variables.said_workload_type == ""'
        conditions.append(
            f"({empty} || {test})" if unknown else f'variables.said_workload_type != "" && {test}'
        )
    if when.min_gpus is not None:
        least = int(when.min_gpus.to_integral_value(ROUND_CEILING))
        test = f"variables.gpus >= {least}"
        conditions.append(f"(!variables.countable || {test})" if unknown else f"variables.exact && {test}")
    return both(*conditions)


def _required(rules: tuple[Require, ...], setting: Setting, notes: list[Note]) -> Iterator[Check]:
    for rule in rules:
        name, value = rule.dimension, f"variables.value_{rule.dimension}"
        applies, place = _matches(rule.when, setting, unknown=True), f"the label {label_of(name)}"
        allowed = frozenset(rule.values) or (setting.registers.get(rule.register) if rule.register else None)
        ordered = sorted(allowed or ())
        example = ", ".join(ordered[:_SHOWN]) + (
            f" … {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
        )
        example = example or rule.pattern or ""
        hint = f" ({example})" if example else ""
        yield Check(name, both(applies, f'{value} == ""'), f"{name} is missing. Add {place}{hint}.")
        if allowed is not None:
            yield Check(
                name,
                both(applies, f'{value} != ""', f"!({value} in {listed(allowed)})"),
                f"{name} has a value that doesn't exist. Use one of: {example}. It is read from {place}.",
                f'"{name} \'" + {value} + {quoted(chr(39) + f" does not exist. Use one of: {example}. It is read from {place}.")}',
            )
        if rule.pattern is not None and not is_re2(rule.pattern):
            notes.append(Note(name, "partly", f"RE2 has no such pattern as {rule.pattern}: any value passes"))
        elif rule.pattern is not None:
            yield Check(
                name,
                both(applies, f'{value} != ""', f"!{value}.matches({whole(rule.pattern)})"),
                f"{name} does not match {rule.pattern}. It is read from {place}.",
            )
        if rule.immutable:
            old = f"variables.old_said_{name}"
            changed = both(applies, f'{old} != ""', f'{value} != ""', f"{old} != {value}")
            yield Check(
                name,
                changed,
                f"{name} can't be changed while the workload lives. Delete the workload and submit it again.",
            )


def _limits(policy: Policy, setting: Setting) -> Iterator[Check]:
    for limit in policy.limit:
        applies = both("!variables.controlled", _matches(limit.when, setting, unknown=True))
        for broken, said_so in _limit(limit, policy.calendar):
            yield Check(limit.name, both(applies, broken), f"{limit.name} {said_so}")


def _limit(limit: Limit, calendar: Calendar) -> Iterator[tuple[str, str]]:
    kinds = listed(kind for kind in RESOURCES if serves(kind))
    endless = f"object.kind in {kinds} || variables.seconds < 0.0"
    deadline = "Set a deadline, such as spec.activeDeadlineSeconds."
    if limit.max_gpus is not None:
        most = int(limit.max_gpus.to_integral_value(ROUND_FLOOR))
        yield (
            f"(variables.accelerated && (!variables.countable || variables.most > {most}))",
            f"allows {limit.max_gpus} cards, this takes more or a number that can't be told. Ask for fewer cards.",
        )
    if limit.max_hours is not None:
        allowed = double(limit.max_hours * 3600)
        yield (
            f"({endless} || variables.seconds > {allowed})",
            f"allows {limit.max_hours} hours. {deadline}",
        )
    if limit.max_gpu_hours is not None:
        allowed = double(limit.max_gpu_hours * 3600)
        yield (
            f"({endless} || !variables.countable || double(variables.gpus) * variables.seconds > {allowed})",
            f"allows {limit.max_gpu_hours} card-hours. Ask for fewer cards, or set a deadline.",
        )
    if limit.deadline is not None:
        lacks = f"!(object.kind in {kinds}) && variables.seconds < 0.0"
        away = "true" if limit.deadline == "always" else _off_hours(calendar)
        when = "" if limit.deadline == "always" else " outside working hours"
        yield both(lacks, away), f"wants a deadline{when}. {deadline}"


def _off_hours(calendar: Calendar) -> str:
    zone = quoted(calendar.timezone)
    at = "timestamp(variables.created)"
    days = [day.year * 10000 + day.month * 100 + day.day for day in calendar.holidays]
    today = f"{at}.getFullYear({zone}) * 10000 + ({at}.getMonth({zone}) + 1) * 100 + {at}.getDate({zone})"
    return either(
        'variables.created == ""',
        f"{at}.getDayOfWeek({zone}) in [0, 6]",
        f"({today}) in {days}" if days else "false",
        f"{at}.getHours({zone}) < {calendar.opens}",
        f"{at}.getHours({zone}) >= {calendar.closes}",
    )


def _budget(policy: Policy) -> Iterator[Check]:
    if policy.budget:
        names = [budget.name for budget in policy.budget]
        yield Check(
            "budget",
            both(
                "!variables.controlled",
                "variables.accelerated",
                'variables.value_budget != ""',
                f"!(variables.value_budget in {listed(names)})",
            ),
            f"there is no such budget. Use one of: {', '.join(names[:_SHOWN])}.",
        )


def _exemptions(policy: Policy, setting: Setting) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    today = setting.now.astimezone(UTC).date()
    for one in policy.exemption:
        if one.expires >= today and _possible(one.when):
            end = quoted(f"{one.expires + timedelta(days=1)}T00:00:00Z")
            holds = f'variables.created != "" && timestamp(variables.created) < timestamp({end})'
            yield one.name, both(_matches(one.when, setting, unknown=False), holds), one.rules


def _lift(check: Check, lifted: list[tuple[str, str, tuple[str, ...]]]) -> Check:
    kept = [f"!({condition})" for _, condition, rules in lifted if not rules or check.rule in rules]
    return Check(check.rule, both(check.broken, *kept), check.message, check.told)


def _expired(policy: Policy, setting: Setting) -> Iterator[Note]:
    today = setting.now.astimezone(UTC).date()
    for one in policy.exemption:
        if one.expires < today:
            yield Note(one.name, "not enforced", f"this exemption expired on {one.expires} and is left out")
        elif _possible(one.when):
            detail = f"objects created until {one.expires} keep the exemption when they are updated later"
            yield Note(one.name, "partly", detail)


def _notes(policy: Policy) -> Iterator[Note]:
    """Yield what an API server can't know, rule by rule."""
    if {policy.mode, *(scope.mode for scope in policy.scope)} == {"off"}:
        yield Note("every rule", "not enforced", "the policy is off everywhere")
    kinds = ", ".join(sorted(RESOURCES))
    yield Note(
        "kinds", "partly", f"known are {kinds}; whatever runs pods by another kind is decided as its pods"
    )
    yield Note(
        "cards",
        "partly",
        "the unknown part of a card counts as enough for every rule, a MIG slice or a fraction as a whole card, init "
        "containers' cards beside the containers', amounts that aren't plain integers and all resource claims as unknown; that a node selector asks for nodes which "
        "share their cards isn't read: those count as whole cards",
    )
    for rule in policy.require:
        if rule.default is not None or rule.default_from:
            detail = "a default counts as said but isn't written on the object; render map or webhook too"
            yield Note(rule.dimension, "partly", detail)
        if not _possible(rule.when):
            yield Note(rule.dimension, "not enforced", "this rule is for another plane")
    for limit in policy.limit:
        if not _possible(limit.when):
            yield Note(limit.name, "not enforced", "this limit is for another plane")
        elif limit.max_cost_usd is not None:
            yield Note(
                limit.name, "not enforced", "max_cost_usd needs prices and earlier runs; render webhook"
            )
        if limit.deadline == "off-hours":
            yield Note(
                limit.name, "partly", "the time is when the object was created, also when it is updated later"
            )
    for budget in policy.budget:
        detail = "amounts need prices and a store of reservations; render webhook. Only that the budget exists is checked"
        yield Note(budget.name, "not enforced", detail)
    places: list[tuple[str, When]] = [(one.dimension, one.when) for one in policy.require]
    places += [(one.name, one.when) for one in policy.limit]
    places += [(one.name, one.when) for one in policy.scope]
    places += [(one.name, one.when) for one in policy.exemption]
    for name, when in places:
        if when.clusters:
            yield Note(name, "partly", "clusters are told apart by --cluster when this is rendered")
