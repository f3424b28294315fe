"""Derived tables and audits: every SQL file of `models/`, materialised beside the ledger; every audit must be empty."""

from collections.abc import Callable, Iterator
from importlib.resources import files

from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.pipeline import unit_facts
from gpuledger.pipeline.allocate import allocate
from gpuledger.pipeline.built import Built
from gpuledger.pipeline.ledger import Ledger


def build(ledger: Ledger, progress: Callable[[str], None] = lambda _: None) -> Iterator[Built | Diagnostic]:
    """Allocate what changed, write the models, each in one transaction, then run the audits on them."""
    ledger.require()
    yield from allocate(ledger, progress)
    con = ledger.connect()
    for name, query in _sql("models"):
        progress(f"building {name}")
        rows = _write(con, f"{ledger.location}/models/{name}", query)
        con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")
        yield Built(name, "model", rows, "ok", _purpose(query))
    progress(f"building {unit_facts.NAME}")
    yield unit_facts.write(ledger, progress)
    for name, query in _sql("models/audits"):
        progress(f"auditing {name}")
        yield audit(con, name, query)


def audit(con: duckdb.Connection, name: str, query: str) -> Built:
    """Run one audit: it finds rows that must not exist."""
    count = con.execute(f"SELECT count(*) FROM ({query})").fetchone()
    rows = int(count[0]) if count else 0
    example = None
    if rows:
        cursor = con.execute(f"SELECT * FROM ({query}) LIMIT 1")
        names = [column[0] for column in cursor.description]
        first = cursor.fetchone()
        example = dict(zip(names, first, strict=True)) if first else None
    return Built(name, "audit", rows, "fail" if rows else "ok", _purpose(query), example)


def _sql(folder: str) -> list[tuple[str, str]]:
    package, *below = folder.split("/")
    place = files(f"gpuledger.{package}").joinpath(*below)
    found = (entry for entry in place.iterdir() if entry.name.endswith(".sql"))
    return sorted(
        (entry.name.removesuffix(".sql"), entry.read_text("utf-8").rstrip().rstrip(";")) for entry in found
    )


def _purpose(query: str) -> str:
    lines = [line.removeprefix("--").strip() for line in query.splitlines() if line.startswith("--")]
    return " ".join(lines)


def _write(con: duckdb.Connection, uri: str, query: str) -> int:
    from deltalake import WriterProperties, write_deltalake

    properties = WriterProperties(compression="ZSTD", max_row_group_size=122_880)
    write_deltalake(
        uri, con.sql(query), mode="overwrite", schema_mode="overwrite", writer_properties=properties
    )
    count = con.execute(f"SELECT count(*) FROM ({query})").fetchone()
    return int(count[0]) if count else 0
