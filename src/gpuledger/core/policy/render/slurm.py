"""Slurm: a job_submit.lua, the same for every policy, and the policy as the data that it reads.

Source: Slurm's job submit plugin API (job_submit/lua); what the script can't express is left out and told.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final
from zoneinfo import ZoneInfo

from gpuledger.core.policy.decide import listed_values
from gpuledger.core.policy.estimate import ENOUGH, History, Rate, quantile
from gpuledger.core.policy.model import Budget, Calendar, Limit, Policy, Require, When
from gpuledger.core.policy.render import Note, Rendered, Setting
from gpuledger.core.policy.render.lua_patterns import CannotSayError, of_regex, of_shell
from gpuledger.core.policy.sbatch import FIELDS
from gpuledger.core.tags import aliases
from gpuledger.core.workload.attribution import DIMENSIONS
from gpuledger.prices import cards
from gpuledger.prices.accelerators import spelled_models

_SUGGESTS_UP_TO: Final = (
    4000  # letters of a register that a near miss is looked for in: slurmctld waits meanwhile
)
_YEARS: Final = 3  # that the changes of a time zone are written out for
_MICRO: Final = 10**6
_PER_HOUR: Final = 10_000  # hours of earlier runs have four digits
_SCRIPT: Final = "job_submit.lua"
POLICY_FILE: Final = "gpuledger-policy.lua"


class _LeftOutError(Exception):
    """A rule can't be said; the text says why."""


@dataclass(slots=True)
class _Rendering:
    policy: Policy
    setting: Setting
    notes: list[Note] = field(default_factory=list)

    def cannot(self, rule: str, why: str) -> None:
        self.notes.append(Note(rule, "not enforced", why))

    def partly(self, rule: str, why: str) -> None:
        self.notes.append(Note(rule, "partly", why))


def render(policy: Policy, setting: Setting) -> Rendered:
    """Return `job_submit.lua` and `gpuledger-policy.lua`, for the folder of slurm.conf."""
    made = _Rendering(policy, setting)
    text = _document(made)
    notes = "".join(f"-- {' '.join(note.text.split())}\n" for note in made.notes)
    mark = sha256(f"{notes}{text}".encode()).hexdigest()[:16]
    script = files(__package__).joinpath(_SCRIPT).read_text("utf-8")
    body = f"-- gpuledger policy {mark}. Made from {setting.source_name} by `gpuledger policy render`: change that.\n{notes}{text}"
    return Rendered({_SCRIPT: script, POLICY_FILE: body}, tuple(made.notes))


def data(value: Any) -> str:  # noqa: ANN401 - whatever Lua can hold
    """Return a value as a Lua literal: texts, whole numbers, booleans, lists, and mappings without their None."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        pairs = (f"[{data(key)}]={data(one)}" for key, one in value.items() if one is not None)
        return "{" + ",".join(pairs) + "}"
    return "{" + ",".join(data(one) for one in value) + "}"


def rate(usd: Decimal, basis: str) -> dict[str, Any]:
    """Return a price per card-hour as the script reads it: millionths of a dollar, rounded up, and the words."""
    return {"micro": _ceil(usd * _MICRO), "usd": str(usd), "basis": basis}


@dataclass(frozen=True, slots=True)
class Left:
    """What a budget has left. What was admitted from `since` on may not be in it; at `resets` it starts anew."""

    budget: str
    usd: Decimal
    since: datetime
    resets: datetime


def cache(learnt: Mapping[str, Rate], history: History, left: Iterable[Left], written: datetime) -> str:
    """Return `gpuledger-cache.lua`: what the script can't know by itself, as of a moment.

    `learnt` are rates of the ledger by model, `history` its earlier runs, of which those of Slurm jobs are taken.
    """
    runs: dict[str, dict[str, Any]] = {}
    for (kind, account, name), hours in sorted(history.hours.items(), key=str):
        if kind == "SlurmJob" and len(hours) >= ENOUGH:
            ordered = sorted(hours)
            p50, p90 = (_ceil(quantile(ordered, percent) * _PER_HOUR) for percent in (50, 90))
            runs.setdefault(account or "", {})[name] = {"n": len(hours), "p50": p50, "p90": p90}
    parts = {
        "version": 1,
        "rates": {model: rate(one.usd_per_gpu_hour, one.basis) for model, one in sorted(learnt.items())},
        "runs": runs,
        "budgets": {
            one.budget: {
                "left_micro": int((one.usd * _MICRO).to_integral_value(ROUND_FLOOR)),
                "since": _epoch(one.since),
                "resets": _epoch(one.resets),
            }
            for one in left
        },
    }
    body = "return {\n" + "".join(f"{name}={data(part)},\n" for name, part in parts.items()) + "}\n"
    mark = sha256(body.encode()).hexdigest()[:16]
    return f"-- gpuledger cache {mark} {written.astimezone(UTC).isoformat(timespec='microseconds')}\n{body}"


def _ceil(number: Decimal) -> int:
    exact = Fraction(number)
    return -(-exact.numerator // exact.denominator)


def _text(text: str) -> str:
    letters = (
        f"\\{ord(letter):03d}" if ord(letter) < 0x20 or letter in '\\"\x7f' else letter  # noqa: PLR2004 - the first letter that prints
        for letter in text
    )
    return f'"{"".join(letters)}"'


def _document(made: _Rendering) -> str:
    policy = made.policy
    known = aliases()
    parts: dict[str, Any] = {
        "version": 1,
        "mode": policy.mode,
        "cluster": made.setting.cluster,
        "without_store": policy.without_store,
        "dimensions": DIMENSIONS,
        "fields": dict(FIELDS),
        "spellings": {name: known.by_name[name] for name in DIMENSIONS if name in known.by_name},
        "prefixes": [prefix for prefix in known.prefixes if prefix != "*."],
        "any_namespace": "*." in known.prefixes,
        "models": spelled_models(),
        "rates": _rates(made),
        "require": [one for rule in policy.require if (one := _require(made, rule))],
        "limit": [one for limit in policy.limit if (one := _limit(made, limit))],
        "scope": _scopes(made),
        "exemption": _exemptions(made),
        "budget": [_budget(budget) for budget in policy.budget],
        "budgets": {budget.name: True for budget in policy.budget},
        "budgets_listed": listed_values(frozenset(budget.name for budget in policy.budget)),
        "calendar": _calendar(policy.calendar, made.setting.now),
    }
    if policy.budget:
        made.partly("budgets", "each component of a heterogeneous job is decided and reserved by itself")
    return (
        "return {\n"
        + "".join(f"{name}={data(part)},\n" for name, part in parts.items() if part is not None)
        + "}\n"
    )


def _rates(made: _Rendering) -> dict[str, Any]:
    own = {price.gpu_model: rate(price.usd_per_gpu_hour, "policy") for price in made.policy.price}
    day = made.setting.now.astimezone(UTC).date()
    models = sorted({model for _, model in spelled_models()})
    found = {model: cards.lowest(model, None, day, spot=made.policy.spot) for model in models}
    listed = {
        model: rate(Decimal(_ceil_micro(one.usd_per_gpu_hour)).scaleb(-6), f"at least: {one.basis}")
        for model, one in found.items()
        if one is not None
    }
    return {
        "models": {model: one for model, one in own.items() if model},
        "any": own.get(None),
        "listed": listed,
    }


def _ceil_micro(amount: Fraction) -> int:
    return -(-amount.numerator * _MICRO // amount.denominator)


def _when(when: When) -> dict[str, Any] | None:
    """Return a `when` for the script; None for one that is never for a job. Raises _LeftOutError."""
    if (when.planes and "slurm" not in when.planes) or when.namespaces:
        return None
    if when.kinds and not any(fnmatchcase("SlurmJob", kind) for kind in when.kinds):
        return None
    gpus = when.min_gpus
    return {
        "partitions": _patterns(when.partitions),
        "clusters": _patterns(when.clusters),
        "names": _patterns(when.names),
        "submitters": _patterns(when.submitters),
        "workload_types": _patterns(when.workload_types),
        "min_gpus": None if gpus is None else _ceil(gpus),  # a job's cards are whole
        "without_gpus": when.without_gpus or None,
    }


def _patterns(patterns: Iterable[str]) -> list[str] | None:
    try:
        return [of_shell(pattern) for pattern in patterns] or None
    except CannotSayError as error:
        raise _LeftOutError(f"a `when` has {error}") from error


def _require(made: _Rendering, rule: Require) -> dict[str, Any] | None:
    values = frozenset(rule.values) if rule.values else None
    if values is None and rule.register is not None:
        values = made.setting.registers.get(rule.register)
    try:
        when = _when(rule.when)
        if when is None:
            return None
        patterns = None
        if rule.pattern is not None:
            try:
                patterns = of_regex(rule.pattern)
            except CannotSayError as error:
                made.partly(
                    rule.dimension,
                    f"Lua can't express {rule.pattern}: {error}; the value must be there, in any form",
                )
    except _LeftOutError as error:
        made.cannot(rule.dimension, str(error))
        return None
    shown = f" ({listed_values(values)})" if values else f" ({rule.pattern})" if rule.pattern else ""
    return {
        "dimension": rule.dimension,
        "when": when,
        "allowed": None if values is None else dict.fromkeys(sorted(values), True),
        "listed": listed_values(values),
        "where": f"the register {rule.register}"
        if rule.register and not rule.values
        else "the values allowed",
        "suggest": (sum(map(len, values)) <= _SUGGESTS_UP_TO) if values else None,
        "patterns": patterns,
        "pattern": rule.pattern,
        "example": shown,
        # A namespace is nothing that Slurm has.
        "default_from": [source for source in rule.default_from if source != "namespace"],
        "default": rule.default,
        "immutable": rule.immutable,
    }


def _limit(made: _Rendering, limit: Limit) -> dict[str, Any] | None:
    try:
        when = _when(limit.when)
    except _LeftOutError as error:
        made.cannot(limit.name, str(error))
        return None
    if when is None:
        return None
    return {
        "name": limit.name,
        "when": when,
        "gpus": _most(limit.max_gpus, 1),
        "minutes": _most(limit.max_hours, 60),
        "card_minutes": _most(limit.max_gpu_hours, 60),
        "cents": _most(limit.max_cost_usd, 100),
        "deadline": limit.deadline,
    }


def _most(allowed: Decimal | None, by: int) -> dict[str, Any] | None:
    if allowed is None:
        return None
    return {"most": int((allowed * by).to_integral_value(ROUND_FLOOR)), "text": format(allowed, "f")}


def _scopes(made: _Rendering) -> list[dict[str, Any]]:
    found = []
    for scope in made.policy.scope:
        try:
            when = _when(scope.when)
        except _LeftOutError as error:
            made.cannot(scope.name, f"{error}; the scopes after it and the policy's mode count")
            continue
        if when is not None:
            found.append({"name": scope.name, "when": when, "mode": scope.mode})
    return found


def _exemptions(made: _Rendering) -> list[dict[str, Any]]:
    found = []
    for one in made.policy.exemption:
        try:
            when = _when(one.when)
        except _LeftOutError as error:
            made.cannot(one.name, f"{error}; it exempts nothing here")
            continue
        if when is not None:
            rules = dict.fromkeys(one.rules, True) if one.rules else None
            over = _epoch(datetime(one.expires.year, one.expires.month, one.expires.day, tzinfo=UTC)) + 86_400
            found.append(
                {
                    "name": one.name,
                    "when": when,
                    "rules": rules,
                    "over": over,
                    "expires": one.expires.isoformat(),
                }
            )
    return found


def _budget(budget: Budget) -> dict[str, Any]:
    return {
        "name": budget.name,
        "owner": budget.owner,
        "amount_micro": int((budget.amount_usd * _MICRO).to_integral_value(ROUND_FLOOR)),
        "period": budget.period,
        "match": dict(budget.match),
        "on_exceed": budget.on_exceed,
    }


def _calendar(calendar: Calendar, now: datetime) -> dict[str, Any]:
    first = date(1970, 1, 1)
    return {
        "opens": calendar.opens,
        "closes": calendar.closes,
        "holidays": {(day - first).days: True for day in calendar.holidays},
        "offsets": [] if calendar.timezone == "UTC" else _offsets(ZoneInfo(calendar.timezone), now),
    }


def _offsets(zone: ZoneInfo, now: datetime) -> list[tuple[int, int]]:
    """Return when a time zone's seconds before UTC change, and what they are from then on."""
    found: list[tuple[int, int]] = []
    moment = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=1)
    for _ in range(_YEARS * 366 * 24):
        offset = int((moment.astimezone(zone).utcoffset() or timedelta()).total_seconds())
        if not found or found[-1][1] != offset:
            found.append((_epoch(moment), offset))
        moment += timedelta(hours=1)
    return found


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp())
