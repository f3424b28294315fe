"""What the truth file says was put in is in the bills, exactly, and taking it out gives the bills without it."""

import json
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.demo.conftest import Company, table
from tests.demo.test_bills import total

from gpuledger import demo

OWNER = ("team", "squad", "cost", "owner")
GPUS = {
    "p5.48xlarge": ("H100", 8), "p4d.24xlarge": ("A100", 8), "g6e.xlarge": ("L40S", 1), "g6e.12xlarge": ("L40S", 4),
    "g6e.48xlarge": ("L40S", 8), "Standard_ND96isr_H100_v5": ("H100", 8), "Standard_NC24ads_A100_v4": ("A100", 1),
    "gd-8xh100ib-i128": ("H100", 8), "gd-8xa100-i128": ("A100", 8), "gd-8xl40s-i128": ("L40S", 8),
}  # fmt: skip


def owned(tags: dict[str, str]) -> bool:
    return any(part in key.lower() for key in tags for part in OWNER)


def picked(company: Company, incident: str) -> list[dict[str, str]]:
    """Rows that the truth file names, from CSV files."""
    found = []
    for part in company.truth["incidents"][incident]["rows"]:
        rows = table(company.root / part["file"])
        for first, last in part["data_rows"]:
            found += rows[first - 1 : last]
    return found


def test_weekend_run(company: Company) -> None:
    incident = company.truth["incidents"]["weekend_run"]
    rows = [
        r
        for r in company.aws_rows()
        if r["product_instance_type"] == "p4d.24xlarge" and "user_" not in r["resource_tags"]
    ]
    # AWS writes down who started a machine, whatever tags its user forgets.
    assert {row["resource_tags"] for row in rows} == {
        '{"aws_created_by":"AssumedRole:ASIASYNTHETIC0000001:marie@example.com"}'
    }
    assert rows == picked(company, "weekend_run")
    assert len({row["line_item_resource_id"] for row in rows}) == 200
    assert total(row["line_item_usage_amount"] for row in rows) == 2200
    starts = {row["line_item_usage_start_date"] for row in rows}
    assert (min(starts), max(starts), len(starts)) == (
        "2026-10-10T02:00:00.000Z",
        "2026-10-10T12:00:00.000Z",
        11,
    )
    assert (
        total(row["line_item_unblended_cost"] for row in rows)
        == Decimal("72099.72")
        == Decimal(incident["injected_cost"])
    )
    assert {row["line_item_unblended_rate"] for row in rows} == {"32.7726000000"}
    assert incident["gpu_hours"] == "17600"


def test_abandoned_notebook(company: Company) -> None:
    rows = picked(company, "abandoned_notebook")
    assert len(rows) == 9 * 24
    assert {row["product_instance_type"] for row in rows} == {"g6e.12xlarge"}
    assert len({row["line_item_resource_id"] for row in rows}) == 1
    cost = total(row["line_item_unblended_cost"] for row in rows)
    assert (
        cost
        == Decimal("10.49264") * 216
        == Decimal(company.truth["incidents"]["abandoned_notebook"]["injected_cost"])
    )


def test_region_price_change_changes_no_usage(company: Company) -> None:
    rows = [row for row in company.aws_rows() if row["product_region_code"] == "eu-central-1"]
    daily: dict[str, Decimal] = defaultdict(Decimal)
    rates: dict[str, str] = {}
    for row in rows:
        day = row["line_item_usage_start_date"][:10]
        daily[day] += Decimal(row["line_item_usage_amount"])
        rates[day] = row["line_item_unblended_rate"]
    assert set(daily.values()) == {Decimal(48)}
    assert Counter(rates.values()) == {"13.1158000000": 15, "14.2962000000": 16}
    extra = total(r["line_item_usage_amount"] for r in picked(company, "region_price_change")) * (
        Decimal("14.2962") - Decimal("13.1158")
    )
    assert extra == Decimal(company.truth["incidents"]["region_price_change"]["injected_cost"])


def test_agent_retry_loop_multiplies_tokens_by_eight(company: Company) -> None:
    incident = company.truth["incidents"]["agent_retry_loop"]
    hours = ["2026-10-21T17:00:00Z", "2026-10-21T18:00:00Z", "2026-10-21T19:00:00Z"]
    names = ("uncached_input_tokens", "output_tokens", "cache_read_input_tokens")
    usage = [
        (bucket["starting_at"], result)
        for bucket, result in company.results("anthropic/usage_report_messages")
        if result["api_key_id"] == incident["api_key"] and result["model"] == incident["model"]
    ]
    looping = [result for start, result in usage if start in hours]
    assert len(looping) == 3
    for name, kind in zip(names, ("input", "output", "cache_read"), strict=True):
        assert sum(result[name] for result in looping) * 7 == int(incident["extra_tokens"][kind]) * 8
        others = [result[name] for start, result in usage if start not in hours]
        assert min(result[name] for result in looping) > 4 * max(others)
    extra = {kind: Decimal(n) for kind, n in incident["extra_tokens"].items()}
    cost = (
        extra["input"] * 3
        + extra["output"] * 15
        + extra["cache_read"] * Decimal("0.3")
        + extra["cache_write_5m"] * Decimal("3.75")
    )
    assert cost / 1_000_000 == Decimal(incident["injected_cost"])


def test_second_delivery_restates_the_first(company: Company) -> None:
    incident = company.truth["incidents"]["late_correction"]
    first, second = company.aws().items()
    assert first[0] < second[0], "the manifests' times give the order, whatever the files' own times are"
    before, after = (
        total(r["line_item_unblended_cost"] for p in paths for r in table(p)) for _, paths in (first, second)
    )
    assert before == Decimal(incident["first_delivery"]["billed"])
    assert after == Decimal(incident["second_delivery"]["billed"]) == company.manifest.billed["aws"]
    assert after - before == Decimal(incident["injected_cost"])
    old = {r["identity_line_item_id"]: r for p in first[1] for r in table(p)}
    new = {r["identity_line_item_id"]: r for p in second[1] for r in table(p)}
    assert [new[key]["line_item_line_item_type"] for key in new.keys() - old.keys()] == ["Refund"]
    assert not old.keys() - new.keys()
    changed = [
        key for key in old if old[key]["line_item_unblended_cost"] != new[key]["line_item_unblended_cost"]
    ]
    assert {new[key]["line_item_product_code"] for key in changed} == {"AWSDataTransfer"}
    assert {row["bill_invoice_id"] for row in old.values()} == {""}


def test_taking_out_what_was_injected_gives_the_earlier_totals(company: Company) -> None:
    injected: dict[str, Decimal] = defaultdict(Decimal)
    for incident in company.truth["incidents"].values():
        injected[incident["provider"]] += Decimal(incident["injected_cost"])
    for name, found in company.truth["providers"].items():
        assert Decimal(found["billed"]) - injected[name] == Decimal(found["billed_without_injected"])
    # Whole rows can be left out of the file; the rest of AWS is a change of price, told by the truth file.
    whole = picked(company, "weekend_run") + picked(company, "abandoned_notebook")
    kept = company.manifest.billed["aws"] - total(row["line_item_unblended_cost"] for row in whole)
    changed = sum(
        Decimal(company.truth["incidents"][name]["injected_cost"])
        for name in ("region_price_change", "late_correction")
    )
    assert kept - changed == Decimal(company.truth["providers"]["aws"]["billed_without_injected"])


def test_commitments_one_at_61_percent_one_well_used(company: Company) -> None:
    rows = company.aws_rows()
    fees = [row for row in rows if row["line_item_line_item_type"] == "SavingsPlanRecurringFee"]
    committed = total(row["savings_plan_total_commitment_to_date"] for row in fees)
    used = total(
        row["savings_plan_savings_plan_effective_cost"]
        for row in rows
        if row["savings_plan_savings_plan_effective_cost"]
    )
    assert used == total(row["savings_plan_used_commitment"] for row in fees)
    assert committed == total(row["line_item_unblended_cost"] for row in fees)
    assert abs(used / committed - Decimal("0.61")) < Decimal("0.0005")
    plan = next(c for c in company.truth["commitments"].values() if c["role"] == "headline: over-committed")
    assert (Decimal(plan["committed"]), Decimal(plan["used"])) == (committed, used)
    assert Decimal(plan["utilization"]) < Decimal(plan["break_even_utilization"])
    shares: dict[str, Decimal] = defaultdict(Decimal)
    for row in company.azure_rows("synthetic-amortized-cost"):
        if row["ReservationId"]:
            shares[row["ChargeType"]] += Decimal(row["Quantity"])
    assert set(shares) == {"Usage", "UnusedReservation"}
    assert shares["Usage"] / (shares["Usage"] + shares["UnusedReservation"]) == pytest.approx(
        Decimal("0.94"), abs=Decimal("0.001")
    )
    assert len([c for c in company.truth["commitments"].values() if c["role"].startswith("headline")]) == 2


def test_savings_plan_rows_cancel_out_hour_by_hour(company: Company) -> None:
    hours: dict[str, Decimal] = defaultdict(Decimal)
    for row in company.aws_rows():
        if row["line_item_line_item_type"] in {"SavingsPlanCoveredUsage", "SavingsPlanNegation"}:
            hours[row["line_item_usage_start_date"]] += Decimal(row["line_item_unblended_cost"])
    assert len(hours) == 744
    assert set(hours.values()) == {Decimal(0)}


def spend(company: Company) -> tuple[Decimal, Decimal]:
    """Amortised cost of resources, and the part of it without an owner, from the files alone."""
    found: list[tuple[Decimal, dict[str, str]]] = []
    for row in company.aws_rows():
        kind = row["line_item_line_item_type"]
        if row["line_item_resource_id"] and kind in {"Usage", "DiscountedUsage", "SavingsPlanCoveredUsage"}:
            cost = (
                row["reservation_effective_cost"]
                or row["savings_plan_savings_plan_effective_cost"]
                or row["line_item_net_unblended_cost"]
            )
            found.append((Decimal(cost), json.loads(row["resource_tags"])))
    found += [
        (Decimal(row["Cost"]), json.loads(f"{{{row['Tags']}}}"))
        for row in company.azure_rows("synthetic-amortized-cost")
        if row["ChargeType"] == "Usage"
    ]
    for item in company.gcp_rows():
        if item.get("resource"):
            # The committed cores' cost is the fee; it stands on rows of its own, without a resource.
            cost = item["cost"] + sum(c["amount"] for c in item["credits"])
            found.append((cost, {label["key"]: label["value"] for label in item["labels"]}))
    found += [(Decimal(row["cost_usd"]), json.loads(row["labels"])) for row in company.neocloud_rows()]
    return total(cost for cost, _ in found), total(cost for cost, tags in found if not owned(tags))


def test_about_15_percent_of_the_spend_has_no_owner(company: Company) -> None:
    whole, unowned = spend(company)
    assert Decimal("0.13") < unowned / whole < Decimal("0.17")
    assert unowned == Decimal(company.truth["total"]["untagged_resource_spend"])
    fee = Decimal(company.truth["commitments"]["synthetic-cud-n2-0001"]["committed"])
    assert whole + fee == Decimal(company.truth["total"]["resource_spend"])


@pytest.mark.parametrize(("month", "seed"), [("2026-02", 1), ("2027-06", 42)])
def test_every_month_and_seed_keeps_its_shape(month: str, seed: int, tmp_path: Path) -> None:
    truth: dict[str, Any] = json.loads(
        demo.write(tmp_path / "x", month=month, seed=seed).truth.read_text("utf-8")
    )
    assert 0.13 < float(truth["total"]["untagged_share"]) < 0.18
    plan = next(c for c in truth["commitments"].values() if c["role"] == "headline: over-committed")
    assert 0.609 < float(plan["utilization"]) < 0.611
    assert truth["incidents"]["weekend_run"]["injected_cost"] == "72099.72"
    assert truth["incidents"]["weekend_run"]["start"].startswith(month)
    assert truth["month"] == month


def test_gpu_hours_by_model(company: Company) -> None:
    hours: dict[str, Decimal] = defaultdict(Decimal)

    def add(kind: str, amount: Decimal) -> None:
        if kind in GPUS:
            model, cards = GPUS[kind]
            hours[model] += amount * cards

    for row in company.aws_rows():
        if row["line_item_line_item_type"] in {"Usage", "SavingsPlanCoveredUsage"}:
            add(row["product_instance_type"], Decimal(row["line_item_usage_amount"]))
    for row in company.azure_rows("synthetic-actual-cost"):
        if row["ChargeType"] == "Usage" and row["AdditionalInfo"]:
            add(json.loads(row["AdditionalInfo"])["ServiceType"], Decimal(row["Quantity"]))
    for item in company.gcp_rows():
        if "H100" in item["sku"]["description"]:
            hours["H100"] += Decimal(item["usage"]["amount_in_pricing_units"])
    for row in company.neocloud_rows():
        add(row["instance_type"], Decimal(row["quantity"]))
    assert hours == {model: Decimal(n) for model, n in company.truth["gpu_hours"]["total"].items()}
