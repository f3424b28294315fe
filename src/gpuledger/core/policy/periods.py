"""Periods of budgets: calendar weeks (from Monday), months, quarters and years in UTC, half-open."""

from datetime import UTC, datetime, timedelta
from typing import Literal

Period = Literal["week", "month", "quarter", "year"]


def period_of(period: Period, moment: datetime) -> tuple[datetime, datetime]:
    """Return the start and the end of the period that a moment is in."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        start = day - timedelta(days=day.weekday())
        return start, start + timedelta(days=7)
    months = {"month": 1, "quarter": 3, "year": 12}[period]
    start = day.replace(month=(day.month - 1) // months * months + 1, day=1)
    after = start.year * 12 + start.month - 1 + months
    return start, start.replace(year=after // 12, month=after % 12 + 1)
