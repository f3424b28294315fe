"""Windows of time as people type them: `2026-10`, `2026-10-01..2026-10-31`, `7d`, `lastmonth`."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gpuledger.errors import UsageError

_HINT = "Use 2026-10, 2026-10-01..2026-10-31 (both days included), 7d, 24h, today, month or lastmonth."


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open UTC interval [start, end).

    `billing_periods` is set when the window is whole months: such a window means the bills of these months, so that
    sums tie to the invoices; any other means the time in which charges were incurred.
    """

    start: datetime
    end: datetime
    billing_periods: tuple[str, ...] = ()


def parse(text: str, now: datetime) -> Window:
    """Read a window. `now` is the present moment in UTC. Raises UsageError for anything else."""
    text = text.strip().lower()
    try:
        if match := re.fullmatch(r"(\d{4}-\d{2})(?:\.\.(\d{4}-\d{2}))?", text):
            return _months(_month(match[1]), _month(match[2] or match[1]))
        if match := re.fullmatch(r"(\d{4}-\d{2}-\d{2})(?:\.\.(\d{4}-\d{2}-\d{2}))?", text):
            start, last = (
                datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (match[1], match[2] or match[1])
            )
            if last < start:
                raise UsageError(f"the window {text!r} ends before it starts", hint=_HINT)
            return Window(start, last + timedelta(days=1))
    except ValueError as error:
        raise UsageError(f"no such date in the window {text!r}", hint=_HINT) from error
    if match := re.fullmatch(r"(\d{1,5})([dhm])", text):
        unit = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}[match[2]]
        return Window(now - int(match[1]) * unit, now)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if text == "month":
        return _months(first, first)
    if text == "lastmonth":
        last_month = (first - timedelta(days=1)).replace(day=1)
        return _months(last_month, last_month)
    if text == "today":
        return Window(now.replace(hour=0, minute=0, second=0, microsecond=0), now)
    raise UsageError(f"can't read the window {text!r}", hint=_HINT)


def _month(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)


def _next(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


def _months(first: datetime, last: datetime) -> Window:
    if last < first:
        raise UsageError("the window ends before it starts", hint=_HINT)
    periods, month = [], first
    while month <= last:
        periods.append(month.strftime("%Y-%m"))
        month = _next(month)
    return Window(first, month, tuple(periods))
