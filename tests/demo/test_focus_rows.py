"""Benchmark rows: labelled, the same every time, exact, and clean under the rules of FOCUS."""

import csv
import json
import os
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from gpuledger import demo
from gpuledger.errors import UsageError

SHARED = Path(os.environ.get("GPULEDGER_SHARED", "../shared")) / "data" / "focus" / "focus_1_3.json"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def test_same_arguments_same_rows_in_every_form(tmp_path: Path) -> None:
    first = demo.focus_rows(tmp_path / "a.csv.gz", 2_050).read_bytes()
    assert demo.focus_rows(tmp_path / "b.csv.gz", 2_050).read_bytes() == first
    assert demo.focus_rows(tmp_path / "c.csv.gz", 2_050, seed=8).read_bytes() != first
    typed = demo.focus_rows(tmp_path / "a.parquet", 2_050)
    with duckdb.connect() as con:
        counts = "sum(BilledCost::DECIMAL(38, 16)), count(*), count(DISTINCT Tags)"
        read = f"read_csv('{tmp_path / 'a.csv.gz'}', all_varchar = true)"
        text = con.execute(f"SELECT {counts} FROM {read}").fetchone()
        columns = con.execute(f"SELECT {counts} FROM '{typed}'").fetchone()
        kinds = {row[0]: row[1] for row in con.execute(f"DESCRIBE SELECT * FROM '{typed}'").fetchall()}
    assert text == columns
    assert kinds["BilledCost"] == "DECIMAL(32,16)"
    assert kinds["ChargePeriodStart"] == "TIMESTAMP WITH TIME ZONE"
    assert len(kinds) == 57


def test_rows_are_labelled_exact_and_balanced(tmp_path: Path) -> None:
    rows = rows_of(demo.focus_rows(tmp_path / "a.csv", 3_030))
    assert len(rows) == 3_030
    assert all(
        "synthetic" in row["BillingAccountName"] and "synthetic" in json.loads(row["Tags"]) for row in rows
    )
    bought: dict[str, Decimal] = defaultdict(Decimal)
    amortised: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        if row["ListUnitPrice"] and row["ChargeClass"] != "Correction":
            quantity = Decimal(row["PricingQuantity"])
            assert Decimal(row["ListUnitPrice"]) * quantity == Decimal(row["ListCost"])
            assert Decimal(row["ContractedUnitPrice"]) * quantity == Decimal(row["ContractedCost"])
        if row["CommitmentDiscountId"]:
            bought[row["CommitmentDiscountId"]] += Decimal(row["BilledCost"])
            amortised[row["CommitmentDiscountId"]] += Decimal(row["EffectiveCost"])
    assert bought == amortised
    assert len(bought) > 20
    assert {row["ChargeCategory"] for row in rows} == {"Usage", "Purchase", "Tax", "Credit"}
    assert {row["CommitmentDiscountStatus"] for row in rows} == {"", "Used", "Unused"}
    assert len({row["ResourceId"] for row in rows}) > 60
    assert len({row["SkuId"] for row in rows}) == 21
    assert min(row["ChargePeriodStart"] for row in rows) == "2026-10-01T00:00:00Z"
    assert max(row["ChargePeriodEnd"] for row in rows) == "2026-11-01T00:00:00Z"


def violated(con: duckdb.DuckDBPyConnection, rule: dict[str, Any], column: dict[str, Any]) -> int | None:
    """Rows that break a mechanical rule; None when this test can't say."""
    name = f'"{column["column_id"]}"'
    allowed = ", ".join("'" + value + "'" for value in column["allowed_values"] or ())
    conditions = {
        "must_not_be_null": f"{name} IS NULL",
        "must_be_null": f"{name} IS NOT NULL",
        "one_of_allowed_values": f"{name} NOT IN ({allowed or 'NULL'})",
        "equals": f"{name} IS DISTINCT FROM '{rule.get('value')}'",
        "not_equals": f"{name} = '{rule.get('value')}'",
        "min": f"{name}::DECIMAL(38, 16) < 0",
        "product": (
            f'("{rule.get("a")}"::DECIMAL(24, 10) * "{rule.get("b")}"::DECIMAL(14, 4))::DECIMAL(38, 16)'
            f' <> "{rule.get("result")}"::DECIMAL(38, 16)'
        ),
    }
    if rule["rule"] == "functional_dependency":
        sql = f'SELECT count(*) FROM (SELECT 1 FROM rows GROUP BY {name} HAVING count(DISTINCT "{rule["determines"]}") > 1)'
    elif rule["rule"] in conditions:
        sql = f"SELECT count(*) FROM rows WHERE ({rule.get('when', 'true')}) AND ({conditions[rule['rule']]})"
    else:
        return None
    found = con.execute(sql).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_file(), reason="no rules: set GPULEDGER_SHARED to the sample data")
def test_rows_break_no_mechanical_rule_of_focus_1_3(tmp_path: Path) -> None:
    path = demo.focus_rows(tmp_path / "a.csv", 5_050, version="1.3")
    columns = json.loads(SHARED.read_text("utf-8"))["datasets"]["CostAndUsage"]["columns"]
    results = {}
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE given AS SELECT * FROM read_csv('{path}', all_varchar = true)")
        present = {row[0] for row in con.execute("DESCRIBE given").fetchall()}
        missing = [c["column_id"] for c in columns if c["column_id"] not in present]
        absent = "".join(f', NULL::VARCHAR AS "{name}"' for name in missing)
        con.execute(f"CREATE TABLE rows AS SELECT *{absent} FROM given")
        for column in columns:
            for rule in column.get("rules", []):
                heuristic = rule.get("check") or rule["level"] == "MAY" or rule.get("scope") == "cross_row"
                if column["column_id"] in present and not heuristic:
                    results[rule["id"]] = violated(con, rule, column)
    assert {name: count for name, count in results.items() if count} == {}
    assert sum(count == 0 for count in results.values()) > 80
    optional = {
        "AllocatedMethodDetails",
        "AllocatedMethodId",
        "AllocatedResourceId",
        "AllocatedResourceName",
        "AllocatedTags",
    }
    assert set(missing) == optional | {"ContractApplied"}


@pytest.mark.parametrize(
    ("name", "rows", "version"), [("a.xlsx", 1, "1.2"), ("a.csv", 1, "1.0"), ("a.csv", -1, "1.2")]
)
def test_refuses_what_it_cannot_write(name: str, rows: int, version: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't write"):
        demo.focus_rows(tmp_path / name, rows, version=version)
    assert not list(tmp_path.iterdir())
