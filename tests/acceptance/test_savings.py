"""Savings on the example company: what was put in on purpose is found, to the cent of truth.json and of other commands."""

import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.shell import gpuledger

PLAN = "arn:aws:savingsplans::999900001111:savingsplan/5e0f6b0c-0000-4000-8000-5a11e5910001"

pytestmark = pytest.mark.slow


class Company:
    """The example's ledger and truth, and what commands say of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.truth = json.loads((folder / "bills" / "truth.json").read_text("utf-8"))
        self.document = self.run("savings", "--all", "--min-saving", "0")
        self.rows: list[dict[str, Any]] = self.document["rows"]

    def run(self, *words: object) -> Any:  # noqa: ANN401  # JSON
        done = gpuledger("--ledger", self.folder / "ledger", "--format", "json", *words)
        assert done.code in {0, 1}, done.err
        return done.document

    def of(self, rule: str) -> list[dict[str, Any]]:
        """Findings of a rule."""
        return [row for row in self.rows if row["rule"] == rule and row["scope"] is not None]

    def one(self, rule: str, scope: str) -> dict[str, Any]:
        (row,) = (row for row in self.of(rule) if scope in row["scope"])
        return row


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    folder = tmp_path_factory.mktemp("savings")
    for words in (["demo", "--out", folder / "bills"], ["build"]):
        done = gpuledger("--ledger", folder / "ledger", *words)
        assert done.code == 0, done.err
    return Company(folder)


def near(found: str, wanted: str, within: str = "0.000001") -> bool:
    return abs(Decimal(found) - Decimal(wanted)) <= Decimal(within)


def test_stranded_commitments_are_those_of_the_truth_and_of_utilization(company: Company) -> None:
    found = {
        row["scope"].removeprefix("commitment "): row["alone_high"]
        for row in company.of("stranded-commitment")
    }
    told = company.run("commitments", "utilization")["rows"]
    assert found == {
        row["commitment_id"]: row["stranded_cost"] for row in told if Decimal(row["stranded_cost"] or 0)
    }
    for key, one in company.truth["commitments"].items():
        assert near(found.get(key, found.get(key.lower(), "0")), one["stranded"])
    assert "61 % of the Savings Plan was used" in company.one("stranded-commitment", PLAN)["evidence"]


def test_what_fits_the_idle_plan_is_what_the_truth_says_is_recoverable(company: Company) -> None:
    """The issue of a plan at 61 %: all of what can be recovered is among the savings, named by job."""
    moves = company.of("on-demand-beside-idle")
    saved = sum((Decimal(row["alone_high"]) for row in moves), Decimal(0))
    assert near(str(saved), company.truth["commitments"][PLAN]["recoverable"]["saving"])
    totals = company.run("commitments", "rebalance")["totals"]
    assert near(str(saved), totals["saved"])
    counted = sum((Decimal(row["saving_high"]) for row in moves), Decimal(0))
    assert counted >= saved * Decimal("0.99")
    left = sum((Decimal(row["saving_high"]) for row in company.of("stranded-commitment")), Decimal(0))
    assert near(str(left), totals["stranded_left"], "1"), (
        "idle hours that work moves onto are not stranded as well"
    )
    assert any("dino-p5" in row["scope"] and "account" in row["evidence"] for row in moves)


def test_the_idle_notebook_is_found_with_its_owner_and_a_command(company: Company) -> None:
    row = company.one("idle-notebook", "notebook-edsger")
    truth = company.truth["incidents"]["abandoned_notebook"]
    assert row["owner"] == truth["owner"]
    assert f"{truth['gpu_hours']} card-hours" in row["evidence"]
    assert row["saving_low"] == row["saving_high"]
    # What the job bears of its machine, less what of the machine nobody asked for.
    jobs = company.run("jobs", "--where", "name=notebook-edsger", "--window", "2026-10")["rows"]
    assert near(row["saving_high"], jobs[0]["cost"])
    assert (
        Decimal("0.95") * Decimal(truth["injected_cost"])
        < Decimal(row["saving_high"])
        <= Decimal(truth["injected_cost"])
    )
    assert "kubectl -n desks-vision scale statefulset/notebook-edsger --replicas=0" in row["action"]


def test_the_weekend_run_is_there_and_nothing_is_claimed_of_it_for_sure(company: Company) -> None:
    row = company.one("orphan-job", "p4d.24xlarge")
    truth = company.truth["incidents"]["weekend_run"]
    assert row["saving_high"] == truth["injected_cost"]
    assert row["saving_low"] == "0"
    assert f"{truth['instances']} machines, {int(truth['gpu_hours']):,} card-hours" in row["evidence"]


def test_endpoints_that_nobody_called_are_those_of_the_truth(company: Company) -> None:
    told = company.truth["notes"]["unit_economics"]["deployments"]
    silent = {one["deployment"]: one["cost"] for one in told if one["requests"] == "0"}
    found = {row["scope"].rpartition("/")[2]: row["alone_high"] for row in company.of("idle-endpoint")}
    assert set(found) == set(silent)
    for name, cost in silent.items():
        assert near(found[name], cost)


def test_discarded_runs_are_those_of_the_truth(company: Company) -> None:
    runs = company.truth["notes"]["unit_economics"]["runs"]
    discarded = {one["run_id"]: one["cost"] for one in runs if one["discarded"]}
    found = {row["scope"].rpartition("/")[2]: row["alone_high"] for row in company.of("discarded-run")}
    assert set(found) == set(discarded)
    for name, cost in discarded.items():
        assert near(found[name], cost)


def test_cards_held_while_waiting_are_what_the_allocation_says(company: Company) -> None:
    waited = company.run(
        "costs", "--allocated", "--group-by", "job_id", "--where", "state=held", "--window", "2026-10"
    )
    whole = sum((Decimal(row["alone_high"]) for row in company.of("pending-holder")), Decimal(0))
    assert near(str(whole), waited["totals"]["cost"])


def test_a_smaller_card_is_found_for_the_trial_that_truth_serves_on_another(company: Company) -> None:
    """The same model gives three times as much for a dollar on smaller cards, says the truth; whole replicas decide."""
    told = {one["deployment"]: one for one in company.truth["notes"]["unit_economics"]["deployments"]}
    row = company.one("smaller-gpu", "trial")
    assert Decimal(told["rag-llama-70b"]["tps_per_dollar"]) > Decimal(
        told["trial-llama-70b"]["tps_per_dollar"]
    )
    assert Decimal(row["touched_cost"]) <= Decimal(told["trial-llama-70b"]["cost"])
    assert 0 < Decimal(row["saving_low"]) < Decimal(row["saving_high"])


def test_no_dollar_is_counted_twice_and_none_that_was_not_spent(company: Company) -> None:
    totals = company.document["totals"]
    rows = [row for row in company.rows if row["scope"] is not None]
    for row in rows:
        assert 0 <= Decimal(row["saving_low"]) <= Decimal(row["saving_high"]) <= Decimal(row["touched_cost"])
        assert Decimal(row["saving_high"]) <= Decimal(row["alone_high"])
        assert row["evidence"]
        assert row["action"]
    touched = sum((Decimal(row["touched_cost"]) for row in rows), Decimal(0))
    assert Decimal(totals["saving_high"]) <= touched <= Decimal(totals["spend"])
    by_rule = defaultdict(set)
    for row in rows:
        by_rule[row["rule"]].add(row["scope"])
    assert sum(map(len, by_rule.values())) == len(rows), "a rule says one thing of one scope"


def test_every_rule_answers(company: Company) -> None:
    assert len({row["rule"] for row in company.rows}) == 44
    silent = {row["rule"]: row for row in company.rows if row["scope"] is None}
    assert {name for name, row in silent.items() if row["status"] == "unmeasured"} == set(
        company.document["totals"]["unmeasured_rules"]
    )
    assert all(row["action"] for row in silent.values() if row["status"] == "unmeasured")
