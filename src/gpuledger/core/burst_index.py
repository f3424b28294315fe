"""Burst figures with intervals, and the burst index: how much more capacity one load needs per unit of use than another.

The burst index is (p99 / mean) of a load over (p99 / mean) of another at the same windows. p99 / mean is what capacity
for all but one in a hundred windows comes to, per unit that is used on average: an index of 1.4 means 40 % more of it.
Intervals are of a circular block bootstrap, seeded; two loads are drawn at the same places, so that what they share, a
quiet night, doesn't count as doubt. Statistics are floats and never money.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CONFIDENCE: Final = 0.9
LEVELS: Final = ("peak_to_mean", "p99_to_mean", "cv")
INDEX: Final = "burst_index"
LIFT: Final = "off_hours_lift"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure, its value, and the bounds between which CONFIDENCE of the draws lie; None for what has no value."""

    measure: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """How intervals are drawn: windows of a block, number of draws, seed."""

    block: int
    draws: int = 500
    seed: int = 0


def of_levels(levels: Sequence[float], drawing: Drawing, off: Sequence[bool] | None = None) -> list[Figure]:
    """Return peak / mean, p99 / mean and CV of equal windows, and with `off` the lift outside working hours.

    `off` says of each window whether it is outside working hours; the lift is the load's share there over the windows'.
    """
    import numpy as np

    load = np.asarray(levels, dtype=float)
    outside = None if off is None else np.asarray(off, dtype=float)
    places = _places(len(load), drawing)
    return _figures(_measures(load[None, :], None if outside is None else outside[None, :]), None if places is None else _measures(
        load[places], None if outside is None else outside[places]
    ))  # fmt: skip


def against(levels: Sequence[float], others: Sequence[float], drawing: Drawing) -> list[Figure]:
    """Return the burst index of one load against another of the same windows, and the ratios of the other measures.

    Raises ValueError when they don't have the same windows.
    """
    import numpy as np

    if len(levels) != len(others):
        raise ValueError(f"{len(levels)} windows against {len(others)}")
    one, other = np.asarray(levels, dtype=float), np.asarray(others, dtype=float)
    places = _places(len(one), drawing)
    drawn = None if places is None else _ratios(_measures(one[places]), _measures(other[places]))
    return _figures(_ratios(_measures(one[None, :]), _measures(other[None, :])), drawn)


def of_counts(counts: Sequence[float], drawing: Drawing) -> Figure:
    """Return the Fano factor, variance / mean of events per window, with its interval."""
    import numpy as np

    events = np.asarray(counts, dtype=float)
    places = _places(len(events), drawing)
    return _figures(
        {"fano": _fano(events[None, :])}, None if places is None else {"fano": _fano(events[places])}
    )[0]


def of_gaps(gaps: Sequence[float], drawing: Drawing) -> Figure:
    """Return Goh and Barabási's B of times between events, (sd - mean) / (sd + mean); blocks are of gaps that follow each other."""
    import numpy as np

    times = np.asarray(gaps, dtype=float)
    places = _places(len(times), drawing)
    name = "goh_barabasi"
    return _figures(
        {name: _bursts(times[None, :])}, None if places is None else {name: _bursts(times[places])}
    )[0]


def _places(count: int, drawing: Drawing) -> "Array | None":
    """Places to draw, a row per draw: blocks from any start, the end followed by the beginning. None for less than two blocks."""
    import numpy as np

    if count < 2 * drawing.block or drawing.draws < 1:
        return None
    rng = np.random.default_rng(drawing.seed)
    blocks = -(-count // drawing.block)
    starts = rng.integers(0, count, size=(drawing.draws, blocks))
    found: Array = (starts[:, :, None] + np.arange(drawing.block)).reshape(drawing.draws, -1)[
        :, :count
    ] % count
    return found


def _measures(load: "Array", off: "Array | None" = None) -> dict[str, "Array"]:
    """Measures of each row; not a number where the mean isn't positive."""
    import numpy as np

    if load.shape[1] == 0:
        return {
            name: np.full(load.shape[0], np.nan) for name in (*LEVELS, *([LIFT] if off is not None else []))
        }
    mean = load.mean(axis=1)
    mean = np.where(mean > 0, mean, np.nan)
    found = {
        "peak_to_mean": load.max(axis=1) / mean,
        "p99_to_mean": np.percentile(load, 99, axis=1) / mean,
        "cv": load.std(axis=1) / mean,
    }
    if off is not None:
        share = (load * off).sum(axis=1) / (mean * load.shape[1])
        flat = off.mean(axis=1)
        found[LIFT] = share / np.where(flat > 0, flat, np.nan)
    return found


def _ratios(one: dict[str, "Array"], other: dict[str, "Array"]) -> dict[str, "Array"]:
    import numpy as np

    names = {name: INDEX if name == "p99_to_mean" else name for name in LEVELS}
    return {names[name]: one[name] / np.where(other[name] > 0, other[name], np.nan) for name in LEVELS}


def _fano(events: "Array") -> "Array":
    import numpy as np

    if events.shape[1] == 0:
        return np.full(events.shape[0], np.nan)
    mean = events.mean(axis=1)
    found: Array = events.var(axis=1) / np.where(mean > 0, mean, np.nan)
    return found


def _bursts(times: "Array") -> "Array":
    import numpy as np

    if times.shape[1] == 0:
        return np.full(times.shape[0], np.nan)
    mean, deviation = times.mean(axis=1), times.std(axis=1)
    whole = deviation + mean
    found: Array = (deviation - mean) / np.where(whole > 0, whole, np.nan)
    return found


def _figures(observed: dict[str, "Array"], drawn: dict[str, "Array"] | None) -> list[Figure]:
    import numpy as np

    found = []
    for name, values in observed.items():
        value = None if np.isnan(values[0]) else float(values[0])
        draws = None if drawn is None or value is None else drawn[name]
        if draws is None or np.isnan(draws).any():
            found.append(Figure(name, value))
            continue
        low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        found.append(Figure(name, value, float(low), float(high)))
    return found
