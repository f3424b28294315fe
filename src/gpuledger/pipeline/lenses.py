"""Lenses: of the cards and the volumes that were there, how much was held, used, idle or fragmented, and its cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from gpuledger.core import windows
from gpuledger.core.windows import Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.focus.schema import quoted
from gpuledger.models import lenses as model
from gpuledger.models import machines
from gpuledger.models.usage import usage_current
from gpuledger.pipeline import allocation_state, costs
from gpuledger.pipeline.ledger import Ledger

BY: Final = {"gpu": ("cluster", "pool", "namespace", "gpu_model"), "storage": ("cluster", "namespace")}
_STEPS: Final = {
    "gpu": ("no_gpu", "gpu_claim", "gpu_pod", "gpu_moment", "gpu", "gpu_cost"), "storage": ("storage", "storage_cost"),
}  # fmt: skip
_EVER: Final = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
# Units times microseconds in an hour of one card, of one GiB.
_CARD_HOUR: Final = "226800000000000000000"
_GIB_HOUR: Final = "3600000000000000000"


@dataclass(slots=True)
class Lens:
    """Rows by group with hours and effective cost; totals over all of them. What nobody knows is null."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def lens(ledger: Ledger, name: str, *, by: Sequence[str] = (), window: str | None = None) -> Lens:
    """Look at cards (`gpu`) or volumes (`storage`) of a window, by cluster and what else is asked for.

    Raises LedgerError when there is nothing in the ledger, UsageError for unknown columns and several currencies.
    """
    ledger.require()
    span = windows.parse(window, datetime.now(UTC)) if window else None
    con = ledger.connect()
    try:
        found = ask(con, name, by or BY[name][:1], span)
    finally:
        con.close()
    found.diagnostics = allocation_state.stale(ledger.store, ledger.config.allocation)
    return found


def ask(con: duckdb.Connection, name: str, by: Sequence[str], window: Window | None = None) -> Lens:
    """Answer over the views of a ledger connection."""
    groups = [_group(name, one) for one in by]
    charged = costs.predicate(costs.Question(window=window, allocated=True))
    con.execute(f"CREATE OR REPLACE TEMP VIEW window_charge AS SELECT * FROM allocated WHERE {charged}")
    split = costs.Question(where=["AllocatedMethodId!="], allocated=True)
    currencies = costs.one_currency(con, "window_charge", split)
    span = window or _EVER
    days = f"x_BillingPeriod BETWEEN '{span.start:%Y-%m-%d}' AND '{span.end:%Y-%m-%d}'"
    told = usage_current(con, f"(SELECT * FROM usage_interval WHERE {days})")
    con.execute(f"CREATE OR REPLACE TEMP VIEW held_usage AS {told}")
    con.execute(f"CREATE OR REPLACE TEMP VIEW seen_node AS SELECT * FROM node_interval WHERE {days}")
    for part in _STEPS[name]:
        kind = "VIEW" if part == "gpu_claim" else "TABLE"
        con.execute(f"CREATE OR REPLACE TEMP {kind} lens_{part} AS {_filled(part, span)}")
    query = _GPU if name == "gpu" else _STORAGE
    con.execute(f"CREATE OR REPLACE TEMP TABLE lens_row AS {query}")
    sums = _SUMS[name]
    keys = ", ".join(quoted(group) for group in groups)
    rows = _dicts(con, f"SELECT {keys}, {sums} FROM lens_row GROUP BY {keys} ORDER BY {_ORDER[name]}, {keys}")
    totals = _dicts(con, f"SELECT {sums} FROM lens_row")[0]
    totals |= {"currency": currencies[0] if currencies else None}
    if name == "storage":
        totals["untold_cost"] = _untold(con)
    return Lens(rows, totals)


def _group(name: str, text: str) -> str:
    folded = text.strip().casefold().replace("-", "_")
    if folded not in BY[name]:
        raise UsageError(f"the {name} lens has no {text!r}", hint=f"There are: {', '.join(BY[name])}.")
    return folded


def _filled(name: str, window: Window) -> str:
    text = model.query(name)
    for key, moment in (("since", window.start), ("until", window.end)):
        text = text.replace("{" + key + "}", f"CAST({int(moment.timestamp()) * 1_000_000} AS BIGINT)")
    return text.replace("{methods}", f"{duckdb.literal(machines.VOLUME_METHOD)}")


def _dicts(con: duckdb.Connection, query: str) -> list[dict[str, Any]]:
    cursor = con.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _untold(con: duckdb.Connection) -> Decimal | None:
    """Effective cost of storage resources that no telemetry tells of: who claims them isn't known."""
    row = con.execute(
        "SELECT sum(EffectiveCost) FROM window_charge WHERE ServiceCategory = 'Storage' AND ResourceId IS NOT NULL "
        "AND AllocatedMethodId IS NULL AND ChargeCategory IN ('Usage', 'Credit')"
    ).fetchone()
    return row[0] if row else None


def _hours(column: str, per: str) -> str:
    """SQL of a sum of units times microseconds as hours, to nine decimals, rounded half up."""
    nano = f"(sum({column}) * 2 + {per[:-9]}) // ({per[:-9]} * 2)"
    return f"CAST(CAST({nano} AS DECIMAL(38, 0)) * CAST(0.000000001 AS DECIMAL(9, 9)) AS DECIMAL(38, 9))"


# Which pool and model a machine is of. A scale set is billed, and so split, as one machine.
_PLACE: Final = """
    place AS (
        SELECT cluster, node, arg_max(pool, "start") AS pool, arg_max(gpu_model, "start") AS gpu_model
        FROM (
            SELECT cluster, lower(node) AS node, pool, gpu_model, "start" FROM seen_node
            UNION ALL
            SELECT cluster, regexp_replace(lower(provider_id), '(/virtualmachinescalesets/[^/]+)/.*$', '\\1'), pool, gpu_model, "start"
            FROM seen_node WHERE starts_with(lower(provider_id), '/subscriptions/')
        )
        GROUP BY cluster, node
    )"""
_GPU: Final = f"""
    WITH {_PLACE}
    SELECT r.* EXCLUDE (node), p.pool, p.gpu_model
    FROM (SELECT * FROM lens_gpu UNION ALL BY NAME SELECT * FROM lens_gpu_cost) AS r
    LEFT JOIN place AS p ON p.cluster = r.cluster AND p.node = lower(r.node)"""
_STORAGE: Final = """
    WITH unused AS (
        SELECT device, cluster, coalesce(namespace, '') AS space, sum(claimed) AS claimed, sum(measured) AS measured, sum(used) AS used
        FROM lens_storage GROUP BY ALL
    ), cost AS (
        SELECT c.*, CASE WHEN u.measured > 0 THEN part_of(
            claimed_cost, CAST(greatest(u.measured - u.used, 0) // 1000000000000000 AS DECIMAL(27, 0)), CAST(u.claimed // 1000000000000000 AS DECIMAL(27, 0))
        ) END AS unused_cost
        FROM lens_storage_cost AS c
        LEFT JOIN unused AS u ON u.device = c.device AND u.cluster = c.cluster AND u.space = coalesce(c.namespace, '')
    )
    SELECT * EXCLUDE (device) FROM (SELECT * FROM lens_storage UNION ALL BY NAME SELECT * FROM cost)"""
_SUMS: Final = {
    "gpu": f"""
        {_hours("there", _CARD_HOUR)} AS gpu_hours, {_hours("held", _CARD_HOUR)} AS allocated_gpu_hours,
        {_hours("measured", _CARD_HOUR)} AS measured_gpu_hours, {_hours("used", _CARD_HOUR)} AS used_gpu_hours,
        {_hours("free", _CARD_HOUR)} AS idle_gpu_hours, {_hours("fragmented", _CARD_HOUR)} AS fragmented_gpu_hours,
        sum(allocated_cost) AS allocated_cost, sum(used_cost) AS used_cost, sum(idle_cost) AS idle_cost,
        sum(fragmented_cost) AS fragmented_cost, sum(unknown_cost) AS unknown_cost""",
    "storage": f"""
        {_hours("provisioned", _GIB_HOUR)} AS provisioned_gib_hours, {_hours("claimed", _GIB_HOUR)} AS claimed_gib_hours,
        {_hours("measured", _GIB_HOUR)} AS measured_gib_hours, {_hours("used", _GIB_HOUR)} AS used_gib_hours,
        sum(claimed_cost) AS claimed_cost, sum(unclaimed_cost) AS unclaimed_cost, sum(unused_cost) AS unused_cost,
        CASE WHEN coalesce(sum(unclaimed_cost), sum(unused_cost)) IS NOT NULL
            THEN coalesce(sum(unclaimed_cost), 0) + coalesce(sum(unused_cost), 0) END AS wasted_cost,
        sum(unknown_cost) AS unknown_cost""",
}
_ORDER: Final = {
    "gpu": "idle_cost DESC NULLS LAST, gpu_hours DESC NULLS LAST", "storage": "wasted_cost DESC NULLS LAST",
}  # fmt: skip
