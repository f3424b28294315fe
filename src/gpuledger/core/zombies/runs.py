"""A card's measurements in short: how often idle, and its unbroken idle runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class History:
    """A card's measurements in short. A run is unbroken idleness, from its first to its last sample."""

    samples: int
    start: datetime
    end: datetime
    highest: Decimal
    mean: Decimal
    idle_share: Fraction
    last_busy: datetime | None
    runs: tuple[timedelta, ...]

    def runs_of(self, least: timedelta) -> tuple[timedelta, ...]:
        """Return the runs that last at least so long."""
        return tuple(run for run in self.runs if run >= least)


def history(
    samples: Sequence[tuple[datetime, Decimal]], idle: Decimal, gap: timedelta = timedelta(seconds=171)
) -> History | None:
    """Sum up samples in the order of time; a gap longer than `gap` ends a run. None when there are no samples."""
    if not samples:
        return None
    runs: list[timedelta] = []
    begun = before = None
    idle_samples, last_busy = 0, None
    for when, value in samples:
        if value > idle:
            begun, last_busy = None, when
            continue
        idle_samples += 1
        if begun is None or before is None or when - before > gap:
            begun = when
            runs.append(timedelta(0))
        runs[-1], before = when - begun, when
    return History(
        samples=len(samples),
        start=samples[0][0],
        end=samples[-1][0],
        highest=max(value for _, value in samples),
        mean=sum((value for _, value in samples), Decimal(0)) / len(samples),
        idle_share=Fraction(idle_samples, len(samples)),
        last_busy=last_busy,
        runs=tuple(runs),
    )
