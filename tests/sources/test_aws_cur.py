"""Legacy AWS Cost and Usage Report: both header styles, its manifests, recorded samples."""

import csv
import os
import re
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest
from tests.sources.aws_bills import HERE, invoiced, load, manifest, rows_of, total, write

from gpuledger.engines import duckdb

GOLDEN = next((HERE / "aws_cur" / "raw").rglob("*.csv"))
SHARED = Path(os.environ.get("GPULEDGER_SHARED", "../shared")) / "data" / "billing"
SAMPLES = [
    SHARED / "nise" / "aws_cur_nise.csv",
    SHARED / "aws" / "koku_cur_2023-06-01_final.csv",
    SHARED / "aws" / "koku_cur_2023-06-01_not_final.csv",
]
TRACE = {"x_SourceFile", "x_SourceRow", "x_DeliveryId"}


def athena(name: str) -> str:
    """A header as Athena tables spell it: lineItem/UsageType is line_item_usage_type."""
    words = re.sub(r"([A-Z])", r"_\1", name).lower()
    return re.sub(r"[_/:]+", "_", words).strip("_")


def test_billed_cost_is_the_invoice(tmp_path: Path) -> None:
    _, store = load(HERE / "aws_cur" / "raw", tmp_path, "aws-cur")
    assert total(rows_of(store), "BilledCost") == invoiced(GOLDEN)


def test_athena_headers_give_the_same_rows(tmp_path: Path) -> None:
    with GOLDEN.open(newline="") as text:
        lines = [{athena(name): value for name, value in row.items()} for row in csv.DictReader(text)]
    assert "resource_tags_user_team" in lines[0]
    plain = write(tmp_path / "bill" / "bill.csv", lines)
    typed = tmp_path / "typed" / "bill.parquet"
    typed.parent.mkdir()
    duckdb.connect().execute(
        f"COPY (SELECT * FROM read_csv({duckdb.literal(plain)}, all_varchar = true)) TO {duckdb.literal(typed)}"
    )
    seen = []
    for path in (HERE / "aws_cur" / "raw", plain, typed):
        _, store = load(path, tmp_path / path.name, "aws-cur")
        rows = rows_of(store)
        # Athena's column names can't tell capitals from small letters in a tag's key.
        tags = [
            {key.lower().replace("_", ""): value for key, value in (row.pop("Tags") or {}).items()}
            for row in rows
        ]
        seen.append((tags, [{name: row[name] for name in row if name not in TRACE} for row in rows]))
    assert seen[0] == seen[1] == seen[2]


def test_zipped_reports_are_read(tmp_path: Path) -> None:
    packed = tmp_path / "report.csv.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(GOLDEN, "report-1.csv")
    _, store = load(packed, tmp_path, "aws-cur")
    assert total(rows_of(store), "BilledCost") == invoiced(GOLDEN)


def assembly(root: Path, name: str, cost: str) -> None:
    """A version of a report that keeps every version; the report's own manifest names the newest."""
    header, row = list(csv.reader(GOLDEN.read_text().splitlines()))[:2]
    cells = dict(zip(header, row, strict=True)) | {"lineItem/UnblendedCost": cost}
    period = "report/20260901-20261001"
    write(root / period / name / "report-1.csv", [cells])
    content = {"assemblyId": name, "reportName": "report", "reportKeys": [f"{period}/{name}/report-1.csv"]}
    manifest(root / period / name / "report-Manifest.json", content)
    manifest(root / period / "report-Manifest.json", content)


def test_every_version_is_read_once_and_the_last_one_holds(tmp_path: Path) -> None:
    for name, cost in (("first", "2"), ("second", "3")):
        assembly(tmp_path / "bill", name, cost)
        report, store = load(tmp_path / "bill", tmp_path, "aws-cur")
    assert "loaded" not in {row.action for row in report.rows if row.delivery_id == "first"}
    assert [row["BilledCost"] for row in rows_of(store)] == [3]


@pytest.mark.shared
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_recorded_reports_tie(path: Path, tmp_path: Path) -> None:
    if not path.is_file():
        pytest.skip(f"no {path}: set GPULEDGER_SHARED")
    report, store = load(path, tmp_path, "aws-cur")
    assert [row.action for row in report.rows] == ["loaded"]
    rows = rows_of(store)
    assert total(rows, "BilledCost") == invoiced(path)
    assert all(row["ChargePeriodStart"] < row["ChargePeriodEnd"] for row in rows)
    assert all(row["ServiceName"] and row["BillingCurrency"] and row["BillingAccountId"] for row in rows)


@pytest.mark.shared
def test_recorded_covered_usage_without_negation_is_not_lost(tmp_path: Path) -> None:
    path = SAMPLES[1]
    if not path.is_file():
        pytest.skip(f"no {path}: set GPULEDGER_SHARED")
    _, store = load(path, tmp_path, "aws-cur")
    rows = rows_of(store)
    assert total(rows, "BilledCost", x_ChargeType="SavingsPlanCoveredUsage") == 0
    assert total(rows, "EffectiveCost", x_ChargeType="SavingsPlanCoveredUsage") == Decimal("0.3")
    assert total(rows, "BilledCost", ChargeCategory="Adjustment") == 30
