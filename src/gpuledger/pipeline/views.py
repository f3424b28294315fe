"""The views of a ledger connection: every charge once, as billed or as allocated.

- `cost_and_usage`: the bills' rows, and estimates that no bill has replaced yet.
- `allocated`: the same charges, where those that were split are shown as their parts (columns of ALLOCATED_COST, null
  in rows that nobody split). Σ allocated = Σ cost_and_usage at any moment: parts whose origin is no longer in the
  ledger, because the bill was restated or the estimate replaced, are left out, and the charge itself is there.
- `jobs`: one row per job, what was last said of it.
- `tokens`: rows of `token_interval`, where a missing job is the one that held the pod then, if that was a single one.
- every other table under its own name.

The key of a charge (x_OriginChargeId of its parts) is `<data file>:<row in it>`: data files never change, and a
restated bill has new ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from gpuledger.core.usage_tables import DIMENSIONS, JOB
from gpuledger.engines import duckdb
from gpuledger.focus.schema import (
    ALLOCATED_COST,
    LEDGER_COST_AND_USAGE,
    PARTITION_COLUMNS,
    create_columns,
    quoted,
)
from gpuledger.models import metering
from gpuledger.pipeline.store import TABLES, scan

Files = Mapping[str, Sequence[str]]

_COSTS: Final = ", ".join(quoted(column.name) for column in LEDGER_COST_AND_USAGE)
_ALL: Final = ", ".join(quoted(column.name) for column in ALLOCATED_COST)
_ADDED: Final = "".join(
    f", CAST(NULL AS {column.sql_type}) AS {quoted(column.name)}"
    for column in ALLOCATED_COST[len(LEDGER_COST_AND_USAGE) :]
)
_FINAL: Final = "final_cost"  # the bills alone, where there are estimates beside them
_MAY_END: Final = {"state", "ended"}  # a job that lives again has no end
_FILE: Final = r"regexp_extract(filename, '([^/]+)\.parquet$', 1)"
_ORIGIN: Final = "split_part(x_OriginChargeId, ':', 1)"


def define(con: duckdb.Connection, files: Files) -> None:
    """Create the views over the data files of one snapshot, by table."""
    for table, columns in TABLES.items():
        name = _FINAL if table == "cost_and_usage" and files["estimated_cost"] else table
        if files[table]:
            con.execute(f"CREATE VIEW {name} AS SELECT * FROM {scan(table, files[table], hive=True)}")
        else:
            con.execute(f"CREATE TABLE {name} ({create_columns(columns)})")
    if files["estimated_cost"]:
        con.execute(
            f"CREATE VIEW cost_and_usage AS SELECT {_COSTS} FROM ({metering.current(_FINAL, 'estimated_cost')})"
        )
    con.execute(f"CREATE VIEW allocated AS {_allocated(con, files)}")
    con.execute(f"CREATE VIEW jobs AS {latest_jobs()}")
    con.execute(f"CREATE VIEW tokens AS {_with_jobs()}")


def _with_jobs() -> str:
    """SQL of token intervals with the job of their pod. Pods of one name may follow each other, as those of a stateful set do."""
    known = "cluster IS NOT NULL AND pod IS NOT NULL"
    place = "cluster, coalesce(namespace, '') AS space, pod"
    match = "p.cluster = t.cluster AND p.space = coalesce(t.namespace, '') AND p.pod = t.pod"
    then = 'list_filter(p.held, lambda h: h.first < t."end" AND h.last > t.start)'
    return f"""
        WITH asked AS (SELECT DISTINCT {place} FROM token_interval WHERE job_id IS NULL AND {known}),
        held AS (
            SELECT {place}, job_id, min(start) AS first, max("end") AS last FROM usage_interval
            WHERE {known} AND (cluster, coalesce(namespace, ''), pod) IN (SELECT (cluster, space, pod) FROM asked)
            GROUP BY ALL
        ),
        pods AS (
            SELECT cluster, space, pod, list({{'job_id': job_id, 'first': first, 'last': last}}) AS held FROM held GROUP BY ALL
        )
        SELECT t.* REPLACE (coalesce(t.job_id, CASE WHEN len({then}) = 1 THEN {then}[1].job_id END) AS job_id)
        FROM token_interval AS t LEFT JOIN pods AS p ON {match} AND t.job_id IS NULL"""


def keyed(con: duckdb.Connection, files: Files, name: str = "keyed_cost") -> str:
    """Create the view of `cost_and_usage` with the key of each charge as `charge_id`; return its name."""
    parts = [f"SELECT {_COSTS}, {_charge_id()} AS charge_id FROM {_with_place('cost_and_usage', files)}"]
    if files["estimated_cost"]:
        _estimates(con, files)
        parts.append(f"SELECT {_COSTS}, {_charge_id()} AS charge_id FROM current_estimate")
    con.execute(f"CREATE OR REPLACE VIEW {name} AS {' UNION ALL '.join(parts)}")
    return name


def unit_of(file: str) -> tuple[str, str]:
    """Return source and billing period that a data file is of, as its place tells."""
    places = dict(part.split("=", 1) for part in file.split("/") if "=" in part)
    source, period = (unquote(places[column]) for column in PARTITION_COLUMNS[:2])
    return source, period


def _charge_id() -> str:
    return f"concat({_FILE}, ':', file_row_number)"


def _with_place(table: str, files: Files) -> str:
    """SQL of a table's rows with the virtual columns `filename` and `file_row_number`."""
    if not files[table]:
        nothing = f"SELECT CAST(NULL AS VARCHAR) AS filename, CAST(NULL AS BIGINT) AS file_row_number, * FROM {table}"
        return f"({nothing} LIMIT 0)"
    return f"(SELECT *, filename, file_row_number FROM {scan(table, files[table], hive=True)})"


def _estimates(con: duckdb.Connection, files: Files) -> None:
    estimated = _with_place("estimated_cost", files)
    con.execute(f"CREATE OR REPLACE VIEW placed_estimate AS SELECT * FROM {estimated}")
    con.execute(
        f"CREATE OR REPLACE VIEW current_estimate AS {metering.unreplaced(_FINAL, 'placed_estimate')}"
    )


def _allocated(con: duckdb.Connection, files: Files) -> str:
    """SQL of every charge once, split charges as their parts."""
    if not files["allocated_cost"]:
        return f"SELECT *{_ADDED} FROM cost_and_usage"
    split = {unit_of(file) for file in files["allocated_cost"]}
    bills = files["cost_and_usage"]
    touched = [file for file in bills if unit_of(file) in split]
    rest = [file for file in bills if unit_of(file) not in split]
    parts = []
    if rest:
        parts.append(f"SELECT {_COSTS}{_ADDED} FROM {scan('cost_and_usage', rest, hive=True)}")
    if touched:
        placed = _with_place("cost_and_usage", {"cost_and_usage": touched})
        parts += [_whole(placed), f"SELECT {_ALL} FROM allocated_cost WHERE {_ORIGIN} IN {_ids(touched)}"]
    if files["estimated_cost"]:
        _estimates(con, files)
        parts += [_whole("current_estimate"), _estimated_parts(files["estimated_cost"])]
    return " UNION ALL ".join(parts) or f"SELECT *{_ADDED} FROM cost_and_usage"


def _whole(placed: str) -> str:
    """SQL of the charges that nobody split. A join, not NOT EXISTS: that would first copy every column of every charge."""
    return (
        f"SELECT {_COSTS}{_ADDED} FROM {placed} AS c ANTI JOIN ("
        f"SELECT {_ORIGIN} AS file, CAST(split_part(x_OriginChargeId, ':', 2) AS BIGINT) AS row FROM allocated_cost"
        f") AS a ON a.file = {_FILE} AND a.row = c.file_row_number"
    )


def _estimated_parts(files: Sequence[str]) -> str:
    return (
        f"SELECT {_ALL} FROM allocated_cost WHERE {_ORIGIN} IN {_ids(files)} "
        f"AND x_OriginChargeId IN (SELECT {_charge_id()} FROM current_estimate)"
    )


def _ids(files: Iterable[str]) -> str:
    names = (file.rpartition("/")[2].removesuffix(".parquet") for file in files)
    return "(" + ", ".join(duckdb.literal(name) for name in names) + ")"


def latest_jobs(relation: str = "job") -> str:
    """Return SQL of one row per job, from rows of the table `job`. The newest day's word counts, and of one day, that of the scheduler before a monitor's."""
    told = {column.name: quoted(column.name) for column in JOB if column.name not in {"job_id", *DIMENSIONS}}
    newest = ", ".join(
        f"{'arg_max_null' if name in _MAY_END else 'arg_max'}({column}, said) AS {column}"
        for name, column in told.items()
        if name not in {"evidence", "attempts"}
    )
    owners = ", ".join(quoted(name) for name in (*DIMENSIONS, "evidence"))
    shown = ", ".join(
        f"owners.{quoted(column.name)}" if column.name in {*DIMENSIONS, "evidence"} else quoted(column.name)
        for column in JOB
    )
    return f"""SELECT {shown} FROM (
        SELECT job_id, {newest}, max(attempts) AS attempts, arg_max(owners, said) FILTER (known) AS owners
        FROM (
            SELECT *, {{{", ".join(f"{quoted(n)}: {quoted(n)}" for n in (*DIMENSIONS, "evidence"))}}} AS owners,
                coalesce({owners}) IS NOT NULL AS known,
                concat(x_BillingPeriod, CASE WHEN contains(lower(x_Source), 'prom') THEN ' 0 ' ELSE ' 1 ' END, x_Source) AS said
            FROM {relation}
        )
        GROUP BY job_id
    )"""
