"""Telemetry into the ledger: records from a program or from files, stored by UTC day, each day replaced as a whole.

A unit is (source, day, delivery). Its tables are committed one after the other, usage last: what a delivery says of
itself is complete once the last of its tables has it.
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from operator import attrgetter
from os import SEEK_END
from pathlib import Path
from shutil import move
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

from gpuledger.core.contracts import SourceFile
from gpuledger.core.telling import Block
from gpuledger.core.usage import UsageInterval
from gpuledger.core.usage_tables import (
    HOLDING_TABLES,
    TELEMETRY_TABLES,
    Record,
    columns_of,
    table_of,
    values_of,
)
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import ConflictError, SourceError
from gpuledger.focus.schema import PARTITION_COLUMNS, quoted
from gpuledger.pipeline import record_files
from gpuledger.pipeline.ingest import Action, Ingested, Report, scratch_folder
from gpuledger.pipeline.locations import clear, content_id, open_tree
from gpuledger.pipeline.record_files import TABLES, Checked
from gpuledger.pipeline.store import DataFile, Store, slug
from gpuledger.telemetry import records

if TYPE_CHECKING:
    from gpuledger.core.contracts import Tree
    from gpuledger.pipeline.ledger import Ledger

_SHARES: Final = ("share_numerator", "share_denominator")
_REMEMBERED: Final = 10_000
_SCRATCH: Final = "FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 122880"


class _Times(dict[datetime, str]):
    """Texts of moments. Thousands of intervals begin and end at the same ones."""

    def __missing__(self, moment: datetime) -> str:
        if len(self) > _REMEMBERED:
            self.clear()
        self[moment] = text = str(moment)
        return text


class Spool:
    """Records on their way to a table: a text file per table, so that any number of them takes no memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = dict.fromkeys(TABLES, 0)
        self._files: dict[str, TextIO] = {}
        self._kept: dict[str, int] = {}
        self._counts = dict(self.rows)
        self._write: dict[str, Callable[[Sequence[Any]], Any]] = {}
        self._columns = {table: _order(table) for table in TABLES}
        self._usage = attrgetter(*(name for name in self._columns["usage_interval"] if name not in _SHARES))
        self._start, self._end = (self._columns["usage_interval"].index(name) for name in ("start", "end"))
        self._times = _Times()
        self._blocks: list[tuple[str, Path]] = []
        self._kept_blocks = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, record: Record) -> None:
        """Write one record down."""
        if isinstance(record, UsageInterval):
            table, share = "usage_interval", record.share
            parts = (None, None) if share is None else (share.numerator, share.denominator)
            row: list[Any] = [*self._usage(record), *parts]
            times = self._times
            row[self._start], row[self._end] = times[record.start], times[record.end]
        else:
            table, values = table_of(record), values_of(record)
            row = [_cell(values[name]) for name in self._columns[table]]
        if table not in self._write:
            self._open(table)
        self._write[table](row)
        self.rows[table] += 1

    def take(self, block: Block) -> None:
        """Take a file of records over."""
        path = self.folder / f"block-{len(self._blocks)}.parquet"
        move(block.path, path)
        self._blocks.append((block.table, path))
        self.rows[block.table] += block.rows

    def mark(self) -> None:
        """Keep all that was written down so far, whatever `rewind` takes back later."""
        self._kept_blocks = len(self._blocks)
        self._kept = {table: self._size(table) for table in self._files}
        self._counts = dict(self.rows)

    def rewind(self) -> None:
        """Take back what came after the last mark."""
        for table, handle in self._files.items():
            self._size(table)
            handle.truncate(self._kept.get(table, 0))
            handle.seek(0, SEEK_END)
        del self._blocks[self._kept_blocks :]
        self.rows = dict(self._counts)

    def _size(self, table: str) -> int:
        self._files[table].flush()
        return (self.folder / f"{table}.csv").stat().st_size

    def _open(self, table: str) -> None:
        handle = (self.folder / f"{table}.csv").open("w", encoding="utf-8", newline="", buffering=1 << 20)
        self._files[table] = handle
        # Both characters of the line end are quoted inside a value.
        self._write[table] = csv.writer(handle, lineterminator="\r\n").writerow

    def load(self, con: duckdb.Connection, table: str, label: str) -> Checked:
        """Make `good_<table>` of what was written down. `label` names the source in diagnostics."""
        if handle := self._files.pop(table, None):
            handle.close()
            self._write.pop(table)
        blocks = [block for name, block in self._blocks if name == table]
        path = self.folder / f"{table}.csv"
        if blocks and not path.exists():
            read = "SELECT * EXCLUDE (file_row_number)"  # all in the table's types
        else:
            scratch = self._texts_of(con, table, path)
            read = f"SELECT * EXCLUDE (file_row_number), file_row_number + 1 AS _row FROM read_parquet({duckdb.literal(scratch)}, file_row_number = true)"
            if blocks:
                read += f" UNION ALL BY NAME SELECT {_texts(table)}"
        if blocks:
            read += f", file_row_number + 1 AS _row FROM read_parquet({duckdb.literals(blocks)}, file_row_number = true, union_by_name = true)"
        con.execute(
            f"CREATE OR REPLACE VIEW native_{table} AS SELECT *, {duckdb.literal(label)} AS _file FROM ({read})"
        )
        return record_files.check(con, table)

    def _texts_of(self, con: duckdb.Connection, table: str, path: Path) -> Path:
        """Turn what was written down, which may be nothing, into a Parquet file of texts."""
        scratch = self.folder / f"{table}.spool.parquet"
        names = ", ".join(f"{duckdb.literal(name)}: 'VARCHAR'" for name in self._columns[table])
        path.touch()
        con.execute(
            f"COPY (FROM read_csv({duckdb.literal(path)}, auto_detect = false, header = false, columns = {{{names}}}, "
            f"delim = ',', quote = '\"', escape = '\"', new_line = '\\r\\n', nullstr = '', max_line_size = 16777216, "
            f"buffer_size = 33554432)) TO {duckdb.literal(scratch)} ({_SCRATCH})"
        )
        path.unlink()
        return scratch

    def close(self) -> None:
        """Close the files; their folder is the caller's to remove."""
        for handle in self._files.values():
            handle.close()
        self._files.clear()
        self._write.clear()


def _texts(table: str) -> str:
    """SQL of a block's columns as text, like those of records that were written down."""
    return ", ".join(
        f"{f'to_json({quoted(one.name)})' if one.sql_type.startswith('MAP(') else quoted(one.name)}::VARCHAR AS {quoted(one.name)}"
        for one in TELEMETRY_TABLES[table]
        if one.name not in PARTITION_COLUMNS
    )


def _cell(value: Any) -> Any:  # noqa: ANN401 - whatever a record holds
    if not isinstance(value, Mapping):
        return value
    return json.dumps(value, ensure_ascii=False, default=str) if value else None


def _order(table: str) -> list[str]:
    names = list(columns_of(table))
    return [name for name in names if name not in _SHARES] + [name for name in _SHARES if name in names]


@dataclass(slots=True)
class Stored:
    """What a delivery came to: rows by day and table, as written, and what was wrong."""

    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def of(self, day: str) -> int:
        """Rows of a day in all tables."""
        return sum(rows.get(day, 0) for rows in self.rows.values())


def store_records(  # noqa: PLR0913 - keywords say what a delivery is
    store: Store,
    source: str,
    day: date,
    records: Iterable[Record],
    *,
    delivery_id: str,
    order: int,
    notes: Mapping[str, Any] | None = None,
    diagnostics: list[Diagnostic] | None = None,
) -> dict[str, int]:
    """Make the records the whole content of one UTC day of a telemetry source; return rows per table.

    Intervals are cut to the day, and those outside it are left out; jobs are told if they lived then. Records that
    can't be right are left out and told in `diagnostics`. `order` is the delivery's moment in microseconds since
    1970: raises ConflictError when the ledger holds a later one.
    """
    scratch = scratch_folder(store)
    spool = Spool(scratch / "spool")
    try:
        for record in records:
            spool.add(record)
        stored = store_spool(
            store,
            slug(source),
            spool,
            [day],
            scratch,
            delivery_id=delivery_id,
            order=order,
            notes={day.isoformat(): notes or {}},
        )
    finally:
        spool.close()
        clear(scratch)
    if diagnostics is not None:
        diagnostics += stored.diagnostics
    return {table: rows.get(day.isoformat(), 0) for table, rows in stored.rows.items()}


def store_spool(  # noqa: PLR0913 - keywords say what a delivery is
    store: Store,
    source: str,
    spool: Spool,
    days: Sequence[date],
    scratch: Path,
    *,
    delivery_id: str,
    order: int,
    notes: Mapping[str, Mapping[str, Any]] | None = None,
    beside: Callable[[duckdb.Connection, Checked], None] | None = None,
) -> Stored:
    """Make a spool's records the whole content of a run of days. `notes` go by day, and `beside` may add rows to `good_<table>` first."""
    con = duckdb.connect(spill=scratch / "spill")
    try:
        checked: dict[str, Checked] = {}
        for table in TABLES:
            # Tables that this source never told of are left alone.
            if (
                table not in HOLDING_TABLES
                and not spool.rows[table]
                and not store.files(table, source=source)
            ):
                continue
            checked[table] = spool.load(con, table, source)
            if beside is not None:
                beside(con, checked[table])
        files = write_days(con, checked, scratch, days)
    finally:
        con.close()
    orders = {day.isoformat(): order for day in days}
    stored = Stored(diagnostics=[told for one in checked.values() for told in one.diagnostics])
    _commit(store, source, delivery_id, files, orders, notes or {}, stored)
    return stored


def write_days(
    con: duckdb.Connection, checked: Mapping[str, Checked], scratch: Path, days: Sequence[date] = ()
) -> dict[str, list[DataFile]]:
    """Write the good rows of the days; without days, of all that the intervals touch, or else of the jobs' times."""
    within = (min(days), max(days)) if days else None
    files: dict[str, list[DataFile]] = {}
    for table in record_files.INTERVALS:
        if table in checked:
            files[table] = record_files.write_intervals(con, checked[table], scratch / table, within)
    if "job" in checked:
        told = {file.billing_period for written in files.values() for file in written}
        days = days or [date.fromisoformat(day) for day in sorted(told)] or record_files.job_days(con)
        usage = files.get("usage_interval", [])
        files["job"] = record_files.write_jobs(con, days, usage, scratch / "job")
    return {table: files[table] for table in TABLES if table in files}


def _commit(
    store: Store,
    source: str,
    delivery_id: str,
    files: Mapping[str, Sequence[DataFile]],
    orders: Mapping[str, int],
    notes: Mapping[str, Mapping[str, Any]],
    stored: Stored,
) -> None:
    """Replace the days in each table, usage last. A day without rows is replaced by nothing."""
    for table, written in files.items():
        counts = dict.fromkeys(orders, 0)
        for file in written:
            counts[file.billing_period] += file.rows
        told = {
            day: {**notes.get(day, {}), "rows": rows, "tables": list(files)} for day, rows in counts.items()
        }
        store.replace(table, source, delivery_id, written, orders=orders, notes=told)
        stored.rows[table] = counts


class Reading(Protocol):
    """One way to read files of telemetry: which of a tree's files, of which tables, and how they become data files."""

    type: str
    reader: str  # changes when the same files would be read differently

    def files(self, tree: "Tree") -> Mapping[str, Sequence[SourceFile]]:
        """Return the files to read, by table. Raises SourceError when there are none."""
        ...

    def write(
        self, con: duckdb.Connection, tree: "Tree", scratch: Path, progress: Callable[[str], None]
    ) -> tuple[dict[str, list[DataFile]], list[Diagnostic]]:
        """Write the rows as files by day for each table; return them and what was wrong."""
        ...


class _Records:
    """Files of records, columns by name."""

    type = records.TYPE

    def __init__(self) -> None:
        # Changes with the code that reads record files, so that the same files are read again by a newer version.
        self.reader = sha256(Path(record_files.__file__).read_bytes()).hexdigest()[:12]

    def files(self, tree: "Tree") -> Mapping[str, Sequence[SourceFile]]:
        return record_files.by_table(tree)

    def write(
        self, con: duckdb.Connection, tree: "Tree", scratch: Path, progress: Callable[[str], None]
    ) -> tuple[dict[str, list[DataFile]], list[Diagnostic]]:
        found, checked = self.files(tree), dict[str, Checked]()
        for table in (table for table in TABLES if table in found):
            progress(f"reading {table} records of {tree.location}")
            checked[table] = record_files.read(con, tree, table, found[table], scratch)
        return write_days(con, checked, scratch), [
            told for one in checked.values() for told in one.diagnostics
        ]


def ingest_records(
    ledger: "Ledger",
    path: str,
    *,
    source: str | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Bring files of records into the ledger: each day that they tell of is replaced in the tables that they have.

    See `ingest_files`.
    """
    return ingest_files(ledger, path, _Records(), source=source, force=force, progress=progress)


def ingest_files(
    ledger: "Ledger",
    path: str,
    reading: Reading,
    *,
    source: str | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Bring files of telemetry into the ledger: each day that they tell of is replaced in the tables that they have.

    The source is called `source`, or after the folder. The same files twice are one delivery; files that were
    replaced by others since are refused unless `force`. A delivery that can't be read is a rejected row and a
    Diagnostic, and changes nothing.
    """
    tree = open_tree(path, ledger.cache)
    name = slug(source or f"{reading.type}-{Path(path.rstrip('/')).name.split('.')[0]}")
    run = _Files(ledger.store, tree, name, reading, progress, force=force)
    try:
        run.run()
    except (SourceError, ConflictError) as error:
        where = error.where or tree.location
        run.report.diagnostics.append(
            Diagnostic("delivery-rejected", "error", where, error.message, error.hint or "")
        )
        run.report.rows.append(_row(name, None, run.identity, 0, "rejected"))
    return run.report


@dataclass(slots=True)
class _Files:
    """One delivery of files on its way into the ledger."""

    store: Store
    tree: "Tree"
    source: str
    reading: Reading
    progress: Callable[[str], None]
    force: bool
    identity: str = "unknown"
    report: Report = field(default_factory=Report)

    def run(self) -> None:
        found = self.reading.files(self.tree)
        files = {file.path: file for group in found.values() for file in group}
        self.identity = content_id([self.tree.local(path) for path in files])
        if not self.force and self._known(list(found)):
            return
        scratch = scratch_folder(self.store)
        con = duckdb.connect(spill=scratch / "spill")
        try:
            self.progress(f"reading {self.tree.location}")
            written, told = self.reading.write(con, self.tree, scratch, self.progress)
            self.report.diagnostics += told
            self.progress(f"storing {self.source}")
            con.close()
            self._store(written)
        finally:
            con.close()
            clear(scratch)

    def _store(self, written: Mapping[str, Sequence[DataFile]]) -> None:
        days = sorted({file.billing_period for files in written.values() for file in files})
        if not days:
            raise SourceError(
                "no record has a time that can be read", where=self.tree.location, hint="Nothing has changed."
            )
        held = [self.store.order(table, self.source, day) or 0 for table in written for day in days]
        order = max(int(datetime.now(UTC).timestamp() * 1_000_000), *(one + 1 for one in held))
        before = {(table, unit[1]) for table in written for unit in self.store.units(table) if unit[0] == self.source}  # fmt: skip
        orders = dict.fromkeys(days, order)
        note = {"type": self.reading.type, "reader": self.reading.reader, "location": self.tree.location}
        stored = Stored()
        _commit(self.store, self.source, self.identity, written, orders, dict.fromkeys(days, note), stored)
        for day in days:
            action: Action = "replaced" if any((table, day) in before for table in written) else "loaded"
            self.report.rows.append(_row(self.source, day, self.identity, stored.of(day), action))

    def _known(self, tables: Sequence[str]) -> bool:
        """Recognise files that the ledger holds (unchanged) or held before others (refused)."""
        counts: dict[str, int] = {}
        lost: set[str] = set()
        for table in tables:
            notes = [note for note in self.store.history(table) if note["source"] == self.source]
            newest = {note["billing_period"]: note for note in reversed(notes)}
            ours = {note["billing_period"]: note for note in reversed(notes) if self._is_ours(note)}
            if not ours:
                return False  # never read, or a crash came before this table
            for day, note in ours.items():
                counts[day] = counts.get(day, 0) + note["rows"]
                if newest[day]["delivery_id"] != self.identity:
                    lost.add(day)
        for day, rows in sorted(counts.items()):
            if day in lost:
                self.report.diagnostics.append(_older(self.tree.location, self.source, day))
            self.report.rows.append(
                _row(self.source, day, self.identity, 0 if day in lost else rows, "rejected" if day in lost else "unchanged")
            )  # fmt: skip
        return True

    def _is_ours(self, note: Mapping[str, Any]) -> bool:
        return bool(note["delivery_id"] == self.identity and note.get("reader") == self.reading.reader)


def _row(source: str, day: str | None, identity: str, rows: int, action: Action) -> Ingested:
    return Ingested(source, day, identity, rows, None, None, None, action)


def _older(where: str, source: str, day: str) -> Diagnostic:
    return Diagnostic(
        "older-delivery", "warning", where, f"the ledger holds a newer delivery of {source} {day}: this one was not loaded",
        "That is usually right. To go back to it all the same, ingest it with --force.",
    )  # fmt: skip
