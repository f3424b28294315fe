"""Node intervals and bills as tables, and what metering makes of them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from gpuledger.core.metering import PriceBook
from gpuledger.core.usage import NodeInterval
from gpuledger.core.usage_tables import NODE_INTERVAL, values_of
from gpuledger.engines import duckdb
from gpuledger.focus.schema import LEDGER_COST_AND_USAGE, create_columns, quoted
from gpuledger.models import metering

DAY = datetime(2026, 11, 20, tzinfo=UTC)
Told = tuple[str, NodeInterval]


def at(hour: float) -> datetime:
    """A moment of the day, in hours."""
    return DAY + timedelta(hours=hour)


def node(name: str, start: float, end: float, **facts: Any) -> NodeInterval:  # noqa: ANN401
    """A node of cluster `c` over hours of the day."""
    cluster = facts.pop("cluster", "c")
    return NodeInterval(cluster, name, at(start), at(end), **facts)


def connect() -> duckdb.Connection:
    con = duckdb.connect()
    metering.load(con)
    return con


def insert(con: duckdb.Connection, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        names = ", ".join(quoted(name) for name in row)
        con.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))


def meter(
    con: duckdb.Connection, told: Iterable[Told], book: PriceBook, start: float = 0, end: float = 24
) -> list[dict[str, Any]]:
    """Create the table `estimated` from nodes as sources told them; return its rows, by resource and time."""
    con.execute(f"CREATE OR REPLACE TABLE node_interval ({create_columns(NODE_INTERVAL)})")
    insert(con, "node_interval", ({**values_of(interval), "x_Source": source} for source, interval in told))
    metering.machines(con, "node_interval", at(start), at(end))
    metering.prices(con, book, at(start), at(end))
    con.execute(f"CREATE OR REPLACE TABLE estimated ({create_columns(LEDGER_COST_AND_USAGE)})")
    con.execute(f"INSERT INTO estimated BY NAME SELECT * EXCLUDE (_rate) FROM ({metering.estimate()})")
    return rows(con, "SELECT * FROM estimated ORDER BY ResourceId, ChargePeriodStart")


def rows(con: duckdb.Connection, query: str) -> list[dict[str, Any]]:
    cursor = con.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def charge(resource: str | None, start: float, end: float, cost: str, **others: object) -> dict[str, Any]:
    """A Final row of a p5.48xlarge that runs all that time."""
    amount = Decimal(cost)
    hours = Decimal(str(end - start))
    return {
        "ResourceId": resource, "ChargePeriodStart": at(start), "ChargePeriodEnd": at(end),
        "BilledCost": amount, "EffectiveCost": amount, "ContractedCost": amount, "ListCost": hours * Decimal("55.04"),
        "BillingCurrency": "USD", "ChargeCategory": "Usage", "ServiceCategory": "Compute", "ServiceProviderName": "AWS",
        "PricingCategory": "Standard", "x_CostStatus": "Final", "x_InstanceType": "p5.48xlarge",
        "x_GpuCount": Decimal(8), "x_GpuHours": hours * 8, "RegionId": "us-east-1",
    } | others  # fmt: skip


def bill(con: duckdb.Connection, charges: Sequence[Mapping[str, Any]]) -> None:
    """Create the table `final`."""
    con.execute(f"CREATE OR REPLACE TABLE final ({create_columns(LEDGER_COST_AND_USAGE)})")
    insert(con, "final", charges)
