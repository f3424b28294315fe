"""Native rows to ledger rows: the connector's SQL, completed and written as Parquet."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from gpuledger import registry
from gpuledger.core.contracts import FileConnector
from gpuledger.core.tags import TagAliases
from gpuledger.engines import duckdb
from gpuledger.errors import GpuledgerError
from gpuledger.focus.schema import PARTITION_COLUMNS, LedgerColumn, quoted, select_list
from gpuledger.pipeline import enrich
from gpuledger.pipeline.store import TABLES, DataFile
from gpuledger.pipeline.written import Mapped, PeriodTotals, sum_up

_MANY_PERIODS = 4
_UNKNOWN = '"NULL"'  # the type of a NULL that has none
# Small row groups: they take less memory in the making, and no more space. Higher levels cost time and save 1 %.
_PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 61440"


def map_costs(
    con: duckdb.Connection, connector: FileConnector, out: Path, shown: str, aliases: TagAliases
) -> Mapped:
    """Map `native` to Cost and Usage files below `out`, and check that nothing of the bill was lost."""
    query = _query(con, connector, "")
    if query is None:
        raise GpuledgerError(
            f"no SQL beside the connector {connector.TYPE}", hint="Add <stem>.sql; see CONTRIBUTING.md."
        )
    table = "cost_and_usage"
    given = _view(con, connector, query, table, out)
    survey = enrich.survey(con, f"mapped_{table}", given, aliases)
    full, written = _complete(connector, table, given, survey.columns())
    carried = "".join(f", {entry}" for entry in survey.carried())
    con.execute(f"CREATE OR REPLACE VIEW completed_{table} AS SELECT {full}{carried} FROM mapped_{table}")
    rows, filled = enrich.enriched(con, f"completed_{table}", survey, aliases)
    con.execute(f"CREATE OR REPLACE VIEW final_{table} AS {rows}")
    starts = ("BillingPeriodStart", "ChargePeriodStart")
    files = _copy(con, table, written | filled, starts, out / table)
    return sum_up(con, connector, files, shown)


def map_commitments(con: duckdb.Connection, connector: FileConnector, out: Path) -> Mapped:
    """Map `native` to Contract Commitment files, if the connector has `<stem>.commitments.sql`."""
    query = _query(con, connector, "commitments")
    if query is None:
        return Mapped()
    table = "contract_commitment"
    given = _view(con, connector, query, table, out)
    full, written = _complete(connector, table, given, {})
    hidden = ", _period" if "_period" in given else ""
    con.execute(f"CREATE OR REPLACE VIEW completed_{table} AS SELECT {full}{hidden} FROM mapped_{table}")
    con.execute(f"CREATE OR REPLACE VIEW final_{table} AS FROM completed_{table}")
    starts = (*(["_period"] if hidden else []), "ContractCommitmentPeriodStart")
    files = _copy(con, table, written, starts, out / table)
    totals = [PeriodTotals(file.billing_period, None, file.rows, None, None) for file in files]
    return Mapped(files, totals)


def _query(con: duckdb.Connection, connector: FileConnector, part: str) -> str | None:
    dynamic = getattr(connector, "select", None)
    if dynamic is not None:
        return dynamic(duckdb.columns(con, "native"), part)  # type: ignore[no-any-return]
    return registry.sql(connector, part)


def _view(
    con: duckdb.Connection, connector: FileConnector, query: str, table: str, out: Path
) -> dict[str, str]:
    """Create the view `mapped_<table>` of the connector's rows; return its columns, as the ledger spells them."""
    query = query.rstrip().rstrip(";")
    if getattr(connector, "BLOCKING", False):  # its joins run once: the view is read several times
        scratch = duckdb.literal(out / f"mapped_{table}.parquet")
        con.execute(f"COPY ({query}) TO {scratch} ({duckdb.PARQUET})")
        query = f"FROM read_parquet({scratch})"
    con.execute(f"CREATE OR REPLACE VIEW mapped_{table} AS {query}")
    spelled = {column.name.casefold(): column.name for column in TABLES[table]}
    types = duckdb.columns(con, f"mapped_{table}")
    return {spelled.get(name.casefold(), name): kind for name, kind in types.items() if kind != _UNKNOWN}


def _complete(
    connector: FileConnector, table: str, given: dict[str, str], replaced: Mapping[str, str]
) -> tuple[str, set[str]]:
    """Return a select list that gives every ledger column its type, and the columns that aren't all null.

    Our own columns have the same defaults for every connector. `replaced` is SQL for some of the given columns.
    """
    ledger = _ledger(table)
    found = {column.name: quoted(column.name) for column in ledger if column.name in given} | dict(replaced)
    if stray := set(given) - set(found) - {"_file", "_row", "_period"}:
        raise GpuledgerError(
            f"the SQL of {connector.TYPE} gives columns that the ledger lacks: {', '.join(sorted(stray))}",
            hint="Use FOCUS names or the x_ names of focus/schema.py; keep other native values in x_Native.",
        )
    version = duckdb.literal(connector.VERSION)
    if "x_SourceVersion" in found:
        version = f"coalesce({found['x_SourceVersion']}, {version})"
    found |= {"x_SourceVersion": version, "x_CostStatus": found.get("x_CostStatus", "'Final'")}
    found |= {"x_SourceFile": "_file"} if "_file" in given else {}
    found |= {"x_SourceRow": "_row"} if "_row" in given else {}
    return select_list(ledger, found), set(found)


def _ledger(table: str) -> list[LedgerColumn]:
    return [column for column in TABLES[table] if column.name not in PARTITION_COLUMNS]


def _period(starts: Sequence[str]) -> str:
    """SQL of a row's billing period: the month of the first of the times that is set."""
    return f"coalesce(strftime(coalesce({', '.join(starts)}), '%Y-%m'), 'unknown')"


def _periods(con: duckdb.Connection, relation: str, starts: Sequence[str]) -> list[str]:
    """Return the billing periods of a relation's rows, sorted."""
    times = con.execute(f"SELECT DISTINCT {starts[0]} FROM {relation}").fetchall()
    found = {f"{time:%Y-%m}" for (time,) in times if time is not None}
    if len(found) < len(times) and any(time is None for (time,) in times):
        unset = f"SELECT DISTINCT {_period(starts)} FROM {relation} WHERE {starts[0]} IS NULL"
        found |= {str(row[0]) for row in con.execute(unset).fetchall()}
    return sorted(found)


def _copy(
    con: duckdb.Connection, table: str, columns: Collection[str], starts: Sequence[str], out: Path
) -> list[DataFile]:
    """Write the view `final_<table>`; columns that are null in every row are left out of the files."""
    out.mkdir(parents=True, exist_ok=True)
    names = ", ".join(quoted(column.name) for column in _ledger(table) if column.name in columns)
    period, periods = _period(starts), _periods(con, f"completed_{table}", starts)
    if len(periods) <= _MANY_PERIODS:
        for value in periods:
            where = "" if len(periods) == 1 else f" WHERE {period} = {duckdb.literal(value)}"
            con.execute(
                f"COPY (SELECT {names} FROM final_{table}{where}) TO {duckdb.literal(out / f'x_BillingPeriod={value}')} "
                f"({_PARQUET}, FILE_SIZE_BYTES '512MB')"
            )
    else:
        con.execute(
            f'COPY (SELECT {names}, {period} AS "x_BillingPeriod" FROM final_{table}) TO {duckdb.literal(out)} '
            f'({_PARQUET}, PARTITION_BY ("x_BillingPeriod"), OVERWRITE_OR_IGNORE true)'
        )
    found = []
    for path in sorted(out.rglob("*.parquet")):
        rows = con.execute("SELECT num_rows FROM parquet_file_metadata(?)", [str(path)]).fetchone()
        if rows and rows[0]:
            found.append(DataFile(path, int(rows[0]), path.parent.name.partition("=")[2]))
    return found
