"""Our verdicts against those of the official validator, rule by rule, on FOCUS 1.2, its newest offline model.

Where the two differ, `official/differences.json` says which side the specification's words are on; a difference that
is not in it fails, and so does an entry that no longer occurs.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import duckdb
import pytest
from tests.focus.rows import charge, text_rows
from tests.focus.test_rule_kinds import BREACHES, COMMITTED, PURCHASE, TAX

from gpuledger.focus.model import currencies, document, model
from gpuledger.focus.report import RuleResult
from gpuledger.focus.validate import validate

ROOT = Path(__file__).parents[2]
VALIDATOR = Path(os.environ.get("FOCUS_VALIDATOR", ROOT / ".venv-focus-validator/bin/focus-validator"))
LOCK = "tests/focus/official/focus-validator.txt"
VERSION = "1.2"
DIFFERENCES: Sequence[Mapping[str, Any]] = json.loads(
    (Path(__file__).parent / "official" / "differences.json").read_text(encoding="utf-8")
)["differences"]
SAMPLES = Path(os.environ.get("GPULEDGER_SHARED", "../shared")) / "data" / "billing" / "focus"
PROVIDERS = ("aws", "azure", "gcp")

needs_validator = pytest.mark.skipif(
    not VALIDATOR.is_file(),
    reason=f"no official validator at {VALIDATOR}: with Python 3.12 or newer, `python -m venv .venv-focus-validator"
    f" && .venv-focus-validator/bin/pip install --require-hashes -r {LOCK}`, or set FOCUS_VALIDATOR",
)


def crafted() -> str:
    """A relation of 1.2 rows: good ones, one row per breach that we know to find, and what trips the other reader."""
    names = list(model("CostAndUsage", VERSION).columns)
    changes = [{}, COMMITTED, PURCHASE, TAX, {"ChargeClass": "Correction", "ListCost": "-3"},
               *(change for _, change, _ in BREACHES), {"SubAccountName": "Größe"}]  # fmt: skip
    rows = []
    for change in changes:
        row = charge(**change)
        row |= {
            "BillingAccountType": "Account", "SubAccountType": "Account", "PricingCurrency": "USD",
            "PricingCurrencyEffectiveCost": row["EffectiveCost"],
            "PricingCurrencyListUnitPrice": row["ListUnitPrice"],
            "PricingCurrencyContractedUnitPrice": row["ContractedUnitPrice"],
        }  # fmt: skip
        rows.append({name: row.get(name) for name in names})
    return text_rows(*rows)


def official(data: Path, folder: Path) -> dict[str, str]:
    """The official verdicts by rule id: 'passes' or 'fails'; composites and rules it skips are left out."""
    # It reads this file relative to the working directory.
    codes = folder / "focus_validator" / "rules" / "currency_codes.csv"
    codes.parent.mkdir(parents=True, exist_ok=True)
    codes.write_text(
        "\n".join([",currency_codes", *(f"{n},{c}" for n, c in enumerate(sorted(currencies())))])
    )
    out = folder / f"{data.stem}.xml"
    run = subprocess.run(
        [VALIDATOR, "--data-file", data, "--validate-version", VERSION, "--block-download",
         "--applicability-criteria", "ALL", "--output-type", "unittest", "--output-destination", out],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert out.is_file(), run.stdout + run.stderr
    found = {}
    for case in ET.parse(out).getroot().iter("testcase"):  # noqa: S314  # written by the line above
        rule, kind = case.attrib["name"].split(" :: ")
        outcome = next((child.tag for child in case), "passes")
        if kind != "Composite" and outcome != "skipped":
            found[rule] = "passes" if outcome == "passes" else "fails"
    return found


def ours(relation: str) -> dict[str, RuleResult]:
    con = duckdb.connect()
    rules = model("CostAndUsage", VERSION)
    report = validate(con, relation, focus_version=VERSION, capabilities=rules.capabilities)
    return {result.rule.id: result for result in report.results}


def counterparts(rule: str, results: Mapping[str, RuleResult]) -> list[RuleResult]:
    """Our results for an official 1.2 rule: the same id, or the rule it is checked through."""
    ids = [rule, f"CAU-{rule}"]
    routes: Mapping[str, Sequence[str]] = document("coverage_1_3")["through"]
    for route, officials in routes.items():
        if set(ids) & set(officials) and route.startswith("id "):
            ids += route.removeprefix("id ").split(" ")
    return [results[name] for name in ids if name in results]


def unchecked() -> set[str]:
    """Official 1.2 rules that we leave out, each for a reason that the coverage table gives."""
    reasons = document("coverage_1_3")["not_checked"]
    return {rule.removeprefix("CAU-") for entry in reasons.values() for rule in entry["rules"]}


def compare(data: Path, relation: str, folder: Path) -> tuple[int, dict[str, tuple[str, str]]]:
    """Number of rules with equal verdicts, and the differing ones as (official, ours)."""
    results = ours(relation)
    agreed, differing, unknown = 0, {}, []
    for rule, verdict in official(data, folder).items():
        mine = counterparts(rule, results)
        if not mine:
            unknown.append(rule)
            continue
        own = "fails" if any(result.failed for result in mine) else "passes"
        if own == verdict:
            agreed += 1
        else:
            differing[rule] = (verdict, own)
    assert set(unknown) - unchecked() == set()
    return agreed, differing


def documented() -> dict[str, tuple[str, str]]:
    return {rule: (entry["official"], entry["ours"]) for entry in DIFFERENCES for rule in entry["rules"]}


@needs_validator
@pytest.mark.slow
def test_verdicts_on_rows_that_break_rules(tmp_path: Path) -> None:
    data = tmp_path / "crafted.csv"
    duckdb.connect().execute(f"COPY ({crafted()}) TO '{data}' (HEADER)")
    agreed, differing = compare(data, f"read_csv('{data}', all_varchar = true)", tmp_path)
    known = documented()
    assert {rule: pair for rule, pair in differing.items() if known.get(rule) not in (pair, None)} == {}
    assert set(differing) - set(known) == set()
    stale = [entry["why"] for entry in DIFFERENCES if not set(entry["rules"]) & set(differing)]
    assert stale == []
    assert agreed > 230


@needs_validator
@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no samples in {SAMPLES}: set GPULEDGER_SHARED")
@pytest.mark.parametrize("provider", PROVIDERS)
def test_verdicts_on_sample_files(provider: str, tmp_path: Path) -> None:
    data = SAMPLES.resolve() / f"{provider}_1_2_cost_and_usage_rows100_seed42.csv"
    agreed, differing = compare(data, f"read_csv('{data}', all_varchar = true)", tmp_path)
    known = documented()
    assert {rule: pair for rule, pair in differing.items() if known.get(rule) != pair} == {}
    assert agreed > 230


def test_every_difference_is_documented() -> None:
    text = (ROOT / "docs" / "focus-validator.md").read_text(encoding="utf-8")
    missing = [rule for entry in DIFFERENCES for rule in entry["rules"] if f"`{rule}`" not in text]
    assert missing == []
    for entry in DIFFERENCES:
        assert entry["spec"]
        assert entry["why"] in text
