"""Every rule of the official 1.3 model is checked, or listed with the reason why data cannot show it."""

import json
import os
import re
from pathlib import Path

import pytest

from gpuledger.errors import UsageError
from gpuledger.focus.model import DATASETS, VERSIONS, document, model

SHARED = Path(os.environ.get("GPULEDGER_SHARED", "../shared"))
TRANSCRIBED = sorted((SHARED / "data" / "focus").glob("official_1_3_rules_*.jsonl"))
DOCS = Path(__file__).parents[2] / "docs" / "focus.md"


def own_rules() -> dict[str, str]:
    """Ids of the 1.3 rules to their check."""
    rules = [*model("CostAndUsage", "1.3").rules, *model("ContractCommitment", "1.3").rules]
    return {rule.id: rule.check for rule in rules}


def covering(route: str, rules: dict[str, str]) -> list[str]:
    """The rules of ours that an official rule is checked through."""
    if route == "all":
        return list(rules)
    if route == "elements":
        return [rule for rule, check in rules.items() if " elements " in check]
    if route == "placeholder":
        return [rule for rule, check in rules.items() if check.endswith(" placeholder")]
    if route.startswith("id "):
        named = route.removeprefix("id ").split(" ")
        pattern = "|".join(re.escape(name).replace(r"\*", ".*") for name in named)
        return [rule for rule in rules if re.fullmatch(pattern, rule)]
    return [rule for rule, check in rules.items() if check.endswith(f" {route}")]


def account() -> dict[str, str]:
    """Every official id accounted for, with how."""
    coverage = document("coverage_1_3")
    found = {rule: "checked" for rule in own_rules() if not rule.startswith("OWN-") and ":" not in rule}
    entries = [(rule, "through") for rules in coverage["through"].values() for rule in rules]
    entries += [
        (rule, reason) for reason, entry in coverage["not_checked"].items() for rule in entry["rules"]
    ]
    for rule, how in entries:
        assert rule not in found, f"{rule} is accounted for twice"
        found[rule] = how
    return found


def test_the_account_adds_up() -> None:
    coverage = document("coverage_1_3")
    assert len(account()) == coverage["known"] == 928
    assert all(entry["why"] for entry in coverage["not_checked"].values())


def test_every_route_leads_to_a_rule_of_ours() -> None:
    rules = own_rules()
    dead = [route for route in document("coverage_1_3")["through"] if not covering(route, rules)]
    assert dead == []


@pytest.mark.shared
@pytest.mark.skipif(not TRANSCRIBED, reason=f"no official rules in {SHARED}: set GPULEDGER_SHARED")
def test_every_transcribed_official_rule_is_accounted_for() -> None:
    official = {
        entry["id"]: entry
        for path in TRANSCRIBED
        for entry in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    }
    accounted = account()
    assert set(official) - set(accounted) == set()
    # A requirement with a check function of its own must really be checked.
    static = {
        rule
        for rule, entry in official.items()
        if entry["type"] == "Static" and entry["function"] != "Composite" and entry["keyword"] != "MAY"
    }
    assert {rule for rule in static if accounted[rule] not in {"checked", "through"}} == set()


def test_the_documented_counts_are_the_real_ones() -> None:
    accounted = list(account().values())
    shown = dict(re.findall(r"^\| `?(\w+)`? \| (\d+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert shown == {how: str(accounted.count(how)) for how in dict.fromkeys(accounted)}


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_documented_sizes_are_the_real_ones(dataset: str) -> None:
    line = next(
        line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {dataset}")
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")[1:]]
    for version, cell in zip(VERSIONS, cells, strict=True):
        if cell:
            rules = model(dataset, version)
            assert cell == f"{len(rules.columns)}, {len(rules.rules)}"
        else:
            with pytest.raises(UsageError):
                model(dataset, version)
