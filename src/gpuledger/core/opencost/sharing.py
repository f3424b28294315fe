"""Idle cost and shared cost among those who share them, exactly: every digit is given to somebody.

Amounts are Decimals with at most 18 places. A part is split by largest remainders, so the shares add up to it; a
negative part (a credit) is split like a positive one. Nobody to share with leaves the cost where it was.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Final, Literal

from gpuledger.core.allocation import apportion
from gpuledger.core.money import total

Split = Literal["weighted", "even"]
Kind = Literal["holder", "idle", "unknown", "overhead"]
PARTS: Final = ("gpu", "cpu", "ram", "pv", "network", "external", "shared")
_PLACES: Final = 18
_EXACT: Final = Context(prec=200)
_ZERO: Final = Decimal(0)


@dataclass(slots=True)
class Group:
    """The cost of one name (in one pool) of one set.

    `parts` has the parts that are known, by name in PARTS; `idle` how much of them came from idle machines; `pool` is
    where idle cost is shared: cluster, or cluster and node. `shared_as` names the shared thing it is part of, if any;
    `shown` is whether the request's filter lets it through.
    """

    name: str
    kind: Kind = "holder"
    pool: str = ""
    shared_as: str | None = None
    shown: bool = True
    parts: dict[str, Decimal] = field(default_factory=dict)
    idle: dict[str, Decimal] = field(default_factory=dict)
    breakdown: dict[str, dict[str, Decimal]] = field(default_factory=dict)

    @property
    def cost(self) -> Decimal:
        """Sum of all parts."""
        return total(self.parts.values())

    def add(self, part: str, amount: Decimal) -> None:
        """Add to one part."""
        self.parts[part] = _EXACT.add(self.parts.get(part, _ZERO), amount)


def shares(amount: Decimal, weights: Sequence[Decimal], split: Split) -> list[Decimal] | None:
    """Split an amount; None when nobody has any weight. Weights below zero (credits) count as zero."""
    if not weights:
        return None
    whole = [max(_units(weight), 0) for weight in weights]
    if split == "even" or not any(whole):
        if split == "weighted":
            return None
        whole = [1] * len(weights)
    units = _units(amount)
    sign = -1 if units < 0 else 1
    return [_EXACT.scaleb(Decimal(sign * share), -_PLACES) for share in apportion(abs(units), whole)]


def _units(amount: Decimal) -> int:
    return int(_EXACT.scaleb(amount, _PLACES))


def share_idle(groups: Iterable[Group], split: Split) -> list[Group]:
    """Give the idle cost of each pool to its holders, resource by resource.

    A resource that no holder of the pool paid for goes by their whole cost; a pool without holders keeps its idle.
    """
    pools: dict[str, list[Group]] = {}
    for group in groups:
        pools.setdefault(group.pool, []).append(group)
    left = []
    for members in pools.values():
        holders = [group for group in members if group.kind == "holder"]
        costs = [holder.cost for holder in holders]  # before anything is shared
        held = [dict(holder.parts) for holder in holders]
        left += [group for group in members if group.kind != "idle"]
        for group in members:
            if group.kind != "idle":
                continue
            for part in [*group.parts]:
                weights = [parts.get(part, _ZERO) for parts in held]
                given = shares(group.parts[part], weights, split) or shares(group.parts[part], costs, split)
                if given is None:
                    continue
                del group.parts[part]
                for holder, amount in zip(holders, given, strict=True):
                    holder.add(part, amount)
                    holder.idle[part] = _EXACT.add(holder.idle.get(part, _ZERO), amount)
            if group.parts:
                left.append(group)
    return left


def share_shared(
    groups: Iterable[Group], split: Split, extra: Mapping[str, Decimal] | None = None
) -> list[Group]:
    """Give the cost of shared things, and `extra` costs by name, to the holders that aren't shared themselves."""
    members = list(groups)
    sharers = [group for group in members if group.kind == "holder" and group.shared_as is None]
    shared: dict[str, dict[str, Decimal]] = {name: {"external": cost} for name, cost in (extra or {}).items()}
    for group in members:
        if group.shared_as is not None:
            into = shared.setdefault(group.shared_as, {})
            for part, amount in group.parts.items():
                into[part] = _EXACT.add(into.get(part, _ZERO), amount)
    weights = [sharer.cost for sharer in sharers]
    spread = {
        name: {part: shares(amount, weights, split) for part, amount in parts.items()}
        for name, parts in shared.items()
    }
    if not sharers or any(given is None for parts in spread.values() for given in parts.values()):
        return members
    for name, parts in spread.items():
        for part, given in parts.items():
            for sharer, amount in zip(sharers, given or (), strict=True):
                sharer.add("shared", amount)
                told = sharer.breakdown.setdefault(name, {})
                told[part] = _EXACT.add(told.get(part, _ZERO), amount)
    return [group for group in members if group.shared_as is None]


def merged(groups: Iterable[Group]) -> dict[str, Group]:
    """Add up the groups of one name that the filter lets through, whatever their pool."""
    found: dict[str, Group] = {}
    for group in groups:
        if not group.shown:
            continue
        into = found.setdefault(group.name, Group(group.name, group.kind))
        for part, amount in group.parts.items():
            into.add(part, amount)
        for part, amount in group.idle.items():
            into.idle[part] = _EXACT.add(into.idle.get(part, _ZERO), amount)
        for name, parts in group.breakdown.items():
            told = into.breakdown.setdefault(name, {})
            for part, amount in parts.items():
                told[part] = _EXACT.add(told.get(part, _ZERO), amount)
    return found
