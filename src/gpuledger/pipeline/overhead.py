"""Charges of no machine, such as a control plane's fee, shared among the jobs of their cluster as configured."""

from collections.abc import Callable, Sequence
from typing import Final

from gpuledger.config import OverheadSection
from gpuledger.core.contracts import Connection
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import ConfigError, UsageError
from gpuledger.focus.schema import MONEY
from gpuledger.models.allocation import allocate_overhead
from gpuledger.pipeline.costs import condition

NO_PARTS: Final = (
    "(SELECT NULL AS x_Cluster, NULL AS x_JobId, NULL AS x_Node, NULL AS x_AllocationState, NULL AS BillingCurrency, "
    "NULL AS ChargePeriodStart, NULL AS ChargePeriodEnd, NULL AS EffectiveCost LIMIT 0)"
)
# Weights count in billionths of the currency, which is fine enough, and three times as fast as 18 digits.
_WEIGHT: Final = (
    f"CAST(CAST(sum(EffectiveCost) AS DECIMAL(29, 9)) * CAST(0.000000001 AS DECIMAL(9, 9)) AS {MONEY})"
)


def share(
    con: duckdb.Connection, entries: Sequence[OverheadSection], parts: str, use: Callable[[Connection], None]
) -> tuple[int, list[Diagnostic]]:
    """Share the charges that entries name, the first that does; return how many, and what belongs to no known cluster.

    Reads `charge`, `machine_charge` and `seen_node`, and the relation `parts` with the rows that machines' charges were
    split into (columns of ALLOCATED_COST): what jobs cost there is their weight. `use` gets the connection whose table
    `allocated` has the rows of a few charges, which `overhead_charge` has in full. Raises ConfigError for a condition
    that can't be read.
    """
    if not entries:
        return 0, []
    _find(con, entries)
    placed = "SELECT entry, BillingCurrency, count(*) FROM overhead_charge WHERE cluster IS NOT NULL GROUP BY ALL ORDER BY ALL"
    charges = 0
    for number, currency, count in con.execute(placed).fetchall():
        same = (
            f"BillingCurrency IS NOT DISTINCT FROM {'NULL' if currency is None else duckdb.literal(currency)}"
        )
        con.execute(
            "CREATE OR REPLACE TABLE overhead_batch AS SELECT *, NULL AS node FROM overhead_charge "
            f"WHERE entry = {number} AND cluster IS NOT NULL AND {same}"
        )
        con.execute(
            "CREATE OR REPLACE TABLE overhead_weight AS SELECT x_Cluster AS cluster, x_JobId AS job_id, "
            'ChargePeriodStart AS "start", ChargePeriodEnd AS "end", '
            f"{_WEIGHT} AS weight "
            f"FROM {parts} WHERE x_JobId IS NOT NULL AND x_Node IS NOT NULL "
            f"AND x_AllocationState IN ('running', 'held') AND {same} GROUP BY ALL"
        )
        entry = entries[number]
        allocate_overhead(con, "overhead_batch", "overhead_weight", entry.method, entry.shares)
        use(con)
        charges += count
    return charges, _untold(con, entries)


def _find(con: duckdb.Connection, entries: Sequence[OverheadSection]) -> None:
    """Create `overhead_charge`: rows of `charge` with the entry that names them, and their cluster where it is known."""
    named = " ".join(
        f"WHEN {_conditions(number, entry)} THEN {number}" for number, entry in enumerate(entries)
    )
    given = " ".join(
        f"WHEN {number} THEN {duckdb.literal(entry.cluster)}"
        for number, entry in enumerate(entries)
        if entry.cluster is not None
    )
    con.execute(
        f"CREATE TABLE overhead_named AS SELECT *, CASE {named} END AS entry FROM charge "
        "WHERE entry IS NOT NULL AND AllocatedMethodId IS NULL "
        "AND charge_id NOT IN (SELECT charge_id FROM machine_charge)"
    )
    con.execute(
        f"""CREATE TABLE overhead_charge AS
        WITH known AS (SELECT DISTINCT cluster FROM seen_node),
        told AS (
            SELECT n.charge_id, CASE WHEN count(DISTINCT k.cluster) = 1 THEN min(k.cluster) END AS cluster
            FROM overhead_named AS n
            JOIN known AS k ON lower(k.cluster) = lower(regexp_extract(n.ResourceId, '[^/]+$'))
                OR len(list_filter(map_entries(n.Tags), lambda tag: tag.value = k.cluster AND contains(lower(tag.key), 'cluster'))) > 0
            GROUP BY n.charge_id
        )
        SELECT n.*, coalesce(
            {f"CASE n.entry {given} END" if given else "NULL"}, told.cluster,
            (SELECT CASE WHEN count(*) = 1 THEN min(cluster) END FROM known)
        ) AS cluster
        FROM overhead_named AS n LEFT JOIN told USING (charge_id)"""
    )


def _conditions(number: int, entry: OverheadSection) -> str:
    try:
        return " AND ".join(f"({condition(text)})" for text in entry.where)
    except UsageError as error:
        where = f"allocation.overhead, entry {number + 1}"
        raise ConfigError(error.message, where=where, hint=error.hint) from error


def _untold(con: duckdb.Connection, entries: Sequence[OverheadSection]) -> list[Diagnostic]:
    rows = con.execute(
        "SELECT entry, cluster, count(*), min(ResourceId) FROM overhead_charge "
        "WHERE cluster IS NULL OR cluster NOT IN (SELECT cluster FROM seen_node) GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return [
        Diagnostic(
            "overhead-cluster-unknown", "warning",
            f"allocation.overhead, entry {number + 1} ({', '.join(entries[number].where)})",
            f"{count} charges, such as of {example or 'no resource'}, can't be shared: "
            + ("nothing tells their cluster" if cluster is None else f"telemetry knows no cluster {cluster}"),
            'Give the entry cluster = "NAME", as telemetry names it.',
        )
        for number, cluster, count, example in rows
    ]  # fmt: skip
