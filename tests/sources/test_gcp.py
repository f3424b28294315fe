"""Google's billing export: credits, commitments of three kinds, flattened and nested files, and bills that don't add up."""

import ast
import csv
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuledger import registry
from gpuledger.demo import files
from gpuledger.demo import gcp as demo
from gpuledger.demo.company import Month
from gpuledger.demo.truth import Truth
from gpuledger.engines import duckdb
from gpuledger.pipeline.ingest import Options, Report, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store
from gpuledger.sources import gcp

GOLDEN = Path(__file__).parent / "gcp" / "raw"
SHARED = Path(os.environ.get("GPULEDGER_SHARED", "../shared"))
ZERO = Decimal(0)


@dataclass
class Loaded:
    report: Report
    rows: list[dict[str, Any]] = field(default_factory=list)

    def total(self, column: str, **where: object) -> Decimal:
        chosen = (row for row in self.rows if all(row[key] == value for key, value in where.items()))
        return sum((row[column] for row in chosen if row[column] is not None), ZERO)

    def codes(self) -> set[str]:
        return {told.code for told in self.report.diagnostics} - {"focus-rules"}


def load(path: Path, scratch: Path) -> Loaded:
    store = Store(str(scratch / f"ledger-{path.name}"))
    tree, options = open_tree(str(path), scratch / "down"), Options(source="gcp")
    report = ingest(store, tree, registry.source("gcp"), options)
    found = store.files("cost_and_usage")
    if not found:
        return Loaded(report)
    cursor = duckdb.connect().execute(
        f"SELECT * FROM read_parquet({duckdb.literals(found)}, hive_partitioning = true, hive_types_autocast = false)"
    )
    names = [column[0] for column in cursor.description]
    return Loaded(report, [dict(zip(names, row, strict=True)) for row in cursor.fetchall()])


def line(
    cost: object = "1.5",
    *,
    hour: int = 0,
    sku: str = "N2 Instance Core running in Americas",
    **given: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """One row of the detailed export; keys replace or add."""
    return {
        "billing_account_id": "01SYNT-HETIC0-BILL01",
        "service": {"id": "6F81-5844-456A", "description": "Compute Engine"},
        "sku": {"id": re.sub(r"\W+", "-", sku), "description": sku},
        "usage_start_time": f"2026-10-01 {hour:02d}:00:00 UTC",
        "usage_end_time": f"2026-10-01 {hour + 1:02d}:00:00 UTC",
        "project": {"id": "example-ml"},
        "labels": [],
        "system_labels": [],
        "location": {"location": "us-central1", "region": "us-central1"},
        "cost": cost,
        "currency": "USD",
        "currency_conversion_rate": 1,
        "usage": {"amount": 36000, "unit": "seconds", "amount_in_pricing_units": 10, "pricing_unit": "hour"},
        "credits": [],
        "invoice": {"month": "202610"},
        "cost_type": "regular",
    } | given  # fmt: skip


def credit(kind: str | None, amount: object, **given: str) -> dict[str, Any]:
    return {"name": "", "amount": amount, "full_name": "", "id": "", "type": kind} | given


def fee(
    cost: object, amount: object, *, hour: int = 0, sku: str = "Commitment v1: N2 Cpu in Americas for 1 Year"
) -> dict[str, Any]:
    usage = {"amount": amount, "unit": "seconds", "amount_in_pricing_units": amount, "pricing_unit": "hour"}
    return line(cost, hour=hour, sku=sku, usage=usage, subscription={"instance_id": "subscriptions/c-1"})


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def charged(rows: list[dict[str, Any]]) -> Decimal:
    """Costs plus credits, apart from the connector."""
    amounts = [amount for row in rows for amount in (row["cost"], *(c["amount"] for c in row["credits"]))]
    return sum((Decimal(str(amount)) for amount in amounts), ZERO)


def kinds(loaded: Loaded, *columns: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row[column] for column in columns) for row in loaded.rows), key=str)


def test_discounts_lower_their_row_and_payments_are_rows(tmp_path: Path) -> None:
    kept = ["SUSTAINED_USAGE_DISCOUNT", "DISCOUNT", "FREE_TIER", "SUBSCRIPTION_BENEFIT", "RESELLER_MARGIN"]
    given = [credit(kind, "-0.1") for kind in kept] + [
        credit("PROMOTION", "-0.2", name="Startup"),
        credit("NEW_KIND", "-0.3"),
    ]
    loaded = load(write(tmp_path / "a.jsonl", [line(credits=given)]), tmp_path)
    assert kinds(
        loaded, "ChargeCategory", "BilledCost", "EffectiveCost", "ContractedCost", "x_ChargeType"
    ) == [
        ("Credit", Decimal("-0.2"), Decimal("-0.2"), Decimal("-0.2"), "PROMOTION"),
        ("Credit", Decimal("-0.3"), Decimal("-0.3"), Decimal("-0.3"), "NEW_KIND"),
        ("Usage", Decimal("1.0"), Decimal("1.0"), Decimal("1.5"), "regular"),
    ]


def test_old_exports_have_names_and_no_types(tmp_path: Path) -> None:
    given = [credit(None, "-0.1", name="Sustained Usage Discount"), credit(None, "-0.2", name="Free trial")]
    loaded = load(write(tmp_path / "a.jsonl", [line(credits=given)]), tmp_path)
    assert kinds(loaded, "ChargeCategory", "BilledCost") == [
        ("Credit", Decimal("-0.2")),
        ("Usage", Decimal("1.4")),
    ]


def test_what_is_no_usage_is_none(tmp_path: Path) -> None:
    rows = [
        line("3", cost_type="tax"),
        line("-0.01", cost_type="rounding_error"),
        line("-2", cost_type="adjustment", adjustment_info={"type": "GENERAL_ADJUSTMENT"}),
        line("-5", cost_type="adjustment", adjustment_info={"type": "SLA_VIOLATION"}),
        line("-1", adjustment_info={"type": "USAGE_CORRECTION"}),
    ]
    loaded = load(write(tmp_path / "a.jsonl", rows), tmp_path)
    assert kinds(loaded, "ChargeCategory", "ChargeClass", "BilledCost") == [
        ("Adjustment", None, Decimal("-0.01")),
        ("Adjustment", None, Decimal(-2)),
        ("Credit", None, Decimal(-5)),
        ("Tax", None, Decimal(3)),
        ("Usage", "Correction", Decimal(-1)),
    ]
    assert loaded.total("BilledCost") == loaded.total("EffectiveCost") == charged(rows)


def test_late_usage_is_on_the_later_invoice(tmp_path: Path) -> None:
    late = line(usage_start_time="2026-09-30 23:00:00 UTC", usage_end_time="2026-10-01 00:00:00 UTC")
    (row,) = load(write(tmp_path / "a.jsonl", [late]), tmp_path).rows
    assert row["BillingPeriodStart"] == datetime(2026, 10, 1, tzinfo=UTC)
    assert row["ChargePeriodStart"] == datetime(2026, 9, 30, 23, tzinfo=UTC)
    assert row["x_BillingPeriod"] == "2026-10"


def covered(cost: str = "1.5", share: str = "1.5", **given: Any) -> dict[str, Any]:  # noqa: ANN401
    return line(cost, credits=[credit("COMMITTED_USAGE_DISCOUNT", f"-{share}")], **given)


def test_a_commitment_pays_for_what_it_covers_and_the_rest_is_unused(tmp_path: Path) -> None:
    rows = [fee("2", 20), covered(), fee("2", 20, hour=1)]
    loaded = load(write(tmp_path / "a.jsonl", rows), tmp_path)
    columns = (
        "ChargePeriodStart",
        "ChargeCategory",
        "CommitmentDiscountStatus",
        "BilledCost",
        "EffectiveCost",
        "CommitmentDiscountQuantity",
    )
    hours = [datetime(2026, 10, 1, hour, tzinfo=UTC) for hour in (0, 1)]
    assert kinds(loaded, *columns) == [
        (hours[0], "Purchase", None, 2, 0, 20),
        (hours[0], "Usage", "Unused", 0, 1, 10),
        (hours[0], "Usage", "Used", 0, 1, 10),
        (hours[1], "Purchase", None, 2, 0, 20),
        (hours[1], "Usage", "Unused", 0, 2, 20),
    ]
    assert {row["CommitmentDiscountId"] for row in loaded.rows} == {"c-1"}
    assert loaded.codes() == set()


def test_usage_that_is_covered_in_part_becomes_two_rows(tmp_path: Path) -> None:
    rows = [fee("0.9", 6), covered(share="0.9")]
    loaded = load(write(tmp_path / "a.jsonl", rows), tmp_path)
    columns = (
        "CommitmentDiscountStatus",
        "PricingQuantity",
        "ConsumedQuantity",
        "BilledCost",
        "EffectiveCost",
        "ContractedCost",
    )
    usage = [row for row in kinds(loaded, "ChargeCategory", *columns) if row[0] == "Usage"]
    assert usage == [
        ("Usage", "Used", 6, 21600, 0, Decimal("0.9"), Decimal("0.9")),
        ("Usage", None, 4, 14400, Decimal("0.6"), Decimal("0.6"), Decimal("0.6")),
    ]  # fmt: skip


def test_a_fee_that_is_not_in_the_bill_is_told(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "a.jsonl", [covered()]), tmp_path)
    assert [(row["BilledCost"], row["EffectiveCost"]) for row in loaded.rows] == [(0, 0)]
    assert loaded.codes() == {"commitment-fee-missing"}


SHARES = st.lists(
    st.tuples(st.integers(0, 2), st.decimals("0.000001", "900", places=6), st.integers(1, 10**9)),
    min_size=1,
    max_size=12,
)


@given(SHARES, st.decimals("0.000001", "5000", places=9), st.decimals("0.001", "2000", places=3))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fees_are_shared_out_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory,
    uses: list[tuple[int, Decimal, int]],
    paid: Decimal,
    committed: Decimal,
) -> None:
    """Whatever is covered in an hour: used plus unused is the fee, and both sums are the bill's."""
    rows = [fee(str(paid), str(committed), hour=hour) for hour in range(3)]
    for hour, cost, amount in uses:
        usage = {
            "amount": amount,
            "unit": "seconds",
            "amount_in_pricing_units": amount / 1000,
            "pricing_unit": "hour",
        }
        rows.append(covered(str(cost), str(cost), hour=hour, usage=usage))
    scratch = tmp_path_factory.mktemp("share")
    loaded = load(write(scratch / "a.jsonl", rows), scratch)
    assert loaded.total("BilledCost") == loaded.total("EffectiveCost") == charged(rows)
    for hour in range(3):
        at = datetime(2026, 10, 1, hour, tzinfo=UTC)
        parts = [
            row for row in loaded.rows if row["ChargePeriodStart"] == at and row["CommitmentDiscountStatus"]
        ]
        assert sum((row["EffectiveCost"] for row in parts), ZERO) == paid
        assert all(row["EffectiveCost"] >= 0 for row in parts)


def test_googles_examples_of_both_spend_based_models_agree(tmp_path: Path) -> None:
    """docs.cloud.google.com/docs/cuds-multiprice-datamodel, "underutilized": the same month before and after."""
    loaded = load(GOLDEN, tmp_path)
    before, after = "e52fd279-0851-4f53-a533-093119e27bad", "1fd3b130-40f8-4a79-ac6f-5753aaa0ceeb"
    for contract in (before, after):
        spent = loaded.total("BilledCost", CommitmentDiscountId=contract, ChargeCategory="Purchase")
        assert spent == Decimal("0.022994") + Decimal("0.125637") + Decimal("0.067369")
        used = loaded.total("EffectiveCost", CommitmentDiscountId=contract, CommitmentDiscountStatus="Used")
        unused = loaded.total(
            "EffectiveCost", CommitmentDiscountId=contract, CommitmentDiscountStatus="Unused"
        )
        assert used == Decimal("0.125637") + Decimal("0.067369")
        # Google's own offset differs from its fee by some millionths.
        assert abs(unused - Decimal("0.022994")) < Decimal("0.00002")


def test_only_the_gpu_row_of_a_machine_has_its_type(tmp_path: Path) -> None:
    machine = [{"key": "compute.googleapis.com/machine_spec", "value": "a3-highgpu-8g"}]
    skus = [
        "A3 Instance Core running in Americas",
        "A3 Instance Ram running in Americas",
        "Nvidia H100 80GB GPU running in Americas",
    ]
    loaded = load(
        write(tmp_path / "a.jsonl", [line(sku=sku, system_labels=machine) for sku in skus]), tmp_path
    )
    assert {row["SkuMeter"]: (row["x_InstanceType"], row["x_GpuHours"]) for row in loaded.rows} == {
        skus[0]: (None, None),
        skus[1]: (None, None),
        skus[2]: ("a3-highgpu-8g", 10),
    }


def test_labels_and_tags_are_tags(tmp_path: Path) -> None:
    project = {
        "id": "p",
        "name": "P",
        "labels": [{"key": "env", "value": "prod"}, {"key": "team", "value": "all"}],
    }
    tags = [
        {"key": "cost_center", "value": "7", "inherited": True, "namespace": "1"},
        {"key": "env", "value": "b", "namespace": "2"},
    ]
    twice = [{"key": "k", "value": value, "namespace": value} for value in "xy"]
    rows = [
        line(project=project, tags=tags, labels=[{"key": "team", "value": "llm"}]),
        line(tags=twice),
        line(),
    ]
    loaded = load(write(tmp_path / "a.jsonl", rows), tmp_path)
    assert {row["x_SourceRow"]: row["Tags"] for row in loaded.rows} == {
        1: {"env": "b", "team": "llm", "cost_center": "7"},
        2: {"x/k": "x", "y/k": "y"},
        3: None,
    }


def flat(row: dict[str, Any], show: Callable[[Any], str]) -> dict[str, str]:
    """The row as files have it that went through a data frame."""
    cells: dict[str, str] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            cells |= {
                f"{key}.{inner}": show(part) if isinstance(part, list) else str(part)
                for inner, part in value.items()
            }
        else:
            cells[key] = show(value) if isinstance(value, list) else str(value)
    return cells


def sample() -> list[dict[str, Any]]:
    labels = [{"key": "team", "value": 'o\'neil "x"'}]
    given = [credit("SUSTAINED_USAGE_DISCOUNT", -0.25), credit("PROMOTION", -0.125, name="Free")]
    return [line(1.5, labels=[{"key": "team", "value": "llm"}], credits=given), line(2.5, labels=labels)]


def shown(loaded: Loaded) -> list[dict[str, Any]]:
    hidden = {"x_SourceFile", "x_DeliveryId", "x_Native"}
    rows = [{key: value for key, value in row.items() if key not in hidden} for row in loaded.rows]
    return sorted(rows, key=lambda row: (row["x_SourceRow"], row["ChargeCategory"]))


def test_flattened_files_give_what_nested_ones_give(tmp_path: Path) -> None:
    nested = load(write(tmp_path / "nested.jsonl", sample()), tmp_path)
    assert nested.total("BilledCost") == Decimal("3.625")
    rows = [flat(row, json.dumps) for row in sample()]
    path = tmp_path / "flat.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert shown(load(path, tmp_path)) == shown(nested)


def test_lists_as_python_prints_them_are_read(tmp_path: Path) -> None:
    rows = [flat(sample()[0], lambda value: repr(value).replace("-0.25", "Decimal('-0.25')"))]
    assert "Decimal(" in rows[0]["credits"]
    assert "None" not in rows[0]["credits"]
    path = tmp_path / "flat.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    loaded = load(path, tmp_path)
    assert loaded.total("BilledCost") == Decimal("1.125")
    assert loaded.rows[0]["Tags"] == {"team": "llm"}


def test_parquet_with_structs_and_lists(tmp_path: Path) -> None:
    nested = write(tmp_path / "nested.jsonl", sample())
    target = tmp_path / "nested.parquet"
    con = duckdb.connect()
    con.execute(f"COPY (FROM read_json({duckdb.literal(nested)})) TO {duckdb.literal(target)}")
    loaded = load(target, tmp_path)
    assert loaded.total("BilledCost") == Decimal("3.625")
    assert {row["ChargeCategory"] for row in loaded.rows} == {"Usage", "Credit"}
    assert {row["x_SourceRow"]: row["Tags"] for row in loaded.rows}[1] == {"team": "llm"}


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "x", "amount": -0.25, "type": "DISCOUNT"',  # cut off
        "[{'name': 'it's', 'amount': -0.25, 'type': 'DISCOUNT'}]",
    ],
)
def test_credits_that_cannot_be_read_refuse_the_bill(text: str, tmp_path: Path) -> None:
    cells = flat(line(), json.dumps) | {"credits": text}
    path = tmp_path / "flat.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(cells))
        writer.writeheader()
        writer.writerow(cells)
    loaded = load(path, tmp_path)
    assert loaded.rows == []
    assert "delivery-rejected" in loaded.codes()


def test_a_cost_that_is_no_number_is_told_and_unknown(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "a.jsonl", [line("NaN"), line("1")]), tmp_path)
    assert loaded.codes() == {"unreadable-value"}
    assert loaded.total("BilledCost") == 1


def test_prices_that_do_not_multiply_to_the_cost_are_left_out(tmp_path: Path) -> None:
    price = {"effective_price": "0.15", "list_price": "0.2", "tier_start_amount": "0"}
    per_thousand = {"effective_price": "150", "list_price": "200"}
    rows = [line(price=price, cost_at_list="2"), line(price=per_thousand, cost_at_list="2")]
    loaded = load(write(tmp_path / "a.jsonl", rows), tmp_path)
    columns = ("x_SourceRow", "ContractedUnitPrice", "ListUnitPrice", "ListCost")
    assert kinds(loaded, *columns) == [(1, Decimal("0.15"), Decimal("0.2"), 2), (2, None, None, 2)]


def test_lookup_tables_name_each_key_once_and_valid_categories() -> None:
    sql = Path(gcp.__file__).with_suffix(".sql").read_text("utf-8")
    tables = sql[sql.index("WITH ") : sql.index("), linked AS (")] + ")"
    con = duckdb.connect()
    for table, key in (("services", "key"), ("places", "id")):
        assert (
            con.execute(f"{tables} SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1").fetchall()
            == []
        )
    data = Path(gcp.__file__).parents[1] / "focus/data/service_categories.json"
    categories = json.loads(data.read_text("utf-8"))["categories"]
    parents = {sub: parent for parent, subs in categories.items() for sub in subs}
    found = con.execute(f"{tables} SELECT DISTINCT major, minor FROM services").fetchall()
    assert [pair for pair in found if parents.get(pair[1]) != pair[0]] == []


def test_the_demo_company_adds_up(tmp_path: Path) -> None:
    setting = files.Setting(tmp_path / "demo", Month.parse("2026-10"), 7)
    truth = Truth(setting.month, 7)
    demo.write(setting, truth)
    loaded = load(tmp_path / "demo" / "gcp", tmp_path)
    told = truth.as_dict()["providers"]["gcp"]
    assert loaded.total("BilledCost") == loaded.total("EffectiveCost") == Decimal(told["billed"])
    commitment = truth.as_dict()["commitments"]["synthetic-cud-n2-0001"]
    assert loaded.total("EffectiveCost", CommitmentDiscountStatus="Used") == Decimal(commitment["used"])
    assert loaded.codes() == set()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["billing/gcp/koku_2022-08-01_5.csv", "billing/nise/gcp_nise.csv"])
def test_real_samples_add_up(name: str, tmp_path: Path) -> None:
    path = SHARED / "data" / name
    if not path.is_file():
        pytest.skip(f"no {path}: set GPULEDGER_SHARED")
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    expected = sum((Decimal(row["cost"] or 0) for row in rows), ZERO)
    for row in rows:
        expected += sum(
            (Decimal(str(found["amount"])) for found in ast.literal_eval(row["credits"] or "[]")), ZERO
        )
    loaded = load(path, tmp_path)
    assert loaded.total("BilledCost") == loaded.total("EffectiveCost") == expected
    assert {row["x_SourceRow"] for row in loaded.rows} == set(range(1, len(rows) + 1))
