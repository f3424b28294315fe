"""`costs` and `report`: what the options of a question do."""

from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.shell import OCTOBER, SEPTEMBER, bill, gpuledger

from gpuledger.pipeline.store import Store

COMMITMENTS = (
    "ContractCommitmentId,ContractId,BillingCurrency,ContractCommitmentCost,"
    "ContractCommitmentPeriodStart,ContractCommitmentPeriodEnd"
)


def costs(*words: object) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    done = gpuledger("costs", *words)
    assert done.code == 0, done.err
    return done.document["rows"], done.document["totals"]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("words", "total", "charges"),
    [
        ([], "3.875", 3),
        (["--metric", "billed"], "3.750000000000000001", 3),
        (["--window", "2026-09"], "2.25", 1),
        (["--window", "2026-09..2026-10"], "3.875", 3),
        (["--window", "2026-10-03"], "1.125", 1),
        (["--window", "2026-09-03..2026-10-03"], "3.375", 2),
        (["--where", "ServiceName=Storage"], "2.75", 2),
        (["--where", "ServiceName!=Storage"], "1.125", 1),
        (["--where", "servicename=Storage", "--where", "team=nlp"], "0.5", 1),
        (["--where", "team="], "2.25", 1),
        (["--where", "team!="], "1.625", 2),
        (["--where", "Tags.team=vision"], "1.125", 1),
        (["--where", "ServiceName=Stor'age"], None, 0),
        (["--where", "ServiceName=Storage", "--window", "2026-09"], "2.25", 1),
        (["--window", "2020-01"], None, 0),
        (["--window", "2020-01", "--group-by", "team"], None, 0),
    ],
)
def test_which_charges_are_summed(words: list[str], total: str | None, charges: int) -> None:
    _, totals = costs(*words)
    assert (totals["cost"], totals["charges"]) == (total, charges)


@pytest.mark.usefixtures("ledger")
def test_metrics_that_the_bill_lacks_are_unknown_not_zero() -> None:
    rows, totals = costs("--metric", "list", "--group-by", "ServiceName")
    assert {row["cost"] for row in rows} == {None}
    assert totals["cost"] is None


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("group", "rows"),
    [
        ("ServiceName", {("Storage", "2.75"), ("Compute", "1.125")}),
        ("servicename", {("Storage", "2.75"), ("Compute", "1.125")}),
        ("service", {("Storage", "2.75"), ("Compute", "1.125")}),
        ("team", {(None, "2.25"), ("vision", "1.125"), ("nlp", "0.5")}),
        ("Tags.team", {(None, "2.25"), ("vision", "1.125"), ("nlp", "0.5")}),
        ("month", {("2026-09", "2.25"), ("2026-10", "1.625")}),
        ("day", {("2026-09-03", "2.25"), ("2026-10-03", "1.125"), ("2026-10-17", "0.5")}),
    ],
)
def test_group_by(group: str, rows: set[tuple[str | None, str]]) -> None:
    found, totals = costs("--group-by", group)
    assert {(row[group], row["cost"]) for row in found} == rows
    assert len(found) == len(rows)
    assert totals["cost"] == "3.875"


@pytest.mark.usefixtures("ledger")
def test_limit_keeps_the_largest_rows_and_the_whole_total() -> None:
    rows, totals = costs("--group-by", "day", "--limit", 1)
    assert rows == [{"day": "2026-09-03", "cost": "2.25"}]
    assert (totals["cost"], totals["charges"]) == ("3.875", 3)


def test_as_of_reads_the_ledger_as_it_was(ledger: Path, tmp_path: Path) -> None:
    first = gpuledger("ledger", "history").document["rows"][0]
    restated = bill(tmp_path / "restated.csv", SEPTEMBER, OCTOBER[0].replace("1.125", "100"))
    again = gpuledger("ingest", "--type", "focus", restated, "--source", "cloud")
    assert [row["action"] for row in again.document["rows"]] == ["replaced", "replaced"]
    assert costs()[1]["cost"] == "102.25"
    assert costs("--as-of", first["version"])[1]["cost"] == "3.875"
    assert costs("--as-of", first["committed"])[1]["cost"] == "3.875"
    history = gpuledger("ledger", "history", "--source", "cloud").document["rows"]
    assert [row["version"] for row in history] == sorted((row["version"] for row in history), reverse=True)
    assert len(history) == 4
    assert gpuledger("ledger", "history", "--source", "other").document["rows"] == []
    assert ledger.exists()


@pytest.mark.usefixtures("mixed_ledger")
def test_several_currencies_are_never_added_up() -> None:
    done = gpuledger("costs", "--group-by", "ServiceName")
    assert (done.code, done.out) == (2, "")
    assert "EUR, USD" in done.err
    assert "--group-by BillingCurrency" in done.err
    rows, totals = costs("--group-by", "BillingCurrency")
    assert rows == [{"BillingCurrency": "EUR", "cost": "7"}, {"BillingCurrency": "USD", "cost": "3.875"}]
    assert (totals["cost"], totals["currency"]) == (None, None)
    assert costs("--where", "BillingCurrency=EUR")[1] == {
        "cost": "7", "currency": "EUR", "charges": 1, "metric": "effective",
    }  # fmt: skip


@pytest.mark.usefixtures("mixed_ledger")
def test_the_ledger_lists_what_it_holds() -> None:
    units = gpuledger("ledger", "units").document
    assert [(row["source"], row["billing_period"], row["rows"]) for row in units["rows"]] == [
        ("cloud", "2026-09", 1), ("cloud", "2026-10", 2), ("euros", "2026-10", 1),
    ]  # fmt: skip
    assert units["totals"] == {"rows": 4}
    history = gpuledger("ledger", "history").document["rows"]
    assert {row["billed_cost"] for row in history} == {"2.5", "1.250000000000000001", "7"}


@pytest.mark.usefixtures("ledger")
def test_the_report_is_of_the_newest_month_unless_told() -> None:
    totals = gpuledger("report", "--metric", "billed").document["totals"]
    assert (totals["cost"], totals["unattributed"]) == ("1.250000000000000001", "0")
    totals = gpuledger("report", "--window", "2026-09", "--metric", "effective").document["totals"]
    assert (totals["cost"], totals["unattributed"]) == ("2.25", "2.25")
    totals = gpuledger("report", "--metric", "effective", "--where", "team=nlp").document["totals"]
    assert totals["cost"] == "0.5"


@pytest.mark.usefixtures("mixed_ledger")
def test_the_report_is_of_one_currency() -> None:
    done = gpuledger("report")
    assert (done.code, done.out) == (2, "")
    assert "Hint: Add --where BillingCurrency=EUR" in done.err
    totals = gpuledger("report", "--where", "BillingCurrency=EUR").document["totals"]
    assert (totals["cost"], totals["unattributed"]) == ("7", "7")


def test_charges_without_a_billing_period_do_not_confuse_the_report(tmp_path: Path) -> None:
    undated = bill(tmp_path / "undated.csv", "1,1,0042,USD,4/1/25,4/1/25,Compute,")
    assert gpuledger("ingest", "--type", "focus", undated, "--source", "other").code == 1
    done = gpuledger("report")
    assert (done.code, done.out) == (2, "")
    assert "no charge says its billing period" in done.err
    assert gpuledger("ingest", "--type", "focus", bill(tmp_path / "bill.csv", SEPTEMBER)).code == 0
    assert gpuledger("report").document["totals"]["cost"] == "2.25"
    assert "attribution 2026-09 USD" in {row["check"] for row in gpuledger("doctor").document["rows"]}


def test_ingesting_again_changes_nothing(ledger: Path) -> None:
    again = gpuledger("ingest", "--type", "focus", "bill.csv", "--source", "cloud")
    assert again.code == 0
    assert {row["action"] for row in again.document["rows"]} == {"unchanged"}
    assert costs()[1]["cost"] == "3.875"
    assert ledger.exists()


def test_commitments_alone_are_told_too(tmp_path: Path) -> None:
    path = tmp_path / "commitments.csv"
    row = "c-1,k-1,USD,100,2026-10-01T00:00:00Z,2027-10-01T00:00:00Z"
    path.write_text(f"{COMMITMENTS}\n{row}\n", "utf-8")
    for action in ("loaded", "unchanged"):
        done = gpuledger("ingest", "--type", "focus", path)
        assert done.code == 0, done.err
        assert [(row["rows"], row["billed_cost"], row["action"]) for row in done.document["rows"]] == [
            (1, None, action)
        ]


def test_charges_that_a_crash_kept_out_come_with_the_next_ingest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bill(tmp_path / "bills" / "charges.csv", *OCTOBER)
    row = "c-1,k-1,USD,100,2026-10-01T00:00:00Z,2027-10-01T00:00:00Z"
    (tmp_path / "bills" / "commitments.csv").write_text(f"{COMMITMENTS}\n{row}\n", "utf-8")
    replace = Store.replace

    def crash(store: Store, name: str, *words: Any, **more: Any) -> None:  # noqa: ANN401  # passed on
        if name == "cost_and_usage":
            raise OSError("crash")
        replace(store, name, *words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "replace", crash)
        assert gpuledger("ingest", "--type", "focus", "bills").code == 3
    again = gpuledger("ingest", "--type", "focus", "bills")
    assert [(row["rows"], row["action"]) for row in again.document["rows"]] == [(2, "loaded")]
