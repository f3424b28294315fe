"""Tables in files, as one relation of text columns, whatever their format: CSV, JSON, JSON lines, Parquet.

Nested values are JSON text. Names are matched whatever their case and punctuation, so that `startTime` is `start_time`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from gpuledger.core.contracts import Connection
from gpuledger.errors import SourceError

SUFFIXES: Final = (".csv", ".csv.gz", ".json", ".json.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".parquet")  # fmt: skip
_JSON: Final = ("json", "jsonl", "ndjson")
_LARGEST: Final = 64 << 20
_SHOWN: Final = 12


def text_table(
    con: Connection,
    files: Sequence[tuple[str, Path]],
    columns: Mapping[str, Sequence[str]],
    needed: Sequence[str],
    title: str,
) -> str:
    """Return SQL of the files' rows with exactly these columns as text; those that a file lacks are null.

    `columns` gives more spellings for each. Raises SourceError when a file hasn't a needed one.
    """
    parts = []
    for shown, path in files:
        kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
        if kind in _JSON:
            cells, relation = _json_cells(con, path)
        else:
            cells, relation = _typed_cells(con, path, kind)
        found = {name: _match(cells, (name, *more)) for name, more in columns.items()}
        if missing := [name for name in needed if found[name] is None]:
            seen = ", ".join(list(cells)[:_SHOWN])
            raise SourceError(
                f"not {title}: no column {', '.join(missing)} (it has {seen or 'none'})",
                where=shown,
                hint="Export it again with all columns, or choose the --type that fits.",
            )
        listed = ", ".join(f"{cell or 'NULL::VARCHAR'} AS {quoted(name)}" for name, cell in found.items())
        parts.append(f"SELECT {listed} FROM {relation}")
    return " UNION ALL ".join(parts)


def _match(cells: Mapping[str, str], spellings: Sequence[str]) -> str | None:
    known = {_normal(name): cell for name, cell in reversed(list(cells.items()))}
    return next((known[_normal(one)] for one in spellings if _normal(one) in known), None)


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _json_cells(con: Connection, path: Path) -> tuple[dict[str, str], str]:
    relation = f"read_json_objects({literal(path)}, format = 'auto', maximum_object_size = {_LARGEST})"
    keys = con.execute(f"SELECT DISTINCT unnest(json_keys(json)) FROM (SELECT json FROM {relation} LIMIT 10000)")  # fmt: skip
    # A dot in a name is no path, and a text comes without its quotes.
    cells = {
        str(row[0]): "nullif(json_extract_string(json, " + literal('$."' + str(row[0]) + '"') + "), '')"
        for row in sorted(keys.fetchall())
    }
    return cells, relation


def _typed_cells(con: Connection, path: Path, kind: str) -> tuple[dict[str, str], str]:
    relation = (
        f"read_parquet({literal(path)}, hive_partitioning = false)"
        if kind == "parquet"
        else f"read_csv({literal(path)}, all_varchar = true, header = true, null_padding = true)"
    )
    cells = {}
    for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall():
        name, type_ = str(row[0]), str(row[1])
        nested = type_.startswith(("STRUCT", "MAP")) or type_.endswith("[]")
        value = f"to_json({quoted(name)})" if nested else quoted(name)
        cells[name] = f"nullif(CAST({value} AS VARCHAR), '')"
    return cells, relation


def bucket_results(
    con: Connection,
    files: Sequence[tuple[str, Path]],
    table: str,
    times: tuple[str, str],
    fields: Sequence[str],
) -> None:
    """Make a table of the results of usage reports: their bucket's `starting` and `ending`, and fields (dotted paths) as text.

    Pages overlap, and a result of two pages is one: results are told apart by all that they have, not by `fields`.
    """
    listed = "[" + ", ".join(literal(path) for _, path in files) + "]"
    shape = literal(f"STRUCT({times[0]} VARCHAR, {times[1]} VARCHAR, results JSON[])[]")
    cells = ", ".join(
        f"json_extract_string(r, {literal('$.' + name)}) AS {quoted(name.rpartition('.')[2])}"
        for name in fields
    )
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE {table} AS
        SELECT starting, ending, {cells} FROM (
            SELECT DISTINCT bucket.{times[0]} AS starting, bucket.{times[1]} AS ending, unnest(bucket.results) AS r
            FROM (SELECT unnest(data) AS bucket FROM read_json(
                {listed}, format = 'auto', columns = {{'data': {shape}}}, maximum_object_size = {_LARGEST}
            ))
        )"""
    )


def inside(text: str, *paths: str) -> str:
    """SQL of a value inside JSON text, at the first of some dotted paths that there is."""
    found = [f"json_extract_string(TRY_CAST({text} AS JSON), {literal('$.' + path)})" for path in paths]
    return f"coalesce({', '.join(found)})" if len(found) > 1 else found[0]


def literal(value: object) -> str:
    """Return the value as an SQL text literal."""
    return "'" + str(value).replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Return the name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
