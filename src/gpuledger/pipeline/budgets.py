"""What budgets have reserved, spent and left; and leases settled by what the ledger knows of their workloads."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.policy import Budget, Policy
from gpuledger.core.policy.periods import period_of
from gpuledger.engines import duckdb
from gpuledger.pipeline.leases import Lease, Leases

_JOBS: Final = """
    SELECT string_split(j.job_id, '/')[-1] AS key, any_value(j.started) AS started, any_value(j.ended) AS ended,
        sum(a.EffectiveCost) FILTER (a.BillingCurrency = 'USD') AS cost
    FROM jobs AS j LEFT JOIN allocated AS a ON a.x_JobId = j.job_id
    WHERE string_split(j.job_id, '/')[-1] IN (SELECT unnest($keys))
    GROUP BY 1
"""


def rows(policy: Policy, leases: Leases, now: datetime) -> list[dict[str, Any]]:
    """Return a row per budget of the policy, for its current period."""
    known = leases.all(now)
    return [_row(budget, known, now) for budget in policy.budget]


def _row(budget: Budget, known: list[Lease], now: datetime) -> dict[str, Any]:
    start, end = period_of(budget.period, now)
    own = [
        lease
        for lease in known
        if lease.budget == budget.name and lease.period_start == start.date().isoformat()
    ]
    reserved = sum((one.reserved_usd for one in own if one.state in {"reserved", "running"}), Decimal(0))
    spent = sum((one.settled_usd or Decimal(0) for one in own if one.state == "settled"), Decimal(0))
    return {
        "budget": budget.name,
        "owner": budget.owner,
        "period_start": start,
        "resets": end,
        "amount": budget.amount_usd,
        "reserved": reserved,
        "spent": spent,
        "left": budget.amount_usd - reserved - spent,
        "workloads": sum(one.state in {"reserved", "running"} for one in own),
        "expired": sum(one.state == "expired" for one in own),
    }


def settle(con: duckdb.Connection, leases: Leases, now: datetime) -> dict[str, int]:
    """Settle the leases of workloads that ended at what they cost, and confirm those that began; return the numbers.

    A workload whose cost isn't known yet keeps its reservation.
    """
    open_leases = [lease for lease in leases.all(now) if lease.state != "settled"]
    done = {"settled": 0, "confirmed": 0, "unknown": 0}
    found = {
        key: (started, ended, cost)
        for key, started, ended, cost in con.execute(
            _JOBS, {"keys": [lease.key for lease in open_leases]}
        ).fetchall()
    }
    for lease in open_leases:
        started, ended, cost = found.get(lease.key, (None, None, None))
        if ended is not None and cost is not None:
            done["settled"] += leases.settle(lease.key, cost)
        elif started is not None and lease.state != "running":
            done["confirmed"] += leases.confirm(lease.key)
        else:
            done["unknown"] += 1
    return done
