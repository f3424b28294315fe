"""How shares, spans and moments are written in evidence."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal


def percent(value: Decimal) -> str:
    """Write a share of 0 to 1."""
    return f"{value * 100:.1f}".removesuffix(".0") + " %"


def span(length: timedelta) -> str:
    """Write a length of time, in the two units that matter."""
    minutes = int(length.total_seconds()) // 60
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"  # noqa: PLR2004


def clock(moment: datetime | None) -> str:
    """Write a moment, to the minute."""
    return "an unknown time" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
