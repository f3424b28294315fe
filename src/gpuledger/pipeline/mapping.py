"""Native rows to ledger rows: the connector's SQL, completed, written as Parquet, and tied to the native total."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from gpuledger import registry
from gpuledger.core.contracts import FileConnector
from gpuledger.core.tags import TagAliases
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import GpuledgerError, SourceError
from gpuledger.focus.schema import PARTITION_COLUMNS, LedgerColumn, quoted, select_list
from gpuledger.pipeline import enrich
from gpuledger.pipeline.store import TABLES, DataFile

_MANY_PERIODS = 4
_SHOWN_ISSUES = 20


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


def map_costs(
    con: duckdb.Connection, connector: FileConnector, out: Path, shown: str, aliases: TagAliases
) -> Mapped:
    """Map `native` to Cost and Usage files below `out`, and check that nothing of the bill was lost."""
    query = _query(con, connector, "")
    if query is None:
        raise GpuledgerError(
            f"no SQL beside the connector {connector.TYPE}", hint="Add <stem>.sql; see CONTRIBUTING.md."
        )
    period = "coalesce(strftime(coalesce(BillingPeriodStart, ChargePeriodStart), '%Y-%m'), 'unknown')"
    mapped = _write(con, connector, query, "cost_and_usage", period, out, aliases)
    files = duckdb.literals([file.path for file in mapped.files])
    if mapped.files:
        scan = f"read_parquet({files}, hive_partitioning = false, filename = true)"
        mapped.totals = _totals(con, scan, mapped.files)
        accounts = con.execute(
            f"SELECT DISTINCT BillingAccountId FROM {scan} WHERE BillingAccountId IS NOT NULL LIMIT 1000"
        )
        mapped.accounts = sorted(row[0] for row in accounts.fetchall())
        mapped.diagnostics += _row_issues(con, scan)
    _tie(con, connector, mapped, shown)
    mapped.diagnostics += _notes(con, connector, shown)
    return mapped


def map_commitments(con: duckdb.Connection, connector: FileConnector, out: Path) -> Mapped:
    """Map `native` to Contract Commitment files, if the connector has `<stem>.commitments.sql`."""
    query = _query(con, connector, "commitments")
    if query is None:
        return Mapped()
    period = "coalesce(strftime(coalesce(_period, ContractCommitmentPeriodStart), '%Y-%m'), 'unknown')"
    mapped = _write(con, connector, query, "contract_commitment", period, out)
    mapped.totals = [PeriodTotals(file.billing_period, None, file.rows, None, None) for file in mapped.files]
    return mapped


def _query(con: duckdb.Connection, connector: FileConnector, part: str) -> str | None:
    dynamic = getattr(connector, "select", None)
    if dynamic is not None:
        return dynamic(duckdb.columns(con, "native"), part)  # type: ignore[no-any-return]
    return registry.sql(connector, part)


def _write(
    con: duckdb.Connection,
    connector: FileConnector,
    query: str,
    table: str,
    period: str,
    out: Path,
    aliases: TagAliases | None = None,
) -> Mapped:
    query = query.rstrip().rstrip(";")
    if getattr(connector, "BLOCKING", False):  # its joins run once: the views below are read several times
        scratch = duckdb.literal(out / f"mapped_{table}.parquet")
        con.execute(f"COPY ({query}) TO {scratch} ({duckdb.PARQUET})")
        query = f"FROM read_parquet({scratch})"
    con.execute(f"CREATE OR REPLACE VIEW mapped_{table} AS {query}")
    given = types = duckdb.columns(con, f"mapped_{table}")
    source = f"mapped_{table}"
    if aliases is not None:
        con.execute(f"CREATE OR REPLACE VIEW tagged AS {enrich.parsed_tags(con, source, given, aliases)}")
        given, source = duckdb.columns(con, "tagged"), "tagged"
    ledger = [column for column in TABLES[table] if column.name not in PARTITION_COLUMNS]
    full = _complete(connector, ledger, given)
    hidden = ", _period" if table == "contract_commitment" and "_period" in given else ""
    if table == "contract_commitment" and not hidden:
        period = period.replace(
            "coalesce(_period, ContractCommitmentPeriodStart)", "ContractCommitmentPeriodStart"
        )
    con.execute(f"CREATE OR REPLACE VIEW completed_{table} AS SELECT {full}{hidden} FROM {source}")
    relation = f"completed_{table}"
    if aliases is not None:
        con.execute(f"CREATE OR REPLACE VIEW enriched AS {enrich.enriched(con, relation, types, aliases)}")
        relation = "enriched"
    names = ", ".join(quoted(column.name) for column in ledger)
    periods = [row[0] for row in con.execute(f"SELECT DISTINCT {period} FROM completed_{table}").fetchall()]
    return Mapped(files=_copy(con, relation, names, period, sorted(periods), out / table))


def _complete(connector: FileConnector, ledger: Sequence[LedgerColumn], given: dict[str, str]) -> str:
    """Give every ledger column its type; our own columns have the same defaults for every connector."""
    names = {name.casefold(): name for name in given}
    found = {
        column.name: quoted(names[column.name.casefold()])
        for column in ledger
        if column.name.casefold() in names
    }
    stray = set(given) - {name.strip('"') for name in found.values()} - {"_file", "_row", "_period"}
    if stray:
        raise GpuledgerError(
            f"the SQL of {connector.TYPE} gives columns that the ledger lacks: {', '.join(sorted(stray))}",
            hint="Use FOCUS names or the x_ names of focus/schema.py; keep other native values in x_Native.",
        )
    version = (
        f"coalesce({found['x_SourceVersion']}, {duckdb.literal(connector.VERSION)})"
        if "x_SourceVersion" in found
        else duckdb.literal(connector.VERSION)
    )
    own = {
        "x_SourceVersion": version,
        "x_CostStatus": found.get("x_CostStatus", "'Final'"),
        "x_SourceFile": "_file" if "_file" in given else "NULL",
        "x_SourceRow": "_row" if "_row" in given else "NULL",
    }
    present = {column.name for column in ledger}
    return select_list(ledger, found | {name: value for name, value in own.items() if name in present})


def _copy(
    con: duckdb.Connection, relation: str, names: str, period: str, periods: list[str], out: Path
) -> list[DataFile]:
    out.mkdir(parents=True, exist_ok=True)
    if len(periods) <= _MANY_PERIODS:
        for value in periods:
            where = "" if len(periods) == 1 else f" WHERE {period} = {duckdb.literal(value)}"
            con.execute(
                f"COPY (SELECT {names} FROM {relation}{where}) TO {duckdb.literal(out / f'x_BillingPeriod={value}')} "
                f"({duckdb.PARQUET}, FILE_SIZE_BYTES '512MB')"
            )
    else:
        con.execute(
            f'COPY (SELECT {names}, {period} AS "x_BillingPeriod" FROM {relation}) TO {duckdb.literal(out)} '
            f'({duckdb.PARQUET}, PARTITION_BY ("x_BillingPeriod"), OVERWRITE_OR_IGNORE true)'
        )
    found = []
    for path in sorted(out.rglob("*.parquet")):
        rows = con.execute("SELECT num_rows FROM parquet_file_metadata(?)", [str(path)]).fetchone()
        if rows and rows[0]:
            found.append(DataFile(path, int(rows[0]), path.parent.name.partition("=")[2]))
    return found


def _totals(con: duckdb.Connection, scan: str, files: Sequence[DataFile]) -> list[PeriodTotals]:
    of_file = {str(file.path): file.billing_period for file in files}
    sums: dict[tuple[str, str | None], list[Any]] = {}
    rows = con.execute(
        f"SELECT filename, BillingCurrency, count(*), sum(BilledCost), sum(EffectiveCost) FROM {scan} GROUP BY ALL"
    ).fetchall()
    for name, currency, count, billed, effective in rows:
        held = sums.setdefault((of_file[name], currency), [0, None, None])
        held[0] += count
        held[1] = billed if held[1] is None else held[1] + (billed or 0)
        held[2] = effective if held[2] is None else held[2] + (effective or 0)
    ordered = sorted(sums.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    return [PeriodTotals(period, currency, *values) for (period, currency), values in ordered]


def _row_issues(con: duckdb.Connection, scan: str) -> list[Diagnostic]:
    """Tell values that couldn't be read, most frequent kind first, each with one example row."""
    rows = con.execute(
        f"""SELECT split_part(problem, ':', 1) AS column_name, count(*), arg_min(problem, x_SourceRow),
                   arg_min(x_SourceFile, x_SourceRow), min(x_SourceRow)
            FROM (SELECT unnest(string_split(x_DataIssues, '; ')) AS problem, x_SourceFile, x_SourceRow
                  FROM {scan} WHERE x_DataIssues IS NOT NULL)
            GROUP BY ALL ORDER BY 2 DESC LIMIT {_SHOWN_ISSUES}"""
    ).fetchall()
    return [
        Diagnostic(
            "unreadable-value", "error", f"{file}, row {row}, column {column}", f"{problem} ({count} row(s) like this)",
            "The row was loaded with an unknown value there; correct the file and ingest it again.",
        )
        for column, count, problem, file, row in rows
    ]  # fmt: skip


def _tie(con: duckdb.Connection, connector: FileConnector, mapped: Mapped, shown: str) -> None:
    """Compare the mapped sums with the connector's TOTAL, and EFFECTIVE_TOTAL where it has one that isn't null.

    A connector with ESTIMATES adds Estimated rows for what the bill doesn't have yet: those stay out.
    """
    effective = getattr(connector, "EFFECTIVE_TOTAL", None)
    files = duckdb.literals([file.path for file in mapped.files])
    billed = amortised = None
    on_bill = (
        "x_CostStatus IS DISTINCT FROM 'Estimated'" if getattr(connector, "ESTIMATES", False) else "true"
    )
    if mapped.files and (connector.TOTAL or effective):
        billed, amortised = con.execute(
            f"SELECT sum(BilledCost), sum(EffectiveCost) FROM read_parquet({files}, hive_partitioning = false) WHERE {on_bill}"
        ).fetchall()[0]
    if connector.TOTAL:
        _compare(_native_sum(con, connector.TOTAL), billed, "charges", shown)
    if effective and (expected := _native_sum(con, effective)) is not None:
        _compare(expected, amortised, "amortised costs", shown)


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
