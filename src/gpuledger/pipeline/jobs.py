"""The job ledger: what each job held and cost, whose it is, and why we think so."""

import difflib
import json
import re
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
from gpuledger.models import jobs as model
from gpuledger.models.usage import job_aliases, usage_current
from gpuledger.pipeline import allocation_state, costs
from gpuledger.pipeline.ledger import Ledger

# Columns of a job that can be grouped and filtered by.
TRAITS: Final = (
    "job_id", "kind", "name", "cluster", "namespace", "cost_center", "team", "owner", "workload_type", "model", "experiment",
    "project", "environment", "budget", "state", "gpu_model", "cost_status",
)  # fmt: skip
_SUMS: Final = (
    "gpu_hours", "waiting_gpu_hours", "used_gpu_hours", "cost", "idle_cost", "shared_cost", "waiting_cost", "waste",
)  # fmt: skip
_UNPRICED: Final = "count(*) FILTER (cost IS NULL)"
_CURRENCY: Final = {"currency", "billingcurrency"}
_EVER: Final = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))


@dataclass(slots=True)
class Jobs:
    """Rows by job or group, totals over all of them, and findings.

    `totals`: cost of all jobs; `idle`: what nobody held; `unknown`: what nobody can tell who held; `unowned`: cost of
    jobs without team, owner and cost centre; `jobs`: how many, `unpriced_jobs` of which held something that no charge
    is known for; `currency`.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def jobs(
    ledger: Ledger,
    *,
    group_by: Sequence[str] = (),
    window: str | None = None,
    where: Sequence[str] = (),
    limit: int | None = None,
) -> Jobs:
    """Return the jobs that lived, held or cost something in a window, largest cost first.

    Raises LedgerError when there is nothing in the ledger, UsageError for unknown columns and several currencies.
    """
    ledger.require()
    span = windows.parse(window, datetime.now(UTC)) if window else None
    con = ledger.connect()
    try:
        found = ask(con, span, group_by=group_by, where=where, limit=limit)
    finally:
        con.close()
    found.diagnostics = allocation_state.stale(ledger.store, ledger.config.allocation)
    return found


def ask(
    con: duckdb.Connection,
    window: Window | None = None,
    *,
    group_by: Sequence[str] = (),
    where: Sequence[str] = (),
    limit: int | None = None,
) -> Jobs:
    """Answer over the views of a ledger connection."""
    of_charges = [
        text for text in where if text.partition("=")[0].rstrip("!").strip().casefold() in _CURRENCY
    ]
    question = costs.Question(where=of_charges, window=window, allocated=True)
    charged = costs.predicate(question)
    con.execute(f"CREATE OR REPLACE TEMP VIEW window_charge AS SELECT * FROM allocated WHERE {charged}")
    currencies = costs.one_currency(con, "window_charge", costs.Question(where=["job_id!="], allocated=True))
    define(con, window or _EVER)
    kept = " AND ".join(_condition(text) for text in where if text not in of_charges) or "true"
    con.execute(f"CREATE OR REPLACE TEMP TABLE kept_job AS SELECT * FROM job_row WHERE {kept}")
    answer = Jobs(_rows(con, [trait(name) for name in group_by], limit))
    answer.totals = _totals(con, whole=kept == "true") | {"currency": currencies[0] if currencies else None}
    return answer


def define(con: duckdb.Connection, window: Window) -> None:
    """Create the temporary view `job_row`, the jobs of a window, over the view `window_charge` of its charges."""
    since, until = (int(moment.timestamp()) * 1_000_000 for moment in (window.start, window.end))
    values = {
        "since": f"CAST({since} AS BIGINT)", "until": f"CAST({until} AS BIGINT)",
        "services": ", ".join(map(duckdb.literal, model.SERVICES)), "failed": ", ".join(map(duckdb.literal, model.FAILED)),
    }  # fmt: skip
    days = f"x_BillingPeriod BETWEEN '{window.start:%Y-%m-%d}' AND '{window.end:%Y-%m-%d}'"
    cost = model.query("job_cost", model=True).replace("FROM allocated", "FROM window_charge")
    con.execute(f"CREATE OR REPLACE TEMP VIEW job_charge AS {cost}")
    told = f"(SELECT * FROM usage_interval WHERE {days})"
    con.execute(f"CREATE OR REPLACE TEMP VIEW held_usage AS {usage_current(con, told)}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE job_alias AS {job_aliases(told)}")
    con.execute(f"CREATE OR REPLACE TEMP VIEW seen_node AS SELECT * FROM node_interval WHERE {days}")
    for name, query in (("hold", "hold"), ("job_row", "job")):
        text = model.query(query)
        for key, value in values.items():
            text = text.replace("{" + key + "}", value)
        con.execute(f"CREATE OR REPLACE TEMP {'TABLE' if name == 'hold' else 'VIEW'} {name} AS {text}")


def trait(name: str) -> str:
    """Return the column that a person named. Raises UsageError with the nearest names."""
    folded = name.strip().casefold().replace("-", "_").removeprefix("x_")
    folded = {"job": "name", "jobid": "job_id", "costcenter": "cost_center"}.get(folded, folded)
    if folded not in TRAITS:
        near = difflib.get_close_matches(folded, TRAITS, n=3, cutoff=0.5)
        raise UsageError(
            f"jobs have no {name!r}",
            hint=f"Did you mean {', '.join(near)}?" if near else f"There are: {', '.join(TRAITS)}.",
        )
    return folded


def _condition(text: str) -> str:
    match = re.fullmatch(r"([^=!]+)(!?=)(.*)", text, re.DOTALL)
    if match is None:
        raise UsageError(f"can't read the condition {text!r}", hint="Write COLUMN=value or COLUMN!=value.")
    value = "NULL" if match[3] == "" else duckdb.literal(match[3])
    return f"{trait(match[1])}::VARCHAR IS {'NOT ' if match[2] == '=' else ''}DISTINCT FROM {value}"


def _rows(con: duckdb.Connection, groups: Sequence[str], limit: int | None) -> list[dict[str, Any]]:
    if groups:
        keys = ", ".join(quoted(name) for name in groups)
        sums = ", ".join(f"sum({name}) AS {name}" for name in _SUMS)
        query = f"SELECT {keys}, count(*) AS jobs, {_UNPRICED} AS unpriced_jobs, {sums} FROM kept_job GROUP BY {keys} ORDER BY cost DESC NULLS LAST, {keys}"
    else:
        query = "SELECT * FROM kept_job ORDER BY cost DESC NULLS LAST, gpu_hours DESC NULLS LAST, job_id"
    cursor = con.execute(query + (f" LIMIT {limit}" if limit else ""))
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for row in rows:
        if evidence := row.get("attribution_evidence"):
            row["attribution_evidence"] = json.loads(evidence)
    return rows


def _totals(con: duckdb.Connection, *, whole: bool) -> dict[str, Any]:
    """Sums over all jobs kept; what belongs to no job is told only when no job was left out."""
    rows = con.execute(
        f"""SELECT sum(cost), sum(cost) FILTER (coalesce(cost_center, team, owner) IS NULL), count(*), sum(gpu_hours),
                  sum(idle_cost), sum(waste), {_UNPRICED} FROM kept_job"""
    ).fetchall()
    cost, unowned, count, hours, unused, waste, unpriced = rows[0]
    nobodys: tuple[Decimal | None, Decimal | None] = (None, None)
    if whole:
        row = con.execute(
            """SELECT sum(EffectiveCost) FILTER (x_AllocationState = 'idle'),
                      sum(EffectiveCost) FILTER (x_AllocationState = 'unknown')
               FROM window_charge WHERE AllocatedMethodId IS NOT NULL AND x_JobId IS NULL"""
        ).fetchone()
        nobodys = (row[0] or Decimal(0), row[1] or Decimal(0)) if row else nobodys
    return {
        "cost": cost, "idle": nobodys[0], "unknown": nobodys[1], "unowned": unowned or Decimal(0), "jobs": count,
        "unpriced_jobs": unpriced, "gpu_hours": hours, "idle_cost": unused, "waste": waste,
    }  # fmt: skip
