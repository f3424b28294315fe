"""Records of the reference as DuckDB tables, and the SQL engine's rows in the reference's terms."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import duckdb

from gpuledger.core.allocation import COSTS, GPU_HOURS, QUANTITIES, Allocated, Charge, UnitPrice
from gpuledger.core.usage import NodeInterval, UsageInterval
from gpuledger.models.allocation import Allocation, Inputs

AMOUNTS = (*COSTS, *QUANTITIES, GPU_HOURS)
T0 = datetime(2026, 10, 1, tzinfo=UTC)

# One row in the terms of both engines: key, amounts, details, GPU hours held, measured, used, over capacity.
Row = tuple[
    tuple[str, str | None, str | None], tuple[Decimal | None, ...], str, tuple[Decimal | None, ...], bool
]


def connect() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    return con


def _table(con: duckdb.DuckDBPyConnection, name: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
    con.execute(f"CREATE OR REPLACE TABLE {name} ({columns})")
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        values = ", ".join([f"({marks})"] * len(rows))
        con.execute(f"INSERT INTO {name} VALUES {values}", [value for row in rows for value in row])


def load(
    con: duckdb.DuckDBPyConnection,
    charges: Iterable[Charge],
    nodes: Iterable[NodeInterval],
    usage: Iterable[UsageInterval],
    prices: Iterable[UnitPrice],
) -> Inputs:
    """Write the four tables that allocation reads."""
    _table(
        con,
        "charges",
        "charge_id VARCHAR, cluster VARCHAR, node VARCHAR, ChargePeriodStart TIMESTAMPTZ, ChargePeriodEnd TIMESTAMPTZ, "
        + ", ".join(f"{name} DECIMAL(32,18)" for name in COSTS)
        + ", "
        + ", ".join(f"{name} DECIMAL(38,14)" for name in (*QUANTITIES, GPU_HOURS))
        + ", part VARCHAR, gpu_count DECIMAL(38,14), machine_seconds DECIMAL(38,14)",
        [
            (c.charge_id, c.cluster, c.node, c.start, c.end, *(c.amounts.get(name) for name in AMOUNTS), c.part, c.gpu_count, c.machine_seconds)
            for c in charges
        ],
    )  # fmt: skip
    _table(
        con,
        "node_interval",
        'cluster VARCHAR, node VARCHAR, "start" TIMESTAMPTZ, "end" TIMESTAMPTZ, gpu_count DECIMAL(38,14), '
        "cpu_cores DECIMAL(38,14), memory_gib DECIMAL(38,14), gpu_model VARCHAR, instance_type VARCHAR, region VARCHAR",
        [
            (n.cluster, n.node, n.start, n.end, n.gpu_count, n.cpu_cores, n.memory_gib, n.gpu_model, n.instance_type, n.region)
            for n in nodes
        ],
    )  # fmt: skip
    _table(
        con,
        "usage_interval",
        "cluster VARCHAR, node VARCHAR, job_id VARCHAR, attempt INTEGER, namespace VARCHAR, pod VARCHAR, pod_uid VARCHAR, "
        "container VARCHAR, resource VARCHAR, device VARCHAR, sharing VARCHAR, share_numerator BIGINT, share_denominator BIGINT, "
        'requested DECIMAL(38,14), used DECIMAL(38,14), state VARCHAR, "start" TIMESTAMPTZ, "end" TIMESTAMPTZ',
        [
            (
                u.cluster, u.node, u.job_id, u.attempt, u.namespace, u.pod, u.pod_uid, u.container, u.resource, u.device,
                u.sharing, None if u.share is None else u.share.numerator, None if u.share is None else u.share.denominator,
                u.requested, u.used, u.state, u.start, u.end,
            )
            for u in usage
        ],
    )  # fmt: skip
    _table(
        con,
        "unit_price",
        "gpu DECIMAL(38,14), cpu DECIMAL(38,14), memory DECIMAL(38,14), valid_from TIMESTAMPTZ, gpu_model VARCHAR, "
        "instance_type VARCHAR, region VARCHAR",
        [(p.gpu, p.cpu, p.memory, p.valid_from, p.gpu_model, p.instance_type, p.region) for p in prices],
    )
    return Inputs("charges", "usage_interval", "node_interval", "unit_price")


def by_sql(
    con: duckdb.DuckDBPyConnection, inputs: Inputs, *, by_container: bool = False, limit: int = 50_000
) -> list[Row]:
    """Allocate in SQL, all batches."""
    work = Allocation(con, inputs, by_container=by_container)
    rows: list[Row] = []
    for batch in work.batches(limit):
        work.run(batch)
        found = con.execute(
            f"SELECT x_OriginChargeId, x_AllocationState, AllocatedResourceId, {', '.join(AMOUNTS)}, "
            "AllocatedMethodDetails, x_HeldGpuHours, x_MeasuredGpuHours, x_UsedGpuHours, x_OverCapacity FROM allocated"
        ).fetchall()
        rows.extend(((r[0], r[1], r[2]), tuple(r[3:-5]), r[-5], tuple(r[-4:-1]), r[-1]) for r in found)
    return sorted(rows, key=_order)


def by_reference(allocated: Iterable[Allocated], clusters: dict[str, str]) -> list[Row]:
    """The reference's rows in the same terms; `clusters` has the cluster of each charge."""
    return sorted(
        (
            (
                (a.charge_id, a.state, a.holder.resource_id(clusters[a.charge_id]) if a.holder else None),
                tuple(a.amounts[name] for name in AMOUNTS),
                a.details,
                tuple(None if n is None else Decimal(n).scaleb(-9) for n in (a.held, a.measured, a.used)),
                a.over_capacity,
            )
            for a in allocated
        ),
        key=_order,
    )


def _order(row: Row) -> tuple[str, ...]:
    """By all that a row says: two holders may have one id, as two attempts of a pod do."""
    key, amounts, details, hours, over = row
    return (
        *("" if value is None else str(value) for value in (*key, details)),
        *map(_digits, (*amounts, *hours)),
        str(over),
    )


def _digits(value: Decimal | None) -> str:
    return "" if value is None else f"{value:.18f}"
