"""Series of a monitoring system over some steps of time, and how several series about one thing become one.

A value stands for the mean over its step. A step without a value is unknown: nothing was scraped, or it was NaN.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from gpuledger.core.card_facts import own
from gpuledger.diagnostics import Diagnostic

Interval = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Series:
    """Labels as the monitoring system has them, and the mean of each step by the step's start (UTC)."""

    labels: Mapping[str, str]
    values: Mapping[datetime, Decimal]


@dataclass(frozen=True, slots=True)
class Window:
    """What was asked for [start, end): `series` by the name of the question. `cluster` names what all of it is about."""

    cluster: str
    start: datetime
    end: datetime
    step: timedelta
    series: Mapping[str, Sequence[Series]] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def steps(self) -> list[datetime]:
        """Starts of the steps."""
        count = (self.end - self.start) // self.step
        return [self.start + self.step * place for place in range(count)]

    def of(self, *names: str) -> Iterator[tuple[dict[str, str], Series]]:
        """Yield the series of these questions with the labels that they had at the exporter."""
        for name in names:
            for series in self.series.get(name, ()):
                yield own(series.labels), series


def merged(
    found: Iterable[Series], join: Callable[[Decimal, Decimal], Decimal] | None = None
) -> dict[datetime, Decimal]:
    """Make one of several series about the same thing; where two have a step, the first counts, or `join` of both.

    Their order is that of their labels, so that the same scrapes give the same result every time.
    """
    several = list(found)
    if len(several) == 1:
        return dict(several[0].values)
    values: dict[datetime, Decimal] = {}
    for series in sorted(several, key=lambda one: sorted(one.labels.items())):
        for when, value in series.values.items():
            if when not in values:
                values[when] = value
            elif join is not None:
                values[when] = join(values[when], value)
    return values


def spans(steps: Iterable[datetime], step: timedelta) -> list[Interval]:
    """Join steps that follow each other to intervals."""
    found: list[Interval] = []
    for when in sorted(steps):
        if found and found[-1][1] == when:
            found[-1] = (found[-1][0], when + step)
        else:
            found.append((when, when + step))
    return found
