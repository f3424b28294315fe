"""What a validation found: results by rule, what was skipped and why, and words for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from gpuledger.focus.model import Rule, document

Reason = Literal["capability", "column", "input"]

# Tests whose failure a provider's documented gap explains: a value that is missing.
_GAP_TESTS: Final = {"set", "present"}


@dataclass(frozen=True, slots=True)
class RuleResult:
    """A rule that was run: the cells or rows it is about, how many break it, and one of these.

    `example` has `row` (number in its file, from 1), `file` (null when the input does not say) and `values`, the
    relevant cells as text. It is None for a rule about the columns themselves.
    """

    rule: Rule
    checked: int
    failed: int
    example: Mapping[str, Any] | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A rule that was not run, which is no pass.

    `reason`: 'capability' (not declared and not seen in the data), 'column' (the input lacks a column the rule is
    about; its presence has a rule of its own) or 'input' (a second dataset is needed).
    """

    rule: Rule
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """The outcome of `validate`.

    `capabilities` are those that rules were run for; `inferred` tells that they were not declared but seen in
    the data.
    """

    dataset: str
    focus_version: str
    rows: int
    results: Sequence[RuleResult]
    skipped: Sequence[Skipped]
    capabilities: frozenset[str]
    inferred: bool

    @property
    def failed(self) -> list[RuleResult]:
        """Results with at least one failure, MUST before SHOULD, judgement calls last in each."""
        order = {"MUST": 0, "SHOULD": 1, "MAY": 2}
        failed = [result for result in self.results if result.failed]
        return sorted(failed, key=lambda result: (order[result.rule.level], bool(result.rule.heuristic)))

    @property
    def violations(self) -> list[RuleResult]:
        """Failures that make the data not conform: MUST rules that need no judgement."""
        return [result for result in self.failed if result.rule.level == "MUST" and not result.rule.heuristic]

    def failures(self) -> list[dict[str, Any]]:
        """One row per failed rule, as the `validate` command shows it."""
        return [
            {
                "rule_id": result.rule.id,
                "column": result.rule.column,
                "severity": result.rule.level,
                "heuristic": bool(result.rule.heuristic),
                "checked": result.checked,
                "failed": result.failed,
                "example_row": result.example,
                "message": message(result),
            }
            for result in self.failed
        ]

    def totals(self) -> dict[str, Any]:
        """Counts: rows, rules run, rules failed (of these: violations), and rules not run by reason."""
        reasons = [skipped.reason for skipped in self.skipped]
        return {
            "rows": self.rows,
            "rules": len(self.results),
            "rules_failed": len(self.failed),
            "violations": len(self.violations),
            "rules_skipped": len(self.skipped),
            "skipped_capability": reasons.count("capability"),
            "skipped_column": reasons.count("column"),
            "skipped_input": reasons.count("input"),
            "capabilities": sorted(self.capabilities),
            "capabilities_inferred": self.inferred,
        }


_WHAT: Final = {
    "present": "the column is missing",
    "null": "has a value where it must be null",
    "set": "is null where a value is needed",
    "allowed": "is none of the allowed values",
    "only": "is not the value that the other columns call for",
    "not": "has a value that the other columns rule out",
    "same": "differs from {2}",
    "equals": "differs from {2}",
    "zero": "is not 0",
    "nonnegative": "is negative",
    "fraction": "is not between 0 and 1",
    "before": "is not earlier than {2}",
    "times": "{0} × {2} is not {4}",
    "decimal": "is not a finite decimal number",
    "placeholder": "holds a word that stands for no value",
    "child": "does not belong to the row's ServiceCategory",
    "determines": "one {0} comes with several {2}",
    "unique": "is not unique",
    "pairs": "repeats a key and value of Tags",
    "object": "has repeated keys, or nests deeper than three levels",
    "keys": "has keys that break “{2}”: FOCUS-defined keys as spelled, others with x_ and in PascalCase",
    "values": "has values that break “{2}”: no nulls, FOCUS-defined properties in their type",
}
_WHOLE: Final = {
    "custom columns prefixed": "columns that FOCUS does not define lack the prefix x_. Rename them.",
    "custom columns named": "custom columns are not x_ and PascalCase within 50 characters. Rename them.",
    "focus columns first": "custom columns stand before FOCUS columns. Put them last.",
    "commitment amortised": "usage of a commitment at EffectiveCost does not add up to its purchases at BilledCost",
    "commitment used plus unused": "usage of a commitment is neither Used nor Unused",
    "allocated ratios sum to one": "the ratios of one split do not add up to 1",
}
_TYPES: Final = {
    "string": "is not text",
    "decimal": "is not a number",
    "datetime": "is not a time",
}
_FORMATS: Final = {
    "string": "is blank",
    "numeric": "is not a plain number (digits, one decimal point, minus sign, E notation)",
    "datetime": "is not written YYYY-MM-DDTHH:MM:SSZ",
    "currency": "is no ISO 4217 currency code",
    "national_currency": "is no ISO 4217 currency code",
    "unit": "is not a unit such as GB, Hours, GB-Hours, GB/Hour or 1000 Requests",
    "keyvalue": "is not a JSON object with unique keys and plain values",
    "json": "is not a JSON object",
}
_TODO: Final = {
    "present": "Add the column to the export.",
    "null": "Leave the cell empty in such rows.",
    "set": "Fill the cell in such rows.",
    "allowed": "Use an allowed value, spelled exactly.",
    "type": "Deliver the column in its type.",
    "format": "Write the values in the format.",
    "times": "Check unit price, quantity and cost of such rows; corrections are exempt.",
    "placeholder": "Use null when there is no value.",
    "determines": "Keep the assignment constant, or give the variants their own keys.",
    "unique": "Deliver every record once.",
}


def _wrong(rule: Rule) -> str:
    words = rule.check.split(" ")
    test = words[1]
    if rule.check in _WHOLE:
        return _WHOLE[rule.check].removesuffix(".")
    if test == "elements":
        return f"an entry of Elements breaks “{' '.join(words[2:])}”"
    if test in {"type", "format"}:
        return (_TYPES if test == "type" else _FORMATS)[words[2]]
    return _WHAT[test].format(*words)


def _where(rule: Rule) -> str:
    parts = [entry if isinstance(entry, str) else " or ".join(entry) for entry in rule.when]
    return f" (where {' and '.join(parts)})" if parts else ""


def known_gap(result: RuleResult) -> str:
    """What a provider documents about the gap, when the example shows the provider; '' otherwise."""
    if result.rule.check.split(" ")[1] not in _GAP_TESTS or not result.example:
        return ""
    names = " ".join(
        str(value) for key, value in result.example["values"].items() if key.endswith("Name")
    ).lower()
    for gap in document("known_gaps")["gaps"]:
        if result.rule.column in gap["columns"] and any(word.lower() in names for word in gap["provider"]):
            return f"{gap['says']} ({gap['page']})."
    return ""


def message(result: RuleResult) -> str:
    """Say what is wrong and what to do, in a sentence or two."""
    rule = result.rule
    about = "" if rule.column == "*" else f"{rule.column}: "
    text = f"{about}{_wrong(rule)}{_where(rule)}."
    text = text[0].upper() + text[1:]
    advice = _TODO.get(rule.check.split(" ")[1], "")
    extra = [result.detail, rule.heuristic and f"Judge it yourself: {rule.heuristic}", known_gap(result)]
    return " ".join(part for part in [text, advice, *extra] if part)
