"""The month on one page: who charged, for what, on which GPUs, for which team; what nobody owns; what was wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gpuledger.core.windows import Window
from gpuledger.engines import duckdb
from gpuledger.errors import LedgerError
from gpuledger.pipeline.costs import Question, ask, predicate
from gpuledger.pipeline.ledger import Ledger

SECTIONS = (
    ("By provider", "ServiceProviderName"),
    ("By service", "ServiceName"),
    ("By GPU model", "x_GpuModel"),
    ("By team", "x_Team"),
)
_TOP = 12


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the report: rows of `name`, `cost`, `share_percent`; the rest is summed into one row."""

    title: str
    rows: list[dict[str, Any]]
    total: Decimal


def months(ledger: Ledger) -> list[str]:
    """Billing periods in the ledger, oldest first."""
    return sorted({unit.billing_period for unit in ledger.units()})


def report(ledger: Ledger, window: Window, metric: str = "effective") -> Iterator[Section]:
    """Yield the sections of one window, in `metric`. Raises LedgerError when the window has no charges."""
    con = ledger.connect()
    for title, column in SECTIONS:
        where = ["x_GpuModel!="] if column == "x_GpuModel" else []
        answer = ask(con, "cost_and_usage", Question((column,), metric, where, window))
        if title == "By provider" and not answer.charges:
            raise LedgerError(
                "no charges in that window",
                where=ledger.location,
                hint="gpuledger ledger units says which there are.",
            )
        total = answer.total or Decimal(0)
        rows = [
            {"name": row[column], "cost": row["cost"], "share_percent": _share(row["cost"], total)}
            for row in answer.rows
        ]
        yield Section(title, _top(rows, total), total)


def unattributed(con: duckdb.Connection, window: Window, metric_column: str) -> dict[str, Any]:
    """Sum what no team, owner or cost centre claims, with its largest resource."""
    where = predicate(Question(window=window))
    row = con.execute(
        f"""SELECT sum(cost), count(*), arg_max(coalesce(ResourceId, ServiceName), cost) FROM (
              SELECT ResourceId, ServiceName, sum("{metric_column}") AS cost FROM cost_and_usage
              WHERE {where} AND x_Team IS NULL AND x_Owner IS NULL AND x_CostCenter IS NULL GROUP BY ALL)"""
    ).fetchone()
    cost, resources, largest = row or (None, 0, None)
    return {"cost": cost or Decimal(0), "resources": resources, "largest": largest}


def data_issues(con: duckdb.Connection, window: Window) -> list[dict[str, Any]]:
    """Count values that could not be read, by source and column."""
    where = predicate(Question(window=window))
    rows = con.execute(
        f"""SELECT x_Source, split_part(problem, ':', 1) AS column_name, count(*), any_value(problem)
            FROM (SELECT x_Source, unnest(string_split(x_DataIssues, '; ')) AS problem
                  FROM cost_and_usage WHERE {where} AND x_DataIssues IS NOT NULL)
            GROUP BY ALL ORDER BY 3 DESC, 1, 2"""
    ).fetchall()
    return [
        {"source": source, "column": column, "rows": count, "example": example}
        for source, column, count, example in rows
    ]


def _share(cost: Decimal | None, total: Decimal) -> Decimal | None:
    if cost is None or not total:
        return None
    return (cost * 100 / total).quantize(Decimal("0.1"))


def _top(rows: list[dict[str, Any]], total: Decimal) -> list[dict[str, Any]]:
    if len(rows) <= _TOP:
        return rows
    rest = sum((row["cost"] or Decimal(0) for row in rows[_TOP:]), Decimal(0))
    name = f"{len(rows) - _TOP} more"
    return [*rows[:_TOP], {"name": name, "cost": rest, "share_percent": _share(rest, total)}]
