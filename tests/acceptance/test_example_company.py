"""The example company from its native bills to the ledger: totals, what was put in, and conformance.

What the bills hold is in truth.json, written by the generator. Which FOCUS rules fail, and why none of them is the
mapping's fault, is in `example_company.json`; docs/focus-validator.md has it as a table. A rule that fails and isn't in
it fails here, and so does an entry that no longer occurs.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.focus.test_official_validator import needs_validator, official
from tests.surfaces.shell import gpuledger

from gpuledger.focus.export import projection
from gpuledger.focus.model import model
from gpuledger.focus.report import ValidationReport
from gpuledger.focus.validate import validate
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.validation import DATASETS, validate_ledger

EXPLAINED: Sequence[Mapping[str, Any]] = json.loads(
    Path(__file__).with_name("example_company.json").read_text("utf-8")
)["explained"]
PAGE = Path(__file__).parents[2] / "docs" / "focus-validator.md"
VERSIONS = [
    ("CostAndUsage", "1.2"), ("CostAndUsage", "1.3"), ("CostAndUsage", "1.4"),
    ("ContractCommitment", "1.3"), ("ContractCommitment", "1.4"),
]  # fmt: skip
# Usage that could carry tags, as truth.json defines it.
RESOURCES = (
    "ChargeCategory=Usage", "ResourceId!=", "CommitmentDiscountStatus!=Unused", "provider!=Anthropic", "provider!=OpenAI",
)  # fmt: skip
NOBODY = ("team=", "cost_center=", "owner=")

pytestmark = pytest.mark.slow


class Company:
    """The folder with bills and ledger, and questions to it as a shell asks them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.truth = json.loads((folder / "bills" / "truth.json").read_text("utf-8"), parse_float=Decimal)

    @property
    def ledger(self) -> Ledger:
        return Ledger(str(self.folder / "ledger"))

    def run(self, *words: object) -> Any:  # noqa: ANN401  # JSON
        done = gpuledger("--ledger", self.folder / "ledger", "--format", "json", *words)
        assert done.code in {0, 1}, done.err
        return done.document

    def costs(
        self,
        group_by: str = "",
        *,
        where: Iterable[str] = (),
        metric: str = "effective",
        window: str = "2026-10",
    ) -> list[tuple[Any, ...]]:
        """Groups with their cost, largest first."""
        conditions = [word for condition in where for word in ("--where", condition)]
        grouped = ["--group-by", group_by] if group_by else []
        found = self.run("costs", *grouped, *conditions, "--metric", metric, "--window", window)["rows"]
        return [(*list(row.values())[:-1], Decimal(row["cost"])) for row in found]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    folder = tmp_path_factory.mktemp("company")
    done = gpuledger("--ledger", folder / "ledger", "--format", "json", "demo", "--out", folder / "bills")
    assert done.code == 0, done.err
    # Azure has no list price for usage that a reservation covers.
    assert [(told["code"], Path(told["source"]).name) for told in done.document["diagnostics"]] == [
        ("focus-rules", "azure")
    ]
    return Company(folder)


@pytest.mark.parametrize("metric", ["billed", "effective"])
def test_every_providers_total_is_the_bills_to_the_last_digit(company: Company, metric: str) -> None:
    found = dict(company.costs("x_Source", metric=metric))
    assert found == {
        f"demo-{name}": Decimal(told[metric]) for name, told in company.truth["providers"].items()
    }
    assert company.costs(metric=metric) == [(Decimal(company.truth["total"][metric]),)]


def test_gpu_hours_are_those_that_ran(company: Company) -> None:
    query = (
        "SELECT x_Source, x_GpuModel, sum(x_GpuHours) FROM cost_and_usage WHERE x_GpuHours <> 0 GROUP BY ALL"
    )
    found = {
        (source, card): hours for source, card, hours in company.ledger.connect().execute(query).fetchall()
    }
    assert found == {
        (f"demo-{name}", card): Decimal(hours)
        for name, cards in company.truth["gpu_hours"].items()
        if name != "total"
        for card, hours in cards.items()
    }


def test_the_weekend_run_is_found_among_what_nobody_tagged(company: Company) -> None:
    told = company.truth["incidents"]["weekend_run"]
    nobody = (*RESOURCES, *NOBODY)
    # The dearest of what nobody owns, then when it ran: from Saturday 02:00 UTC for eleven hours.
    (kind, _), *_ = company.costs("x_InstanceType", where=nobody)
    assert kind == "p4d.24xlarge"
    bare = (*nobody, f"x_InstanceType={kind}", "Tags.name=")
    hours = sorted(hour for hour, _ in company.costs("hour", where=bare))
    assert hours == [f"2026-10-10T{hour:02d}:00:00Z" for hour in range(2, 13)]
    assert company.costs("account", where=bare) == [(told["account"], Decimal(told["injected_cost"]))]
    assert len(company.costs("ResourceId", where=bare)) == int(told["instances"])


def test_the_retry_loop_shows_in_its_hours(company: Company) -> None:
    told = company.truth["incidents"]["agent_retry_loop"]
    where = (f"account={told['workspace']}", f"ai_model={told['model']}")
    hours = sorted(hour for hour, _ in company.costs("hour", where=where)[: int(told["hours"])])
    assert hours == ["2026-10-21T17:00:00Z", "2026-10-21T18:00:00Z", "2026-10-21T19:00:00Z"]


def test_the_abandoned_notebook_cost_what_was_put_in(company: Company) -> None:
    told = company.truth["incidents"]["abandoned_notebook"]
    assert company.costs("team,owner", where=["Tags.name=notebook-edsger"]) == [
        (told["team"], told["owner"], Decimal(told["injected_cost"]))
    ]


def test_commitments_are_used_as_told(company: Company) -> None:
    ids = {name.lower(): name for name in company.truth["commitments"]}
    found: dict[str, dict[str, Decimal]] = {}
    for commitment, status, cost in company.costs(
        "CommitmentDiscountId,CommitmentDiscountStatus",
        where=["CommitmentDiscountId!=", "CommitmentDiscountStatus!="],
    ):
        found.setdefault(ids[commitment.lower()], {})[status] = cost
    for name, told in company.truth["commitments"].items():
        used, unused = found[name]["Used"], found[name].get("Unused", Decimal(0))
        assert (used, unused) == (Decimal(told["used"]), Decimal(told["stranded"]))
        assert (used / (used + unused)).quantize(Decimal("1e-6")) == Decimal(told["utilization"])
    plans = [name for name, told in company.truth["commitments"].items() if "Savings Plan" in told["kind"]]
    assert [company.truth["commitments"][plan]["utilization"] for plan in plans] == ["0.610047"]


def test_untagged_share_by_provider(company: Company) -> None:
    whole, unowned = (
        dict(company.costs("x_Source", where=RESOURCES)),
        dict(company.costs("x_Source", where=(*RESOURCES, *NOBODY))),
    )
    for source, spend in whole.items():
        told = company.truth["providers"][source.removeprefix("demo-")]
        assert (spend, unowned[source]) == (
            Decimal(told["resource_spend"]),
            Decimal(told["untagged_resource_spend"]),
        )
    total = company.truth["total"]
    assert sum(whole.values()) == Decimal(total["resource_spend"])
    share = sum(unowned.values(), Decimal(0)) / sum(whole.values(), Decimal(0))
    assert share.quantize(Decimal("1e-6")) == Decimal(total["untagged_share"])


def failures(report: ValidationReport) -> dict[str, int]:
    return {str(row["rule_id"]): int(row["failed"]) for row in report.failures()}


def expected(dataset: str, version: str, *, every: bool) -> dict[str, int]:
    """Rules that may fail, with the largest number of rows; `every` capability declared, or as seen in the data."""
    known = {rule.id for rule in model(dataset, version).rules}
    return {
        rule: entry["rows"]
        for entry in EXPLAINED
        if entry["dataset"] == dataset and (every or "needs" not in entry)
        for rule in entry["ours"]
        if rule in known
    }


@pytest.mark.parametrize(("dataset", "version"), VERSIONS)
def test_only_explained_rules_fail(company: Company, dataset: str, version: str) -> None:
    seen = company.run("validate", "--dataset", dataset, "--focus-version", version)["rows"]
    assert {row["rule_id"] for row in seen} == set(expected(dataset, version, every=False))
    everything = model(dataset, version).capabilities
    found = failures(
        validate_ledger(company.ledger, focus_version=version, dataset=dataset, capabilities=everything)
    )
    told = expected(dataset, version, every=True)
    assert set(found) == set(told)
    assert {rule: rows for rule, rows in found.items() if rows > told[rule]} == {}


@pytest.mark.parametrize("entry", [e for e in EXPLAINED if e["ours"]], ids=lambda entry: entry["ours"][0])
def test_explanations_name_the_rows(company: Company, entry: Mapping[str, Any]) -> None:
    """Without the rows that an entry names, its rules hold; and there are as many rows as it says."""
    dataset, version = entry["dataset"], "1.3" if entry["ours"][0].startswith("CAU-") else "1.4"
    con = company.ledger.connect()
    columns = projection(dataset, version)

    def failing(condition: str) -> dict[str, int]:
        relation = f"SELECT {columns} FROM {DATASETS[dataset]} WHERE {condition}"
        report = validate(
            con, relation, focus_version=version, dataset=dataset, capabilities=model(dataset, version).capabilities,
            commitments=DATASETS["ContractCommitment"] if dataset == "CostAndUsage" else None,
        )  # fmt: skip
        return {rule: rows for rule, rows in failures(report).items() if rule in entry["ours"]}

    assert max(failing("true").values()) == entry["rows"]
    assert failing(f"NOT coalesce({entry['where']}, false)") == {}


@needs_validator
def test_the_official_validator_finds_nothing_else(company: Company, tmp_path: Path) -> None:
    out = tmp_path / "focus"
    assert company.run("export", "--to", "focus", "--focus-version", "1.2", out)["totals"]["rows"] > 50_000
    verdicts = official(out / "cost_and_usage.parquet", tmp_path)
    failed = {rule for rule, verdict in verdicts.items() if verdict == "fails"}
    assert failed == {rule for entry in EXPLAINED for rule in entry["official"]}
    assert len(verdicts) > 250


def test_the_table_in_the_docs_has_every_explanation() -> None:
    text = re.sub(r"\s+", " ", PAGE.read_text("utf-8"))
    for entry in EXPLAINED:
        ours = ", ".join(f"`{rule}`" for rule in entry["ours"]) or "none"
        theirs = ", ".join(f"`{rule}`" for rule in entry["official"]) or "none"
        row = (
            f"| {ours} | {theirs} | {entry['whose']}: {entry['rows']:,} |"
            if "rows" in entry
            else f"| {ours} | {theirs} | {entry['whose']} |"
        )
        assert f"{row} {entry['why']} |" in text
