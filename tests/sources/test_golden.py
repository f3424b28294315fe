"""Every connector's golden folder: `raw/` ingested must give exactly `expected.csv` (and `.commitments.csv`).

`UPDATE_GOLDEN=1` writes the files anew; read the diff before you commit it.
"""

import csv
import io
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gpuledger import registry
from gpuledger.engines import duckdb
from gpuledger.pipeline.ingest import Options, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store

HERE = Path(__file__).parent
FOLDERS = sorted(path.parent for path in HERE.glob("*/raw"))
TABLES = {"expected.csv": "cost_and_usage", "expected.commitments.csv": "contract_commitment"}


def table_csv(store: Store, table: str) -> str | None:
    """Return the table as CSV, rows in native order, without columns that are null throughout or name the delivery."""
    files = store.files(table)
    if not files:
        return None
    scan = f"read_parquet({duckdb.literals(files)}, hive_partitioning = true, hive_types_autocast = false)"
    cursor = duckdb.connect().execute(
        f"SELECT * EXCLUDE (x_DeliveryId) FROM {scan} AS row_ ORDER BY x_SourceFile, x_SourceRow NULLS LAST, row_::VARCHAR"
    )
    names = [column[0] for column in cursor.description]
    rows = cursor.fetchall()
    used = [place for place in range(len(names)) if any(row[place] is not None for row in rows)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([names[place] for place in used])
    for row in rows:
        writer.writerow([shown(row[place]) for place in used])
    return out.getvalue()


def shown(value: object) -> str:
    if value is None:
        return ""
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if type(value).__name__ == "Decimal":
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(value)


def told(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return connector type and settings: by the folder's name, or by a `connector.toml` in it.

    Settings that name a file of the folder get its path.
    """
    file = folder / "connector.toml"
    if not file.is_file():
        return folder.name.replace("_", "-"), {}
    content = tomllib.loads(file.read_text("utf-8"))
    settings = content.get("settings", {}).items()
    return content["type"], {
        key: str(folder / value) if isinstance(value, str) and (folder / value).is_file() else value
        for key, value in settings
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_golden(folder: Path, tmp_path: Path) -> None:
    type_name, settings = told(folder)
    store, connector = Store(str(tmp_path / "ledger")), registry.source(type_name)
    options = Options(source="golden", settings=settings)
    report = ingest(store, open_tree(str(folder / "raw"), tmp_path), connector, options)
    assert [row for row in report.rows if row.action != "loaded"] == [], report.diagnostics
    for name, table in TABLES.items():
        found, golden = table_csv(store, table), folder / name
        if os.environ.get("UPDATE_GOLDEN") and found is not None:
            golden.write_text(found, "utf-8")
        if found is None:
            assert not golden.exists(), f"{golden} exists, but there are no such rows"
        else:
            assert found == golden.read_text("utf-8")


def test_every_connector_has_a_golden_folder() -> None:
    folders = {folder.name.replace("_", "-") for folder in FOLDERS}
    assert set(registry.source_names()) <= folders
