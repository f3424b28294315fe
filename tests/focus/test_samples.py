"""Real and synthetic sample files: nothing is reported that is not there, and known defects are found."""

import os
from pathlib import Path

import duckdb
import pytest

from gpuledger.focus.report import ValidationReport
from gpuledger.focus.validate import validate

SAMPLES = Path(os.environ.get("GPULEDGER_SHARED", "../shared")) / "data" / "focus" / "samples"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no samples in {SAMPLES}: set GPULEDGER_SHARED"),
]


def read(name: str) -> str:
    return f"read_csv('{SAMPLES / name}', all_varchar = true)"


def run(
    name: str, version: str, *, dataset: str = "CostAndUsage", commitments: str | None = None
) -> ValidationReport:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    return validate(con, read(name), focus_version=version, dataset=dataset, commitments=commitments)


# What the cut at 2,500 rows tore apart: one split (AWS), one commitment each (Azure, GCP); rows of the broken group.
CUTS = {
    "aws": {"CAU-AllocatedMethodDetailsObject-O-014-M": 1},
    "azure": {"CAU-EffectiveCost-C-012-C": 2},
    "gcp": {"CAU-EffectiveCost-C-012-C": 7},
}
# Judgement calls that the generator's data does not settle.
JUDGED = {
    "CAU-AllocatedTags-C-006-M",
    "CAU-ContractAppliedObject-O-007-M",
    "CAU-EffectiveCost-C-005-C",
    "CAU-PricingCurrencyEffectiveCost-C-005-M",
}


@pytest.mark.parametrize("provider", CUTS)
def test_synthetic_1_3_files_have_no_violation_but_their_known_cut(provider: str) -> None:
    commitments = read(f"focus_1_3_synthetic_{provider}_contract_commitment.csv")
    report = run(f"focus_1_3_synthetic_{provider}_cost_and_usage.csv", "1.3", commitments=commitments)
    assert report.rows == 2500
    assert report.violations == []
    found = {result.rule.id: result.failed for result in report.failed if result.rule.id not in JUDGED}
    assert found == CUTS[provider]
    assert report.totals()["rules"] > 400


@pytest.mark.parametrize("provider", CUTS)
def test_synthetic_commitments_break_nothing(provider: str) -> None:
    name = f"focus_1_3_synthetic_{provider}_contract_commitment.csv"
    assert run(name, "1.3", dataset="ContractCommitment").failed == []


def test_true_defects_of_the_real_1_0_file() -> None:
    report = run("focus_1_0_real_multicloud_a.csv", "1.0")
    found = {result.rule.id: result.failed for result in report.failed}
    expected = {
        "CAU-ContractedCost-C-003-M": 7,  # Oracle rows
        "CAU-ListCost-C-009-C": 23,
        "CAU-ResourceType-C-005-C": 521,
        "CAU-ChargeFrequency-C-003-M": 7,  # 'Usage-based'
        "CAU-RegionName-C-004-C": 7,
        "CAU-BillingPeriodStart-C-002-M": 689,  # times without zone
        "ColumnHandling-A-010-M": 1,  # a column called Id
    }
    assert {rule: found.get(rule) for rule in expected} == expected
    # Accounts are digits only and must not be taken for numbers.
    assert "CAU-BillingAccountId-C-002-M" not in found
