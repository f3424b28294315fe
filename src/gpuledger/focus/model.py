"""The columns and rules of FOCUS 1.0-1.4, read from `data/*.json`.

One file describes one dataset over all versions: `since` and `until` bound what a column or rule
belongs to. A rule's `check` and `when` are short clauses in a small language that
`predicates`, `objects` and `crossrows` turn into SQL; docs/focus.md describes it. `needs` names the
provider capabilities without which a rule does not apply. A `heuristic` rule needs judgement and is
never an error by itself.

Facts: FOCUS specification and requirements model, (c) FinOps Foundation / Joint Development
Foundation, CC BY 4.0. Rule ids are the official ones where there is one; ours start with OWN-.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

from gpuledger.errors import UsageError

VERSIONS: Final = ("1.0", "1.1", "1.2", "1.3", "1.4")
DATASETS: Final = {
    "CostAndUsage": "cost_and_usage",
    "ContractCommitment": "contract_commitment",
    "BillingPeriod": "billing_period",
    "InvoiceDetail": "invoice_detail",
}

Level = Literal["MUST", "SHOULD", "MAY"]
# A condition: every entry holds (AND); an entry that is a list holds when one of its clauses does (OR).
Condition = tuple[str | tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a dataset as one FOCUS version defines it."""

    name: str
    type: Literal["string", "decimal", "datetime", "json"]
    level: str
    nulls: bool
    format: str | None = None
    needs: frozenset[str] = frozenset()
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One requirement: where `when` holds, `check` must hold. `column` is `*` for the whole dataset."""

    id: str
    column: str
    level: Level
    check: str
    when: Condition = ()
    needs: frozenset[str] = frozenset()
    heuristic: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """One dataset of one FOCUS version: its columns by name, and its rules."""

    dataset: str
    version: str
    columns: Mapping[str, Column]
    rules: tuple[Rule, ...]
    capabilities: frozenset[str] = field(default=frozenset())


@cache
def document(name: str) -> Any:  # noqa: ANN401  # JSON
    """Parse data/`name`.json."""
    return json.loads((files(__package__) / "data" / f"{name}.json").read_text(encoding="utf-8"))


def lives(entry: Mapping[str, Any], version: str) -> bool:
    """Whether a column or rule with `since` and `until` belongs to `version`."""
    position = VERSIONS.index(version)
    since = VERSIONS.index(entry.get("since", VERSIONS[0]))
    until = VERSIONS.index(entry.get("until", VERSIONS[-1]))
    return since <= position <= until


def _column(entry: Mapping[str, Any], version: str) -> Column:
    changed: dict[str, Any] = {}
    for since, change in entry.get("changes", {}).items():
        if VERSIONS.index(version) >= VERSIONS.index(since):
            changed |= change
    known = {"name", "type", "level", "nulls", "format"}
    return Column(
        **{key: value for key, value in entry.items() if key in known} | changed,
        needs=frozenset(entry.get("needs", ())),
        allowed=_allowed(entry),
    )


def _allowed(entry: Mapping[str, Any]) -> tuple[str, ...]:
    if entry["name"] == "ServiceSubcategory":
        return tuple(subcategory_parents())
    return tuple(entry.get("allowed", ()))


def _condition(entries: Sequence[Any]) -> Condition:
    return tuple(entry if isinstance(entry, str) else tuple(entry) for entry in entries)


def _rule(entry: Mapping[str, Any]) -> Rule:
    return Rule(
        id=entry["id"],
        column=entry["column"],
        level=entry["level"],
        check=entry["check"],
        when=_condition(entry.get("when", ())),
        needs=frozenset(entry.get("needs", ())),
        heuristic=entry.get("heuristic", ""),
        note=entry.get("note", ""),
    )


def checked_version(version: str) -> str:
    """Return `version` when it is one of VERSIONS; UsageError otherwise."""
    if version not in VERSIONS:
        raise UsageError(
            f"FOCUS {version} is not known",
            where="focus version",
            hint=f"Use one of {', '.join(VERSIONS)}.",
        )
    return version


@cache
def model(dataset: str, version: str) -> Model:
    """Return the columns and rules of `dataset` in FOCUS `version`.

    Raises UsageError for an unknown version or dataset, and for a dataset that the version lacks.
    """
    checked_version(version)
    if dataset not in DATASETS:
        raise UsageError(
            f"there is no FOCUS dataset {dataset}",
            where="dataset",
            hint=f"Use one of {', '.join(DATASETS)}.",
        )
    content = document(DATASETS[dataset])
    columns = {
        entry["name"]: _column(entry, version) for entry in content["columns"] if lives(entry, version)
    }
    rules = tuple(_rule(entry) for entry in content["rules"] if lives(entry, version))
    if not columns:
        raise UsageError(
            f"FOCUS {version} has no dataset {dataset}",
            where="dataset",
            hint="ContractCommitment begins with 1.3; BillingPeriod and InvoiceDetail with 1.4.",
        )
    needed = frozenset[str]().union(*(rule.needs for rule in rules))
    return Model(dataset, version, columns, rules, needed)


@cache
def subcategory_parents() -> Mapping[str, str]:
    """Map each ServiceSubcategory to its one ServiceCategory (the same in 1.1-1.4)."""
    categories: Mapping[str, Sequence[str]] = document("service_categories")["categories"]
    return {sub: category for category, subs in categories.items() for sub in subs}


@cache
def currencies() -> frozenset[str]:
    """The ISO 4217 codes."""
    return frozenset(document("currencies")["codes"])
