"""`check`: what a person and a pipeline see before anything is scheduled."""

import csv
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from tests.surfaces.shell import gpuledger

JOB = """\
apiVersion: batch/v1
kind: Job
metadata:
  name: train
  namespace: prod-a
  labels: {LABELS}
spec:
  activeDeadlineSeconds: 36000
  template:
    spec:
      nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}
      containers: [{name: a, image: x, resources: {limits: {nvidia.com/gpu: 8}}}]
"""
POLICY = """\
mode = "enforce"
[[require]]
dimension = "cost_center"
values = ["CC-1", "CC-2"]
[[price]]
gpu_model = "H100"
usd_per_gpu_hour = "2.10"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gpuledger-policy.toml").write_text(POLICY, "utf-8")
    write("")


def write(labels: str) -> None:
    Path("job.yaml").write_text(JOB.replace("{LABELS}", "{" + labels + "}"), "utf-8")


def test_what_lacks_a_cost_center_is_refused_and_told_how_to_mend_it() -> None:
    done = gpuledger("check", "job.yaml")
    assert done.code == 1
    (row,) = done.document["rows"]
    assert (row["object"], row["line"], row["decision"], row["gpus"], row["gpu_model"]) == (
        "Job/train", 1, "deny", 8, "H100",
    )  # fmt: skip
    assert row["reasons"] == ["cost_center is missing. Add the label gpuledger.io/cost-center (CC-1, CC-2)."]


def test_what_has_one_is_allowed_and_priced_to_the_cent() -> None:
    write("gpuledger.io/cost-center: CC-1")
    done = gpuledger("check", "job.yaml")
    assert done.code == 0, done.err
    (row,) = done.document["rows"]
    assert (row["decision"], row["reasons"]) == ("allow", ["fine"])
    # 8 cards × 2.10 USD × 10 h
    assert (row["usd_per_hour"], row["est_cost_p50"], row["est_cost_p90"]) == ("16.8", "168", "168")
    assert Decimal(done.document["totals"]["usd_per_hour"]) == Decimal("16.8")
    assert [told["code"] for told in done.document["diagnostics"]] == ["no-ledger"]


def test_without_a_policy_prices_only() -> None:
    Path("gpuledger-policy.toml").unlink()
    done = gpuledger("--format", "table", "check", "job.yaml")
    assert done.code == 0
    assert "No policy: prices only" in done.out
    assert "H100" in done.out


def test_a_table_tells_refusals_in_words() -> None:
    done = gpuledger("check", "job.yaml", "--format", "table")
    assert done.code == 1
    assert "deny: Job/train (job.yaml:1)" in done.out
    assert (
        "1 objects: 1 refused, 0 with warnings; those that ask for cards cost 16.80 USD an hour" in done.out
    )


def test_sarif_names_the_rule_and_the_line() -> None:
    done = gpuledger("check", "job.yaml", "--format", "sarif")
    assert done.code == 1
    log = json.loads(done.out)
    assert log["version"] == "2.1.0"
    (result,) = log["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("cost_center", "error")
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("job.yaml", 1)
    assert [rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]] == ["cost_center"]


def test_markdown_is_for_a_pull_request_and_nothing_in_a_name_can_break_it() -> None:
    Path("job.yaml").write_text(
        JOB.replace("{LABELS}", "{}").replace("name: train", "name: 'a|b`<img>'"), "utf-8"
    )
    done = gpuledger("check", "job.yaml", "--format", "markdown")
    assert done.code == 1
    assert "### GPU policy: 1 refused" in done.out
    assert "a\\|b'&lt;img>" in done.out
    assert "168.00 / 168.00" in done.out


def test_what_can_not_be_read_is_refused_where_the_policy_enforces() -> None:
    Path("bad.yaml").write_text("a: [", "utf-8")
    assert gpuledger("check", "bad.yaml").code == 1
    Path("gpuledger-policy.toml").write_text('mode = "warn"\n', "utf-8")
    done = gpuledger("check", "bad.yaml")
    assert (done.code, done.document["rows"][0]["decision"]) == (0, "warn")


def test_a_path_or_a_policy_that_is_not_there_is_a_usage_error() -> None:
    for words in (("check", "none.yaml"), ("check", "job.yaml", "--policy", "none.toml")):
        done = gpuledger(*words)
        assert done.code == 2
        assert "Hint:" in done.err


@pytest.mark.shared
def test_every_object_of_the_samples_has_a_decision_and_a_count_or_a_reason() -> None:
    folder = Path(os.environ.get("GPULEDGER_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "k8s"
    if not folder.is_dir():
        pytest.skip("no sample data: set GPULEDGER_SHARED")
    done = gpuledger("check", folder)
    rows = done.document["rows"]
    assert len(rows) > 150
    for row in rows:
        assert row["decision"] in {"allow", "deny", "warn"}
        assert row["reasons"]
        if row["gpus"] is None or (row["gpus"] and row["est_cost_p90"] is None):
            assert any("cost not known" in reason for reason in row["reasons"]), row
    told = {Path(row["file"]).name: row for row in rows if row["gpus"]}
    # KubeRay's samples: 4 cards of one T4 worker; 64 hosts of 4 TPU chips.
    assert [told["ray-job.batch-inference.yaml"][key] for key in ("gpus", "gpu_model")] == [4, "T4"]
    assert told["ray-job.tpu-v6e-256-multihost.yaml"]["gpus"] == 256


def test_a_ledger_gives_rates_and_what_budgets_have_left(tmp_path: Path) -> None:
    """A bill of 10 hours of a machine with 8 H100 for 100 USD is 1.25 USD per card-hour; the budget spent it."""
    month = datetime.now(UTC).strftime("%Y-%m")
    start, end = f"{month}-01T00:00:00Z", f"{month}-01T10:00:00Z"
    line = {
        "BilledCost": "100", "EffectiveCost": "100", "ListCost": "100", "ContractedCost": "100", "BillingCurrency": "USD",
        "BillingPeriodStart": start, "BillingPeriodEnd": _next(month), "ChargePeriodStart": start, "ChargePeriodEnd": end,
        "ChargeCategory": "Usage", "ChargeFrequency": "Usage-Based", "ChargeDescription": "p5.48xlarge", "ProviderName": "AWS",
        "InvoiceIssuerName": "AWS", "PublisherName": "AWS", "BillingAccountId": "1", "ResourceId": "i-1", "ServiceName": "EC2",
        "ServiceCategory": "Compute", "PricingQuantity": "10", "PricingUnit": "Hours", "ConsumedQuantity": "10",
        "ConsumedUnit": "Hours", "SkuId": "s", "SkuPriceDetails": '{"InstanceType": "p5.48xlarge"}', "Tags": '{"team": "nlp"}',
    }  # fmt: skip
    with (tmp_path / "bill.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(line))
        writer.writeheader()
        writer.writerow(line)
    assert gpuledger("ingest", "--type", "focus", "bill.csv").code == 0
    assert gpuledger("build").code == 0
    Path("gpuledger-policy.toml").write_text(
        'mode = "enforce"\n[[budget]]\nname = "nlp"\nowner = "ada"\namount_usd = 150\nmatch = { team = "nlp" }\n',
        "utf-8",
    )
    write("team: nlp")
    done = gpuledger("check", "job.yaml")
    (row,) = done.document["rows"]
    assert (row["usd_per_hour"], row["price_basis"][0]) == (
        "10",
        "8 × 1.250000 USD per card-hour (your bills of 30 days)",
    )
    assert (row["budget"], row["budget_left"], row["est_cost_p90"], row["decision"]) == (
        "nlp",
        "50",
        "100",
        "deny",
    )
    assert "Ask ada" in row["reasons"][0]


def _next(month: str) -> str:
    year, number = map(int, month.split("-"))
    return f"{year + number // 12}-{number % 12 + 1:02}-01T00:00:00Z"
