"""Files of telemetry records: typed, checked row by row, and cut at midnights UTC.

A folder has files or folders that are named after their table, Parquet, CSV or JSON lines, with the columns of `core/usage_tables.py`; optional columns may be missing. A row that can't be right is dropped and counted
under the diagnostic `record-dropped`; the others go on. All of it is SQL: a file of any length takes the same memory.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast

from gpuledger.core.contracts import Delivery, FileConnector, SourceFile, Tree
from gpuledger.core.usage_tables import HOLDING_TABLES, QUANTITIES, TELEMETRY_TABLES, columns_of
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import SourceError
from gpuledger.focus.schema import INSTANT, MONEY, PARTITION_COLUMNS, QUANTITY, TAGS, TEXT, quoted
from gpuledger.pipeline import native
from gpuledger.pipeline.store import DataFile
from gpuledger.telemetry.records import DEFAULTS, REQUIRED, SIGNED, TYPE, WORDS

# In the order in which they are stored: a delivery is complete once the last one has it.
TABLES: Final = ("job", "node_interval", "token_interval", "training_interval", "usage_interval")
INTERVALS: Final = TABLES[1:]
_SUFFIXES: Final = (".parquet", ".csv", ".csv.gz", ".json", ".json.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")  # fmt: skip
_TIMES: Final = ("TIMESTAMP", "DATE")
_EPOCH: Final = date(1970, 1, 1)
_DAY: Final = 86_400_000_000  # microseconds
_LONGEST: Final = 1000  # days; more is a slip, such as an end in the year 9999
_SHOWN: Final = 20
_PARQUET: Final = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 61440"


@dataclass(frozen=True, slots=True)
class RecordReader:
    """What `pipeline.native` needs to know to read one kind of record file."""

    COLUMNS: Mapping[str, Sequence[str]]
    REQUIRED: Sequence[str]
    TITLE: str
    TYPE: str = TYPE
    PROVIDER: str | None = None
    VERSION: str = ""
    TOTAL: str = ""
    TYPED: bool = True


@dataclass(slots=True)
class Checked:
    """One table of a delivery after the check: rows seen and dropped, and the days that the good ones touch."""

    table: str
    rows: int = 0
    dropped: int = 0
    first: date | None = None
    last: date | None = None
    crosses: bool = False
    diagnostics: list[Diagnostic] = field(default_factory=list)


def table_of_path(path: str) -> str | None:
    """Return the table that a file of this path (relative to its folder) belongs to, None when it is no record file."""
    if not path.lower().endswith(_SUFFIXES):
        return None
    for part in PurePosixPath(path.lower()).parts:
        for table in reversed(TABLES):  # the longer names first
            if part.startswith(table):
                return table
    return None


def by_table(tree: Tree) -> dict[str, list[SourceFile]]:
    """Group a tree's record files by table. Raises SourceError when it has none."""
    found: dict[str, list[SourceFile]] = {}
    for file in tree.files:
        if (table := table_of_path(file.path)) is not None:
            found.setdefault(table, []).append(file)
    if not found:
        raise SourceError(
            "no record files here",
            where=tree.location,
            hint=f"They are called {'*, '.join(TABLES)}*, and end in .parquet, .csv or .jsonl.",
        )
    return found


def read(
    con: duckdb.Connection, tree: Tree, table: str, files: Sequence[SourceFile], scratch: Path
) -> Checked:
    """Make the view `good_<table>` of the files' right rows, in the types of the table, and say what was wrong.

    Raises SourceError when a file can't be read at all or lacks a column that records can't be without.
    """
    reader = RecordReader(dict.fromkeys(columns_of(table), ()), REQUIRED[table], f"{table} record")
    folder = scratch / f"native-{table}"
    folder.mkdir(parents=True, exist_ok=True)
    con.execute("SET preserve_insertion_order = true")
    found = native.read(con, tree, Delivery(tuple(files)), cast("FileConnector", reader), folder)
    con.execute("SET preserve_insertion_order = false")
    con.execute(f"ALTER VIEW native RENAME TO native_{table}")
    told = [*found.diagnostics, *_strangers(table, found.unknown_columns, tree.location)]
    return check(con, table, told)


def check(con: duckdb.Connection, table: str, told: Sequence[Diagnostic] = ()) -> Checked:
    """Make `good_<table>` from `native_<table>`, which has some of the table's columns, `_file` and `_row`."""
    types = duckdb.columns(con, f"native_{table}")
    wanted = [column for column in TELEMETRY_TABLES[table] if column.name in types]
    kinds = {column.name: column.sql_type for column in wanted}
    defaults = DEFAULTS.get(table, {})
    typed = ", ".join(
        f"{_typed(quoted(name), types[name], kind)} AS {quoted(name)}, {quoted(name)} AS {quoted('_raw_' + name)}"
        for name, kind in kinds.items()
    )
    con.execute(f"CREATE OR REPLACE VIEW typed_{table} AS SELECT {typed}, _file, _row FROM native_{table}")
    cases = "\n".join(_problems(table, kinds, types))
    con.execute(
        f"CREATE OR REPLACE VIEW seen_{table} AS SELECT *, CASE {cases} END AS _problem FROM typed_{table}"
    )
    given = [
        f"coalesce({quoted(name)}, {defaults[name]}) AS {quoted(name)}" if name in defaults else quoted(name)
        for name in kinds
    ]
    given += [f"{value} AS {quoted(name)}" for name, value in defaults.items() if name not in kinds]
    con.execute(
        f"CREATE OR REPLACE VIEW good_{table} AS SELECT {', '.join(given)} FROM seen_{table} WHERE _problem IS NULL"
    )
    return _survey(con, table, list(told))


def _survey(con: duckdb.Connection, table: str, told: list[Diagnostic]) -> Checked:
    """Look at every row once: how many are good, which days they touch, what is wrong with the others."""
    bad = con.execute(
        f"""SELECT split_part(_problem, chr(31), 1), split_part(_problem, chr(31), 2), count(*),
                   arg_min(split_part(_problem, chr(31), 3), _row), arg_min(_file, _row), min(_row)
            FROM seen_{table} WHERE _problem IS NOT NULL GROUP BY ALL ORDER BY 3 DESC, 1, 2"""
    ).fetchall()
    told += [_dropped(table, *found) for found in bad[:_SHOWN]]
    checked = Checked(table, dropped=sum(int(found[2]) for found in bad), diagnostics=told)
    measure(con, checked)
    return checked


def measure(con: duckdb.Connection, checked: Checked) -> None:
    """Count `good_<table>`, and see which days its intervals touch."""
    if checked.table in INTERVALS:
        first, last = f"epoch_us(start) // {_DAY}", f'(epoch_us("end") - 1) // {_DAY}'
        times = f"min({first}), max({last}), coalesce(bool_or({first} <> {last}), false)"
    else:
        times = "NULL, NULL, false"
    row = con.execute(f"SELECT count(*), {times} FROM good_{checked.table}").fetchone()
    good, begin, end, checked.crosses = row or (0, None, None, False)
    checked.rows = int(good) + checked.dropped
    checked.first = None if begin is None else day_of(int(begin))
    checked.last = None if end is None else day_of(int(end))


def day_of(number: int) -> date:
    """Return the day that many days after 1970-01-01."""
    return _EPOCH + timedelta(days=number)


def number_of(day: date) -> int:
    """Return the days from 1970-01-01 to the day."""
    return (day - _EPOCH).days


def _typed(raw: str, kind: str, target: str) -> str:
    """SQL of a value in the table's type, NULL where it can't be read. `kind` is the type that it has in the file."""
    text = raw if kind == TEXT else f"{raw}::VARCHAR"
    whole = kind.endswith("INT") or kind == "INTEGER"
    nested = kind.startswith(("MAP(", "STRUCT("))
    tags = f"tag_map(to_json({raw})::VARCHAR)" if nested else f"tag_map({text})"
    ways = {
        TEXT: f"nullif({text}, '')",
        INSTANT: f"{raw}::{INSTANT}" if kind.startswith(_TIMES) else f"instant({text})",
        # A DOUBLE goes through its text, which is the decimal that was meant.
        QUANTITY: f"TRY_CAST({raw} AS {QUANTITY})"
        if whole or kind.startswith("DECIMAL")
        else f"quantity({text})",
        MONEY: f"TRY_CAST({raw} AS {MONEY})" if whole or kind.startswith("DECIMAL") else f"money({text})",
        TAGS: tags,
        QUANTITIES: f"TRY(CAST({tags} AS {QUANTITIES}))",
    }
    if target == "BIGINT" and not whole:
        return f"TRY_CAST(regexp_extract({text}, '^[+-]?[0-9]+(?:[.]0*)?$') AS BIGINT)"
    return raw if kind == target else ways.get(target, f"TRY_CAST({raw} AS {target})")


def _problems(table: str, kinds: Mapping[str, str], types: Mapping[str, str]) -> Iterator[str]:
    """Branches of a CASE that gives a row's first problem as kind, column and value, with a control character between."""

    def branch(when: str, kind: str, name: str, value: str) -> str:
        return f"WHEN {when} THEN concat({duckdb.literal(kind)}, chr(31), {duckdb.literal(name)}, chr(31), left({value}, 60))"

    for name, kind in kinds.items():
        raw, value = quoted("_raw_" + name), quoted(name)
        if kind not in (TEXT, types[name]):
            empty = f" AND {raw}::VARCHAR NOT IN ('{{}}', '[]', '')" if kind in {TAGS, QUANTITIES} else ""
            if kind != INSTANT or not types[name].startswith(_TIMES):
                yield branch(
                    f"{raw} IS NOT NULL AND {value} IS NULL{empty}", "unreadable", name, f"{raw}::VARCHAR"
                )
    for name in REQUIRED[table]:
        yield branch(f"{quoted(name)} IS NULL", "missing", name, "''")
    for name, strange, shown in _strange_words(table, kinds):
        yield branch(strange, "word", name, shown)
    for name, kind in kinds.items():
        least = "1" if name == "attempt" else "0"
        if kind in {QUANTITY, "BIGINT"} and not name.startswith("share_") and name not in SIGNED:
            yield branch(f"{quoted(name)} < {least}", "negative", name, f"{quoted(name)}::VARCHAR")
    if table in INTERVALS:
        both = "concat(start, ' to ', \"end\")"
        yield branch('start >= "end"', "order", "end", both)
        long = f'NOT isfinite(start) OR NOT isfinite("end") OR epoch_us("end") - epoch_us(start) > {_LONGEST * _DAY}'
        yield branch(long, "long", "end", both)
    if {"share_numerator", "share_denominator"} <= set(kinds):
        wrong = (
            "(share_numerator IS NULL) <> (share_denominator IS NULL) "
            "OR share_numerator <= 0 OR share_numerator > share_denominator"
        )
        yield branch(wrong, "share", "share_numerator", "concat(share_numerator, '/', share_denominator)")


def _strange_words(table: str, kinds: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield columns that take some words only, SQL that is true for another word, and SQL of that word."""
    for name, words in WORDS.get(table, {}).items():
        if name not in kinds:
            continue
        known = ", ".join(map(duckdb.literal, words))
        if kinds[name] == QUANTITIES:
            strange = f"list_filter(map_keys({quoted(name)}), lambda k: k NOT IN ({known}))"
            yield name, f"len({strange}) > 0", f"{strange}[1]"
        else:
            yield name, f"{quoted(name)} NOT IN ({known})", quoted(name)


_SAID: Final[Mapping[str, tuple[str, str]]] = {
    "unreadable": ("{value!r} can't be read", "Times are RFC 3339, quantities decimal numbers, labels JSON objects."),
    "missing": ("there is no value", "A record can't be without it."),
    "word": ("{value!r} is none of {words}", "Use the words of docs/telemetry.md."),
    "negative": ("{value} is too small", "Leave out what isn't known; a quantity is never negative."),
    "order": ("{value} has no length", "Intervals end after they start; the end is exclusive."),
    "long": ("{value} is too long", "No interval is longer than 1000 days: is the end right?"),
    "share": ("{value} is no part of a card", "Give both numerator and denominator, of a part of at most 1."),
}  # fmt: skip


def _dropped(table: str, kind: str, column: str, count: int, value: str, file: str, row: int) -> Diagnostic:
    message, hint = _SAID[kind]
    words = WORDS.get(table, {}).get(column, ())
    said = message.format(value=value, words=", ".join(words))
    if kind == "word" and (near := difflib.get_close_matches(value.lower(), words, n=1)):
        hint = f"Did you mean {near[0]}?"
    return Diagnostic(
        "record-dropped", "error", f"{file}, row {row}, column {column}", f"{said}: {count:,} row(s) like this left out", hint
    )  # fmt: skip


def _strangers(table: str, names: set[str], where: str) -> Iterator[Diagnostic]:
    known = columns_of(table)
    for name in sorted(names - set(PARTITION_COLUMNS) - {"file_row_number"})[:_SHOWN]:
        near = difflib.get_close_matches(name, known, n=1)
        yield Diagnostic(
            "unknown-column", "warning", where, f"{table} records have no column {name!r}: it was not read",
            f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}.",
        )  # fmt: skip


def write_intervals(
    con: duckdb.Connection, checked: Checked, out: Path, within: tuple[date, date] | None = None
) -> list[DataFile]:
    """Write `good_<table>`, a folder for each day; optionally the days first…last only.

    What was held is cut at midnights. What came of it can't be cut: tokens of an interval that crosses midnight are of
    the day in which it ends.
    """
    table = checked.table
    if checked.first is None or checked.last is None:
        return []
    first = max(checked.first, within[0]) if within else checked.first
    last = min(checked.last, within[1]) if within else checked.last
    if first > last:
        return []
    names = list(duckdb.columns(con, f"good_{table}"))
    rows = (
        f'SELECT *, (epoch_us("end") - 1) // {_DAY} AS _day FROM good_{table}'
        if table not in HOLDING_TABLES
        else _cut(table, names)
        if checked.crosses
        else f"SELECT *, epoch_us(start) // {_DAY} AS _day FROM good_{table}"
    )
    inside = f"SELECT * FROM ({rows}) WHERE _day BETWEEN {number_of(first)} AND {number_of(last)}"
    out.mkdir(parents=True, exist_ok=True)
    if first == last:
        target = out / f"_day={number_of(first)}"
        target.mkdir()
        con.execute(
            f"COPY (SELECT * EXCLUDE (_day) FROM ({inside})) TO {duckdb.literal(target / 'rows.parquet')} ({_PARQUET})"
        )
    else:
        con.execute(
            f"COPY ({inside}) TO {duckdb.literal(out)} ({_PARQUET}, PARTITION_BY (_day), OVERWRITE_OR_IGNORE true)"
        )
    return written(con, out)


def _cut(table: str, names: Sequence[str]) -> str:
    """SQL that gives an interval once for each day that it touches, cut to it."""
    times = {
        "start": f"CASE WHEN epoch_us(start) < _day * {_DAY} THEN make_timestamp(_day * {_DAY})::{INSTANT} ELSE start END",
        "end": f'CASE WHEN epoch_us("end") > (_day + 1) * {_DAY} THEN make_timestamp((_day + 1) * {_DAY})::{INSTANT} ELSE "end" END',
    }
    listed = ", ".join(f"{times.get(name, quoted(name))} AS {quoted(name)}" for name in names)
    days = f'range(epoch_us(start) // {_DAY}, (epoch_us("end") - 1) // {_DAY} + 1)'
    return f"SELECT {listed}, _day FROM (SELECT *, unnest({days}) AS _day FROM good_{table})"


def write_jobs(
    con: duckdb.Connection, days: Sequence[date], usage: Sequence[DataFile], out: Path
) -> list[DataFile]:
    """Write `good_job` into every one of the days that a job lived in.

    A job without any time lived in the days of its usage; without usage either, it is told on the last day.
    """
    if not days:
        return []
    names = ", ".join(f"j.{quoted(name)}" for name in duckdb.columns(con, "good_job"))
    con.execute(
        "CREATE OR REPLACE TEMP TABLE delivery_day (_day BIGINT, first TIMESTAMPTZ, past TIMESTAMPTZ)"
    )
    con.executemany(
        "INSERT INTO delivery_day VALUES (?, ?, ?)",
        [[number_of(day), f"{day}T00:00:00Z", f"{day + timedelta(days=1)}T00:00:00Z"] for day in days],
    )
    parts = [
        f"SELECT job_id, {number_of(date.fromisoformat(file.billing_period))} AS _day FROM read_parquet({duckdb.literal(file.path)}) GROUP BY 1"
        for file in usage
    ]
    used = " UNION ".join(parts) or "SELECT NULL::VARCHAR AS job_id, NULL::BIGINT AS _day WHERE false"
    con.execute(f"CREATE OR REPLACE TEMP TABLE job_day AS {used}")
    times = set(duckdb.columns(con, "good_job"))
    submitted, started, ended = (name if name in times else f"NULL::{INSTANT}" for name in ("submitted", "started", "ended"))  # fmt: skip
    con.execute(
        f"CREATE OR REPLACE VIEW timed_job AS SELECT *, coalesce({submitted}, {started}) AS _from, {ended} AS _to FROM good_job"
    )
    out.mkdir(parents=True, exist_ok=True)
    con.execute(
        f"""COPY (
            SELECT {names}, d._day FROM timed_job j JOIN delivery_day d
            ON (j._from IS NOT NULL OR j._to IS NOT NULL)
               AND coalesce(j._from < d.past, true) AND coalesce(j._to >= d.first, true)
            UNION ALL
            SELECT {names}, d._day FROM timed_job j JOIN job_day d USING (job_id)
            WHERE j._from IS NULL AND j._to IS NULL
            UNION ALL
            SELECT {names}, {number_of(max(days))} FROM timed_job j
            WHERE j._from IS NULL AND j._to IS NULL AND NOT EXISTS (FROM job_day d WHERE d.job_id = j.job_id)
        ) TO {duckdb.literal(out)} ({_PARQUET}, PARTITION_BY (_day), OVERWRITE_OR_IGNORE true)"""
    )
    return written(con, out)


def job_days(con: duckdb.Connection) -> list[date]:
    """Return every day from the first to the last moment that `good_job` names; none when it names no moment."""
    times = [name for name in ("submitted", "started", "ended") if name in duckdb.columns(con, "good_job")]
    if not times:
        return []
    row = con.execute(
        f"SELECT min(least({', '.join(times)})), max(greatest({', '.join(times)})) FROM good_job"
    ).fetchone()
    if row is None or row[0] is None:
        return []
    first, last = row[0].date(), row[1].date()
    return [first + timedelta(days=place) for place in range((last - first).days + 1)]


def written(con: duckdb.Connection, out: Path) -> list[DataFile]:
    """List the Parquet files below a folder that has a folder `_day=N` for each day."""
    found: list[DataFile] = []
    for path in sorted(out.rglob("*.parquet")):
        row: tuple[Any, ...] | None = con.execute(
            "SELECT num_rows FROM parquet_file_metadata(?)", [str(path)]
        ).fetchone()
        if row and row[0]:
            day = day_of(int(path.parent.name.partition("=")[2]))
            found.append(DataFile(path, int(row[0]), day.isoformat()))
    return found
