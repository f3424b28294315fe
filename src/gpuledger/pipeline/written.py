"""What was written for a delivery: its totals, tied to the native ones, and values that can't be read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gpuledger.core.contracts import FileConnector
from gpuledger.core.money import total as exact_total
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import SourceError
from gpuledger.focus.validate import validate
from gpuledger.pipeline.store import DataFile, scan

_SHOWN_ISSUES = 20
_ACCOUNTS = 1000
_SHOWN_RULES = 3


@dataclass(frozen=True, slots=True)
class PeriodTotals:
    """What one billing period of a delivery adds up to, in one currency (None: the rows don't say)."""

    billing_period: str
    currency: str | None
    rows: int
    billed_cost: Decimal | None
    effective_cost: Decimal | None


@dataclass(slots=True)
class Mapped:
    """Ledger files of one delivery for one table, their totals, and what was wrong in the rows."""

    files: list[DataFile] = field(default_factory=list)
    totals: list[PeriodTotals] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    @property
    def periods(self) -> list[str]:
        """Billing periods, sorted."""
        return sorted({total.billing_period for total in self.totals})


def sum_up(con: duckdb.Connection, connector: FileConnector, files: Sequence[DataFile], shown: str) -> Mapped:
    """Add up the written Cost and Usage files in one pass; raise SourceError when they don't tie to `native`."""
    mapped = Mapped(files=list(files))
    groups: list[tuple[Any, ...]] = []
    relation = scan("cost_and_usage", [str(file.path) for file in files], filename=True)
    if files:
        groups = con.execute(
            f"""SELECT filename, BillingCurrency, BillingAccountId, x_CostStatus = 'Estimated', count(*),
                       count(x_DataIssues), sum(BilledCost), sum(EffectiveCost)
                FROM {relation} GROUP BY ALL"""
        ).fetchall()
    mapped.totals = _totals(groups, files)
    mapped.accounts = sorted({group[2] for group in groups} - {None})[:_ACCOUNTS]
    if any(group[5] for group in groups):
        mapped.diagnostics += _row_issues(con, relation)
    _tie(con, connector, groups, shown)
    mapped.diagnostics += _notes(con, connector, shown)
    return mapped


def conformance(
    con: duckdb.Connection, files: Sequence[DataFile], version: str, shown: str
) -> list[Diagnostic]:
    """Run the FOCUS rules over written Cost and Usage files; tell the MUST rules that fail, in one Diagnostic.

    Rules about which columns there are don't count: the ledger has those of several versions.
    """
    relation = scan("cost_and_usage", [str(file.path) for file in files])
    found = validate(con, relation, focus_version=version, quick=True)
    failed = [result for result in found.violations if result.rule.column != "*"]
    if not failed:
        return []
    worst = sorted(failed, key=lambda result: -result.failed)[:_SHOWN_RULES]
    named = ", ".join(f"{result.rule.id} ({result.failed:,} of {result.checked:,})" for result in worst)
    more = f" and {len(failed) - len(worst)} more" if len(failed) > len(worst) else ""
    return [
        Diagnostic(
            "focus-rules", "warning", shown, f"{len(failed)} of {len(found.results)} FOCUS {version} rules fail: {named}{more}",
            "The rows were loaded: money ties to the bill all the same. `gpuledger validate` on the ledger's export explains each rule with an example.",
        )
    ]  # fmt: skip


def _totals(groups: Sequence[tuple[Any, ...]], files: Sequence[DataFile]) -> list[PeriodTotals]:
    of_file = {str(file.path): file.billing_period for file in files}
    sums: dict[tuple[str, str | None], list[tuple[Any, ...]]] = {}
    for group in groups:
        sums.setdefault((of_file[group[0]], group[1]), []).append(group)
    return [
        PeriodTotals(*key, sum(group[4] for group in held), _sum(held, 6), _sum(held, 7))
        for key, held in sorted(sums.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    ]


def _sum(groups: Sequence[tuple[Any, ...]], place: int) -> Decimal | None:
    """Add one column up; None when no row has a value."""
    values = [group[place] for group in groups if group[place] is not None]
    return exact_total(values) if values else None


def _row_issues(con: duckdb.Connection, relation: str) -> list[Diagnostic]:
    """Tell values that couldn't be read, most frequent kind first, each with one example row."""
    rows = con.execute(
        f"""SELECT split_part(problem, ':', 1) AS column_name, count(*), arg_min(problem, x_SourceRow),
                   arg_min(x_SourceFile, x_SourceRow), min(x_SourceRow)
            FROM (SELECT unnest(string_split(x_DataIssues, '; ')) AS problem, x_SourceFile, x_SourceRow
                  FROM {relation} WHERE x_DataIssues IS NOT NULL)
            GROUP BY ALL ORDER BY 2 DESC LIMIT {_SHOWN_ISSUES}"""
    ).fetchall()
    return [
        Diagnostic(
            "unreadable-value", "error", f"{file}, row {row}, column {column}", f"{problem} ({count} row(s) like this)",
            "The row was loaded with an unknown value there; correct the file and ingest it again.",
        )
        for column, count, problem, file, row in rows
    ]  # fmt: skip


def _tie(
    con: duckdb.Connection, connector: FileConnector, groups: Sequence[tuple[Any, ...]], shown: str
) -> None:
    """Compare the written sums with the connector's TOTAL, and EFFECTIVE_TOTAL where it has one that isn't null.

    A connector with ESTIMATES adds Estimated rows for what the bill doesn't have yet: those stay out.
    """
    estimates = getattr(connector, "ESTIMATES", False)
    on_bill = [group for group in groups if not (estimates and group[3])]
    effective = getattr(connector, "EFFECTIVE_TOTAL", None)
    if connector.TOTAL:
        _compare(_native_sum(con, connector.TOTAL), _sum(on_bill, 6), "charges", shown)
    if effective and (expected := _native_sum(con, effective)) is not None:
        _compare(expected, _sum(on_bill, 7), "amortised costs", shown)


def _native_sum(con: duckdb.Connection, expression: str) -> Decimal | None:
    row = con.execute(f"SELECT {expression} FROM native").fetchone()
    return row[0] if row else None


def _compare(expected: Decimal | None, got: Decimal | None, what: str, shown: str) -> None:
    expected, got = expected or Decimal(0), got or Decimal(0)
    if expected != got:
        raise SourceError(
            f"mapped {what} sum to {got}, the file to {expected}: refused, since the ledger must tie to the bill",
            where=shown,
            hint="This is a defect of the connector or a new kind of line: please report it with the line types involved.",
        )


def _notes(con: duckdb.Connection, connector: FileConnector, shown: str) -> list[Diagnostic]:
    """Run the connector's NOTES, a query over `native` that gives (code, severity, message, hint)."""
    query = getattr(connector, "NOTES", None)
    rows = con.execute(query).fetchall() if query else []
    return [Diagnostic(code, severity, shown, message, hint) for code, severity, message, hint in rows]
