"""OCI cost reports: which files are one delivery, and which are refused."""

import csv
from decimal import Decimal
from pathlib import Path

import pytest

from gpuledger import registry
from gpuledger.engines import duckdb
from gpuledger.pipeline.ingest import Options, Report, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store

HEADER = (
    "lineItem/referenceNo", "lineItem/intervalUsageStart", "lineItem/intervalUsageEnd", "product/service",
    "product/resourceId", "cost/subscriptionId", "cost/productSku", "product/Description", "cost/myCost", "cost/currencyCode",
    "lineItem/isCorrection",
)  # fmt: skip


def report(folder: Path, name: str, *lines: tuple[str, str, str]) -> None:
    """Write a report of (start of the hour, cost, is it a correction)."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(HEADER)
        for number, (start, cost, correction) in enumerate(lines):
            writer.writerow(
                (
                    f"{name}-{number}",
                    start,
                    start,
                    "COMPUTE",
                    "ocid1.instance.oc1..x",
                    "1",
                    "B1",
                    "GPU",
                    cost,
                    "USD",
                    correction,
                )
            )


def load(folder: Path) -> tuple[Report, Store]:
    store = Store(str(folder.parent / "ledger"))
    return ingest(store, open_tree(str(folder), folder), registry.source("oci"), Options(source="oci")), store


def test_a_report_without_its_first_part_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    report(folder, "reports/cost-csv/0001000000000007-00002.csv", ("2026-10-01T00:00Z", "1", "false"))
    found, _ = load(folder)
    assert [row.action for row in found.rows] == ["rejected"]
    assert "0001000000000007-00001.csv" in found.diagnostics[-1].message


def test_all_parts_of_all_reports_are_one_delivery(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    report(folder, "0001000000000007-00001.csv", ("2026-10-01T00:00Z", "1", "false"))
    report(folder, "0001000000000007-00002.csv", ("2026-10-01T01:00Z", "2", "false"))
    report(folder, "0001000000000008.csv", ("2026-10-01T02:00Z", "4", "false"))
    found, _ = load(folder)
    assert [(row.rows, row.billed_cost) for row in found.rows] == [(3, Decimal(7))]
    assert {told.code for told in found.diagnostics} <= {"focus-rules"}


def test_one_file_alone_is_warned_about(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    report(folder, "0001000000000007-00001.csv", ("2026-10-01T00:00Z", "1", "false"))
    found, _ = load(folder)
    assert ("part-of-a-month", "warning") in {(told.code, told.severity) for told in found.diagnostics}


def test_focus_and_usage_reports_of_the_same_bucket_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    report(folder, "reports/cost-csv/0001000000000007.csv", ("2026-10-01T00:00Z", "1", "false"))
    report(folder, "reports/cost-csv/0001000000000008.csv", ("2026-10-01T06:00Z", "1", "false"))
    (folder / "FOCUS Reports/2026/10/01").mkdir(parents=True)
    (folder / "FOCUS Reports/2026/10/01/0001.csv").write_text("BilledCost\n1\n")
    found, _ = load(folder)
    assert [row.billed_cost for row in found.rows] == [Decimal(2)]
    assert {told.code for told in found.diagnostics} - {"focus-rules"} == {"other-reports"}


def test_a_usage_report_is_not_a_bill(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    folder.mkdir()
    (folder / "usage.csv").write_text(
        "lineItem/intervalUsageStart,usage/consumedQuantity\n2026-10-01T00:00Z,1\n"
    )
    found, _ = load(folder)
    assert "not a OCI cost report file: no column my_cost, currency" in found.diagnostics[0].message


@pytest.mark.parametrize(
    ("start", "period", "charge_class"),
    [("2026-09-30T23:00Z", "2026-10", "Correction"), ("2026-10-01T00:00Z", "2026-10", None)],
)
def test_a_correction_is_billed_with_its_report(
    tmp_path: Path, start: str, period: str, charge_class: str | None
) -> None:
    folder = tmp_path / "bill"
    report(folder, "a.csv", (start, "-1", "true"), ("2026-10-01T00:00Z", "3", "false"))
    found, store = load(folder)
    assert [(row.billing_period, row.billed_cost) for row in found.rows] == [(period, Decimal(2))]
    scan = f"read_parquet({duckdb.literals(store.files('cost_and_usage'))})"
    line = (
        duckdb.connect()
        .execute(f"SELECT ChargeClass, x_ChargeType FROM {scan} WHERE BilledCost < 0")
        .fetchone()
    )
    assert line == (charge_class, "Correction")
