"""Dated list prices of accelerator instances, USD per instance-hour.

One file per cloud in `gpu_prices/`, append only. Public list prices, no contract's: the bill wins over them.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files

ANY_REGION = "*"


@dataclass(frozen=True, slots=True)
class PricePoint:
    """What an hour of one instance cost on `as_of`, USD; None where the source names no price.

    `region` is the cloud's region id in lower case, or `*` where one price holds everywhere.
    """

    cloud: str
    region: str
    instance_type: str
    on_demand: Decimal | None
    spot: Decimal | None
    as_of: date
    source: str


def _read() -> Iterator[PricePoint]:
    folder = files("gpuledger.prices").joinpath("gpu_prices")
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".csv"):
            continue
        for row in csv.DictReader(file.read_text("utf-8").splitlines()):
            yield PricePoint(
                cloud=file.name.removesuffix(".csv"),
                region=row["region"],
                instance_type=row["instance_type"],
                on_demand=Decimal(row["on_demand_usd_per_hour"]) if row["on_demand_usd_per_hour"] else None,
                spot=Decimal(row["spot_usd_per_hour"]) if row["spot_usd_per_hour"] else None,
                as_of=date.fromisoformat(row["as_of"]),
                source=row["source"],
            )


@cache
def load_prices() -> tuple[PricePoint, ...]:
    """All price points, by cloud in the order of their files."""
    return tuple(_read())


@cache
def _by_place() -> dict[tuple[str, str], list[PricePoint]]:
    found: dict[tuple[str, str], list[PricePoint]] = defaultdict(list)
    for point in load_prices():
        found[point.instance_type, point.region].append(point)
    for points in found.values():
        points.sort(key=lambda point: point.as_of)
    return dict(found)


def price_at(instance_type: str, region: str | None, when: date | datetime) -> PricePoint | None:
    """Return the newest price point of that instance type and region that isn't later than `when`.

    A cloud-wide price (`*`) stands in for a region without its own; `region` None accepts only such a
    price. None when no price of that time is known: a later price is never carried back, another region's
    never borrowed.
    """
    day = when.date() if isinstance(when, datetime) else when
    name = instance_type.strip().lower()
    for place in (region.strip().lower() if region else ANY_REGION, ANY_REGION):
        known = [point for point in _by_place().get((name, place), []) if point.as_of <= day]
        if known:
            return known[-1]
    return None
