"""`validate` on real FOCUS 1.0 data of AWS, Microsoft and Oracle names what these providers get wrong."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_shared_samples import DATA, SHARED, read
from tests.surfaces.shell import gpuledger

SAMPLE = DATA / "focus" / "samples" / "focus_1_0_real_multicloud_a.csv"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SAMPLE.is_file(), reason=f"no sample data at {SHARED}: set GPULEDGER_SHARED"),
]


@pytest.fixture(scope="module")
def findings() -> dict[str, dict[str, Any]]:
    """What `validate` says about the sample, by rule."""
    done = gpuledger("validate", SAMPLE, "--focus-version", "1.0")
    assert done.code == 1, done.err
    assert done.document["totals"]["rows"] == len(read(SAMPLE)) == 689
    return {row["rule_id"]: row for row in done.document["rows"]}


def test_seven_charges_have_no_contracted_cost(findings: dict[str, dict[str, Any]]) -> None:
    found = findings["CAU-ContractedCost-C-003-M"]
    lacking = [place for place, row in enumerate(read(SAMPLE), 1) if row["ContractedCost"] == "NULL"]
    assert (found["column"], found["severity"], found["checked"], found["failed"]) == (
        "ContractedCost",
        "MUST",
        689,
        7,
    )
    assert len(lacking) == 7
    assert found["example_row"]["row"] == lacking[0]
    assert found["example_row"]["values"]["ProviderName"] == "Oracle"


def test_a_charge_frequency_is_misspelled(findings: dict[str, dict[str, Any]]) -> None:
    found = findings["CAU-ChargeFrequency-C-003-M"]
    spellings = Counter(row["ChargeFrequency"] for row in read(SAMPLE))
    assert found["failed"] == spellings["Usage-based"] == 7
    assert found["example_row"]["values"]["ChargeFrequency"] == "Usage-based"
    assert "none of the allowed values" in found["message"]


@pytest.mark.parametrize(
    ("rule", "failed", "about"),
    [
        ("CAU-ListCost-C-009-C", 23, "ListUnitPrice"),
        ("CAU-RegionName-C-004-C", 7, "RegionId"),
        ("CAU-ChargePeriodStart-C-002-M", 689, "YYYY-MM-DDTHH:MM:SSZ"),
        ("ColumnHandling-A-010-M", 1, "Id"),
    ],
)
def test_other_defects(findings: dict[str, dict[str, Any]], rule: str, failed: int, about: str) -> None:
    assert findings[rule]["failed"] == failed
    assert about in findings[rule]["message"]


def test_every_finding_says_what_to_do(findings: dict[str, dict[str, Any]]) -> None:
    for found in findings.values():
        assert found["severity"] in {"MUST", "SHOULD"}
        assert 0 < found["failed"] <= found["checked"]
        assert found["message"].count(".") >= 1, found["message"]


def test_the_sample_is_ingested_all_the_same(tmp_path: Path) -> None:
    done = gpuledger("--ledger", tmp_path / "ledger", "ingest", "--type", "focus", SAMPLE)
    assert (done.code, [told["code"] for told in done.document["diagnostics"]]) == (0, ["focus-rules"])
    assert (tmp_path / "ledger").is_dir()
