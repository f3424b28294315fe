"""Pages given as Python values, mapped by a connector of an AI provider without a ledger: for tests of the mapping."""

import json
from pathlib import Path
from typing import Any

from gpuledger import registry
from gpuledger.engines import duckdb


def mapped(kind: str, folder: Path, files: dict[str, Any]) -> duckdb.Connection:
    """Write the files (text, or a value for JSON), and return a connection with `native` and `charges`."""
    paths = []
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        paths.append(str(path))
    connector = registry.source(kind)
    con = duckdb.connect()
    con.execute(f"CREATE TABLE native AS {connector.read(paths)}")  # type: ignore[attr-defined]
    con.execute(f"CREATE TABLE charges AS {registry.sql(connector)}")
    return con


def rows(con: duckdb.Connection, select: str, where: str = "true") -> list[tuple[Any, ...]]:
    """Return charges, in order."""
    return con.execute(f"SELECT {select} FROM charges WHERE {where} ORDER BY ALL").fetchall()


def bill(con: duckdb.Connection, kind: str) -> tuple[Any, Any]:
    """Return the sum of final charges, and the connector's own total of the pages."""
    final = con.execute("SELECT sum(BilledCost) FROM charges WHERE x_CostStatus = 'Final'").fetchall()
    total = con.execute(f"SELECT {registry.source(kind).TOTAL} FROM native").fetchall()
    return final[0][0], total[0][0]
