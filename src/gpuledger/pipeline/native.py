"""Native files become one relation `native`: the connector's canonical columns as text, plus `_file`, `_row`, `_label`.

Text files are parsed once into a scratch Parquet file (so that mapping SQL may read it more than once, and row
numbers are exact); Parquet is read in place. Lines that can't be parsed become Diagnostics and stop nothing.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuledger.core.contracts import Delivery, FileConnector, Tree
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import SourceError
from gpuledger.focus.schema import quoted
from gpuledger.pipeline.headers import TextShape, normal, resolve, text_shape, truncated

# Small row groups keep all cores busy while the order of rows is kept.
SCRATCH = "FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 30720"
# A line may have 16 MiB. The buffer is said too: by default it grows with the line, and one thread then waits for it.
_LONGEST = "max_line_size = 16777216, buffer_size = 33554432"
_SHOWN_REJECTS = 20
_SHOWN_COLUMNS = 8
NULL_WORDS = ("", "NULL", "null")


@dataclass(slots=True)
class Native:
    """What reading found: row count, rows per file, diagnostics, and headers that the connector doesn't know."""

    rows: int = 0
    rows_by_file: dict[str, int] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    unknown_columns: set[str] = field(default_factory=set)


def read(
    con: duckdb.Connection, tree: Tree, delivery: Delivery, connector: FileConnector, scratch: Path
) -> Native:
    """Create the view `native` from the delivery's files and check counts against the manifest.

    Raises SourceError when a file isn't this connector's, is damaged, or isn't as its manifest says.
    """
    native = Native()
    selects: list[str] = []
    custom = getattr(connector, "read", None)
    members = [(file.path, *pair) for file in delivery.files for pair in _members(tree, file.path, scratch)]
    if custom is not None and (relation := custom([str(path) for _, _, path in members])) is not None:
        # Read once: the mapping looks at `native` several times.
        out = duckdb.literal(scratch / "native.parquet")
        con.execute(f"COPY (SELECT *, NULL::VARCHAR AS _label FROM ({relation})) TO {out} ({SCRATCH})")
        selects.append(f"FROM read_parquet({out})")
    else:
        for number, (name, shown, path) in enumerate(members):
            one = _one(con, shown, path, connector, native, scratch / f"native-{number}.parquet")
            label = _label(con, one, connector, delivery.labels.get(name))
            selects.append(f"SELECT *, {label}::VARCHAR AS _label FROM ({one})")
    con.execute("CREATE OR REPLACE VIEW native AS " + "\nUNION ALL BY NAME\n".join(selects))
    counts = con.execute("SELECT _file, count(*) FROM native GROUP BY _file").fetchall()
    native.rows_by_file = {str(name): int(count) for name, count in counts}
    native.rows = sum(native.rows_by_file.values())
    _check_counts(delivery, native)
    return native


def _label(con: duckdb.Connection, relation: str, connector: FileConnector, told: str | None) -> str:
    """Return what a file is labelled as: by its delivery, or by the connector from the columns that it has."""
    if told is None and hasattr(connector, "label"):
        told = connector.label(list(duckdb.columns(con, f"({relation})")))
    return "NULL" if told is None else duckdb.literal(told)


def _members(tree: Tree, path: str, scratch: Path) -> list[tuple[str, Path]]:
    """Return (name to show, local path): the file itself, or what is in a zip archive."""
    local = tree.local(path)
    whole = str(tree.location)  # a tree that is one file is called as the user called it
    shown = whole if len(tree.files) == 1 and whole.endswith(path.rsplit("/", 1)[-1]) else path
    if not path.lower().endswith(".zip"):
        return [(shown, local)]
    try:
        with zipfile.ZipFile(local) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            return [(f"{shown}!{name}", Path(archive.extract(name, scratch / local.stem))) for name in names]
    except (zipfile.BadZipFile, OSError) as error:
        raise truncated(shown, error) from error


def _one(
    con: duckdb.Connection, shown: str, path: Path, connector: FileConnector, native: Native, scratch: Path
) -> str:
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            return _parquet(con, shown, path, connector, native)
        if name.endswith((".json", ".json.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")):
            return _json(con, shown, path, connector, scratch)
        return _text(con, shown, path, connector, native, scratch)
    except duckdb.EngineError as error:
        reason = str(error).splitlines()[0]
        if "GZIP" in reason.upper() or "compress" in reason.lower():
            raise truncated(shown, reason) from error
        raise SourceError(
            f"can't be read ({reason[:300]})",
            where=shown,
            hint="Export it again; the ledger keeps its last good state.",
        ) from error


def _absent(connector: FileConnector, found: Mapping[str, object]) -> list[str]:
    """Canonical columns that the file lacks: null for the mapping. SPARSE connectors look at which there are."""
    sparse = getattr(connector, "SPARSE", False)
    wanted = (
        [name for names in connector.REQUIRED for name in names.split("|")] if sparse else connector.COLUMNS
    )
    return [name for name in wanted if name not in found]


def _require(
    connector: FileConnector, found: Mapping[str, object], shown: str, header: Sequence[str]
) -> None:
    missing = [names for names in connector.REQUIRED if not set(names.split("|")) & set(found)]
    if missing:
        missing = [" or ".join(names.split("|")) for names in missing]
        seen = ", ".join(header[:_SHOWN_COLUMNS]) + (", …" if len(header) > _SHOWN_COLUMNS else "")
        raise SourceError(
            f"not a {connector.TITLE} file: no column {', '.join(missing)} (it has {seen or 'none'})",
            where=shown,
            hint="Choose the --type that fits (gpuledger ingest --help lists them), or describe the file with `columns`.",
        )


def _text(
    con: duckdb.Connection, shown: str, path: Path, connector: FileConnector, native: Native, out: Path
) -> str:
    shape = text_shape(
        path, shown, connector.COLUMNS, connector.REQUIRED, getattr(connector, "DELIMITER", None)
    )
    found = resolve(shape.header, connector.COLUMNS)
    _require(connector, found, shown, shape.header)
    prefixed = _prefixed(connector, shape.header)
    known = set(found.values()) | {place for places in prefixed.values() for place, _ in places}
    native.unknown_columns |= {name for place, name in enumerate(shape.header) if place not in known and name}
    scan = csv_scan(path, shape)
    wanted = [f"c{place} AS {quoted(name)}" for name, place in found.items()]
    wanted += [
        f"{_map_of([(key, f'c{place}') for place, key in places])} AS {quoted(name)}"
        for name, places in prefixed.items()
    ]
    if getattr(connector, "KEEP_UNKNOWN", False):
        rest = [(name, f"c{place}") for place, name in enumerate(shape.header) if place not in known and name]
        wanted += [f"{_map_of(_unique(rest))} AS _unknown"] if rest else []
    missing = [f"NULL::VARCHAR AS {quoted(name)}" for name in _absent(connector, found)]
    con.execute(f"COPY (SELECT {', '.join(wanted)} FROM {scan}) TO {duckdb.literal(out)} ({SCRATCH})")
    native.diagnostics += rejects(con, shown, shape)
    extra = [f"{duckdb.literal(shown)} AS _file", "file_row_number + 1 AS _row"]
    return f"SELECT * EXCLUDE (file_row_number), {', '.join(missing + extra)} FROM read_parquet({duckdb.literal(out)}, file_row_number = true)"


def csv_scan(path: Path, shape: TextShape, null_words: Sequence[str] = NULL_WORDS) -> str:
    """Return the table function that reads a delimited file as text columns c0, c1, …; bad lines become rejects."""
    names = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(shape.header)))
    nulls = duckdb.literals(null_words)
    return (
        f"read_csv({duckdb.literal(path)}, auto_detect = false, header = true, skip = {shape.skip}, columns = {{{names}}}, "
        f"delim = {duckdb.literal(shape.delimiter)}, quote = '\"', escape = '\"', encoding = '{shape.encoding}', "
        f"nullstr = {nulls}, ignore_errors = true, store_rejects = true, strict_mode = true, {_LONGEST})"
    )


def rejects(con: duckdb.Connection, shown: str, shape: TextShape) -> list[Diagnostic]:
    """Return what `csv_scan` could not parse, and forget it."""
    rows: list[tuple[Any, ...]] = con.execute(
        "SELECT line, error_message, left(csv_line, 80) FROM reject_errors ORDER BY line"
    ).fetchall()
    con.execute("DROP TABLE IF EXISTS reject_errors")
    con.execute("DROP TABLE IF EXISTS reject_scans")
    hint = "The other lines were loaded. Correct the line and ingest the file again."
    told = [
        Diagnostic("bad-line", "error", f"{shown}:{int(line) + shape.skip}", f"{message}: {text}", hint)
        for line, message, text in rows[:_SHOWN_REJECTS]
    ]
    if len(rows) > _SHOWN_REJECTS:
        told.append(
            Diagnostic(
                "bad-line", "error", shown, f"{len(rows) - _SHOWN_REJECTS} more lines can't be parsed", hint
            )
        )
    return told


def _prefixed(connector: FileConnector, header: Sequence[str]) -> dict[str, list[tuple[int, str]]]:
    """For each map column, the (position, key) of headers with one of its prefixes."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name, prefixes in getattr(connector, "PREFIXES", {}).items():
        places: dict[str, int] = {}
        for place, title in enumerate(header):
            for prefix in prefixes:
                if title.casefold().startswith(prefix.casefold()) and len(title) > len(prefix):
                    places.setdefault(title[len(prefix) :], place)
        found[name] = [(place, key) for key, place in places.items()]
    return found


def _unique(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keep the first of pairs with the same key: a MAP can't hold two."""
    return list({key: (key, value) for key, value in reversed(pairs)}.values())


def _map_of(pairs: Sequence[tuple[str, str]]) -> str:
    """Return SQL for a MAP of the pairs whose value is not null; NULL when none is."""
    if not pairs:
        return "NULL::MAP(VARCHAR, VARCHAR)"
    entries = ", ".join(f"{{'key': {duckdb.literal(key)}, 'value': {value}}}" for key, value in pairs)
    some = f"coalesce({', '.join(value for _, value in pairs)}) IS NOT NULL"
    return (
        f"CASE WHEN {some} THEN map_from_entries(list_filter([{entries}], lambda e: e.value IS NOT NULL)) END"
    )


def _parquet(con: duckdb.Connection, shown: str, path: Path, connector: FileConnector, native: Native) -> str:
    scan = f"read_parquet({duckdb.literal(path)}, file_row_number = true, hive_partitioning = false)"
    types = duckdb.columns(con, scan)
    leaves = {**_leaves(types), **{name: (quoted(name), kind) for name, kind in types.items()}}
    header = list(leaves)
    found = resolve(header, connector.COLUMNS)
    _require(connector, found, shown, list(types))
    native.unknown_columns |= (
        set(types) - {header[place].split(".")[0] for place in found.values()} - {"file_row_number"}
    )
    typed = getattr(connector, "TYPED", False)
    wanted = [
        f"{leaves[header[place]][0] if typed else _as_text(*leaves[header[place]])} AS {quoted(name)}"
        for name, place in found.items()
    ]
    wanted += [f"NULL::VARCHAR AS {quoted(name)}" for name in _absent(connector, found)]
    if getattr(connector, "KEEP_UNKNOWN", False):
        rest = sorted(native.unknown_columns & set(types))
        cells = [(name, _as_text(quoted(name), types[name])) for name in rest]
        wanted += [f"{_map_of(cells)} AS _unknown"] if rest else []
    for name, places in _prefixed(connector, list(types)).items():
        cells = [(key, _as_text(quoted(list(types)[place]), "")) for place, key in places]
        wanted.append(f"{_map_of(cells)} AS {quoted(name)}")
    return f"SELECT {', '.join(wanted)}, {duckdb.literal(shown)} AS _file, file_row_number + 1 AS _row FROM {scan}"


def _leaves(types: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Fields inside STRUCT columns by dotted name (one level, as billing exports nest): `service.id`."""
    found: dict[str, tuple[str, str]] = {}
    for name, kind in types.items():
        if kind.startswith("STRUCT(") and not kind.endswith("[]"):
            for part in _split_fields(kind[len("STRUCT(") : -1]):
                field_name, _, field_type = part.strip().partition(" ")
                field_name = field_name.strip('"')
                found[f"{name}.{field_name}"] = (f"{quoted(name)}.{quoted(field_name)}", field_type)
    return found


def _split_fields(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, mark in enumerate(text):
        depth += (mark == "(") - (mark == ")")
        if mark == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _as_text(expression: str, kind: str) -> str:
    nested = kind.startswith(("STRUCT", "MAP")) or kind.endswith("[]")
    cast = f"to_json({expression})::VARCHAR" if nested else f"{expression}::VARCHAR"
    return f"nullif({cast}, '')" if kind in {"VARCHAR", ""} else cast


def _json(con: duckdb.Connection, shown: str, path: Path, connector: FileConnector, out: Path) -> str:
    """Read JSON lines, or one JSON array of objects; dotted spellings are paths into nested objects.

    A connector's RECORDS names the list of lines inside each document, as in `{"records": [...]}`.
    """
    records = getattr(connector, "RECORDS", None)
    most = 64 << 20 if records else 16 << 20  # each thread has buffers of twice that size
    scan = f"read_json_objects({duckdb.literal(path)}, format = 'auto', ignore_errors = false, maximum_object_size = {most})"
    if records:
        inside = "$" + "".join(f'."{part}"' for part in records.split("."))
        scan = f"(SELECT unnest(json_extract(json, {duckdb.literal(inside)})::JSON[]) AS json FROM {scan})"
    # Of every record: a key may appear for the first time in the last one.
    asked = con.execute(f"SELECT DISTINCT unnest(json_keys(json)) FROM {scan}")
    keys = [str(row[0]) for row in asked.fetchall()]
    paths = {normal(key): f'$."{key}"' for key in keys}
    found: dict[str, str] = {}
    for name, spellings in connector.COLUMNS.items():
        for spelling in (name, *spellings):
            top = spelling.split(".")[0]
            if normal(spelling) in paths:
                found[name] = paths[normal(spelling)]
            elif "." in spelling and normal(top) in paths:
                found[name] = paths[normal(top)] + "".join(f'."{part}"' for part in spelling.split(".")[1:])
            if name in found:
                break
    _require(connector, found, shown, keys)
    wanted = [f"nullif(texts[{place}], '') AS {quoted(name)}" for place, name in enumerate(found, start=1)]
    wanted += [f"NULL::VARCHAR AS {quoted(name)}" for name in _absent(connector, found)]
    # All paths at once: a function for each of them would parse the line again, and keep memory of its own for it.
    texts = f"SELECT json_extract_string(json, {duckdb.literals(found.values())}) AS texts FROM {scan}"
    con.execute(f"COPY (SELECT {', '.join(wanted)} FROM ({texts})) TO {duckdb.literal(out)} ({SCRATCH})")
    extra = f"{duckdb.literal(shown)} AS _file, file_row_number + 1 AS _row"
    return f"SELECT * EXCLUDE (file_row_number), {extra} FROM read_parquet({duckdb.literal(out)}, file_row_number = true)"


def _check_counts(delivery: Delivery, native: Native) -> None:
    bad = [told for told in native.diagnostics if told.code == "bad-line"]
    if bad and not native.rows:
        raise SourceError(
            f"no line can be parsed; the first: {bad[0].message[:200]}",
            where=bad[0].source,
            hint="Header and lines must have the same cells. Export the file again; nothing in the ledger has changed.",
        )
    lost = len(bad)
    for path, expected in delivery.expected_rows.items():
        rows = sum(
            count for shown, count in native.rows_by_file.items() if shown == path or shown.endswith(path)
        )
        if rows + lost < expected or rows > expected:
            _unlike(path, expected, rows)
    if delivery.expected_total is not None and native.rows + lost < delivery.expected_total:
        _unlike("the delivery", delivery.expected_total, native.rows)


def _unlike(what: str, expected: int, rows: int) -> None:
    raise SourceError(
        f"the manifest promises {expected} rows, the file has {rows}",
        where=what,
        hint="The copy is incomplete or mixed up: copy the whole delivery again. The ledger keeps its last good state.",
    )
