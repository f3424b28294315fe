"""What a charge's machine has and was seen of it, and how its cost splits into GPU, CPU and memory.

Times are microseconds since 1970. Capacity is counted in units times microseconds: CARD_UNITS a card, 10^9 a core and
a GiB. Everything is an integer, so that cutting an interval in two changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from itertools import pairwise
from typing import Final, Literal

from gpuledger.core.sharing import CARD_UNITS
from gpuledger.core.usage import NodeInterval

Part = Literal["gpu", "cpu", "memory"]
PARTS: Final[tuple[Part, ...]] = ("gpu", "cpu", "memory")
UNITS: Final[Mapping[Part, int]] = {"gpu": CARD_UNITS, "cpu": 10**9, "memory": 10**9}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WIDE: Final = Context(prec=60)
_ALWAYS: Final = -(2**63) + 1


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge for a machine over a period. `amounts` has costs and quantities by column; None is unknown, not 0.

    `part` names the resource that the charge is for, None for the whole machine. `gpu_count` stands in where telemetry
    doesn't know the machine's cards. `machine_seconds` is the time that the charge pays for, if the bill says it.
    """

    charge_id: str
    cluster: str
    node: str
    start: datetime
    end: datetime
    amounts: Mapping[str, Decimal | None]
    part: Part | None = None
    gpu_count: Decimal | None = None
    machine_seconds: Decimal | None = None


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """What an hour of a card, a core and a GiB costs from `valid_from` on; only the ratios count.

    It holds for the named instance type, region and GPU model; None holds for any.
    """

    gpu: Decimal | None
    cpu: Decimal | None
    memory: Decimal | None
    valid_from: datetime | None = None
    gpu_model: str | None = None
    instance_type: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of a machine's life in microseconds; capacities in 1e-14."""

    start: int
    end: int
    capacity: Mapping[Part, int | None]
    words: tuple[str | None, str | None, str | None]  # instance type, region, GPU model


@dataclass(frozen=True, slots=True)
class Seen:
    """What telemetry saw of a charge's machine: microseconds, and capacity in units × microseconds."""

    time: int
    capacity: Mapping[Part, int | None]
    words: tuple[str | None, str | None, str | None]


def moment_of(node: NodeInterval) -> Moment:
    """What a record of a machine says."""
    capacity: dict[Part, int | None] = {
        "gpu": as_int(node.gpu_count, 14), "cpu": as_int(node.cpu_cores, 14), "memory": as_int(node.memory_gib, 14),
    }  # fmt: skip
    words = (node.instance_type, node.region, node.gpu_model)
    return Moment(microseconds(node.start), microseconds(node.end), capacity, words)


def timeline(moments: list[Moment]) -> list[Moment]:
    """Stretches without overlap: where sources overlap, the larger known figure (and the first word) counts."""
    edges = sorted(
        {edge for moment in moments if moment.start < moment.end for edge in (moment.start, moment.end)}
    )
    line = []
    for start, end in pairwise(edges):
        over = [moment for moment in moments if moment.start <= start and moment.end >= end]
        if over:
            capacity = {part: _largest(moment.capacity[part] for moment in over) for part in PARTS}
            line.append(Moment(start, end, capacity, _first(over)))
    return line


def seen_of(charge: Charge, line: list[Moment]) -> Seen:
    """The machine's timeline within the charge's period. Capacity is None when any moment's is unknown."""
    start, end = microseconds(charge.start), microseconds(charge.end)
    spans = [(moment, min(end, moment.end) - max(start, moment.start)) for moment in line]
    spans = [(moment, span) for moment, span in spans if span > 0]
    stand_in = as_int(charge.gpu_count, 14)
    capacity: dict[Part, int | None] = {}
    for part in PARTS:
        told = [
            (stand_in if part == "gpu" and moment.capacity[part] is None else moment.capacity[part], span)
            for moment, span in spans
        ]
        sums = [amount * span for amount, span in told if amount is not None]
        if spans and len(sums) == len(told):
            capacity[part] = (sum(sums) * (UNITS[part] // 10**9) + 50_000) // 100_000
        else:
            capacity[part] = None
    return Seen(sum(span for _, span in spans), capacity, _first([moment for moment, _ in spans]))


def part_weights(charge: Charge, seen: Seen, prices: list[UnitPrice]) -> dict[Part, int]:
    """Weights of the charge's parts; all zero when the split can't be told."""
    if charge.part is not None:
        return {part: (seen.capacity[part] or 0) if part == charge.part else 0 for part in PARTS}
    price = _price(microseconds(charge.start), seen.words, prices)
    return {
        part: price[part] * (CARD_UNITS // UNITS[part]) * ((seen.capacity[part] or 0) // 1000)
        for part in PARTS
    }


def _price(start: int, words: tuple[str | None, ...], prices: list[UnitPrice]) -> dict[Part, int]:
    """The newest price of the best match that isn't later than `start`, in billionths."""
    ranked = []
    for price in prices:
        asked = (price.instance_type, price.region, price.gpu_model)
        fits = all(
            ask is None or (word is not None and ask.lower() == word.lower())
            for ask, word in zip(asked, words, strict=True)
        )
        since = _ALWAYS if price.valid_from is None else microseconds(price.valid_from)
        if fits and since <= start:
            score = sum(worth for ask, worth in zip(asked, (4, 2, 1), strict=True) if ask is not None)
            costs = [(as_int(cost, 14) or 0) for cost in (price.gpu, price.cpu, price.memory)]
            ranked.append((score, since, *((cost + 50_000) // 100_000 for cost in costs)))
    best = max(ranked, default=(0, 0, 0, 0, 0))
    return dict(zip(PARTS, best[2:], strict=True))


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def as_int(value: Decimal | None, decimals: int) -> int | None:
    """The value in units of that many decimals, rounded half away from zero."""
    return None if value is None else int(value.scaleb(decimals, _WIDE).to_integral_value(ROUND_HALF_UP))


def _largest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _first(moments: Sequence[Moment]) -> tuple[str | None, str | None, str | None]:
    def first(i: int) -> str | None:
        return min((word for moment in moments if (word := moment.words[i]) is not None), default=None)

    return first(0), first(1), first(2)
