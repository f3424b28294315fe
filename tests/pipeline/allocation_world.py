"""A small synthetic world: a bill of machines, and telemetry of what ran on them, brought into a ledger."""
# ruff: noqa: ANN401  # rows and records take any of their fields

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

from gpuledger.config import Config
from gpuledger.core.usage import Evidence, Job, NodeInterval, UsageInterval
from gpuledger.core.usage_tables import Record
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.focus.schema import LEDGER_COST_AND_USAGE, PARTITION_COLUMNS, create_columns
from gpuledger.pipeline.allocate import allocate
from gpuledger.pipeline.built import Built
from gpuledger.pipeline.ingest import scratch_folder
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.store import DataFile
from gpuledger.pipeline.telemetry import store_records

T0 = datetime(2026, 10, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
TIES = files("gpuledger.models.audits").joinpath("allocation_ties.sql").read_text("utf-8")
# A machine whose price is all cards, so that a card's share is the cost's.
CARDS_ONLY = {"gpu": 1, "cpu": 0, "memory": 0}


def hour(number: float) -> datetime:
    return T0 + timedelta(hours=number)


def charge(
    cost: str, resource: str = "i-1", hours: tuple[float, float] = (0, 1), **more: Any
) -> dict[str, Any]:
    """One line of a bill: a machine's hour in October 2026."""
    return {
        "BilledCost": cost, "EffectiveCost": cost, "ListCost": cost, "ContractedCost": cost, "BillingAccountId": "1",
        "BillingCurrency": "USD", "BillingPeriodStart": "2026-10-01T00:00:00Z", "x_CostStatus": "Final",
        "ChargePeriodStart": hour(hours[0]).isoformat(), "ChargePeriodEnd": hour(hours[1]).isoformat(),
        "ChargeCategory": "Usage", "ServiceName": "Compute", "ServiceCategory": "Compute", "ResourceId": resource, **more,
    }  # fmt: skip


def node(
    name: str = "n1", provider: str | None = "i-1", hours: tuple[float, float] = (0, 24), **more: Any
) -> NodeInterval:
    made = NodeInterval(
        "east", name, hour(hours[0]), hour(hours[1]), provider_id=provider, pool="gpus", gpu_model="H100",
        gpu_count=Decimal(8), cpu_cores=Decimal(96), memory_gib=Decimal(1024),
    )  # fmt: skip
    return replace(made, **more)


def pod(
    name: str, hours: tuple[float, float] = (0, 1), gpus: str | None = None, **more: Any
) -> UsageInterval:
    made = UsageInterval(
        cluster="east", node="n1", job_id=f"east/{name}", resource="gpu", namespace="ml", pod=name, pod_uid=f"uid-{name}",
        start=hour(hours[0]), end=hour(hours[1]), requested=None if gpus is None else Decimal(gpus),
    )  # fmt: skip
    return replace(made, **more)


def job(name: str, *, cluster: str = "east", **more: Any) -> Job:
    made = Job(
        f"{cluster}/{name}", cluster, "Job", name, "ml", submitted=T0, started=T0, state="Running", attempts=1
    )
    return replace(made, **more)


def owned(**dimensions: str) -> dict[str, Evidence]:
    return {name: Evidence(value, "label", 0) for name, value in dimensions.items()}


class World:
    """A ledger in a folder, and what can happen to it."""

    def __init__(self, folder: Path, **allocation: Any) -> None:
        self.folder = folder
        self.deliveries = 0
        self.settings(**allocation)

    def settings(self, **allocation: Any) -> None:
        given = {**CARDS_ONLY, **allocation}
        kept = {name: value for name, value in given.items() if value is not None}
        self.ledger = Ledger(str(self.folder / "ledger"), Config.model_validate({"allocation": kept}))

    def bill(self, *rows: dict[str, Any], source: str = "cloud", table: str = "cost_and_usage") -> None:
        """Deliver a bill, already as ledger rows; it replaces the one before."""
        self.deliveries += 1
        con = duckdb.connect()
        columns = [column for column in LEDGER_COST_AND_USAGE if column.name not in PARTITION_COLUMNS]
        con.execute(f"CREATE TABLE line ({create_columns(columns)})")
        for row in rows:
            names = ", ".join(row)
            con.execute(
                f"INSERT INTO line ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values())
            )
        scratch = scratch_folder(self.ledger.store) / "bill.parquet"
        con.execute(f"COPY line TO {duckdb.literal(scratch)} (FORMAT parquet)")
        con.close()
        period = str(rows[0]["BillingPeriodStart"])[:7]
        self.ledger.store.replace(
            table, source, f"d{self.deliveries}", [DataFile(scratch, len(rows), period)],
            orders={period: self.deliveries}, notes={period: {}},
        )  # fmt: skip

    def telemetry(self, *records: Record, source: str = "k8s", days: int = 1) -> None:
        """Store records as the whole of the days from T0; intervals are cut to each day."""
        self.deliveries += 1
        for number in range(days):
            day = (T0 + number * timedelta(days=1)).date()
            store_records(
                self.ledger.store,
                source,
                day,
                records,
                delivery_id=f"d{self.deliveries}",
                order=self.deliveries,
            )

    def build(self) -> list[Built]:
        """Allocate, and hold the result to the audit; return what was split anew."""
        told = list(allocate(self.ledger))
        self.diagnostics = [one for one in told if isinstance(one, Diagnostic)]
        assert self.ask(TIES) == []
        return [one for one in told if isinstance(one, Built)]

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        con = self.ledger.connect()
        try:
            return con.execute(query).fetchall()
        finally:
            con.close()

    def costs(self, *group_by: str, metric: str = "billed", where: Sequence[str] = ()) -> dict[Any, Decimal]:
        """Allocated cost by columns: plain keys for one column, tuples for several."""
        answer = self.ledger.costs(group_by, metric=metric, where=where, allocated=True)
        found: dict[Any, Decimal] = defaultdict(Decimal)
        for row in answer.rows:
            *keys, cost = row.values()
            found[keys[0] if len(keys) == 1 else tuple(keys)] += cost
        return dict(found)
