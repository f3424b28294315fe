"""Windows as OpenCost documents them, and sets that add up to their window."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.opencost import BadParameterError
from gpuledger.core.opencost.windows import (
    Accumulate,
    Span,
    parse_accumulate,
    parse_bool,
    parse_step,
    parse_window,
    sets,
)

NOW = datetime(2026, 10, 7, 13, 45, 30, tzinfo=UTC)  # a Wednesday


def span(start: str, end: str) -> Span:
    return Span(*(datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("today", span("2026-10-07", "2026-10-08")),
        ("yesterday", span("2026-10-06", "2026-10-07")),
        ("week", Span(datetime(2026, 10, 4, tzinfo=UTC), NOW)),
        ("lastweek", span("2026-09-27", "2026-10-04")),
        ("month", Span(datetime(2026, 10, 1, tzinfo=UTC), NOW)),
        ("lastmonth", span("2026-09-01", "2026-10-01")),
        ("7d", span("2026-10-01", "2026-10-08")),
        ("1w", span("2026-10-01", "2026-10-08")),
        ("24h", span("2026-10-06T14:00", "2026-10-07T14:00")),
        ("30m", span("2026-10-07T13:16", "2026-10-07T13:46")),
        ("1d offset 1d", Span(NOW - timedelta(days=2), NOW - timedelta(days=1))),
        ("2026-10-01T00:00:00Z,2026-10-03T12:00:00Z", span("2026-10-01", "2026-10-03T12:00")),
        ("2026-10-01T02:00:00+02:00,2026-10-03", span("2026-10-01", "2026-10-03")),
        ("1790812800,1790899200", span("2026-10-01", "2026-10-02")),
        ("1790812800-1790899200", span("2026-10-01", "2026-10-02")),
    ],
)
def test_windows(text: str, expected: Span) -> None:
    assert parse_window(text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "required"),
        ("7x", "can't read"),
        ("2026-10-03T00:00:00Z,2026-10-01T00:00:00Z", "ends before"),
        ("0d", "ends before"),
        ("2026-13-01,2026-14-01", "no such time"),
        ("999999999999,999999999999", "no such time"),
    ],
)
def test_bad_windows_name_the_parameter(text: str, told: str) -> None:
    with pytest.raises(BadParameterError, match=told) as caught:
        parse_window(text, NOW)
    assert caught.value.parameter == "window"
    assert caught.value.hint


def test_the_first_instant_of_a_month_is_a_window_too() -> None:
    midnight = datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_window("month", midnight).hours == 1


def test_steps_and_flags() -> None:
    assert parse_step("1h30m") == timedelta(hours=1, minutes=30)
    assert parse_step("24h0m0s") == timedelta(days=1)
    assert parse_step("1w") == timedelta(weeks=1)
    assert parse_step(None) is None
    assert parse_bool("True", "x") is True
    assert parse_bool(None, "x", default=True) is True
    assert parse_accumulate("true") == "all"
    assert parse_accumulate("false") == ""
    for bad in ("10s", "x", "-1h", "1"):
        with pytest.raises(BadParameterError):
            parse_step(bad)
    with pytest.raises(BadParameterError):
        parse_bool("perhaps", "x")
    with pytest.raises(BadParameterError):
        parse_accumulate("year")


def test_calendar_sets_are_cut_at_the_window() -> None:
    week = parse_window("2026-10-01,2026-10-14", NOW)
    assert [one.start.day for one in sets(week, None, "week")] == [1, 4, 11]
    assert [one.start.day for one in sets(week, None, "weeknow")] == [1, 7]
    assert sets(week, None, "weeknow")[0].hours == 6 * 24
    year = parse_window("2026-01-15,2027-01-15", NOW)
    assert [one.start.month for one in sets(year, None, "quarter")] == [1, 4, 7, 10, 1]
    assert len(sets(year, None, "month")) == 13
    with pytest.raises(BadParameterError, match="sets"):
        sets(year, timedelta(minutes=1), "")


@given(
    start=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # naive bounds, as hypothesis wants
    minutes=st.integers(1, 60 * 24 * 100),
    step=st.one_of(st.none(), st.integers(60, 60 * 24 * 30)),
    unit=st.sampled_from(["", "all", "day", "week", "weeknow", "month", "quarter"]),
)
def test_sets_follow_one_another_from_end_to_end(
    start: datetime, minutes: int, step: int | None, unit: Accumulate
) -> None:
    window = Span(start, start + timedelta(minutes=minutes))
    found = sets(window, None if step is None else timedelta(minutes=step), unit)
    assert found[0].start == window.start
    assert found[-1].end == window.end
    assert all(one.end == after.start for one, after in itertools.pairwise(found))
    assert all(one.start < one.end for one in found)
