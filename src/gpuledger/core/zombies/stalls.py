"""Cards that look full and get nothing done: little power, no tensor activity, or counters of progress that stand still."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from gpuledger.core.zombies.facts import Limits, Load, Observation, Progress

# Board power in watts as the vendors' data sheets state it: SXM or OAM form, and PCIe where it differs.
_BOARD_WATTS: Final[Mapping[str, tuple[int, int]]] = {
    "A10": (150, 150), "A100": (400, 250), "A30": (165, 165), "A40": (300, 300), "B200": (1000, 1000),
    "B300": (1100, 1100), "H100": (700, 350), "H100 NVL": (400, 400), "H200": (700, 600), "L4": (72, 72),
    "L40": (300, 300), "L40S": (350, 350), "MI300X": (750, 750), "T4": (70, 70), "V100": (300, 250),
}  # fmt: skip
_FULL: Final = Decimal("0.95")
_LOW_POWER: Final = Decimal("0.35")
_NO_TENSOR: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Stall:
    """How long a card has looked full for nothing (0: at one look), and by what that is told."""

    span: timedelta
    load: Load
    progress: Progress | None = None


def board_watts(model: str | None, model_name: str | None) -> int | None:
    """Return the board power of a model's data sheet; None where it isn't listed."""
    known = _BOARD_WATTS.get(model or "")
    return None if known is None else known[1 if "pcie" in (model_name or "").lower() else 0]


def stalled(one: Observation, limits: Limits) -> Stall | None:
    """Return the longest stretch up to now over which the card looked full and got nothing done."""
    full = []
    for load in sorted(one.loads, key=lambda load: load.seconds):
        if load.utilisation is None or load.utilisation < _FULL:
            break
        full.append(load)
    found = [stall for stall in (_weak(one, full), _without_progress(one, full, limits)) if stall is not None]
    return max(found, key=lambda stall: stall.span, default=None)


def _weak(one: Observation, full: list[Load]) -> Stall | None:
    """Tell by power where it is known, else by tensor activity: memory-bound work leaves tensor cores alone."""
    found = None
    watts = board_watts(one.gpu_model, one.model_name)
    for load in full:
        weak = None if load.power_watts is None or watts is None else load.power_watts < _LOW_POWER * watts
        still = None if load.tensor is None else load.tensor < _NO_TENSOR
        if weak is False or (weak is None and still is not True) or still is False:
            break
        found = Stall(timedelta(seconds=load.seconds), load)
    return found


def _without_progress(one: Observation, full: list[Load], limits: Limits) -> Stall | None:
    """Tell by counters: every holder has one, and none of them moved. It catches what draws full power for nothing."""
    told = [held.progress for held in one.holdings if held.progress is not None]
    if not full or not told or len(told) < len(one.holdings):
        return None
    last = min(told, key=lambda progress: progress.still)
    span = min(last.still, timedelta(seconds=full[-1].seconds))
    return Stall(span, full[-1], last) if span >= limits.no_progress else None
