"""Dated price points: the newest that isn't later, never another region's, never zero for unknown."""

from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise

import pytest

from gpuledger.prices import gpu_type, load_prices, points, price_at
from gpuledger.prices.points import PricePoint

LATER = date(2026, 12, 1)


def test_points_are_exact_and_about_known_types() -> None:
    prices = load_prices()
    assert len({point.cloud for point in prices}) >= 8
    for point in prices:
        assert isinstance(point.on_demand, Decimal)
        assert point.on_demand > 0, point
        assert point.spot is None or 0 < point.spot <= point.on_demand, point
        assert gpu_type(point.instance_type) is not None, point
        assert point.region == point.region.lower()
        assert point.source


def test_files_are_append_only() -> None:
    """A point is told once; a new price of the same thing comes after the older one."""
    told = [(point.cloud, point.region, point.instance_type, point.as_of) for point in load_prices()]
    assert len(told) == len(set(told))
    series: dict[tuple[str, str, str], list[date]] = {}
    for cloud, region, name, day in told:
        series.setdefault((cloud, region, name), []).append(day)
    assert all(one < two for days in series.values() for one, two in pairwise(days))


def test_price_of_a_day() -> None:
    point = price_at("p5.48xlarge", "us-east-1", LATER)
    assert point is not None
    assert (point.on_demand, point.spot, point.as_of) == (Decimal("55.04"), None, date(2026, 7, 20))
    assert price_at("P5.48xlarge", "US-East-1", datetime(2026, 7, 20, 12, tzinfo=UTC)) == point


def test_unknown_is_none() -> None:
    assert price_at("p5.48xlarge", "us-east-1", date(2026, 7, 19)) is None  # no price is carried back
    assert price_at("p5.48xlarge", "eu-west-1", LATER) is None  # nor borrowed from another region
    assert price_at("p5.48xlarge", None, LATER) is None
    assert price_at("m5.large", "us-east-1", LATER) is None


def test_one_price_everywhere() -> None:
    point = price_at("BM.GPU.H100.8", "eu-frankfurt-1", LATER)
    assert point is not None
    assert (point.region, point.on_demand) == ("*", Decimal(80))
    assert price_at("BM.GPU.H100.8", None, LATER) == point


def test_a_newer_point_wins_and_the_regional_one_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def point(region: str, price: int, month: int) -> PricePoint:
        return PricePoint("x", region, "t", Decimal(price), None, date(2026, month, 1), "synthetic")

    table = {("t", "r"): [point("r", 5, 1), point("r", 4, 3)], ("t", "*"): [point("*", 9, 2)]}
    monkeypatch.setattr(points, "_by_place", lambda: table)

    def cost(region: str | None, month: int) -> Decimal | None:
        found = price_at("t", region, date(2026, month, 15))
        return found.on_demand if found else None

    assert [cost("r", month) for month in (1, 2, 3)] == [Decimal(5), Decimal(5), Decimal(4)]
    assert [cost("s", month) for month in (1, 2, 3)] == [None, Decimal(9), Decimal(9)]
