"""Who pays for a machine: its charges split among the jobs that held it, exactly. The reference in plain Python.

`gpuledger.models.allocation` is the same in SQL, for many rows; tests hold both to the last digit.

1. A charge's cost is split into GPU, CPU and memory by unit price × capacity. Prices are dated, and only their ratios
   count. Time that the charge pays for and telemetry hasn't seen is *unknown*; a machine never seen is unknown whole.
2. Each part goes to those who held the resource, by what they held × how long: GPU by shares of cards (see
   `gpuledger.core.sharing`), CPU and memory by the larger of request and usage over the charge's period.
3. What nobody held is *idle*, or *unknown* where somebody held a part that can't be told.

Claims beyond capacity are scaled down in proportion (and marked), first those on one device, then those on the
machine: idle is never negative. Every split is by largest remainder on integers, so that nothing is lost: costs in
1e-18 of the currency, quantities in 1e-14, ratios in 1e-18. Ties go by the holders' order, idle last.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from fractions import Fraction
from typing import Final

from gpuledger.core.capacity import (
    PARTS,
    UNITS,
    Charge,
    Moment,
    Part,
    Seen,
    UnitPrice,
    as_int,
    microseconds,
    moment_of,
    part_weights,
    seen_of,
    timeline,
)
from gpuledger.core.sharing import CARD_UNITS, held_units
from gpuledger.core.usage import NodeInterval, UsageInterval

__all__ = [
    "COSTS",
    "QUANTITIES",
    "Allocated",
    "Charge",
    "Holder",
    "UnitPrice",
    "allocate",
    "apportion",
    "efficiency",
    "share_out",
]

COSTS: Final = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "PricingCurrencyEffectiveCost")
QUANTITIES: Final = ("ConsumedQuantity", "PricingQuantity", "CommitmentDiscountQuantity")
GPU_HOURS: Final = "x_GpuHours"
_RATIO: Final = "ratio"

_ONE: Final = 10**18  # a ratio of 1
_NAMES: Final = {"gpu": "GPU-Hours", "cpu": "Core-Hours", "memory": "GiB-Hours"}
_HOUR: Final = 3_600_000_000  # microseconds
_WIDE: Final = Context(prec=60)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who held something: a pod (or one of its containers), or a job where pods aren't told apart."""

    job_id: str | None
    pod_uid: str | None = None
    namespace: str | None = None
    pod: str | None = None
    container: str | None = None
    attempt: int | None = None
    state: str | None = None

    @property
    def order(self) -> tuple[tuple[bool, str | int], ...]:
        """The order that settles ties: field by field, unknown first."""
        fields = (
            self.job_id, self.pod_uid, self.namespace, self.pod, self.container, self.attempt, self.state,
        )  # fmt: skip
        return tuple((value is not None, "" if value is None else value) for value in fields)

    def resource_id(self, cluster: str) -> str:
        """Return FOCUS' AllocatedResourceId: unique within a machine and a period."""
        if self.pod_uid is not None:
            name = f"{cluster}/{self.pod_uid}"
        elif self.pod is not None:
            name = "/".join(text for text in (cluster, self.namespace, self.pod) if text is not None)
        else:
            name = self.job_id if self.job_id is not None else f"{cluster}/unnamed"
            if self.attempt not in {None, 1}:
                name = f"{name}/{self.attempt}"
        return name if self.container is None else f"{name}/{self.container}"


@dataclass(frozen=True, slots=True)
class Allocated:
    """A part of a charge: `holder` has it, or nobody (`idle`), or nobody knows (`unknown`).

    `state` is then the holder's state of usage (`running`, `held`), else the word in brackets.

    `ratios` in 1e-18 and `hours` in billionths are by resource; ratios of time not seen are under None. The GPU hours
    `held`, of which `measured` (usage is known), of which `used`, are billionths; None is unknown.
    """

    charge_id: str
    state: str | None
    holder: Holder | None
    amounts: Mapping[str, Decimal | None]
    ratios: Mapping[Part | None, int]
    hours: Mapping[Part, int]
    held: int | None
    measured: int | None
    used: int | None
    over_capacity: bool

    @property
    def ratio(self) -> Decimal:
        """Share of the whole charge."""
        return Decimal(sum(self.ratios.values())).scaleb(-18)

    @property
    def details(self) -> str:
        """FOCUS' AllocatedMethodDetails. Ratios of all rows of a charge sum to exactly 1 as written."""
        elements = [
            f'{{"AllocatedRatio":{_text(self.ratios[part], 18)},"UsageUnit":"{_NAMES[part]}",'
            f'"UsageQuantity":{_text(self.hours[part], 9)}}}'
            for part in PARTS
            if part in self.ratios
        ]
        if None in self.ratios:
            elements.append(f'{{"AllocatedRatio":{_text(self.ratios[None], 18)}}}')
        return '{"Elements":[' + (",".join(elements) or '{"AllocatedRatio":0}') + "]}"


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Split a non-negative total by weights, exactly: floors, then one more each to the largest remainders.

    The first of equal remainders comes first. A zero weight gets zero. Raises ValueError when all weights are zero and
    the total isn't.
    """
    whole = sum(weights)
    if whole == 0:
        if total:
            raise ValueError("nothing to apportion by")
        return [0] * len(weights)
    quotient, remainder = divmod(total, whole)
    split = [divmod(remainder * weight, whole) for weight in weights]
    shares = [quotient * weight + floor for weight, (floor, _) in zip(weights, split, strict=True)]
    largest = sorted(range(len(weights)), key=lambda i: -split[i][1])
    for i in largest[: total - sum(shares)]:
        shares[i] += 1
    return shares


def efficiency(used: int | Decimal, held: int | Decimal) -> Fraction | None:
    """Used over held; None when nothing was held. Sums over sums: eight busy cards of eight are 1, not 1/8."""
    return Fraction(used) / Fraction(held) if held else None


def allocate(
    charges: Iterable[Charge],
    nodes: Iterable[NodeInterval],
    usage: Iterable[UsageInterval],
    prices: Iterable[UnitPrice],
    *,
    by_container: bool = False,
) -> list[Allocated]:
    """Split each charge among the holders of its machine. Rows come by charge, holders in their order, then idle, unknown."""
    machines: dict[tuple[str, str], list[Moment]] = defaultdict(list)
    for node in nodes:
        machines[node.cluster, node.node].append(moment_of(node))
    rows: dict[tuple[str, str], list[UsageInterval]] = defaultdict(list)
    for row in usage:
        rows[row.cluster, row.node].append(row)
    known = list(prices)
    made: list[Allocated] = []
    timelines = {key: timeline(moments) for key, moments in machines.items()}
    for charge in charges:
        place = charge.cluster, charge.node
        seen = seen_of(charge, timelines.get(place, []))
        claims = _claims(charge, seen, rows.get(place, []), by_container=by_container)
        made.extend(_Split(charge, seen, part_weights(charge, seen, known), claims).rows())
    return made


@dataclass(slots=True)
class _Claims:
    """Claims on one resource of one charge's machine, in units × microseconds."""

    units: dict[Holder, int] = field(default_factory=dict)
    unknown: bool = False
    capped: bool = False
    measured: dict[Holder, int] = field(default_factory=lambda: defaultdict(int))
    used: dict[Holder, int] = field(default_factory=lambda: defaultdict(int))  # 1e-14 × microseconds


def _claims(
    charge: Charge, seen: Seen, rows: list[UsageInterval], *, by_container: bool
) -> dict[Part, _Claims]:
    start, end = microseconds(charge.start), microseconds(charge.end)
    spans: dict[Part, list[tuple[Holder, UsageInterval, int]]] = {part: [] for part in PARTS}
    for row in rows:
        span = min(end, microseconds(row.end)) - max(start, microseconds(row.start))
        if span > 0 and row.start < row.end and row.resource in PARTS:
            container = row.container if by_container else None
            holder = Holder(
                row.job_id, row.pod_uid, row.namespace, row.pod, container, row.attempt, row.state
            )
            spans[row.resource].append((holder, row, span))
    return {
        "gpu": _cards(spans["gpu"], seen.time * CARD_UNITS),
        "cpu": _requests(spans["cpu"]),
        "memory": _requests(spans["memory"]),
    }


def _cards(spans: Iterable[tuple[Holder, UsageInterval, int]], time: int) -> _Claims:
    """Per holder the larger of what it held of named devices, each within its time, and what it asked for without one."""
    claims = _Claims()
    devices: dict[str | None, dict[Holder, int]] = defaultdict(lambda: defaultdict(int))
    for holder, row, span in spans:
        units, used = held_units(row), as_int(row.used, 14)
        if units is None:
            claims.unknown = True
        else:
            devices[row.device][holder] += units * span
        if used is not None:
            claims.used[holder] += used * span
            if units is not None:
                claims.measured[holder] += units * span
    asked = devices.pop(None, {})
    held: dict[Holder, int] = defaultdict(int)
    for holders in devices.values():
        ordered = sorted(holders, key=lambda holder: holder.order)
        amounts = [holders[holder] for holder in ordered]
        if sum(amounts) > time:
            amounts = apportion(time, amounts)
            claims.capped = True
        for holder, amount in zip(ordered, amounts, strict=True):
            held[holder] += amount
    claims.units = {holder: max(held.get(holder, 0), asked.get(holder, 0)) for holder in {*held, *asked}}
    return claims


def _requests(spans: Iterable[tuple[Holder, UsageInterval, int]]) -> _Claims:
    """Per holder the larger of request and usage, each over the whole period."""
    requested: dict[Holder, list[int]] = defaultdict(list)
    used: dict[Holder, list[int]] = defaultdict(list)
    for holder, row, span in spans:
        for sums, value in ((requested, row.requested), (used, row.used)):
            amount = as_int(value, 14)
            sums[holder].extend([] if amount is None else [amount * span])
    claims = _Claims()
    for holder in {*requested, *used}:
        known = [(sum(found) + 50_000) // 100_000 for found in (requested[holder], used[holder]) if found]
        if known:
            claims.units[holder] = max(known)
        else:
            claims.unknown = True
    return claims


@dataclass(slots=True)
class _Split:
    """One charge at work: who has which units of its resources (None: nobody), and so what of its amounts."""

    charge: Charge
    seen: Seen
    weights: Mapping[Part, int]
    claims: Mapping[Part, _Claims]
    shares: dict[Part, list[tuple[Holder | None, int]]] = field(default_factory=dict)
    over: bool = False

    def rows(self) -> list[Allocated]:
        for part in PARTS:
            self._share(part)
        names = (*COSTS, *QUANTITIES, GPU_HOURS)
        whole = {name: as_int(self.charge.amounts.get(name), _scale(name)) for name in names}
        given: dict[tuple[Holder | None, str], dict[str, dict[Part | None, int]]] = {}
        for name, amount in {**whole, _RATIO: _ONE}.items():
            for key, resource, value in self._given(name, abs(amount or 0)):
                given.setdefault(key, {}).setdefault(name, {})[resource] = value
        made = []
        for (holder, state), values in sorted(given.items(), key=lambda item: _row_order(item[0])):
            amounts = {
                name: None if amount is None else _decimal(name, amount, sum(values.get(name, {}).values()))
                for name, amount in whole.items()
            }
            made.append(self._row(holder, state, amounts, values.get(_RATIO, {})))
        return made

    def _share(self, part: Part) -> None:
        capacity = self.seen.capacity[part] or 0
        if not capacity:
            return
        claims = self.claims[part]
        held = [(holder, units) for holder, units in claims.units.items() if units > 0]
        held.sort(key=lambda item: item[0].order)
        claimed = sum(units for _, units in held)
        self.over |= claims.capped or claimed > capacity
        self.shares[part] = [*held, (None, capacity - claimed)] if capacity > claimed else [*held]

    def _given(self, name: str, amount: int) -> Iterator[tuple[tuple[Holder | None, str], Part | None, int]]:
        """Who gets what of an amount, and for which resource."""
        weights = self.weights
        if name == GPU_HOURS and self.charge.part is None and self.seen.capacity["gpu"]:
            weights = {"gpu": 1, "cpu": 0, "memory": 0}  # accelerator hours belong to the accelerators alone
        for part, value in self._parts(amount, weights).items():
            shares: list[tuple[Holder | None, int]] = [(None, 1)] if part is None else self.shares[part]
            nobody = "unknown" if part is None or self.claims[part].unknown else "idle"
            for (holder, _), share in zip(
                shares, apportion(value, [units for _, units in shares]), strict=True
            ):
                if share:
                    yield (holder, "" if holder else nobody), part, share

    def _parts(self, amount: int, weights: Mapping[Part, int]) -> dict[Part | None, int]:
        """An amount by resource; None has what telemetry hasn't seen or can't split."""
        if not self.seen.time or not any(weights.values()):
            return {None: amount}
        paid = as_int(self.charge.machine_seconds, 14)
        unseen = 0 if paid is None else max(0, paid // 10**8 - self.seen.time)
        observed, lost = apportion(amount, [self.seen.time, unseen])
        split = apportion(observed, [weights[part] for part in PARTS])
        values: dict[Part | None, int] = {**dict(zip(PARTS, split, strict=True)), None: lost}
        return {part: value for part, value in values.items() if value}

    def _row(
        self,
        holder: Holder | None,
        state: str,
        amounts: Mapping[str, Decimal | None],
        ratios: Mapping[Part | None, int],
    ) -> Allocated:
        units = {part: dict(shares).get(holder) for part, shares in self.shares.items()}
        hours = {
            part: _nano_hours(amount, UNITS[part]) for part, amount in units.items() if amount is not None
        }
        cards = self.claims["gpu"]
        held = cards.units.get(holder) if holder else None
        measured = cards.measured.get(holder) if holder else None
        used = cards.used.get(holder) if holder else None
        return Allocated(
            charge_id=self.charge.charge_id,
            state=holder.state if holder else state,
            holder=holder,
            amounts=amounts,
            ratios=ratios,
            hours=hours,
            held=None if held is None else _nano_hours(held, CARD_UNITS),
            measured=None if measured is None else _nano_hours(measured, CARD_UNITS),
            used=None if used is None else (_rounded(used, 10**14) * 10 + 18) // 36,
            over_capacity=self.over,
        )


def _row_order(key: tuple[Holder | None, str]) -> tuple[bool, tuple[tuple[bool, str | int], ...], str]:
    holder, state = key
    return holder is None, holder.order if holder else (), state


def _scale(name: str) -> int:
    return 18 if name in COSTS or name == _RATIO else 14


def _decimal(name: str, origin: int, value: int) -> Decimal:
    """An apportioned integer with its origin's sign."""
    return Decimal(value if origin >= 0 else -value).scaleb(-_scale(name), _WIDE)


def _rounded(value: int, by: int) -> int:
    return (2 * value + by) // (2 * by)


def _nano_hours(units: int, per: int) -> int:
    """Units × microseconds as billionths of an hour, rounded half up."""
    return _rounded(units * 10**9, per * _HOUR)


def _text(value: int, decimals: int) -> str:
    """The integer with that many decimals, without trailing zeros."""
    whole, rest = divmod(value, 10**decimals)
    return f"{whole}.{rest:0{decimals}}".rstrip("0") if rest else str(whole)


def share_out(
    amounts: Mapping[str, Decimal | None], weights: Mapping[str, int]
) -> dict[str, dict[str, Decimal | None]]:
    """Share amounts that nobody holds among named targets by weight, exactly; ties in the order of the names.

    Weights of zero and below take nothing. Empty when no target can take anything: it stays with nobody.
    """
    weighed = sorted((target, weight) for target, weight in weights.items() if weight > 0)
    shared: dict[str, dict[str, Decimal | None]] = {target: {} for target, _ in weighed}
    for name, amount in amounts.items():
        whole = as_int(amount, _scale(name))
        parts = apportion(abs(whole or 0), [weight for _, weight in weighed]) if weighed else []
        for (target, _), part in zip(weighed, parts, strict=True):
            shared[target][name] = None if whole is None else _decimal(name, whole, part)
    return shared
