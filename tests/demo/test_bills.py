"""The bills add up to what the truth file says, counted again from the files; the same seed gives the same bytes."""

import csv
import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest
from tests.demo.conftest import Company, table, text

from gpuledger import demo
from gpuledger.demo import aws, bulk
from gpuledger.demo.company import Month
from gpuledger.demo.files import Setting
from gpuledger.errors import UsageError


def total(values: Iterable[str | Decimal | int]) -> Decimal:
    return sum((Decimal(value) for value in values), Decimal(0))


def digests(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in root.rglob("*")
        if p.is_file()
    }


def counted(company: Company) -> dict[str, Decimal]:
    """BilledCost per provider from the files alone."""
    gcp = company.gcp_rows()
    return {
        "aws": total(row["line_item_unblended_cost"] for row in company.aws_rows()),
        "azure": total(row["Cost"] for row in company.azure_rows("synthetic-actual-cost")),
        "gcp": total(row["cost"] for row in gcp) + total(c["amount"] for row in gcp for c in row["credits"]),
        "neocloud": total(row["cost_usd"] for row in company.neocloud_rows()),
        "anthropic": total(result["amount"] for _, result in company.results("anthropic/cost_report")) / 100,
        "openai": total(result["amount"]["value"] for _, result in company.results("openai/costs")),
    }


def test_bills_add_up_to_the_truth(company: Company) -> None:
    assert counted(company) == company.manifest.billed
    assert company.manifest.billed == {
        name: Decimal(found["billed"]) for name, found in company.truth["providers"].items()
    }
    assert Decimal(company.truth["total"]["billed"]) == total(company.manifest.billed.values())


def test_net_costs_tie_to_the_same_bill(company: Company) -> None:
    rows = company.aws_rows()
    assert total(row["line_item_net_unblended_cost"] for row in rows) == company.manifest.billed["aws"]
    discounts = [row for row in rows if row["line_item_line_item_type"] == "EdpDiscount"]
    assert total(row["line_item_unblended_cost"] for row in discounts) == total(
        row["discount_total_discount"] for row in rows if row["discount_total_discount"]
    )


def test_amortised_costs_add_up_to_the_truth(company: Company) -> None:
    amortised = total(row["Cost"] for row in company.azure_rows("synthetic-amortized-cost"))
    assert amortised == Decimal(company.truth["providers"]["azure"]["effective"])
    effective = Decimal(0)
    for row in company.aws_rows():
        kind = row["line_item_line_item_type"]
        if kind == "SavingsPlanCoveredUsage":
            effective += Decimal(row["savings_plan_savings_plan_effective_cost"])
        elif kind == "SavingsPlanRecurringFee":
            effective += Decimal(row["savings_plan_total_commitment_to_date"]) - Decimal(
                row["savings_plan_used_commitment"]
            )
        elif kind == "DiscountedUsage":
            effective += Decimal(row["reservation_effective_cost"])
        elif kind == "RIFee":
            effective += Decimal(row["reservation_unused_recurring_fee"])
            effective += Decimal(row["reservation_unused_amortized_upfront_fee_for_billing_period"])
        elif kind != "SavingsPlanNegation":
            effective += Decimal(row["line_item_net_unblended_cost"])
    assert effective == Decimal(company.truth["providers"]["aws"]["effective"])


def test_tokens_at_list_prices_are_the_api_bills(company: Company) -> None:
    claude = {
        "claude-sonnet-4-5-20250929": ("3", "15", "0.3", "3.75", "6"),
        "claude-haiku-4-5-20251001": ("1", "5", "0.1", "1.25", "2"),
    }
    cost = Decimal(0)
    for _, result in company.results("anthropic/usage_report_messages"):
        written = result["cache_creation"]
        tokens = [
            result["uncached_input_tokens"],
            result["output_tokens"],
            result["cache_read_input_tokens"],
            written["ephemeral_5m_input_tokens"],
            written["ephemeral_1h_input_tokens"],
        ]
        cost += total(n * Decimal(price) for n, price in zip(tokens, claude[result["model"]], strict=True))
    assert cost / 1_000_000 == company.manifest.billed["anthropic"]
    gpt = {"gpt-5-2025-08-07": ("1.25", "0.125", "10"), "gpt-5-mini-2025-08-07": ("0.25", "0.025", "2")}
    cost = Decimal(0)
    for _, result in company.results("openai/usage_completions"):
        cached = result["input_cached_tokens"]
        counts = [result["input_tokens"] - cached, cached, result["output_tokens"]]
        cost += total(n * Decimal(price) for n, price in zip(counts, gpt[result["model"]], strict=True))
    assert cost / 1_000_000 == company.manifest.billed["openai"]


def test_same_seed_same_bytes(company: Company, tmp_path: Path) -> None:
    again = demo.write(tmp_path / "again")
    assert digests(again.root) == digests(company.root)
    other = demo.write(tmp_path / "again", seed=8)
    changed, first = digests(other.root), digests(company.root)
    assert changed["truth.json"] != first["truth.json"]
    assert set(changed) != set(first), "run folders carry ids that follow from the seed"
    assert {p.split("/")[0] for p in changed} == {p.split("/")[0] for p in first}, (
        "an older run leaves nothing behind"
    )
    assert len(changed) == len(first)


def test_compressed_files_hold_no_time(company: Company) -> None:
    packed = list(company.root.rglob("*.gz"))
    assert packed
    assert {path.read_bytes()[4:8] for path in packed} == {b"\0\0\0\0"}


def test_azure_manifests_count_right(company: Company) -> None:
    manifests = list((company.root / "azure").rglob("manifest.json"))
    assert len(manifests) == 2
    for path in manifests:
        content = json.loads(path.read_text("utf-8"))
        blobs = {blob["blobName"]: blob for blob in content["blobs"]}
        for name, blob in blobs.items():
            assert blob["dataRowCount"] == len(table(company.root / name))
            assert blob["byteCount"] == (company.root / name).stat().st_size
        assert content["blobCount"] == len(blobs)
        assert content["dataRowCount"] == sum(blob["dataRowCount"] for blob in blobs.values())
        assert content["byteCount"] == sum(blob["byteCount"] for blob in blobs.values())


def test_aws_manifests_name_their_files_and_columns(company: Company) -> None:
    manifests = list((company.root / "aws").rglob("*-Manifest.json"))
    assert len(manifests) == 2
    for path in manifests:
        content = json.loads(path.read_text("utf-8"))
        counts = {key.split("/", 3)[3]: rows for key, rows in content["x_rowCounts"].items()}
        assert list(content["x_rowCounts"]) == content["dataFiles"]
        assert counts == {name: len(table(company.root / name)) for name in counts}
        header = next(csv.reader(text(company.root / next(iter(counts))).splitlines()))
        assert header == [column["name"] for column in content["columns"]]


def test_written_files_are_all_told(company: Company) -> None:
    told = {file.path for file in (*company.manifest.files, *company.manifest.telemetry)}
    data = {p.relative_to(company.root).as_posix() for p in company.root.rglob("*") if p.is_file()}
    beside = {"truth.json", "neocloud/columns.toml", "anthropic/labels.jsonl", "openai/labels.jsonl"}
    assert data - told - beside == {
        path
        for path in data
        if path.rsplit("/", 1)[-1] in {"README.txt", "SYNTHETIC"} or path.endswith("anifest.json")
    }
    assert {f.path: f.size for f in (*company.manifest.files, *company.manifest.telemetry)} == {
        name: (company.root / name).stat().st_size for name in told
    }
    final = [
        f
        for f in company.manifest.files
        if company.truth["incidents"]["late_correction"]["first_delivery"]["file"] != f.path
    ]
    assert company.manifest.rows == sum(f.rows for f in final)
    assert company.manifest.rows > 40_000


def test_everything_says_synthetic(company: Company) -> None:
    for folder in [company.root, *(source.path for source in company.manifest.sources)]:
        assert "SYNTHETIC" in (folder / "README.txt").read_text("utf-8")
        assert (folder / "SYNTHETIC").is_file()
    assert {row["bill_payer_account_name"] for row in company.aws_rows()} == {"Example Company (synthetic)"}
    assert {row["BillingAccountName"] for row in company.azure_rows("synthetic-actual-cost")} == {
        "Example Company (synthetic)"
    }
    assert company.truth["synthetic"] == demo.LABEL


def test_more_rows_are_filled_up_and_still_tie(tmp_path: Path) -> None:
    written = Company(demo.write(tmp_path / "big", rows=50_000))
    assert written.manifest.rows == 50_000
    assert counted(written) == written.manifest.billed
    for paths in written.aws().values():
        assert [path.name for path in paths] == ["synthetic-cur2-00001.csv.gz", "synthetic-cur2-00002.csv.gz"]


def test_filled_up_rows_are_the_same_bytes_again(tmp_path: Path) -> None:
    header = list(aws.columns())
    found = []
    for name in ("a", "b"):
        setting = Setting(tmp_path / name, Month.parse("2026-10"), 7)
        parts = bulk.fill(setting, header, "part-{}.csv.gz".format, 20_000)
        found.append(
            [(part.cost, part.unowned, (setting.root / part.file.path).read_bytes()) for part in parts]
        )
    assert found[0] == found[1]
    assert found[0][0][0] > found[0][0][1] > 0


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "October", ""])
def test_refuses_what_is_no_month(month: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a month"):
        demo.write(tmp_path / "x", month=month)
    assert not (tmp_path / "x").exists()


def test_refuses_a_folder_that_it_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="SYNTHETIC marker"):
        demo.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
