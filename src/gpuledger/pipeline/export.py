"""The ledger for other tools: FOCUS datasets with their metadata, Parquet, CSV and Excel workbooks.

Rows stream from the ledger's files into the export's. Everything is written in a scratch folder beside the target and
renamed when it is complete, so that nobody sees half an export.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

from gpuledger import __version__
from gpuledger.core.windows import Window
from gpuledger.engines import duckdb
from gpuledger.errors import LedgerError, UsageError
from gpuledger.focus import export as focus
from gpuledger.focus.model import model
from gpuledger.focus.schema import INSTANT, TAGS, LedgerColumn, quoted
from gpuledger.pipeline import costs, workbook
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.locations import clear, is_remote
from gpuledger.pipeline.store import TABLES

Target = Literal["parquet", "csv", "xlsx", "focus"]
TARGETS: tuple[Target, ...] = ("parquet", "csv", "xlsx", "focus")
DATASETS = {"CostAndUsage": "cost_and_usage", "ContractCommitment": "contract_commitment"}
_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_METADATA = "_metadata.json"  # told from data by its name, also by our own `ingest`
_BATCH = 2_000


@dataclass(frozen=True, slots=True)
class Request:
    """What to export where.

    `dataset` None is Cost and Usage, for `focus` both. `where` and `window` are those of a cost question. `group_by`
    asks for sums instead of charges. `custom` are x_ columns that a FOCUS dataset shall have; `csv` writes it as text.
    """

    target: Target
    path: Path
    focus_version: str = "1.3"
    dataset: str | None = None
    where: Sequence[str] = ()
    window: Window | None = None
    group_by: Sequence[str] = ()
    metric: str = "effective"
    custom: Sequence[str] = ()
    csv: bool = False
    force: bool = False

    @property
    def question(self) -> costs.Question:
        """The charges in question."""
        return costs.Question(self.group_by, self.metric, self.where, self.window)


@dataclass(frozen=True, slots=True)
class Exported:
    """One file written: its rows (None for metadata), its size in bytes."""

    file: str
    dataset: str
    rows: int | None
    bytes: int


@dataclass(slots=True)
class _Written:
    """Files in scratch, by final path."""

    files: dict[Path, tuple[Path, str, int | None]] = field(default_factory=dict)


def export(ledger: Ledger, request: Request, now: datetime | None = None) -> list[Exported]:
    """Write what is asked for and return the files.

    Raises UsageError for what can't be asked, an existing path without `force`, and rows that a workbook can't hold;
    LedgerError when there is nothing to export.
    """
    _check(request)
    ledger.require()
    con = ledger.connect()
    with _scratch(request.path) as scratch:
        written = _Written()
        if request.target == "focus":
            _focus(ledger, con, request, now or datetime.now(UTC), scratch, written)
        else:
            _plain(con, request, scratch, written)
        found = [
            Exported(str(final), dataset, rows, part.stat().st_size)
            for final, (part, dataset, rows) in written.files.items()
        ]
        _move(written, request)
    return found


def _check(request: Request) -> None:
    if request.target == "focus" and request.group_by:
        raise UsageError(
            "a FOCUS dataset has charges, not sums", hint="Leave out --group-by, or export --to csv."
        )
    if request.target != "focus" and (request.custom or request.csv):
        raise UsageError("--custom and --csv go with --to focus", hint="The other targets have all columns.")
    if request.dataset == "ContractCommitment" and (request.where or request.group_by):
        raise UsageError(
            "--where and --group-by ask for charges", hint="Leave out --dataset, or narrow it with --window."
        )
    _check_path(request)


def _check_path(request: Request) -> None:
    path, text = request.path, str(request.path)
    if is_remote(text) or ":/" in text:
        raise UsageError(
            "an export is written to a file or folder here",
            where=text,
            hint="Export to a local path and copy it from there.",
        )
    suffixes = {"parquet": (".parquet",), "csv": (".csv", ".csv.gz"), "xlsx": (".xlsx",), "focus": ("",)}
    if not text.lower().endswith(wanted := suffixes[request.target]):
        raise UsageError(
            f"the file name doesn't end in {wanted[0]}", where=text, hint=f"Call it NAME{wanted[0]}."
        )
    if not path.exists() or _is_empty_folder(path):
        return
    if not request.force:
        raise UsageError(
            "this exists already", where=text, hint="Choose another name, or replace it with --force."
        )
    if path.is_dir() and (strange := [entry.name for entry in path.iterdir() if not _is_ours(entry)]):
        raise UsageError(
            f"this folder holds {strange[0]}, which no export wrote: not replaced",
            where=text,
            hint="Choose another name, or empty the folder yourself.",
        )


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _is_ours(entry: Path) -> bool:
    data = {name + suffix for name in DATASETS.values() for suffix in _SUFFIXES}
    return entry.is_file() and (entry.name in data or entry.name.endswith(_METADATA))


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """Give a folder on the target's own file system that is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix=f".gpuledger-export-{os.getpid()}-", dir=path.parent))
    try:
        yield scratch
    finally:
        clear(scratch)


def _move(written: _Written, request: Request) -> None:
    """Put the files in place, the one that the user named last. A folder is replaced whole."""
    path = request.path
    if path not in written.files:
        folder = next(iter(written.files.values()))[0].parent
        old = folder.with_name("old")
        if path.is_dir():
            path.rename(old)
        elif path.exists():
            path.unlink()
        folder.rename(path)
        return
    taken = [final for final in written.files if final.exists() and not request.force]
    if taken:
        raise UsageError(
            "this exists already",
            where=str(taken[0]),
            hint="Choose another name, or replace it with --force.",
        )
    for final in sorted(written.files, key=lambda final: final == path):
        written.files[final][0].replace(final)


def _copy(con: duckdb.Connection, query: str, out: Path, options: str) -> int:
    row = con.execute(f"COPY ({query}) TO {duckdb.literal(out)} ({options})").fetchone()
    return int(row[0]) if row else 0


def _form(path: Path, parquet_notes: dict[str, str] | None = None) -> str:
    name = path.name.lower()
    if name.endswith(".parquet"):
        notes = ", ".join(f"{key}: {duckdb.literal(value)}" for key, value in (parquet_notes or {}).items())
        return duckdb.PARQUET + (f", KV_METADATA {{{notes}}}" if notes else "")
    return "FORMAT csv, HEADER true" + (", COMPRESSION gzip" if name.endswith(".gz") else "")


def _plain(con: duckdb.Connection, request: Request, scratch: Path, written: _Written) -> None:
    """Write the ledger's own columns, or the answer to a question, as one file."""
    dataset = request.dataset or "CostAndUsage"
    title = "costs" if request.group_by else DATASETS[dataset]
    part = scratch / request.path.name
    query = _query(con, request, dataset, text=request.target != "parquet")
    if request.target == "xlsx":
        rows = _sheet(con, query, title, part)
    else:
        rows = _copy(con, query, part, _form(request.path))
    written.files[request.path] = (part, dataset, rows)


def _sheet(con: duckdb.Connection, query: str, title: str, part: Path) -> int:
    count = con.execute(f"SELECT count(*) FROM ({query})").fetchone()
    if count and count[0] > workbook.MAX_ROWS:
        raise workbook.too_many(f"{count[0]:,}")
    cursor = con.execute(query)
    names = [column[0] for column in cursor.description]
    batches: Iterator[list[tuple[Any, ...]]] = iter(lambda: cursor.fetchmany(_BATCH), [])
    return workbook.write(part, title, names, (row for batch in batches for row in batch))


def _query(con: duckdb.Connection, request: Request, dataset: str, *, text: bool) -> str:
    if request.group_by:
        costs.one_currency(con, "cost_and_usage", request.question)
        names = [f"k{place} AS {quoted(name)}" for place, name in enumerate(request.group_by)]
        cost = _text("cost", "DECIMAL", request) if text else "cost"
        sums = costs.statement("cost_and_usage", request.question)
        return f"SELECT {', '.join([*names, f'{cost} AS cost'])} FROM ({sums})"
    table = DATASETS[dataset]
    cells = [_cell(column, request, text=text) for column in TABLES[table]]
    return f"SELECT {', '.join(cells)} FROM {table} WHERE {_where(dataset, request)}"


def _cell(column: LedgerColumn, request: Request, *, text: bool) -> str:
    name = quoted(column.name)
    return f"{_text(name, column.sql_type, request) if text else name} AS {name}"


def _text(name: str, sql_type: str, request: Request) -> str:
    """Return SQL for a value in a text file, or in a sheet, which has numbers and times of its own."""
    if sql_type == TAGS:
        return f"to_json({name})::VARCHAR"
    if request.target == "xlsx":
        return name
    if sql_type == INSTANT:
        return f"strftime({name} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ')"
    return f"rtrim(rtrim({name}::VARCHAR, '0'), '.')" if sql_type.startswith("DECIMAL") else name


def _where(dataset: str, request: Request) -> str:
    """Return the condition for rows of a dataset; commitments count by the time that their terms cover."""
    window = request.window
    if dataset == "CostAndUsage":
        return costs.predicate(request.question)
    if window is None:
        return "true"
    if window.billing_periods:
        return f"x_BillingPeriod IN {costs.tuple_of(window.billing_periods)}"
    return (
        f"ContractCommitmentPeriodStart < TIMESTAMPTZ '{window.end.isoformat()}' "
        f"AND ContractCommitmentPeriodEnd > TIMESTAMPTZ '{window.start.isoformat()}'"
    )


def _focus(
    ledger: Ledger, con: duckdb.Connection, request: Request, now: datetime, scratch: Path, written: _Written
) -> None:
    """Write the datasets of one FOCUS version, each with its schema and recency, and who generated them."""
    out = scratch / "export"
    out.mkdir()
    instances = []
    for dataset in _datasets(request):
        instance = _instance_id(ledger, dataset)
        schema = focus.schema(
            dataset,
            request.focus_version,
            instance_id=instance,
            created=now,
            generator_version=__version__,
            custom=_custom(dataset, request),
        )
        final = _place(request, DATASETS[dataset] + _suffix(request), dataset)
        rows = _dataset(con, request, dataset, out / final.name, schema["SchemaId"])
        if not rows:
            (out / final.name).unlink()
            continue
        written.files[final] = (out / final.name, dataset, rows)
        instances.append(focus.dataset_instance(instance, f"gpuledger {DATASETS[dataset]}", dataset))
        _note(out, written, request, dataset, f"{DATASETS[dataset]}_schema", schema)
        if dataset == "CostAndUsage":
            recency = _recency(ledger, con, request, instance, now)
            _note(out, written, request, dataset, f"{DATASETS[dataset]}_recency", recency)
    if not instances:
        raise LedgerError(
            "nothing to export", where=ledger.location, hint="gpuledger ledger units says what there is."
        )
    _note(out, written, request, "", "dataset_instance", instances)
    _note(out, written, request, "", "data_generator", focus.data_generator())


def _datasets(request: Request) -> list[str]:
    """Both datasets, unless one is asked for, the version has only one, or charges are picked by their values."""
    if request.dataset:
        model(request.dataset, request.focus_version)  # raises UsageError when the version lacks it
        return [request.dataset]
    if request.where or request.focus_version < "1.3":
        return ["CostAndUsage"]
    return list(DATASETS)


def _suffix(request: Request) -> str:
    name = request.path.name.lower()
    return next((s for s in reversed(_SUFFIXES) if name.endswith(s)), ".csv" if request.csv else ".parquet")


def _place(request: Request, name: str, dataset: str = "") -> Path:
    """Return where a file goes: into the folder PATH, or beside the file PATH, which is the first dataset's."""
    stem = next(
        (request.path.name[: -len(s)] for s in _SUFFIXES if request.path.name.lower().endswith(s)), None
    )
    if stem is None:
        return request.path / name
    if dataset == (request.dataset or "CostAndUsage"):
        return request.path
    return request.path.with_name(f"{stem}_{name}")


def _note(out: Path, written: _Written, request: Request, dataset: str, name: str, content: object) -> None:
    final = _place(request, name + _METADATA)
    (out / final.name).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", "utf-8")
    written.files[final] = (out / final.name, dataset, None)


def _custom(dataset: str, request: Request) -> Sequence[str]:
    return request.custom if dataset == "CostAndUsage" else ()


def _dataset(con: duckdb.Connection, request: Request, dataset: str, out: Path, schema_id: str) -> int:
    text = not out.name.lower().endswith(".parquet")
    columns = focus.projection(dataset, request.focus_version, text=text, custom=_custom(dataset, request))
    query = f"SELECT {columns} FROM {DATASETS[dataset]} WHERE {_where(dataset, request)}"
    if dataset == "ContractCommitment":
        # Each bill states the commitments of its month again; in FOCUS a commitment is one row.
        query += (
            " QUALIFY ContractCommitmentId IS NULL OR row_number() OVER "
            "(PARTITION BY ContractCommitmentId ORDER BY x_BillingPeriod DESC, x_Source, x_SourceRow) = 1"
        )
    return _copy(con, query, out, _form(out, {"FocusVersion": request.focus_version, "SchemaId": schema_id}))


def _instance_id(ledger: Ledger, dataset: str) -> str:
    return hashlib.sha256(f"{ledger.location}|{dataset}".encode()).hexdigest()[:16]


def _recency(
    ledger: Ledger, con: duckdb.Connection, request: Request, instance: str, now: datetime
) -> dict[str, Any]:
    """Say per billing month when it was last delivered, and whether it is complete.

    Complete is a month of which every source was delivered after its end and no charge is an estimate.
    """
    committed = {
        (note["source"], note["billing_period"], note["delivery_id"]): (
            note["committed"],
            datetime.fromisoformat(note["delivered_at"]) if note.get("delivered_at") else note["committed"],
        )
        for note in reversed(ledger.history())
    }
    months: dict[str, list[tuple[datetime, datetime, bool]]] = {}
    units = con.execute(
        f"""SELECT x_Source, x_BillingPeriod, x_DeliveryId, bool_or(x_CostStatus IS NOT DISTINCT FROM 'Estimated')
            FROM cost_and_usage WHERE {_where("CostAndUsage", request)} GROUP BY ALL"""
    ).fetchall()
    for source, period, delivery, estimated in units:
        updated, delivered = committed.get((source, period, delivery), (now, now))
        months.setdefault(period, []).append((updated, delivered, estimated))
    sectors = []
    for period, found in months.items():
        if period == "unknown":
            continue
        start = datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC)
        end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        complete = all(delivered >= end and not estimated for _, delivered, estimated in found)
        sectors.append(focus.Sector(start, end, complete, max(updated for updated, _, _ in found)))
    newest = max((updated for found in months.values() for updated, _, _ in found), default=now)
    return focus.recency(instance, newest, now, sectors)
