"""Working hours, and how long nobody looks.

Times are wall-clock times of one place. With its time zone, a change of the clock makes a gap longer or shorter, as it
does; without, such changes are ignored.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from gpuledger.errors import UsageError

_HINT: Final = "Use weekend, night, 2026-12-24..2027-01-01 (days off) or 2026-10-10T02:00 (when it begins)."
_DAY: Final = timedelta(days=1)
_SATURDAY: Final = 5
_LONGEST: Final = 366


@dataclass(frozen=True, slots=True)
class WorkingHours:
    """Monday to Friday from `opens` to `closes`, whole hours, without holidays."""

    opens: int = 8
    closes: int = 20
    holidays: frozenset[date] = frozenset()
    zone: ZoneInfo | None = None

    def between(self, begin: datetime, end: datetime) -> int:
        """Return the seconds that pass between two wall-clock times."""
        if self.zone is not None:
            begin, end = (moment.replace(tzinfo=self.zone).astimezone(UTC) for moment in (begin, end))
        return int((end - begin).total_seconds())

    def works(self, day: date) -> bool:
        """Say whether anybody works that day."""
        return day.weekday() < _SATURDAY and day not in self.holidays

    def next_opening(self, moment: datetime) -> datetime:
        """Return the moment itself within working hours, else the beginning of the next ones."""
        day = moment.date()
        for _ in range(_LONGEST):
            if self.works(day):
                opening = datetime.combine(day, time(self.opens))
                if moment < opening + timedelta(hours=self.closes - self.opens):
                    return max(moment, opening)
            day += _DAY
        raise UsageError("nobody works within a year", hint="Give fewer holidays.")

    def last_closing(self, day: date) -> datetime:
        """Return when work ended on the last working day before `day`."""
        for _ in range(_LONGEST):
            day -= _DAY
            if self.works(day):
                return datetime.combine(day, time()) + timedelta(hours=self.closes)
        raise UsageError("nobody works within a year", hint="Give fewer holidays.")


@dataclass(frozen=True, slots=True)
class Unattended:
    """How long nobody looks, in seconds, and how that came about."""

    seconds: int
    told: str


def unattended(text: str, hours: WorkingHours) -> Unattended:
    """Return the longest time until someone looks, for a mistake that begins as people leave, or at a given moment.

    `text`: weekend (Friday's close to Monday's opening), night, days off as DATE..DATE or DATE (adjoining weekends and
    holidays count in), or a moment. Raises UsageError.
    """
    said = text.strip()
    night = 24 - (hours.closes - hours.opens)
    if said.lower() in {"weekend", "night"}:
        length = night + (48 if said.lower() == "weekend" else 0)
        ends = ("Friday", "Monday") if said.lower() == "weekend" else ("from", "to")
        return Unattended(
            length * 3600,
            f"calendar {said.lower()}: {ends[0]} {hours.closes:02}:00 {'to ' if length > night else ''}{ends[1]} {hours.opens:02}:00",
        )
    try:
        if days := re.fullmatch(r"(\d{4}-\d{2}-\d{2})(?:\.\.(\d{4}-\d{2}-\d{2}))?", said):
            first, last = date.fromisoformat(days[1]), date.fromisoformat(days[2] or days[1])
            return _days(first, last, hours)
        begin = datetime.fromisoformat(said)
    except ValueError as error:
        raise UsageError(f"can't read the calendar {text!r}", hint=_HINT) from error
    if begin.tzinfo is not None and hours.zone is not None:
        begin = begin.astimezone(hours.zone)
    begin = begin.replace(tzinfo=None)
    opening = hours.next_opening(begin)
    return Unattended(
        hours.between(begin, opening),
        f"calendar: {begin:%a %Y-%m-%d %H:%M} to {opening:%a %Y-%m-%d %H:%M}",
    )


def _days(first: date, last: date, hours: WorkingHours) -> Unattended:
    if not 0 <= (last - first).days < _LONGEST:
        raise UsageError(
            f"the days off {first}..{last} end before they start, or last a year or more", hint=_HINT
        )
    off = frozenset(first + _DAY * number for number in range((last - first).days + 1))
    closed = replace(hours, holidays=hours.holidays | off)
    begin = closed.last_closing(first)
    opening = closed.next_opening(datetime.combine(last, time()) + _DAY)
    return Unattended(
        hours.between(begin, opening),
        f"calendar: {begin:%a %Y-%m-%d %H:%M} to {opening:%a %Y-%m-%d %H:%M}",
    )


def time_zone(name: str) -> ZoneInfo:
    """Return a time zone by its name, such as Europe/Berlin. Raises UsageError."""
    try:
        return ZoneInfo(name)
    except (
        KeyError,
        ValueError,
        OSError,
    ) as error:  # not found is a KeyError, a path or folder one of the others
        raise UsageError(
            f"no time zone {name!r} is known here", hint="Such as Europe/Berlin or America/New_York."
        ) from error


def holidays(texts: Iterable[str]) -> frozenset[date]:
    """Read dates, comma-separated or one by one. Raises UsageError."""
    words = [word.strip() for text in texts for word in text.split(",") if word.strip()]
    try:
        return frozenset(date.fromisoformat(word) for word in words)
    except ValueError as error:
        raise UsageError("can't read a date of --holidays", hint="Use 2026-12-25,2027-01-01.") from error
