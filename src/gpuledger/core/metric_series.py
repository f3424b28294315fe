"""A series of a monitoring system as it was scraped, at its own times; answers over steps are `core.metric_grid`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Series:
    """Labels as the monitoring system has them, and values by time (UTC)."""

    labels: Mapping[str, str]
    values: Mapping[datetime, Decimal]
