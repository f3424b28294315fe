"""The month on one page: who charged, for what, on which GPUs, for which team; what nobody owns; what was wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from gpuledger.core import windows
from gpuledger.core.money import total as exact_total
from gpuledger.core.windows import Window
from gpuledger.engines import duckdb
from gpuledger.errors import LedgerError, UsageError
from gpuledger.pipeline import jobs
from gpuledger.pipeline.costs import Question, ask, predicate
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.unattributed import investigate

SECTIONS = (
    ("By provider", "ServiceProviderName"),
    ("By service", "ServiceName"),
    ("By GPU model", "x_GpuModel"),
    ("By team", "x_Team"),
)
_TOP = 12
_UNOWNED = 6
_JOBS = 8
_STRANDED = "unused commitments"


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the report: rows of `name`, `cost`, `share_percent`; the rest is summed into one row."""

    title: str
    rows: list[dict[str, Any]]
    total: Decimal


def months(ledger: Ledger) -> list[str]:
    """Billing periods in the ledger, oldest first; charges that don't say theirs are left out."""
    return sorted({unit.billing_period for unit in ledger.units()} - {"unknown"})


def window_of(ledger: Ledger, text: str | None) -> tuple[str, Window]:
    """Return a window as told and as read; untold, it is the newest billing period. Raises UsageError when there is none."""
    text = text or next(reversed(months(ledger)), None)
    if text is None:
        raise UsageError("no charge says its billing period", hint="Choose a --window.")
    return text, windows.parse(text, datetime.now(UTC))


def report(
    ledger: Ledger, window: Window, metric: str = "effective", where: Sequence[str] = ()
) -> Iterator[Section]:
    """Yield the sections of one window, in `metric`, of the charges that `where` keeps.

    Raises LedgerError when there are none, UsageError when they are in several currencies.
    """
    con = ledger.connect()
    for title, column in SECTIONS:
        kept = [*where, "x_GpuModel!="] if column == "x_GpuModel" else where
        answer = ask(con, "allocated", Question((column,), metric, kept, window, allocated=True))
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


def top_jobs(ledger: Ledger, window: str) -> jobs.Jobs | None:
    """Return the jobs of a window that cost most, by effective cost, and totals over all; None where no job is known."""
    found = jobs.jobs(ledger, window=window, limit=_JOBS)
    return found if found.totals["jobs"] else None


def unattributed(
    con: duckdb.Connection, window: Window, metric: str, where: Sequence[str] = ()
) -> dict[str, Any]:
    """Sum what nobody owns, and say who most likely owns the largest parts of it.

    What a commitment leaves unused belongs to nobody's workload and is summed apart, as `stranded`; the rest of what is
    nobody's by nature (tax, credits, support) is `by_nature`.
    """
    answer = investigate(con, Question(metric=metric, where=where, window=window), limit=_UNOWNED)
    apart = {row["nature"]: row["cost"] for row in answer.by_nature}
    return {
        "cost": answer.cost,
        "stranded": apart.pop(_STRANDED, None) or Decimal(0),
        "by_nature": apart,
        "largest": answer.rows,
    }


def data_issues(con: duckdb.Connection, window: Window, where: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Count values that could not be read, by source and column."""
    kept = predicate(Question(where=where, window=window))
    rows = con.execute(
        f"""SELECT x_Source, split_part(problem, ':', 1) AS column_name, count(*), any_value(problem)
            FROM (SELECT x_Source, unnest(string_split(x_DataIssues, '; ')) AS problem
                  FROM cost_and_usage WHERE {kept} AND x_DataIssues IS NOT NULL)
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
    rest = exact_total(row["cost"] or Decimal(0) for row in rows[_TOP:])
    name = f"{len(rows) - _TOP} more"
    return [*rows[:_TOP], {"name": name, "cost": rest, "share_percent": _share(rest, total)}]
