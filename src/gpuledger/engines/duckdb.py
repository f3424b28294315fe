"""The embedded engine: one DuckDB connection with our macros, a memory limit and UTC as its zone."""

from importlib.resources import files
from pathlib import Path
from tempfile import gettempdir

import duckdb

MEMORY_LIMIT = "1200MB"
# Bounds what one COPY buffers; with our row groups of 122,880 rows it keeps writes under the memory limit.
PARQUET = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880"

Connection = duckdb.DuckDBPyConnection
EngineError = duckdb.Error


def connect(
    *, memory_limit: str = MEMORY_LIMIT, keep_order: bool = False, spill: Path | None = None
) -> Connection:
    """Open an in-memory database. `spill` is where operators larger than memory put their data.

    `keep_order` makes row order follow the input's, at some cost; row numbers of native files need it.
    """
    con = duckdb.connect()
    folder = str(spill or Path(gettempdir()) / "gpuledger-spill").replace("'", "''")
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"SET memory_limit = '{memory_limit}'")
    con.execute(f"SET temp_directory = '{folder}'")
    con.execute(f"SET preserve_insertion_order = {str(keep_order).lower()}")
    con.execute("SET enable_progress_bar = false")
    con.execute("SET autoinstall_known_extensions = false")
    con.execute("SET autoload_known_extensions = false")
    con.execute(files("gpuledger.focus").joinpath("macros.sql").read_text("utf-8"))
    return con


def literal(value: object) -> str:
    """Return the value as an SQL text literal, for places that take no parameters (COPY targets, table functions)."""
    return "'" + str(value).replace("'", "''") + "'"


def literals(values: object) -> str:
    """Return a list of text literals, `['a','b']`."""
    return "[" + ",".join(literal(value) for value in values) + "]"  # type: ignore[attr-defined]


def columns(con: Connection, relation: str) -> dict[str, str]:
    """Column names and types of a relation (table name or parenthesised query), in order."""
    return {row[0]: row[1] for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
