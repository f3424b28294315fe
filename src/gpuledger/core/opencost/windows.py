"""Windows of time and the sets that an answer is cut into: `7d`, `lastweek`, pairs of times, steps, calendar units.

A window is half-open and UTC. `7d` is today and the six days before it, midnight to midnight, as OpenCost has it; a
week begins on Sunday. Sets never reach beyond the window, so that they add up to it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from gpuledger.core.opencost import BadParameterError

Accumulate = Literal["", "all", "hour", "day", "week", "weeknow", "month", "quarter"]

_DAY: Final = timedelta(days=1)
_UNITS: Final = {
    "s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": _DAY, "w": 7 * _DAY,
}  # fmt: skip
_DURATION: Final = re.compile(r"(\d{1,6})(m|h|d|w)(?:\s+offset\s+(\d{1,6})(m|h|d|w))?")
_STEP: Final = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ns|us|ms|s|m|h|d|w))+")
_UNIX: Final = re.compile(r"(\d{1,12})[,-](\d{1,12})")
_TRUE: Final = frozenset({"true", "t", "1"})
_FALSE: Final = frozenset({"false", "f", "0", ""})
_MOST_SETS: Final = 10_000
_WINDOW_HINT: Final = (
    "Use today, yesterday, week, lastweek, month, lastmonth, 30m, 24h, 7d, '7d offset 1d', two RFC 3339 times or two "
    "Unix times with a comma between."
)


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open UTC interval [start, end)."""

    start: datetime
    end: datetime

    @property
    def hours(self) -> float:
        """Length in hours."""
        return (self.end - self.start) / timedelta(hours=1)

    def json(self) -> dict[str, str]:
        """Return the answer's form of a window."""
        return {"start": stamp(self.start), "end": stamp(self.end)}


def stamp(moment: datetime) -> str:
    """Return a moment as RFC 3339 in UTC, to the second as OpenCost writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_window(text: str, now: datetime, parameter: str = "window") -> Span:
    """Read a window. `now` is the present moment. Raises BadParameterError that names the parameter."""
    text = text.strip()
    if not text:
        raise BadParameterError(parameter, "a window is required", hint=_WINDOW_HINT)
    try:
        span = _named(text.lower(), now) or _past(text.lower(), now) or _pair(text)
    except (ValueError, OverflowError) as error:
        raise BadParameterError(
            parameter, f"no such time in {text!r} ({error})", hint=_WINDOW_HINT
        ) from error
    if span is None:
        raise BadParameterError(parameter, f"can't read the window {text!r}", hint=_WINDOW_HINT)
    if span.end <= span.start:
        raise BadParameterError(parameter, f"the window {text!r} ends before it starts", hint=_WINDOW_HINT)
    return span


def _named(text: str, now: datetime) -> Span | None:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    week = today - _DAY * ((today.weekday() + 1) % 7)
    month = today.replace(day=1)
    spans = {
        "today": Span(today, today + _DAY),
        "yesterday": Span(today - _DAY, today),
        "week": Span(week, now),
        "lastweek": Span(week - 7 * _DAY, week),
        "month": Span(month, now),
        "lastmonth": Span((month - _DAY).replace(day=1), month),
    }
    found = spans.get(text)
    if found is not None and found.start == found.end:  # the first instant of a week or month
        return Span(found.start, found.start + timedelta(hours=1))
    return found


def _past(text: str, now: datetime) -> Span | None:
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    length = int(match[1]) * _UNITS[match[2]]
    if match[3] is not None:
        end = now - int(match[3]) * _UNITS[match[4]]
        return Span(end - length, end)
    unit = _DAY if match[2] == "w" else _UNITS[match[2]]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    end = midnight + ((now - midnight) // unit + 1) * unit
    return Span(end - length, end)


def _pair(text: str) -> Span | None:
    if match := _UNIX.fullmatch(text):
        return Span(*(datetime.fromtimestamp(int(part), UTC) for part in match.groups()))
    start, comma, end = text.partition(",")
    if not comma or not re.match(r"\d{4}-\d{2}-\d{2}", start.strip()):
        return None
    return Span(*(_instant(part.strip()) for part in (start, end)))


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_step(text: str | None, parameter: str = "step") -> timedelta | None:
    """Read a duration such as `1d`, `6h`, `1h30m` (also `24h0m0s`); None when there is none."""
    text = (text or "").strip().lower()
    if not text:
        return None
    length = timedelta()
    if _STEP.fullmatch(text):
        micros = {"ns": 0.001, "us": 1.0, "ms": 1000.0}
        for number, unit in re.findall(r"([\d.]+)(ns|us|ms|[smhdw])", text):
            one = _UNITS[unit] if unit in _UNITS else timedelta(microseconds=micros[unit])
            length += float(number) * one
    if length < timedelta(minutes=1):
        raise BadParameterError(
            parameter,
            f"can't use the duration {text!r}",
            hint="Use one minute or longer: 10m, 1h, 1d, 1w.",
        )
    return length


def parse_bool(text: str | None, parameter: str, *, default: bool = False) -> bool:
    """Read true or false."""
    if text is None:
        return default
    folded = text.strip().lower()
    if folded in _TRUE:
        return True
    if folded in _FALSE:
        return False
    raise BadParameterError(parameter, f"{text!r} is neither true nor false", hint="Use true or false.")


def parse_accumulate(text: str | None, parameter: str = "accumulate") -> Accumulate:
    """Read `true`, `false`, or a unit; '' stands for no accumulation."""
    folded = (text or "").strip().lower()
    if folded in _FALSE:
        return ""
    if folded in _TRUE or folded == "all":
        return "all"
    for unit in ("hour", "day", "week", "weeknow", "month", "quarter"):
        if folded == unit:
            return unit
    raise BadParameterError(
        parameter,
        f"can't accumulate by {text!r}",
        hint="Use true, false, hour, day, week, month, quarter or all.",
    )


def sets(span: Span, step: timedelta | None, accumulate: Accumulate, parameter: str = "step") -> list[Span]:
    """Cut a window into the sets of an answer: calendar units, else steps from its start, else one.

    Raises BadParameterError when that were more than 10,000.
    """
    if accumulate == "all" or (not accumulate and step is None):
        return [span]
    found = []
    start = span.start
    for end in _bounds(span, step, accumulate):
        found.append(Span(start, min(end, span.end)))
        start = end
        if len(found) > _MOST_SETS:
            raise BadParameterError(
                parameter,
                f"more than {_MOST_SETS:,} sets",
                hint="Use a longer step or a shorter window.",
            )
    return found


def _bounds(span: Span, step: timedelta | None, accumulate: Accumulate) -> Iterator[datetime]:
    """Ends of the sets, up to the first that reaches the window's end."""
    bound = span.start
    if accumulate == "weeknow":
        rest = (span.end - span.start) % (7 * _DAY)
        bound += rest - 7 * _DAY if rest else timedelta()
    while bound < span.end:
        if accumulate == "weeknow":
            bound += 7 * _DAY
        elif accumulate:
            bound = _next(bound, accumulate)
        else:
            bound += step or (span.end - span.start)
        yield bound


def _next(moment: datetime, unit: Accumulate) -> datetime:
    if unit == "hour":
        return moment.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "day":
        return midnight + _DAY
    if unit == "week":
        return midnight + _DAY * (7 - (midnight.weekday() + 1) % 7)
    months = 1 if unit == "month" else 3 - (midnight.month - 1) % 3
    first = midnight.replace(day=1)
    for _ in range(months):
        first = (first + 32 * _DAY).replace(day=1)
    return first
