"""A monitoring system's answers over the steps of a window, as arrays: a row per series, a column per step.

A value stands for the mean over its step, and is exact: `digits` / 10**`places`. Negative places say that it is
unknown: nothing was scraped, or it was NaN. Quantities for the ledger are in the units of `core.usage_columns`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from gpuledger.core.card_facts import own
from gpuledger.core.usage_columns import DECIMALS, UNKNOWN
from gpuledger.diagnostics import Diagnostic

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Labels = Mapping[str, str]
Interval = tuple[datetime, datetime]

# A value has no more digits than this. None that these metrics have comes near 10**18.
DIGITS: Final = 18
_MOST: Final = int(np.iinfo(np.int64).max)
_TENS: Final = np.array([10**power for power in range(DIGITS + 1)], dtype=np.int64)
_FIVES: Final = np.array([5**power for power in range(DECIMALS + 1)], dtype=np.int64)
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Values:
    """Exact values by row and step."""

    digits: Ints
    places: Ints

    @classmethod
    def unknown(cls, rows: int, steps: int) -> Self:
        """Return values of which none is known."""
        return cls(np.zeros((rows, steps), np.int64), np.full((rows, steps), -1, np.int64))

    @property
    def known(self) -> Flags:
        """Which values there are."""
        return self.places >= 0

    def number(self, row: int, step: int) -> Decimal:
        """Return a value that is known."""
        return Decimal(int(self.digits[row, step])).scaleb(-int(self.places[row, step]))

    def put(self, row: int, step: int, value: Decimal | None) -> None:
        """Set a value: beyond 18 digits it is rounded, and one of 10**18 or more is no quantity, so unknown."""
        if value is None or not value.is_finite() or abs(value) >= 10**DIGITS:
            self.places[row, step] = -1
            return
        _, digits, exponent = value.as_tuple()
        places = min(max(-int(exponent), 0), max(DIGITS - len(digits) - int(exponent), 0))
        self.digits[row, step], self.places[row, step] = int(value.scaleb(places).to_integral_value()), places


@dataclass(frozen=True, slots=True)
class Grid:
    """Series: their labels as the monitoring system has them, those that they had at the exporter, and their values."""

    labels: Sequence[Labels]
    own: Sequence[Labels]
    values: Values

    @classmethod
    def of(cls, told: Iterable[tuple[Labels, Mapping[int, Decimal | None]]], steps: int) -> Self:
        """Return the grid of series that are given as values by step."""
        listed = list(told)
        values = Values.unknown(len(listed), steps)
        for row, (_, series) in enumerate(listed):
            for step, value in series.items():
                values.put(row, step, value)
        return cls([labels for labels, _ in listed], [own(labels) for labels, _ in listed], values)

    def __add__(self, other: "Grid") -> "Grid":
        """Return the series of both; a series that is in both stays two."""
        values = Values(
            np.concatenate((self.values.digits, other.values.digits)),
            np.concatenate((self.values.places, other.values.places)),
        )
        return Grid([*self.labels, *other.labels], [*self.own, *other.own], values)


@dataclass(frozen=True, slots=True)
class Window:
    """What was asked for [start, end): `series` by the name of the question. `cluster` names what all of it is about."""

    cluster: str
    start: datetime
    end: datetime
    step: timedelta
    series: Mapping[str, Grid] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def steps(self) -> int:
        """Number of the steps."""
        return (self.end - self.start) // self.step

    def at(self, step: int) -> datetime:
        """Return the start of a step."""
        return self.start + self.step * step

    def of(self, name: str) -> Grid:
        """Return the answer to a question, without any series when there is none."""
        return self.series.get(name) or Grid((), (), Values.unknown(0, self.steps))


def masks(flags: Flags) -> list[int]:
    """Return each row as a number whose bit `n` is set when step `n` is."""
    packed = np.packbits(flags, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def changes(mask: int) -> int:
    """Return the steps in which a mask isn't what it was in the step before; at first it was all clear."""
    return mask ^ (mask << 1)


def runs(edges: int, steps: int) -> Iterator[tuple[int, int]]:
    """Cut all steps at the edges: yield first and past step of each part."""
    first = 0
    edges >>= 1
    for step in range(1, steps):
        if edges & 1:
            yield first, step
            first = step
        edges >>= 1
    yield first, steps


def layers(into: Ints, labels: Sequence[Labels] | None = None) -> Iterator[tuple[Ints, Ints]]:
    """Yield rows and the place that each goes into, no place twice at a time; a place of −1 is none.

    Rows of the same place come in the order of their labels, so that the same scrapes give the same result every time.
    """
    rows = np.flatnonzero(into >= 0)
    counts = np.bincount(into[rows]) if rows.size else np.zeros(1, np.int64)
    if counts.max() <= 1:
        yield rows, into[rows]
        return
    if labels is not None:
        several = counts[into[rows]] > 1
        ordered = sorted(rows[several].tolist(), key=lambda row: sorted(labels[row].items()))
        rows = np.concatenate((rows[~several], np.array(ordered, np.int64)))
    rows = rows[np.argsort(into[rows], kind="stable")]
    places = into[rows]
    order = np.arange(rows.size)
    begins = np.concatenate(([True], places[1:] != places[:-1]))
    rank = order - np.maximum.accumulate(np.where(begins, order, 0))
    for layer in range(int(counts.max())):
        chosen = rank == layer
        yield rows[chosen], places[chosen]


def first_of(grid: Grid, into: Ints, count: int) -> Values:
    """Make one row of all that go into the same place: where several have a step, the first by its labels counts."""
    steps = grid.values.digits.shape[1]
    found = Values.unknown(count, steps)
    for rows, places in layers(into, grid.labels):
        open_ = found.places[places] < 0
        found.digits[places] = np.where(open_, grid.values.digits[rows], found.digits[places])
        found.places[places] = np.where(open_, grid.values.places[rows], found.places[places])
    return found


def in_units(values: Values, less: int = 0) -> Ints:
    """Return values over 10**`less` in units, halves rounded to even; UNKNOWN where there is none, or it is 92,233 or more."""
    drop = values.places + (less - DECIMALS)
    up, down = _TENS[np.clip(-drop, 0, DIGITS)], _TENS[np.clip(drop, 0, DIGITS)]
    quotient, rest = np.divmod(values.digits, down)
    twice = 2 * rest - down
    quotient += (twice > 0) | ((twice == 0) & ((quotient & 1) == 1))
    quotient[drop > DIGITS] = 0
    fits = values.known & (np.abs(quotient) <= _MOST // up)
    return np.where(fits, quotient * up, UNKNOWN)


def gib_units(values: Values) -> Ints:
    """Return bytes as GiB in units, halves rounded to even; UNKNOWN where there are none, or 92,233 GiB or more."""
    places = np.clip(values.places, 0, DECIMALS)
    # digits / 10**places / 2**30 in units of 10**-14 is digits * 5**(14 - places) / 2**(16 + places).
    shift, factor = places + 16, _FIVES[DECIMALS - places]
    high, low = values.digits >> shift, values.digits & ((1 << shift) - 1)
    product = low * factor
    fits = values.known & (np.abs(high) < _MOST // factor - 1)
    found = np.where(fits, high, 0) * factor + (product >> shift)
    twice = 2 * (product & ((1 << shift) - 1)) - (1 << shift)
    found += (twice > 0) | ((twice == 0) & ((found & 1) == 1))
    found[~fits] = UNKNOWN
    for row, step in np.argwhere(values.places > DECIMALS):
        found[row, step] = exact_units(Fraction(values.number(row, step)) / _GIB)
    return found


def exact_units(value: Fraction) -> int:
    """Return one value in units, a half rounded to even; UNKNOWN when that is too much."""
    found = round(value * 10**DECIMALS)
    return found if abs(found) <= _MOST else UNKNOWN
