"""A check's result for machines and people in continuous integration: SARIF 2.1.0, and Markdown for a pull request.

SARIF: OASIS Static Analysis Results Interchange Format 2.1.0; GitHub and GitLab show its results beside the lines.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from gpuledger import __version__
from gpuledger.pipeline.check import Checked, row

_LEVELS: Final = {"deny": "error", "warn": "warning", "allow": "note"}
_MARKS: Final = {"deny": "❌ refused", "warn": "⚠️ warning", "allow": "✅"}


def sarif(checked: Sequence[Checked]) -> dict[str, Any]:
    """Return a SARIF log: one result per reason that a workload was refused or warned about, or can't be read."""
    results = [result for one in checked for result in _results(one)]
    rules = sorted({result["ruleId"] for result in results})
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "gpuledger",
                        "version": __version__,
                        "rules": [{"id": rule, "name": rule} for rule in rules],
                    }
                },
                "results": results,
            }
        ],
    }


def _results(one: Checked) -> list[dict[str, Any]]:
    if one.decision is None:
        told = [("unreadable", one.entry.reason, one.outcome)] if one.entry.unread else []
    else:
        told = [
            (reason.rule, f"{one.entry.label}: {reason.text}", one.outcome)
            for reason in one.decision.reasons
            if reason.lifted_by is None
        ]
    return [
        {
            "ruleId": rule,
            "level": _LEVELS[level],
            "message": {"text": message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": one.entry.file.replace("\\", "/")},
                        "region": {"startLine": one.entry.line},
                    }
                }
            ],
        }
        for rule, message, level in told
    ]


def markdown(checked: Sequence[Checked], totals: Mapping[str, Any]) -> str:
    """Return a summary for a pull request: what was refused or warned about, and what everything would cost."""
    shown = [
        one
        for one in checked
        if one.outcome != "allow" or (one.decision and one.decision.estimate.usd_per_hour)
    ]
    lines = [
        f"### GPU policy: {totals['denied']} refused, {totals['warned']} with warnings, {totals['allowed']} fine",
        "",
    ]
    if not shown:
        return "\n".join([*lines, "Nothing here asks for a GPU.", ""])
    lines += ["| | workload | GPUs | $/h | expected (P50 / P90) | |", "|---|---|---|---|---|---|"]
    for one in shown:
        found = row(one)
        gpus = "?" if found["gpus"] is None else f"{found['gpus']} {found['gpu_model'] or ''}".strip()
        cost = f"{_money(found['est_cost_p50'])} / {_money(found['est_cost_p90'])}"
        why = "<br>".join(_escaped(reason) for reason in found["reasons"] if reason != "fine")
        lines.append(
            f"| {_MARKS[one.outcome]} | `{_escaped(one.entry.label)}`<br>{_escaped(one.entry.file)}:{one.entry.line} "
            f"| {_escaped(gpus)} | {_money(found['usd_per_hour'])} | {cost} | {why} |"
        )
    return "\n".join(
        [*lines, "", "Costs are estimates from list prices, your bills or the policy; `?` is unknown.", ""]
    )


def _money(amount: Decimal | None) -> str:
    return "?" if amount is None else f"{amount:,.2f}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("`", "'")
