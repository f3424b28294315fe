"""Azure cost details: two exports of one month, header variants, units, and bills that can't be trusted."""

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpuledger import registry
from gpuledger.demo import azure as demo
from gpuledger.demo import files
from gpuledger.demo.company import Month
from gpuledger.demo.truth import Truth
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.pipeline.ingest import Ingested, Options, Report, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store
from gpuledger.sources import azure

GOLDEN = Path(__file__).parent / "azure" / "raw"
RUN_A = GOLDEN / "company-a/20261001-20261031/202611050600/eeeeeeee-0000-4000-8000-00000000000a"
RUN_B = GOLDEN / "company-b/20261001-20261031/202611050600/eeeeeeee-0000-4000-8000-00000000000b"
SHARED = Path(os.environ.get("GPULEDGER_SHARED", "../shared"))
ZERO = Decimal(0)


@dataclass
class Loaded:
    report: Report
    rows: list[dict[str, Any]] = field(default_factory=list)

    def total(self, column: str) -> Decimal:
        return sum((row[column] for row in self.rows if row[column] is not None), ZERO)

    def codes(self) -> set[str]:
        return {told.code for told in self.report.diagnostics} - {"focus-rules"}

    def actions(self) -> list[str]:
        return [row.action for row in self.report.rows]


def load(path: Path, scratch: Path, store: Store | None = None) -> Loaded:
    store = store or Store(str(scratch / "ledger"))
    report = ingest(
        store, open_tree(str(path), scratch / "down"), registry.source("azure"), Options(source="azure")
    )
    files = store.files("cost_and_usage")
    if not files:
        return Loaded(report)
    cursor = duckdb.connect().execute(
        f"SELECT * FROM read_parquet({duckdb.literals(files)}, hive_partitioning = true, hive_types_autocast = false)"
    )
    names = [column[0] for column in cursor.description]
    return Loaded(report, [dict(zip(names, row, strict=True)) for row in cursor.fetchall()])


def cells(**given: str) -> dict[str, str]:
    """One usage row; keys replace or add."""
    return {
        "SubscriptionId": "aaaaaaaa-0000-4000-8000-000000000001",
        "Date": "10/05/2026",
        "MeterCategory": "Virtual Machines",
        "MeterId": "11111111-0000-4000-8000-00000000000a",
        "MeterName": "NC24ads A100 v4",
        "UnitOfMeasure": "1 Hour",
        "Quantity": "2",
        "EffectivePrice": "3",
        "UnitPrice": "3",
        "PayGPrice": "4",
        "CostInBillingCurrency": "6",
        "BillingAccountId": "70000001",
        "BillingCurrency": "USD",
        "BillingPeriodStartDate": "10/01/2026",
        "BillingPeriodEndDate": "10/31/2026",
        "ChargeType": "Usage",
        "PricingModel": "OnDemand",
        "ResourceId": "/subscriptions/a/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v",
        "Tags": "",
        "AdditionalInfo": "",
        "ReservationId": "",
    } | given


def write(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, header, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


COVERED = {"PricingModel": "Reservation", "ReservationId": "r-1", "PayGPrice": "0"}
ACTUAL = [
    cells(),
    cells(**COVERED, EffectivePrice="0", CostInBillingCurrency="0"),
    cells(
        **COVERED,
        ChargeType="Purchase",
        Frequency="Recurring",
        CostInBillingCurrency="5",
        UnitPrice="5",
        Quantity="1",
    ),
]
AMORTIZED = [
    cells(),
    cells(**COVERED, EffectivePrice="2", CostInBillingCurrency="4"),
    cells(
        **COVERED,
        ChargeType="UnusedReservation",
        Quantity="0.5",
        EffectivePrice="2",
        CostInBillingCurrency="1",
    ),
]


@pytest.mark.parametrize(
    "names",
    [
        ("actual/a.csv", "amortized/a.csv"),
        ("ActualCost_2026-10.csv", "AmortisedCost_2026-10.csv"),
        # Names that say nothing: the rows do.
        ("one.csv", "two.csv"),
        ("costs/team-actual/20261001-20261031/x_1.csv", "costs/team-amortized/20261001-20261031/y_1.csv"),
    ],
)
def test_both_exports_of_a_month_count_once(names: tuple[str, str], tmp_path: Path) -> None:
    write(tmp_path / "bill" / names[0], ACTUAL)
    write(tmp_path / "bill" / names[1], AMORTIZED)
    loaded = load(tmp_path / "bill", tmp_path)
    assert loaded.actions() == ["loaded"]
    assert loaded.total("BilledCost") == 11
    assert loaded.total("EffectiveCost") == 11
    assert sorted((row["x_ChargeType"], row["BilledCost"], row["EffectiveCost"]) for row in loaded.rows) == [
        ("Purchase", 5, 0),
        ("UnusedReservation", 0, 1),
        ("Usage", 0, 4),
        ("Usage", 6, 6),
    ]
    assert loaded.codes() == set()


def test_actual_costs_alone_leave_covered_usage_unknown(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "a.csv", ACTUAL), tmp_path)
    assert loaded.total("BilledCost") == 11
    covered = [row for row in loaded.rows if row["CommitmentDiscountStatus"] == "Used"]
    assert [(row["BilledCost"], row["EffectiveCost"]) for row in covered] == [(0, None)]
    assert loaded.codes() == {"amortized-cost-missing"}


def test_amortized_costs_alone_bill_no_commitment(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "a.csv", AMORTIZED), tmp_path)
    assert loaded.total("BilledCost") == 6
    assert loaded.total("EffectiveCost") == 11
    assert loaded.codes() == {"actual-cost-missing"}


def test_exports_made_at_different_times_follow_the_actual_one(tmp_path: Path) -> None:
    write(tmp_path / "bill/actual.csv", ACTUAL)
    write(tmp_path / "bill/amortized.csv", [*AMORTIZED, cells(CostInBillingCurrency="7")])
    loaded = load(tmp_path / "bill", tmp_path)
    assert loaded.total("BilledCost") == 11
    assert loaded.codes() == {"exports-disagree"}


def test_a_month_without_its_other_export_keeps_its_rows(tmp_path: Path) -> None:
    september = {
        "BillingPeriodStartDate": "09/01/2026",
        "BillingPeriodEndDate": "09/30/2026",
        "Date": "09/05/2026",
    }
    write(tmp_path / "bill/actual.csv", [*ACTUAL, *(row | september for row in ACTUAL)])
    write(tmp_path / "bill/amortized.csv", AMORTIZED)
    loaded = load(tmp_path / "bill", tmp_path)
    assert {row.billing_period: row.billed_cost for row in loaded.report.rows} == {
        "2026-09": 11,
        "2026-10": 11,
    }
    assert len([row for row in loaded.rows if row["x_BillingPeriod"] == "2026-09"]) == len(ACTUAL)


def test_a_later_run_of_a_month_replaces_the_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "bill/export/20261001-20261031"
    write(folder / "202610020600/aaaa/000001.csv", [cells()])
    write(folder / "202610030600/bbbb/000001.csv", [cells(), cells(CostInBillingCurrency="1")])
    loaded = load(tmp_path / "bill", tmp_path)
    assert loaded.actions() == ["loaded", "replaced"]
    assert loaded.total("BilledCost") == 7


def copy_run(source: Path, target: Path, change: dict[str, Any] | None = None) -> Path:
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    content = json.loads((source / "manifest.json").read_text()) | (change or {})
    for blob in content["blobs"]:
        blob["blobName"] = f"{target.name}/{blob['blobName'].rpartition('/')[2]}"
    (target / "manifest.json").write_text(json.dumps(content))
    return target


def rejected(loaded: Loaded) -> tuple[list[Ingested], Diagnostic]:
    told = [found for found in loaded.report.diagnostics if found.code == "delivery-rejected"]
    assert loaded.rows == []
    assert len(told) == 1
    return loaded.report.rows, told[0]


def test_the_manifest_says_which_export_it_is_and_what_to_expect(tmp_path: Path) -> None:
    copy_run(RUN_A, tmp_path / "bill/x")
    copy_run(RUN_B, tmp_path / "bill/y")
    loaded = load(tmp_path / "bill", tmp_path)
    assert loaded.actions() == ["loaded"]
    assert {row["x_SourceVersion"] for row in loaded.rows} == {"Azure ActualCost", "Azure AmortizedCost"}


def test_a_lost_part_refuses_the_delivery(tmp_path: Path) -> None:
    copy_run(RUN_A, tmp_path / "bill/x")
    copy_run(RUN_B, tmp_path / "bill/y")
    (tmp_path / "bill/y/part_1_0001.csv").unlink()
    _, told = rejected(load(tmp_path / "bill", tmp_path))
    assert "missing" in told.message


def test_fewer_rows_than_the_manifest_promises_refuse_the_delivery(tmp_path: Path) -> None:
    run = copy_run(RUN_A, tmp_path / "bill/x")
    content = json.loads((run / "manifest.json").read_text())
    content["blobs"][0]["dataRowCount"] += 1
    (run / "manifest.json").write_text(json.dumps(content))
    _, told = rejected(load(tmp_path / "bill", tmp_path))
    assert "promises" in told.message


def test_other_exports_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    copy_run(RUN_A, tmp_path / "bill/x")
    copy_run(
        RUN_B, tmp_path / "bill/prices", {"exportConfig": {"type": "PriceSheet", "exportName": "prices"}}
    )
    loaded = load(tmp_path / "bill", tmp_path)
    assert {row["x_SourceFile"] for row in loaded.rows} == {"x/part_0_0001.csv"}
    assert "file-not-in-manifest" not in loaded.codes()


def test_scopes_of_one_account_are_separate_sources(tmp_path: Path) -> None:
    scope = "/subscriptions/AAAA/providers/Microsoft.CostManagement/exports/x"
    copy_run(RUN_A, tmp_path / "bill/x", {"exportConfig": {"type": "ActualCost", "resourceId": scope}})
    copy_run(RUN_B, tmp_path / "bill/y")
    found = azure.discover(open_tree(str(tmp_path / "bill"), tmp_path))
    assert {delivery.source for delivery in found} == {"aaaa", "70000001"}


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title, lambda name: f" {name[:3]}_{name[3:]} "])
def test_headers_match_whatever_their_case(change: Callable[[str], str], tmp_path: Path) -> None:
    rows = [{change(key): value for key, value in row.items()} for row in ACTUAL]
    path = write(tmp_path / "a.csv", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path, tmp_path).total("BilledCost") == 11


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    text = write(tmp_path / "a.csv", ACTUAL)
    con = duckdb.connect()
    con.execute(
        f"""COPY (SELECT * REPLACE (CostInBillingCurrency::DOUBLE AS CostInBillingCurrency, Quantity::DOUBLE AS Quantity,
            strptime(Date, '%m/%d/%Y')::TIMESTAMPTZ AS Date)
            FROM read_csv({duckdb.literal(text)}, all_varchar = true)) TO {duckdb.literal(tmp_path / "a.parquet")}"""
    )
    kept = [
        {key: value for key, value in row.items() if key not in {"x_SourceFile", "x_DeliveryId"}}
        for path in (text, tmp_path / "a.parquet")
        for row in load(path, tmp_path / path.suffix).rows
    ]
    assert kept[: len(ACTUAL)] == kept[len(ACTUAL) :]


UNITS = [
    ("1 Hour", "x", "Hours", Decimal(2), "Hours"),
    ("10 Hours", "x", "Hours", Decimal(2), "Hours"),
    ("100 Hours", "x", "Hours", Decimal(2), "Hours"),
    ("1/Hour", "x", "Hours", Decimal(2), "Hours"),
    ("10K", "operations", "10000 Units", Decimal(20000), "Units"),
    ("1K", "gpt 4.1 Inp glbl Tokens", "1000 Tokens", Decimal(2000), "Tokens"),
    ("1M", "gpt 5 Outp glbl Tokens", "1000000 Tokens", Decimal(2000000), "Tokens"),
    ("1 GB", "x", "GB", Decimal(2), "GB"),
    ("100 GB/Month", "x", "GB-Months", Decimal(2), "GB-Months"),
    ("1 /Month", "x", "Unit-Months", Decimal(2), "Unit-Months"),
    ("1 GB Hour", "x", "GB-Hours", Decimal(2), "GB-Hours"),
    ("10000 Transactions", "x", "10000 Transactions", Decimal(20000), "Transactions"),
    ("", "x", "Units", Decimal(2), "Units"),
]


def test_units_and_blocks(tmp_path: Path) -> None:
    """Whatever the unit is called: price times pricing quantity is the cost."""
    rows = [
        cells(UnitOfMeasure=unit, MeterName=meter, ConsumedService="Microsoft.Compute")
        for unit, meter, *_ in UNITS
    ]
    loaded = load(write(tmp_path / "a.csv", rows), tmp_path).rows
    for row in loaded:
        unit, _, pricing, consumed, consumed_unit = UNITS[row["x_SourceRow"] - 1]
        assert (row["PricingQuantity"], row["PricingUnit"]) == (2, pricing), unit
        assert (row["ConsumedQuantity"], row["ConsumedUnit"]) == (consumed, consumed_unit), unit
        assert row["ContractedUnitPrice"] * row["PricingQuantity"] == row["ContractedCost"] == 6
    assert len(loaded) == len(UNITS)


def test_dates_of_several_countries(tmp_path: Path) -> None:
    texts = ["10/05/2026", "2026-10-05", "2026-10-05T00:00:00Z", "05.10.2026", "10/5/26", "30/10/2026"]
    loaded = load(write(tmp_path / "a.csv", [cells(Date=text) for text in texts]), tmp_path).rows
    days = {
        row["x_SourceRow"]: row["ChargePeriodStart"] and row["ChargePeriodStart"].date().isoformat()
        for row in loaded
    }
    assert days == {
        1: "2026-10-05",
        2: "2026-10-05",
        3: "2026-10-05",
        4: "2026-10-05",
        5: "2026-10-05",
        6: None,
    }
    assert [row["x_DataIssues"] for row in loaded if row["x_DataIssues"]] == [
        'ChargePeriodStart: "30/10/2026" can\'t be read'
    ]


PRICES: list[tuple[dict[str, str], int | None, int | None]] = [
    ({}, 8, 6),
    ({"PayGPrice": "0"}, None, 6),  # something that costs money has a price: 0 is "not filled in"
    ({"PayGPrice": "0", "UnitPrice": "0", "EffectivePrice": "0", "CostInBillingCurrency": "0"}, 0, 0),  # free
    ({"UnitPrice": "0", "PublisherType": "Marketplace", "PayGPrice": "0"}, None, None),
    ({**COVERED, "UnitPrice": "0"}, None, None),
]


def test_zero_prices_are_unknown_unless_the_row_is_free(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "a.csv", [cells(**given) for given, _, _ in PRICES]), tmp_path).rows
    found = {row["x_SourceRow"]: (row["ListCost"], row["ContractedCost"]) for row in loaded}
    assert found == {place: (listed, own) for place, (_, listed, own) in enumerate(PRICES, 1)}


def test_lookup_tables_name_each_key_once_and_valid_categories() -> None:
    sql = Path(azure.__file__).with_suffix(".sql").read_text("utf-8")
    tables = sql[: sql.index("), orders AS (")] + ")"
    con = duckdb.connect()
    for table in ("regions", "services", "families"):
        twice = con.execute(f"{tables} SELECT key FROM {table} GROUP BY key HAVING count(*) > 1").fetchall()
        assert twice == []
    content = json.loads(
        (Path(azure.__file__).parents[1] / "focus/data/service_categories.json").read_text("utf-8")
    )
    parents = {sub: parent for parent, subs in content["categories"].items() for sub in subs}
    found = con.execute(
        f"{tables} SELECT class, subclass FROM services UNION SELECT class, subclass FROM families"
    ).fetchall()
    assert [pair for pair in found if parents.get(pair[1]) != pair[0]] == []


def test_the_demo_company_adds_up(tmp_path: Path) -> None:
    setting = files.Setting(tmp_path / "demo", Month.parse("2026-10"), 7)
    truth = Truth(setting.month, 7)
    demo.write(setting, truth)
    loaded = load(tmp_path / "demo" / "azure", tmp_path)
    told = truth.as_dict()
    assert loaded.total("BilledCost") == Decimal(told["providers"]["azure"]["billed"])
    commitments = {key: value for key, value in told["commitments"].items() if value["provider"] == "azure"}
    assert commitments
    for key, value in commitments.items():
        rows = [row for row in loaded.rows if row["CommitmentDiscountId"] == key.lower()]
        for status, name in (("Used", "used"), ("Unused", "stranded")):
            chosen = [row["EffectiveCost"] for row in rows if row["CommitmentDiscountStatus"] == status]
            assert sum(chosen, ZERO) == Decimal(value[name]), (key, status)
    assert loaded.codes() == set()


REAL = [
    ("billing/azure/ftk_EA_ActualCost_Small.csv", "Cost"),
    ("billing/azure/azure_version_2.csv", "CostInBillingCurrency"),
    ("billing/azure/costreport_a243c6f2-199f-4074-9a2c-40e671cf1584.csv", "PreTaxCost"),
    ("billing/azure/opencost_VirtualMachine.csv", "costinbillingcurrency"),
    ("billing/azure/opencost_headersets/Enterprise.csv", "CostInBillingCurrency"),
    ("billing/azure/opencost_headersets/EnterpriseCamel.csv", "costInBillingCurrency"),
    ("billing/azure/opencost_headersets/PayAsYouGo.csv", "PreTaxCost"),
    ("billing/nise/azure_nise.csv", "CostInBillingCurrency"),
    ("focus/samples/azure_ea_amortized_native.csv", "Cost"),
]


@pytest.mark.shared
@pytest.mark.parametrize(("name", "column"), REAL, ids=[name.rsplit("/", 1)[-1] for name, _ in REAL])
def test_real_samples_add_up(name: str, column: str, tmp_path: Path) -> None:
    path = SHARED / "data" / name
    if not path.is_file():
        pytest.skip(f"no {path}: set GPULEDGER_SHARED to the folder of sample data")
    with path.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    stored = Decimal("1e-18")
    expected = sum((Decimal(row[column]).quantize(stored) for row in rows), ZERO)
    loaded = load(path, tmp_path)
    assert loaded.actions() == ["loaded"]
    assert len(loaded.rows) == len(rows)
    amortized = {row["x_SourceVersion"] for row in loaded.rows} == {"Azure AmortizedCost"}
    assert loaded.total("EffectiveCost" if amortized else "BilledCost") == expected
