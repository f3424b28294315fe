"""Validation as a whole: inputs of every kind, capabilities, examples, the report's promises."""

from pathlib import Path

import duckdb
import pytest
from tests.focus.rows import (
    CHARGE,
    charge,
    check,
    failed,
    failing,
    ids,
    ran,
    skipped,
    text_literal,
    text_rows,
    without,
)  # fmt: skip

from gpuledger.errors import UsageError
from gpuledger.focus.model import model
from gpuledger.focus.schema import LEDGER_COST_AND_USAGE, select_list
from gpuledger.focus.validate import validate

ALL = model("CostAndUsage", "1.3").capabilities


def test_the_report_adds_up() -> None:
    report = check(text_rows(charge(), charge(BilledCost=None)), capabilities=ALL)
    totals = report.totals()
    assert totals["rows"] == 2
    assert totals["rules"] + totals["rules_skipped"] == len(model("CostAndUsage", "1.3").rules)
    assert ran(report) | {entry.rule.id for entry in report.skipped} == {
        rule.id for rule in model("CostAndUsage", "1.3").rules
    }
    assert totals["rules_failed"] == len(report.failures())
    row = next(row for row in report.failures() if row["rule_id"] == "CAU-BilledCost-C-003-M")
    assert row | {"message": ""} == {
        "rule_id": "CAU-BilledCost-C-003-M", "column": "BilledCost", "severity": "MUST", "heuristic": False,
        "checked": 2, "failed": 1, "message": "",
        "example_row": {"file": None, "row": 2, "values": {
            "BilledCost": None, "ProviderName": "Cloud", "ServiceProviderName": "Cloud", "InvoiceIssuerName": "Cloud",
        }},
    }  # fmt: skip
    assert row["message"].startswith("BilledCost: is null where a value is needed.")


def test_undeclared_capabilities_are_skipped_and_never_pass() -> None:
    declared = check(text_rows(charge()), capabilities=())
    assert not declared.inferred
    assert declared.capabilities == frozenset()
    needing = {rule.id for rule in model("CostAndUsage", "1.3").rules if rule.needs}
    assert needing == skipped(declared, "capability")
    assert not needing & ran(declared)


def test_capabilities_that_the_data_shows_count_as_declared() -> None:
    report = check(text_rows(charge()))
    assert report.inferred
    assert "TAGGING_SUPPORTED" in report.capabilities
    assert "CAPACITY_RESERVATION_SUPPORTED" not in report.capabilities
    assert "CAU-CapacityReservationId-C-001-M" in skipped(report, "capability")
    # A commitment shows that the columns about commitments are due.
    committed = failing(charge(CommitmentDiscountId="sp-1"))
    assert "CAU-CostAndUsage-D-017-C" in committed


def test_a_price_in_another_currency_shows_no_virtual_currency() -> None:
    report = check(text_rows(charge(PricingCurrencyListUnitPrice="1")))
    assert "PUBLIC_PRICE_LIST_SUPPORTED" in report.capabilities
    assert "VIRTUAL_CURRENCY_SUPPORTED" not in report.capabilities


def test_missing_columns_and_missing_commitments_are_said() -> None:
    report = check(text_rows(without(charge(), "ListCost")), capabilities=ALL)
    assert "CAU-ListCost-C-009-C" in skipped(report, "column")
    assert "CAU-CostAndUsage-D-032-M" in failed(report)
    applied = charge(ContractApplied='{"Elements": []}')
    assert skipped(check(text_rows(applied)), "input") == {"OWN-CAU-ContractApplied-REF"}


@pytest.mark.parametrize("word", ["", "NULL", "null"])
def test_null_words_of_text_files_are_null(word: str) -> None:
    assert failing(charge(ListUnitPrice=word))["CAU-ListUnitPrice-C-005-C"] == 1
    assert failing(charge(ChargeClass=word, SubAccountName="x")) == {}


def test_a_readers_row_number_does_not_make_text_typed() -> None:
    rows = text_rows(charge(ChargeClass="NULL"))
    assert failed(check(f"SELECT *, 7::BIGINT AS _row, 'a' AS _file FROM ({rows})")) == {}


def test_null_words_of_typed_input_are_words() -> None:
    cells = ", ".join(
        f'{text_literal(value)} AS "{name}"' for name, value in charge(RegionName="NULL").items()
    )
    found = failed(check(f"SELECT {cells}, 1 AS x_Number"))
    assert found == {"NullHandling-A-002-M:RegionName": 1}


def test_numeric_looking_account_ids_of_csv_are_text(tmp_path: Path) -> None:
    con = duckdb.connect()
    con.execute(f"COPY ({text_rows(charge(BillingAccountId='000123'))}) TO '{tmp_path}/c.csv' (HEADER)")
    report = check(f"read_csv('{tmp_path}/c.csv', all_varchar = true)")
    assert report.totals()["rules_failed"] == 0
    assert "CAU-BillingAccountId-C-002-M" in ran(report)


def test_parquet_and_ledger_rows(tmp_path: Path) -> None:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"CREATE VIEW t AS {text_rows(charge())}")
    given = {name: f'"{name}"' for name in CHARGE} | {"Tags": "from_json(Tags, '\"MAP(VARCHAR,VARCHAR)\"')"}
    given |= {"x_SourceFile": "'bill.csv'", "x_SourceRow": "7"}
    ledger = f"SELECT {select_list(LEDGER_COST_AND_USAGE, given)} FROM t"
    con.execute(f"COPY ({ledger}) TO '{tmp_path}/rows.parquet'")
    report = validate(con, f"'{tmp_path}/rows.parquet'", focus_version="1.3")
    # The ledger carries columns of 1.4 too; an export leaves them out.
    assert set(failed(report)) == {"ColumnHandling-A-010-M", "ColumnHandling-A-012-O"}
    broken = ledger.replace('CAST("BilledCost" AS', "CAST(NULL AS")
    example = validate(con, broken, focus_version="1.3").failures()[0]
    assert example["rule_id"] == "CAU-BilledCost-C-003-M"
    assert (example["example_row"]["file"], example["example_row"]["row"]) == ("bill.csv", 7)


def test_examples_carry_the_readers_file_and_row() -> None:
    rows = text_rows(charge(), charge(BilledCost=None))
    report = check(f"SELECT *, 'a.csv' AS _file, 40 + row_number() OVER () AS _row FROM ({rows})")
    example = next(row for row in report.failures() if row["rule_id"] == "CAU-BilledCost-C-003-M")[
        "example_row"
    ]
    assert (example["file"], example["row"]) == ("a.csv", 42)


@pytest.mark.parametrize("rule", ["CAU-Tags-C-001-M", "CAU-ServiceName-C-005-C"])
def test_rules_on_values_and_keys_have_examples_too(rule: str) -> None:
    bad = charge(Tags="[]", ServiceCategory="Storage")
    row = next(row for row in check(text_rows(charge(), bad)).failures() if row["rule_id"] == rule)
    assert row["example_row"]["row"] == (2 if rule == "CAU-Tags-C-001-M" else 1)


def test_must_comes_first_and_judgement_last() -> None:
    report = check(text_rows(charge(BilledCost=None, SkuMeter=None, HostProviderName=None), charge()))
    order = [(row["severity"], row["heuristic"]) for row in report.failures()]
    assert order == [("MUST", False), ("MUST", True), ("SHOULD", False)]
    assert ids(report.failures())[0] == "CAU-BilledCost-C-003-M"
    assert [result.rule.id for result in report.violations] == ["CAU-BilledCost-C-003-M"]


def test_a_known_gap_of_the_provider_is_named() -> None:
    row = charge(ProviderName="AWS", ServiceProviderName="AWS", InvoiceIssuerName="AWS", ListUnitPrice=None)
    report = check(text_rows(row, charge(ProviderName="AWS")))
    message = next(r["message"] for r in report.failures() if r["rule_id"] == "CAU-ListUnitPrice-C-005-C")
    assert "AWS documents" in message
    other = check(text_rows(charge(ListUnitPrice=None), charge())).failures()
    assert not any("documents" in row["message"] for row in other)


def test_an_empty_input_breaks_no_row_rule() -> None:
    report = check(f"SELECT * FROM ({text_rows(charge())}) LIMIT 0", capabilities=ALL)
    assert report.rows == 0
    assert all(result.rule.check.endswith("present") for result in report.failed)


def test_unknown_version() -> None:
    with pytest.raises(UsageError):
        check(text_rows(charge()), version="1.9")
