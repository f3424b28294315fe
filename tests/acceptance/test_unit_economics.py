"""Unit economics of the example company: the command's figures are those of the generator's own facts, in truth.json."""

import json
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.shell import gpuledger

D = Decimal
MICRO = D("0.000000001")  # the truth has twelve decimals
HALVES = "2026-10-01..2026-10-15,2026-10-16..2026-10-31"

pytestmark = pytest.mark.slow


class Company:
    """The example in a ledger that was built, and what is true of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.truth = json.loads((folder / "bills" / "truth.json").read_text("utf-8"))["notes"][
            "unit_economics"
        ]

    def ask(self, *words: str) -> dict[str, Any]:
        done = gpuledger("--ledger", self.folder / "ledger", "--format", "json", "unit-economics", *words)
        assert done.code == 0, done.err
        found: dict[str, Any] = done.document
        return found

    def rows(self, *words: str) -> dict[tuple[str, str | None], Mapping[str, Any]]:
        return {(row["deployment"], row["cluster"]): row for row in self.ask(*words)["rows"]}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    folder = tmp_path_factory.mktemp("company")
    for words in (("demo", "--out", str(folder / "bills")), ("build",)):
        done = gpuledger("--ledger", folder / "ledger", "--format", "json", *words)
        assert done.code == 0, done.err
    return Company(folder)


def test_deployments_are_as_the_generator_says(company: Company) -> None:
    rows = company.rows("--window", "2026-10")
    assert len(company.truth["deployments"]) == 6
    for true in company.truth["deployments"]:
        row = rows[true["deployment"], true["cluster"]]
        assert D(row["tokens"]) == D(true["output_tokens"])
        assert D(row["requests"]) == D(true["requests"])
        assert abs(D(row["cost"]) - D(true["cost"])) < MICRO
        assert abs(D(row["tps_per_dollar"]) - D(true["tps_per_dollar"])) < MICRO
        if D(true["requests"]):
            share = D(true["good_requests"]) / D(true["requests"])
            assert abs(D(row["slo_met_share"]) - share) < MICRO
        total = D(true["input_tokens"]) + D(true["output_tokens"])
        assert (
            D(company.rows("--token-basis", "total")[true["deployment"], true["cluster"]]["tokens"]) == total
        )


def test_what_was_put_in_is_found(company: Company) -> None:
    rows = company.rows()
    small, large = rows["rag-llama-70b", "eks-prod-us"], rows["trial-llama-70b", "gke-vision"]
    assert (small["gpu_model"], large["gpu_model"]) == ("L40S", "H100")
    assert D(small["tps_per_dollar"]) > 3 * D(large["tps_per_dollar"])
    assert D(small["load_efficiency"]) > D("0.85")
    idle = rows["llm-playground-0", "aks-llm"]
    assert (idle["tps_per_dollar"], idle["cost_per_mtok"], "no-tokens" in idle["flags"]) == ("0", None, True)
    late = rows["agent-planner", "cks-us-east-04"]
    assert D("0.57") < D(late["slo_met_share"]) < D("0.59")
    assert D(late["slo_tps_per_dollar"]) < D(small["slo_tps_per_dollar"]) < D(late["tps_per_dollar"])


def test_the_price_change_in_frankfurt_is_why_its_tokens_cost_more(company: Company) -> None:
    (row,) = company.ask("--compare", HALVES, "--where", "cluster=eks-prod-eu", "--cost-basis", "effective")[
        "rows"
    ]
    parts = {name: D(row[name]) for name in ("price", "load", "mix", "idle", "stranded")}
    assert sum(parts.values()) == D(row["change"])
    assert max(parts, key=lambda name: abs(parts[name])) == "price"
    # 14.2962 ÷ 13.1158 of the cost before, at the load before and after alike.
    assert abs(parts["price"] / D(row["before"]) - D("0.0905")) < D("0.002")
    assert not any(parts[name] for name in ("mix", "idle", "stranded"))
    assert "(+9.0 %)" in row["reasons"][0]


def test_api_tokens_are_those_of_the_bills(company: Company) -> None:
    found = company.ask("--window", "2026-10")
    assert found["diagnostics"] == []  # neither tokens that differ nor any without a charge
    made: dict[str, D] = defaultdict(D)
    pages = sorted((company.folder / "bills" / "openai" / "usage_completions").glob("page-*.json"))
    for page in pages:
        for bucket in json.loads(page.read_text("utf-8"))["data"]:
            for result in bucket["results"]:
                made[result["model"]] += result["output_tokens"]
    told: dict[str, D] = defaultdict(D)
    for row in found["rows"]:
        if row["provider"] == "OpenAI":
            told[row["model"]] += D(row["tokens"])
            assert row["requests"] is not None
    assert told == made


def test_every_dollar_is_in_some_line(company: Company) -> None:
    for basis in ("effective", "fully_loaded"):
        found = company.ask("--cost-basis", basis)
        rows = sum((D(row["cost"]) for row in found["rows"] if row["cost"] is not None), D(0))
        assert rows == D(found["totals"]["cost"])
        if basis == "fully_loaded":
            done = gpuledger("--ledger", company.folder / "ledger", "--format", "json", "costs", "--allocated", "--group-by", "state,CommitmentDiscountStatus,ai_model")  # fmt: skip
            whole = sum(
                D(row["cost"])
                for row in done.document["rows"]
                if row["state"] or row["CommitmentDiscountStatus"] == "Unused" or row["ai_model"]
            )
            assert rows + D(found["totals"]["other_jobs_cost"]) + D(found["totals"]["nobodys_cost"]) == whole


def test_runs_are_as_the_generator_says(company: Company) -> None:
    found = company.ask("--training")
    rows = {row["run_id"]: row for row in found["rows"]}
    gone = D(0)
    for true in company.truth["runs"]:
        row = rows[true["run_id"]]
        assert row["tokens"] is None if true["tokens"] is None else D(row["tokens"]) == D(true["tokens"])
        assert abs(D(row["goodput"]) - D(true["useful_seconds"]) / D(true["run_seconds"])) < MICRO
        if "cost" in true:
            assert abs(D(row["cost"]) - D(true["cost"])) < MICRO
        if true["discarded"]:
            gone += D(true["cost"])
            assert row["discarded_share"] == "1"
    assert gone > 0
    assert abs(D(found["totals"]["discarded_cost"]) - gone) < MICRO


def test_self_hosting_beside_an_api(company: Company) -> None:
    found = company.ask("--against-api", "gpt-5-mini-2025-08-07", "--window", "2026-10")
    assert found["totals"]["price_source"] == "bill"
    rows = {(row["deployment"], row["cluster"]): row for row in found["rows"]}
    true = next(one for one in company.truth["deployments"] if one["deployment"] == "agent-planner")
    given, cached, out = (D(true[name]) for name in ("input_tokens", "cached_input_tokens", "output_tokens"))
    there = ((given - cached) * D("0.25") + cached * D("0.025") + out * 2) / 1_000_000
    row = rows["agent-planner", "cks-us-east-04"]
    assert abs(D(row["api_cost"]) - there) < MICRO
    one = D(true["cost"]) / D(row["replicas"]) / 744 * out / (3600 * there)
    assert abs(D(row["break_even_tokens_per_second"]) - one) < MICRO
