"""Snowflake: the view's older form, exports with types, and exact amounts in ContractApplied."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from gpuledger import registry
from gpuledger.engines import duckdb
from gpuledger.pipeline.ingest import Options, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store


def load(folder: Path) -> list[dict[str, Any]]:
    store = Store(str(folder.parent / "ledger"))
    report = ingest(store, open_tree(str(folder), folder), registry.source("snowflake"), Options(source="s"))
    assert [row.action for row in report.rows] == ["loaded"], report.diagnostics
    scan = f"read_parquet({duckdb.literals(store.files('cost_and_usage'))})"
    cursor = duckdb.connect().execute(f"SELECT * FROM {scan} ORDER BY x_SourceRow")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_the_view_before_billing_types(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    folder.mkdir()
    (folder / "usage.csv").write_text(
        "organization_name,account_locator,region,usage_date,usage_type,usage,currency,usage_in_currency\n"
        "ORG,AB1,us-west-2,2026-10-01,overage-compute,2,EUR,6.00\n"
    )
    row = load(folder)[0]
    assert (row["ChargeCategory"], row["BillingCurrency"], row["BilledCost"]) == ("Usage", "EUR", 6)
    assert row["ServiceCategory"] == "Databases"
    assert row["HostProviderName"] is None
    assert row["PricingUnit"] is None


def test_parquet_with_types_and_exact_amounts(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    folder.mkdir()
    duckdb.connect().execute(
        "COPY (SELECT 'ORG' AS ORGANIZATION_NAME, 'C-1' AS CONTRACT_NUMBER, DATE '2026-10-05' AS USAGE_DATE, 'USD' AS CURRENCY, "
        "CAST('123456789012.123456' AS DECIMAL(38, 6)) AS USAGE_IN_CURRENCY, CAST(1.5 AS DECIMAL(38, 3)) AS USAGE, "
        "'capacity' AS BALANCE_SOURCE, 'consumption' AS BILLING_TYPE, 'compute' AS RATING_TYPE, true AS IS_ADJUSTMENT, "
        f"'CLOUD_SERVICES' AS SERVICE_TYPE) TO {duckdb.literal(folder / 'usage.parquet')} (FORMAT parquet)"
    )
    row = load(folder)[0]
    assert row["BilledCost"] == Decimal("123456789012.123456")
    assert row["ChargeCategory"] == "Adjustment"
    applied = json.loads(row["ContractApplied"], parse_float=Decimal)["Elements"][0]
    assert applied["ContractCommitmentAppliedCost"] == row["BilledCost"]
    assert row["ChargePeriodEnd"].isoformat() == "2026-10-06T00:00:00+00:00"
