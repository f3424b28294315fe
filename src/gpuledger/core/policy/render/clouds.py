"""What the clouds' own policies have in common: they see one machine's type and its tags, and nothing else.

Not a target itself. Machines that can't be told apart by what a rule is for (kinds, names, submitters) are left out of
that rule, which is noted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from gpuledger.core.policy.model import Mode, Policy, Require, When
from gpuledger.core.policy.render import Note, Setting
from gpuledger.errors import UsageError
from gpuledger.prices.accelerators import gpu_types


@dataclass(frozen=True, slots=True)
class Asked:
    """A dimension that machines of these types must say, the tags that say it, and the values allowed (None: any)."""

    rule: str
    keys: tuple[str, ...]
    types: tuple[str, ...]
    values: tuple[str, ...] | None
    pattern: str | None


def mode_of(policy: Policy, target: str, known: tuple[Mode, ...]) -> Mode:
    """Return the mode of cloud machines. Raises UsageError for one that the target doesn't have."""
    found = next((one.mode for one in policy.scope if one.when == When(planes=("cloud",))), policy.mode)
    if found not in known:
        raise UsageError(
            f"{target} can't {found}: it has {' and '.join(known)} only",
            hint='Add a [[scope]] with when = { planes = ["cloud"] } and such a mode, if that is what you want.',
        )
    return found


def machine_types(cloud: str, when: When) -> tuple[str, ...]:
    """Return the types with cards of a cloud that a `when` is for; those with an unknown number of cards too."""
    least = Fraction(when.min_gpus or 0)
    return tuple(
        known.instance_type
        for known in gpu_types()
        if known.cloud == cloud and (known.gpu_count is None or known.gpu_count >= least)
    )


def families(types: tuple[str, ...], every: tuple[str, ...]) -> list[str]:
    """Return types as `family.*`, where all of a family with cards are among them, else one by one."""
    wanted, found = set(types), []
    for family in dict.fromkeys(name.split(".")[0] for name in types):
        if all(name in wanted for name in every if name.split(".")[0] == family):
            found.append(f"{family}.*")
        else:
            found += [name for name in types if name.split(".")[0] == family]
    return found


def asked(policy: Policy, setting: Setting, cloud: str, notes: list[Note]) -> Iterator[Asked]:
    """Yield what can be asked of machines; what can't is noted."""
    for rule in policy.require:
        if (why := _unknowable(rule.when)) is not None:
            notes.append(Note(rule.dimension, "not enforced", why))
            continue
        allowed = frozenset(rule.values) or (setting.registers.get(rule.register) if rule.register else None)
        values = tuple(sorted(allowed)) if allowed is not None else None
        types = machine_types(cloud, rule.when)
        if types:
            yield Asked(rule.dimension, keys_of(rule), types, values, rule.pattern)
        if rule.default is not None or rule.default_from:
            notes.append(
                Note(rule.dimension, "partly", "no default is filled in: what is missing is refused")
            )
    notes += _notes(policy)


def keys_of(rule: Require) -> tuple[str, ...]:
    """Return the tag keys that say a dimension (upper and lower case are one to AWS and Azure)."""
    name = rule.dimension
    return (name, name.replace("_", "-"), name.replace("_", "")) if "_" in name else (name,)


def _unknowable(when: When) -> str | None:
    if when.namespaces or when.partitions or (when.planes and "cloud" not in when.planes):
        return "this rule is for another plane"
    for what in ("clusters", "kinds", "names", "submitters", "workload_types"):
        if getattr(when, what):
            return f"machines can't be told apart by {what}"
    return None


def _notes(policy: Policy) -> Iterator[Note]:
    yield Note(
        "machines", "partly", "only single machines are seen: neither how many are made nor what runs on them"
    )
    yield Note(
        "spellings", "partly", "a dimension counts by its own name only, with _, - or nothing between words"
    )
    for limit in policy.limit:
        if limit.max_gpus is None or _unknowable(limit.when) is not None:
            yield Note(
                limit.name,
                "not enforced",
                "hours, cost and deadlines of a machine aren't known when it is made",
            )
        else:
            yield Note(limit.name, "partly", "max_gpus counts the cards of one machine")
            if limit.max_hours or limit.max_gpu_hours or limit.max_cost_usd is not None or limit.deadline:
                yield Note(
                    limit.name,
                    "not enforced",
                    "its hours, cost and deadline aren't known when a machine is made",
                )
    for budget in policy.budget:
        yield Note(budget.name, "not enforced", "amounts need prices and a store of reservations")
    for one in policy.exemption:
        yield Note(
            one.name, "not enforced", "the exemption isn't known here: exempt an account or a project instead"
        )


def too_large(policy: Policy, cloud: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield limits on cards with the machine types that exceed them by themselves."""
    for limit in policy.limit:
        if limit.max_gpus is not None and _unknowable(limit.when) is None:
            most = Fraction(limit.max_gpus)
            types = tuple(
                known.instance_type
                for known in gpu_types()
                if known.cloud == cloud and known.gpu_count is not None and known.gpu_count > most
            )
            if types:
                yield limit.name, types
