"""What nobody holds, shared by a configured method: idle time of machines, and charges that belong to no machine.

Methods: `none` leaves it unallocated; `even` gives each job the same; `proportional` follows what each job costs;
`fixed` follows weights that the user states for targets of his own, such as cost centres. Where nobody can take it, it
stays. Unknown cost is never shared: it isn't overhead, it isn't known.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

from gpuledger.core.contracts import Connection
from gpuledger.errors import UsageError
from gpuledger.focus.schema import MONEY, TEXT
from gpuledger.models.allocation import relations
from gpuledger.models.allocation.engine import METHOD
from gpuledger.models.allocation.relations import sql, typed

Method = Literal["none", "even", "proportional", "fixed"]

_WEIGHTS = {"cluster": TEXT, "job_id": TEXT, "start": "TIMESTAMPTZ", "end": "TIMESTAMPTZ", "weight": MONEY}


def share_idle(con: Connection, method: Method, fixed: Mapping[str, Decimal] | None = None) -> None:
    """Share the idle rows of the last batch among the jobs of the same charge; `allocated` is replaced.

    Shared rows keep the state 'idle', so that what a job held and what it was given stay apart. `even` counts jobs, not
    pods; `proportional` follows each job's part of the charge.
    """
    if method == "none":
        return
    weights = {"even": "1", "proportional": "ratio"}
    source = (
        "(SELECT a.*, a.x_OriginChargeId AS source_key, coalesce(r.ratio, 0) AS ratio "
        "FROM allocated AS a LEFT JOIN alloc_idle_ratio AS r "
        "ON r.charge_id = a.x_OriginChargeId WHERE a.x_AllocationState = 'idle')"
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE alloc_idle_ratio AS {sql('idle_ratio')}")
    if method == "fixed":
        target = _fixed("SELECT charge_id AS source_key FROM alloc_idle_ratio", fixed)
    else:
        target = f"({sql('idle_target', {'weight': weights[method]})})"
    spread = sql(
        "spread", {"source": source, "target": target, "method": f"{METHOD}+idle-{method}", "state": "idle"}
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE allocated AS "
        "SELECT * FROM allocated WHERE x_AllocationState IS DISTINCT FROM 'idle' "
        f"UNION ALL BY NAME ({spread})"
    )


def allocate_overhead(
    con: Connection,
    charges: str,
    weights: str,
    method: Method,
    fixed: Mapping[str, Decimal] | None = None,
) -> None:
    """Share charges among the jobs of their cluster (of all clusters, where it is null) into the table `allocated`.

    `charges` has the columns of `Inputs.charges`. `weights` says what each job cost and when: cluster, job_id, start,
    end, weight; a part of a row's weight counts by the time it overlaps the charge. Weights below zero count as zero.
    """
    names = {
        "charges": typed(con, charges, relations.CHARGES, relations.CHARGES_OPTIONAL),
        "weights": typed(con, weights, _WEIGHTS, {}),
        "method": f"gpuledger-overhead-{method}-1",
        "state": "overhead",
    }
    con.execute(sql("macros"))
    if method == "fixed":
        target = _fixed(f"SELECT charge_id AS source_key FROM {names['charges']}", fixed)
    elif method == "none":
        target = (
            "(SELECT NULL AS source_key, NULL AS target, NULL AS job_id, NULL AS name, 1 AS weight LIMIT 0)"
        )
    else:
        weight = "CAST(1 AS HUGEINT)" if method == "even" else "CAST(sum(part) AS HUGEINT)"
        target = f"({sql('overhead_target', names | {'weight': weight})})"
    source = f"({sql('overhead_source', names)})"
    spread = sql("spread", {**names, "source": source, "target": target})
    con.execute(f"CREATE OR REPLACE TEMP TABLE allocated AS {spread}")


def _fixed(sources: str, fixed: Mapping[str, Decimal] | None) -> str:
    """Every source with every target. Raises UsageError unless some weight is above zero."""
    weights = {target: int(weight.scaleb(9)) for target, weight in (fixed or {}).items()}
    if any(weight < 0 for weight in weights.values()) or not any(weights.values()):
        raise UsageError(
            "fixed shares need weights, none below zero and one above",
            where="overhead",
            hint='for example fixed = { "research" = 60, "products" = 40 }',
        )
    rows = ", ".join(
        f"('{target.replace(chr(39), 2 * chr(39))}', CAST({weight} AS HUGEINT))"
        for target, weight in weights.items()
    )
    return (
        "(SELECT source_key, target, CAST(NULL AS VARCHAR) AS job_id, CAST(NULL AS VARCHAR) AS name, weight "
        f"FROM ({sources}), (VALUES {rows}) AS fixed(target, weight))"
    )
