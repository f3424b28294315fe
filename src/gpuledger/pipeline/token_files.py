"""Files that tell of tokens: raw samples of metrics, saved metrics pages, and exports of gateways, APIs and trackers.

All of them become days of `token_interval` or `training_interval`. What a kind of file means is the telemetry module's
to say: an ENGINE (its metrics), or a `relation` (SQL of its rows).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Final

from gpuledger import registry
from gpuledger.core.contracts import SourceFile, Tree
from gpuledger.core.exposition import parse
from gpuledger.core.serving_metrics import Engine
from gpuledger.core.telling import FileTelemetry
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import SourceError, UsageError
from gpuledger.focus.schema import quoted
from gpuledger.models import token_requests, training_steps
from gpuledger.models import token_samples as token_samples_sql
from gpuledger.models.token_samples import Downsampler
from gpuledger.pipeline import record_files
from gpuledger.pipeline.ingest import Report
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.record_files import day_of, number_of
from gpuledger.pipeline.store import DataFile
from gpuledger.pipeline.telemetry import Reading, ingest_files, ingest_records, write_days
from gpuledger.telemetry import records, token_samples

_PARQUET: Final = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 61440"
_KINDS: Final = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv", ".jsonl": "json", ".jsonl.gz": "json", ".ndjson": "json", ".json": "json"}  # fmt: skip
_PAGES: Final = (".prom", ".txt", ".metrics", ".om")
_STAMP: Final = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})T(\d{2}):?-?(\d{2}):?-?(\d{2})Z")
_DAY: Final = 86_400_000_000
_LONGEST: Final = 1000  # days; more is a slip of units


def kinds() -> list[str]:
    """Return the types of telemetry that come in files."""
    return [name for name in registry.telemetry_names() if _reading(name) is not None or name == records.TYPE]


def ingest(
    ledger: Ledger,
    type_name: str,
    path: str,
    *,
    source: str | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Bring files of a type of telemetry into the ledger. Raises UsageError when the type isn't one of files."""
    if type_name == records.TYPE:
        return ingest_records(ledger, path, source=source, force=force, progress=progress)
    if (reading := _reading(type_name)) is None:
        raise UsageError(
            f"{type_name} isn't read from files",
            hint=f"Configure it as [telemetry.NAME]. Files: {', '.join(kinds())}.",
        )
    return ingest_files(ledger, path, reading, source=source, force=force, progress=progress)


def _reading(type_name: str) -> Reading | None:
    module = registry.telemetry(type_name)
    if type_name == token_samples.TYPE:
        return _Samples()
    if hasattr(module, "ENGINE"):
        return _Pages(type_name, module.ENGINE)
    return _Rows(module) if isinstance(module, FileTelemetry) else None


def _reader(module: object) -> str:
    """Change with the code that reads a kind of file: the module, SQL beside it, and what makes intervals of its rows."""
    own = Path(str(getattr(module, "__file__", __file__)))
    files = [Path(__file__), own, *sorted(own.parent.glob(f"{own.stem}.*.sql"))]
    for package in (token_samples_sql, token_requests, training_steps):
        files += sorted(Path(str(package.__file__)).parent.glob("*.*"))
    return sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]


def twice(con: duckdb.Connection, engines: Sequence[Engine], where: str) -> Iterator[Diagnostic]:
    """Warn when what stands before engines was read beside them: each token is there twice."""
    told = {str(row[0]) for row in con.execute("SELECT DISTINCT provider FROM replica_told").fetchall()}
    front = sorted({engine.provider for engine in engines if engine.front} & told)
    if front and told - set(front):
        yield Diagnostic(
            "tokens-twice", "warning", where,
            f"{front[0]} stands before {', '.join(sorted(told - set(front)))}: both count the same tokens",
            "Read one of them: the engines to have tokens by pod, the one before them to have each request once.",
        )  # fmt: skip


class _Samples:
    """Samples in files, of any length: a day at a time."""

    type = token_samples.TYPE

    def __init__(self) -> None:
        self.reader = _reader(token_samples)

    def files(self, tree: Tree) -> Mapping[str, Sequence[SourceFile]]:
        found = [file for file in tree.files if _kind(file.path)]
        if not found:
            raise SourceError("no files of samples here", where=tree.location, hint="They end in .parquet, .csv or .jsonl.")  # fmt: skip
        return {"token_interval": found}

    def write(
        self, con: duckdb.Connection, tree: Tree, scratch: Path, progress: Callable[[str], None]
    ) -> tuple[dict[str, list[DataFile]], list[Diagnostic]]:
        make = Downsampler(con, token_samples.ENGINES)
        scan = _Scan(con, tree, self.files(tree)["token_interval"], make.names)
        out, found = scratch / "token_interval", list[DataFile]()
        out.mkdir(parents=True, exist_ok=True)
        for number in scan.days():
            progress(f"reading samples of {day_of(number)}")
            # Sorted files are then read as they come.
            con.execute("SET preserve_insertion_order = true")
            make.span(scan.samples(number), scan.series(number))
            path = out / f"{number}.parquet"
            con.execute("SET preserve_insertion_order = false")
            row = con.execute(f"COPY ({make.rows()}) TO {duckdb.literal(path)} ({_PARQUET})").fetchone()
            if row and row[0]:
                found.append(DataFile(path, int(row[0]), day_of(number).isoformat()))
        return {"token_interval": found}, list(twice(con, token_samples.ENGINES, tree.location))


def _kind(path: str) -> str | None:
    return next((kind for suffix, kind in _KINDS.items() if path.lower().endswith(suffix)), None)


class _Scan:
    """The samples of some files as one relation, by day."""

    def __init__(
        self, con: duckdb.Connection, tree: Tree, files: Sequence[SourceFile], names: Sequence[str]
    ) -> None:
        self.con, self.where = con, tree.location
        kinds_ = {_kind(file.path) for file in files}
        if len(kinds_) > 1:
            raise SourceError("files of several formats", where=tree.location, hint="Give those of one format.")  # fmt: skip
        listed = duckdb.literals([tree.local(file.path) for file in files])
        self.scan = {
            "parquet": f"read_parquet({listed}, union_by_name = true, hive_partitioning = false)",
            "csv": f"read_csv({listed}, all_varchar = true, union_by_name = true)",
            "json": f"read_json({listed}, format = 'auto', union_by_name = true)",
        }[kinds_.pop() or "parquet"]
        try:
            types = duckdb.columns(con, self.scan)
        except duckdb.EngineError as error:
            raise SourceError(f"can't be read ({str(error).splitlines()[0][:300]})", where=tree.location, hint="Nothing has changed.") from error  # fmt: skip
        self.name, self.time, self.value = (
            self._needed(types, which) for which in (token_samples.NAME, token_samples.TIME, token_samples.VALUE)
        )  # fmt: skip
        self.labels = next((name for name in types if name.lower() in token_samples.LABELS), None)
        taken = {self.name, self.time, self.value, self.labels}
        self.columns = [name for name, kind in types.items() if name not in taken and kind == "VARCHAR"]
        self.nested = types.get(self.labels or "", "")
        present = self._present(names)
        self.chosen = f"{quoted(self.name)} IN ({', '.join(map(duckdb.literal, present))}) AND isfinite(TRY_CAST({quoted(self.value)} AS DOUBLE))"
        self.unit = self._unit(types[self.time])

    def _present(self, names: Sequence[str]) -> list[str]:
        """Return those of the names that there are: a short list is looked through faster."""
        found = self.con.execute(f"SELECT DISTINCT {quoted(self.name)} FROM {self.scan}").fetchall()
        present = sorted({str(row[0]) for row in found} & set(names))
        if not present:
            raise SourceError(
                "no sample of a serving engine's metric",
                where=self.where,
                hint="docs/token-telemetry.md lists what is read of each engine.",
            )
        return present

    def _needed(self, types: Mapping[str, str], spellings: Sequence[str]) -> str:
        found = next((name for word in spellings for name in types if name.lower() == word), None)
        if found is None:
            raise SourceError(
                f"no column {' or '.join(spellings)} (there are {', '.join(list(types)[:12])})",
                where=self.where,
                hint="A sample has a metric, a time (ts), a value, and labels: docs/token-telemetry.md.",
            )
        return found

    def _unit(self, kind: str) -> int | None:
        """Return how many of the time's numbers are a second; None when it is no number."""
        if kind.startswith(("TIMESTAMP", "DATE")):
            return None
        if kind == "VARCHAR":
            row = self.con.execute(f"SELECT any_value({quoted(self.time)}) FROM {self.scan}").fetchone()
            if row is None or row[0] is None or not re.fullmatch(r"\d+(\.\d+)?", row[0].strip()):
                return None
        row = self.con.execute(f"SELECT max(TRY_CAST({quoted(self.time)} AS DOUBLE)) FROM {self.scan}").fetchone()  # fmt: skip
        largest = (row and row[0]) or 0
        # Seconds until the year 5138, then milliseconds and so on.
        return next(unit for unit in (1, 10**3, 10**6, 10**9) if largest < 10**11 * unit or unit == 10**9)

    @property
    def micros(self) -> str:
        """SQL of a sample's time in microseconds."""
        raw = quoted(self.time)
        if self.unit is None:
            return f"epoch_us({raw}::TIMESTAMPTZ)" if not self._text_time() else f"epoch_us(instant({raw}))"
        return f"CAST(round(CAST({raw} AS DOUBLE) * {1_000_000 // self.unit if self.unit <= 10**6 else 0.001}) AS BIGINT)"  # fmt: skip

    def _text_time(self) -> bool:
        return duckdb.columns(self.con, self.scan)[self.time] == "VARCHAR"

    def days(self) -> Iterator[int]:
        """Yield the days (since 1970) that the samples touch."""
        row = self.con.execute(f"SELECT min({self.micros}), max({self.micros}) FROM {self.scan} WHERE {self.chosen}").fetchone()  # fmt: skip
        if row is None or row[0] is None:
            raise SourceError("no sample has a value", where=self.where, hint="Nothing has changed.")
        first, last = (int(row[0]) - 1) // _DAY, (int(row[1]) - 1) // _DAY
        if last - first > _LONGEST:
            raise SourceError(
                f"times from {row[0]} to {row[1]} µs",
                where=self.where,
                hint="Are the times of one unit: seconds, milliseconds, or timestamps?",
            )
        return iter(range(first, last + 1))

    def _within(self, number: int) -> str:
        """SQL of a day's samples: those right at midnight end the day before."""
        begin, end = day_of(number), day_of(number) + timedelta(days=1)
        if self.unit is None and not self._text_time():  # the file's own statistics choose what is read
            return f"{self.chosen} AND {quoted(self.time)} > '{begin}T00:00:00Z'::TIMESTAMPTZ AND {quoted(self.time)} <= '{end}T00:00:00Z'::TIMESTAMPTZ"  # fmt: skip
        return f"{self.chosen} AND {self.micros} > {number_of(begin) * _DAY} AND {self.micros} <= {number_of(end) * _DAY}"  # fmt: skip

    @property
    def _key(self) -> str:
        listed = [self.name, *self.columns, *([self.labels] if self.labels else [])]
        return f"hash({', '.join(quoted(name) + ('::VARCHAR' if name == self.labels else '') for name in listed)})"

    def series(self, number: int) -> str:
        """SQL of the day's series: key, name, labels."""
        kept = "".join(f", any_value({quoted(name)}) AS l{place}" for place, name in enumerate(self.columns))
        if self.labels:
            nested = self.nested.startswith(("MAP", "STRUCT", "JSON"))
            text = f"to_json({quoted(self.labels)})::VARCHAR" if nested else quoted(self.labels)
            kept += f", any_value({text}) AS all_labels"
        pairs = ", ".join(f"{{'key': {duckdb.literal(name)}, 'value': l{place}}}" for place, name in enumerate(self.columns))  # fmt: skip
        own = f"list_filter([{pairs}]::STRUCT(key VARCHAR, value VARCHAR)[], lambda e: e.value IS NOT NULL)"
        if self.labels:
            own = f"list_concat(map_entries(coalesce(tag_map(all_labels), MAP {{}})), {own})"
        return (
            f"SELECT s, name, map_from_entries({own}) AS labels FROM ("
            f"SELECT {self._key} AS s, any_value({quoted(self.name)}) AS name{kept} FROM {self.scan} "
            f"WHERE {self._within(number)} GROUP BY 1)"
        )

    def samples(self, number: int) -> str:
        """SQL of the day's samples: key, time in microseconds, value."""
        return f"SELECT {self._key} AS s, {self.micros} AS t, CAST({quoted(self.value)} AS DOUBLE) AS v FROM {self.scan} WHERE {self._within(number)}"  # fmt: skip


class _Pages:
    """Metrics pages that were saved: two pages of a replica are an interval. A folder per replica names it."""

    def __init__(self, type_name: str, engine: Engine) -> None:
        self.type, self.engine = type_name, engine
        self.reader = _reader(registry.telemetry(type_name))

    def files(self, tree: Tree) -> Mapping[str, Sequence[SourceFile]]:
        found = [file for file in tree.files if file.path.lower().endswith(_PAGES)]
        if not found:
            raise SourceError(
                "no metrics pages here", where=tree.location, hint=f"They end in {', '.join(_PAGES)}."
            )
        return {"token_interval": found}

    def write(
        self, con: duckdb.Connection, tree: Tree, scratch: Path, progress: Callable[[str], None]
    ) -> tuple[dict[str, list[DataFile]], list[Diagnostic]]:
        make, told = Downsampler(con, [self.engine]), list[Diagnostic]()
        lines = scratch / "pages.jsonl"
        names = set(make.names)
        with lines.open("w", encoding="utf-8") as out:
            for file in self.files(tree)["token_interval"]:
                progress(f"reading {file.path}")
                page = parse(tree.read(file.path).decode("utf-8", "replace"), file.path)
                told += page.diagnostics
                at, folder = _moment(file), PurePosixPath(file.path).parent.name
                for sample in page.samples:
                    if sample.name not in names or sample.value is None:
                        continue
                    when = sample.time or at
                    if when is None:
                        raise SourceError("a page without a time", where=file.path, hint="Put it into the file's name, such as 20261102T080000Z.prom.")  # fmt: skip
                    labels = {"pod": folder, **sample.labels} if folder else dict(sample.labels)
                    out.write(_line(sample.name, labels, when, sample.value))
        if not lines.stat().st_size:
            raise SourceError(
                f"no metric of {registry.telemetry(self.type).TITLE} in these pages",
                where=tree.location,
                hint="docs/token-telemetry.md lists what is read. Is it the right type?",
            )
        shape = "{'name': 'VARCHAR', 'labels': 'MAP(VARCHAR, VARCHAR)', 't': 'BIGINT', 'v': 'DOUBLE'}"
        con.execute(f"CREATE TEMP TABLE page AS SELECT hash(name, labels::VARCHAR) AS s, * FROM read_json({duckdb.literal(lines)}, format = 'newline_delimited', columns = {shape})")  # fmt: skip
        series = "SELECT s, any_value(name) AS name, any_value(labels) AS labels FROM page GROUP BY s"
        make.pages("SELECT s, t, v FROM page", series)
        con.execute(f"CREATE VIEW native_token_interval AS SELECT *, {duckdb.literal(tree.location)} AS _file, row_number() OVER () AS _row FROM ({make.rows()})")  # fmt: skip
        checked = record_files.check(con, "token_interval", told)
        if not checked.rows:
            raise SourceError(
                "no two pages of the same replica",
                where=tree.location,
                hint="A counter says nothing alone: save a page twice, into a folder for each replica.",
            )
        return write_days(con, {"token_interval": checked}, scratch), checked.diagnostics


def _line(name: str, labels: Mapping[str, str], when: datetime, value: Decimal) -> str:
    moment = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    ordered = dict(sorted(labels.items()))
    return json.dumps({"name": name, "labels": ordered, "t": moment, "v": float(value)}) + "\n"


def _moment(file: SourceFile) -> datetime | None:
    """When a page was saved: as its name says, or else its file's time."""
    if found := _STAMP.search(PurePosixPath(file.path).name):
        year, month, day, hour, minute, second = map(int, found.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return file.modified


class _Rows:
    """Files whose rows a telemetry module turns into those of a table, with SQL."""

    def __init__(self, module: FileTelemetry) -> None:
        self.type, self.module = module.TYPE, module
        self.reader = _reader(module)

    def files(self, tree: Tree) -> Mapping[str, Sequence[SourceFile]]:
        found = [file for file in tree.files if file.path.lower().endswith(tuple(self.module.SUFFIXES))]
        if not found:
            raise SourceError(
                f"no files of {self.module.TITLE} here",
                where=tree.location,
                hint=f"They end in {', '.join(self.module.SUFFIXES)}.",
            )
        return {self.module.TABLE: found}

    def write(
        self, con: duckdb.Connection, tree: Tree, scratch: Path, progress: Callable[[str], None]
    ) -> tuple[dict[str, list[DataFile]], list[Diagnostic]]:
        table = self.module.TABLE
        progress(f"reading {tree.location}")
        files = [(file.path, tree.local(file.path)) for file in self.files(tree)[table]]
        try:
            sql, told = self.module.relation(con, files, scratch)
            con.execute(f"CREATE TEMP TABLE native_{table} AS SELECT *, {duckdb.literal(tree.location)} AS _file, row_number() OVER () AS _row FROM ({sql})")  # fmt: skip
        except duckdb.EngineError as error:
            raise SourceError(
                f"can't be read as {self.module.TITLE} ({str(error).splitlines()[0][:300]})",
                where=tree.location,
                hint="Export it again; the ledger keeps its last good state.",
            ) from error
        checked = record_files.check(con, table, told)
        return write_days(con, {table: checked}, scratch), checked.diagnostics
