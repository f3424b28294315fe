"""Kinds of hardware that a demand could be served by: their curves, prices and capacities, or why they don't compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from gpuledger.core import hardware, load_curves
from gpuledger.core.load_curves import Capacity, Curve, Limits, LoadPoint
from gpuledger.pipeline.hardware_prices import Price, Prices
from gpuledger.pipeline.load_points import KINDS, Measured
from gpuledger.prices import accelerator, gpu_types

USABLE_MEMORY: Final = 0.9
"""Part of a card's memory that weights and KV cache may take: what engines use by default."""


@dataclass(frozen=True, slots=True)
class Need:
    """What is asked for: tokens a second by request size for each hour, and what they must keep.

    `hours` are equally long; a demand without hours is one. `rank` is that of the limits: p95, p99 or median.
    """

    hours: Sequence[Mapping[str, float]]
    ttft: float | None = None
    tpot: float | None = None
    rank: str = "p95"
    basis: str = "output"
    headroom: float = 0.8
    at_least: int = 1
    slices: int | None = None
    beyond: float = 1.0
    weights_gib: float | None = None
    kv_gib_per_1k_tokens: float | None = None
    seed: int = 0
    draws: int = 200

    @property
    def sizes(self) -> tuple[str, ...]:
        """Return the request sizes asked for."""
        return tuple(sorted({size for hour in self.hours for size, load in hour.items() if load > 0}))


@dataclass(slots=True)
class Candidate:
    """One kind of hardware: its points by request size, and what was made of them. `why` it can't be compared."""

    name: str
    points: dict[str, list[Measured]]
    price: Price | None
    gpus: Decimal
    curves: dict[str, Curve] = field(default_factory=dict)
    limits: dict[str, Limits] = field(default_factory=dict)
    found: dict[str, Capacity] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def first(self) -> Measured:
        """Return one of its points."""
        return next(iter(self.points.values()))[0]

    def kind(self, capacities: Mapping[str, Capacity]) -> hardware.Kind:
        """Return it for the optimiser, with capacities that need not be its own."""
        assert self.price is not None  # noqa: S101 - kinds without a price aren't compared
        speeds = {size: found.tok_s for size, found in capacities.items()}
        return hardware.Kind(self.name, self.price.usd_per_gpu_hour * self.gpus, speeds)


def prepare(name: str, points: dict[str, list[Measured]], prices: Prices, need: Need) -> Candidate:
    """Return a candidate: fit the curves of a kind and find its capacity by size, or say why it can't be compared."""
    first = next(iter(points.values()))[0]
    told = next(
        (one.usd_per_gpu_hour for some in points.values() for one in some if one.usd_per_gpu_hour), None
    )
    kind = Candidate(name, points, prices.of(first.names, told, first.gpu_memory_gib), first.gpus)
    if kind.price is None:
        kind.why.append("no price is known: give --price or --prices")
    if len({one.gpus for some in points.values() for one in some}) > 1:
        kind.why.append("its replicas have different numbers of cards")
    if len({one.precision for some in points.values() for one in some}) > 1:
        kind.why.append("its load points are of several precisions")
    for size in need.sizes:
        if size not in points:
            kind.why.append(f"no load points of the request size {size}")
            continue
        kind.limits[size] = _limits(kind, points[size], need)
        _fit(kind, size, need)
    return kind


def _fit(kind: Candidate, size: str, need: Need) -> None:
    measured, limits = [_load_point(one, need) for one in kind.points[size]], kind.limits[size]
    known = [one for one in measured if one is not None]
    if not known:
        kind.why.append(f"its load points don't tell {need.basis} tokens")
        return
    curve = load_curves.fit(known)
    found = load_curves.capacity(curve, limits) if curve else load_curves.best_point(known, limits)
    if found is None:
        missing = [
            k.upper() for k in KINDS
            if getattr(need, k) is not None and all(getattr(one, k) is None for one in known)
        ]  # fmt: skip
        kind.why.append(f"no {need.rank} of {' and '.join(missing) or 'a limited latency'} was measured")
        return
    if curve is not None:
        kind.curves[size] = curve
        if curve.half > curve.highest:
            kind.notes.append("far from saturated where it was measured: its saturated rate is a guess")
    else:
        kind.notes.append("single measured points, no load curve")
    if found.binding == "range" and found.tok_s > 0 and found.concurrency is not None:
        kind.notes.append(f"never measured beyond {found.concurrency:.4g} at once: it may be able to do more")
    if found.extrapolated and curve is not None:
        kind.notes.append(f"extrapolated beyond the {curve.highest:g} requests at once that were measured")
    if need.rank == "p95" and any(
        one.seconds_of(k, "p95")[1] == "p99" for one in kind.points[size] for k in KINDS
        if getattr(need, k) is not None
    ):  # fmt: skip
        kind.notes.append("p99 stands in for p95, which wasn't measured")
    kind.found[size] = found


def _load_point(one: Measured, need: Need) -> LoadPoint | None:
    speed = one.tok_s[need.basis]
    if not speed:
        return None
    slow = {kind: as_float(one.seconds_of(kind, need.rank)[0]) for kind in KINDS}
    return LoadPoint(as_float(one.concurrency), float(speed), slow["ttft"], slow["tpot"], float(one.seconds))


def _limits(kind: Candidate, points: Sequence[Measured], need: Need) -> Limits:
    """Limits of a size; that of memory when weights, and the cards' memory, are known."""
    held = None
    if need.weights_gib is not None:
        memory = memory_of(points[0].hardware, points[0].gpu_model, points[0].gpu_memory_gib)
        if memory is None:
            kind.notes.append("its memory isn't known: whether the model fits wasn't checked")
        else:
            tokens = as_float(points[0].tokens)
            held = load_curves.requests_in_memory(
                gib=float(memory * kind.gpus) * USABLE_MEMORY, weights_gib=need.weights_gib,
                kv_gib_per_1k_tokens=need.kv_gib_per_1k_tokens, tokens=tokens,
            )  # fmt: skip
            if held == 0:
                kind.why.append(too_small(need.weights_gib, kind.gpus, memory))
    return Limits(need.ttft, need.tpot, held, need.beyond)


def too_small(weights: float, gpus: Decimal, memory: Decimal) -> str:
    """Say that a model's weights are larger than the cards' usable memory."""
    return f"{weights:g} GiB of weights don't fit {USABLE_MEMORY:.0%} of {gpus.normalize():f} × {memory.normalize():f} GiB"


def memory_of(hardware_name: str, gpu_model: str | None, told: Decimal | None) -> Decimal | None:
    """GiB of one card: as told, as its name says, or the smallest that cards of its model have."""
    if told is not None:
        return told
    named = [found for text in (gpu_model, hardware_name) if text and (found := accelerator(text))]
    if not named:
        return None
    if named[0].memory_gib is not None:
        return named[0].memory_gib
    sizes = [
        one.gpu_memory_gib for one in gpu_types() if one.gpu_model == named[0].model and one.gpu_memory_gib
    ]
    return min(sizes, default=None)


def as_float(value: Decimal | None) -> float | None:
    """Return a number for a fit."""
    return None if value is None else float(value)
