"""Databricks: prices by time, cloud and account, typed files, the ledger's tie, and usage without prices."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpuledger import registry
from gpuledger.engines import duckdb
from gpuledger.pipeline.ingest import Options, Report, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store

Row = dict[str, Any]


def usage(start: str = "2026-10-01T10:00:00Z", quantity: str = "2", **other: object) -> Row:
    return {
        "record_id": start, "account_id": "acc-1", "workspace_id": "1", "sku_name": "JOBS", "cloud": "AWS",
        "usage_start_time": start, "usage_end_time": start.replace("10:00", "11:00"), "usage_date": start[:10],
        "usage_unit": "DBU", "usage_quantity": quantity, "record_type": "ORIGINAL", "ingestion_date": start[:10],
        "billing_origin_product": "JOBS", "usage_metadata": {"job_id": "7"}, "custom_tags": {"team": "ml"},
    } | other  # fmt: skip


def price(amount: str, since: str = "2024-01-01", until: str | None = None, **other: object) -> Row:
    return {
        "sku_name": "JOBS", "cloud": "AWS", "usage_unit": "DBU", "currency_code": "USD", "account_id": "acc-1",
        "price_start_time": since, "price_end_time": until, "pricing": {"default": amount},
    } | other  # fmt: skip


def load(tmp_path: Path, **files: list[Row]) -> tuple[Report, list[Row]]:
    folder = tmp_path / "bill"
    folder.mkdir(exist_ok=True)
    for name, lines in files.items():
        (folder / f"{name}.json").write_text("\n".join(map(json.dumps, lines)))
    store = Store(str(tmp_path / "ledger"))
    report = ingest(store, open_tree(str(folder), folder), registry.source("databricks"), Options(source="d"))
    scan = f"read_parquet({duckdb.literals(store.files('cost_and_usage'))})"
    cursor = duckdb.connect().execute(f"SELECT * FROM {scan} ORDER BY x_SourceRow")
    names = [column[0] for column in cursor.description]
    return report, [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@pytest.mark.parametrize(
    ("start", "cost"),
    [("2026-10-01T09:00:00Z", "0.2"), ("2026-10-01T10:00:00Z", "0.4"), ("2023-12-31T10:00:00Z", None)],
)
def test_the_price_is_the_one_when_usage_began(tmp_path: Path, start: str, cost: str | None) -> None:
    prices = [price("0.1", until="2026-10-01T10:00:00Z"), price("0.2", since="2026-10-01T10:00:00Z")]
    _, rows = load(tmp_path, usage=[usage(start)], list_prices=prices)
    assert rows[0]["BilledCost"] == (None if cost is None else Decimal(cost))


def test_prices_of_another_cloud_unit_or_account_do_not_apply(tmp_path: Path) -> None:
    prices = [price("9", cloud="AZURE"), price("9", usage_unit="GB"), price("9", sku_name="SQL")]
    _, rows = load(
        tmp_path, usage=[usage()], list_prices=prices, account_prices=[price("8", account_id="acc-2")]
    )
    assert [(row["BilledCost"], row["x_DataIssues"]) for row in rows] == [
        (None, "BilledCost: no price for JOBS")
    ]


def test_the_accounts_price_wins_and_the_list_stays(tmp_path: Path) -> None:
    effective = {"default": "0.3", "effective_list": {"default": "0.25"}}
    _, rows = load(
        tmp_path, usage=[usage()], list_prices=[price("", pricing=effective)], account_prices=[price("0.2")]
    )
    row = rows[0]
    assert (row["BilledCost"], row["ListCost"], row["x_CostStatus"]) == (
        Decimal("0.4"),
        Decimal("0.6"),
        "Final",
    )


def test_usage_without_prices_has_no_cost_and_says_so(tmp_path: Path) -> None:
    report, rows = load(tmp_path, usage=[usage(), usage(quantity="-2", record_type="RETRACTION")])
    assert [row["BilledCost"] for row in rows] == [None, None]
    assert sum(row["ConsumedQuantity"] for row in rows) == 0
    assert [told.code for told in report.diagnostics if told.code != "focus-rules"] == ["unreadable-value"]
    assert report.rows[0].billed_cost is None


def test_corrections_are_added_and_late_ones_are_corrections(tmp_path: Path) -> None:
    lines = [
        usage("2026-09-01T10:00:00Z"),
        usage("2026-09-01T10:00:00Z", "-2", record_type="RETRACTION", ingestion_date="2026-09-20"),
        usage("2026-09-01T10:00:00Z", "1.5", record_type="RESTATEMENT", ingestion_date="2026-10-02"),
    ]
    report, rows = load(tmp_path, usage=lines, list_prices=[price("1")])
    assert [(row["BilledCost"], row["ChargeClass"]) for row in rows] == [
        (2, None),
        (-2, None),
        (Decimal("1.5"), "Correction"),
    ]
    assert [(row.billing_period, row.billed_cost) for row in report.rows] == [
        ("2026-09", 0),
        ("2026-10", Decimal("1.5")),
    ]


def test_the_same_price_twice_counts_once(tmp_path: Path) -> None:
    _, rows = load(tmp_path, usage=[usage()], list_prices=[price("0.1")], list_prices_again=[price("0.1")])
    assert [row["BilledCost"] for row in rows] == [Decimal("0.2")]


def test_parquet_keeps_structs_maps_and_decimals(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    folder.mkdir()
    con = duckdb.connect()
    con.execute(
        "COPY (SELECT 'r' AS record_id, 'acc-1' AS account_id, 'JOBS' AS sku_name, 'GCP' AS cloud, "
        "TIMESTAMPTZ '2026-10-01 10:00:00+00' AS usage_start_time, TIMESTAMPTZ '2026-10-01 11:00:00+00' AS usage_end_time, "
        "DATE '2026-10-01' AS usage_date, MAP {'team': 'ml'} AS custom_tags, 'DBU' AS usage_unit, "
        "CAST('3.000000000000000001' AS DECIMAL(38, 18)) AS usage_quantity, {'job_id': '7', 'node_type': 'a2-highgpu-1g'} AS "
        "usage_metadata, 'ORIGINAL' AS record_type, 'JOBS' AS billing_origin_product) "
        f"TO {duckdb.literal(folder / 'usage.parquet')} (FORMAT parquet)"
    )
    con.execute(
        "COPY (SELECT 'JOBS' AS sku_name, 'GCP' AS cloud, 'DBU' AS usage_unit, 'USD' AS currency_code, "
        "TIMESTAMPTZ '2024-01-01 00:00:00+00' AS price_start_time, NULL::TIMESTAMPTZ AS price_end_time, "
        "{'default': CAST(0.15 AS DECIMAL(38, 18)), 'effective_list': {'default': CAST(0.12 AS DECIMAL(38, 18))}} AS pricing) "
        f"TO {duckdb.literal(folder / 'list_prices.parquet')} (FORMAT parquet)"
    )
    row = load(tmp_path)[1][0]
    assert (row["BilledCost"], row["ListCost"]) == (Decimal("0.36"), Decimal("0.45"))
    assert (row["Tags"], row["ResourceId"], row["x_InstanceType"]) == ({"team": "ml"}, "7", "a2-highgpu-1g")
    assert row["HostProviderName"] == "Google Cloud"


def test_prices_alone_are_no_bill(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    folder.mkdir()
    (folder / "list_prices.json").write_text(json.dumps(price("1")))
    store = Store(str(tmp_path / "ledger"))
    report = ingest(store, open_tree(str(folder), folder), registry.source("databricks"), Options(source="d"))
    assert report.diagnostics[0].message == "the file has a header but no charges"
