"""Azure Policy: an initiative's definitions that deny, or audit, GPU machines without their tags.

Azure Policy: "Policy definition structure" (mode Indexed: resources that have tags). `audit` and `warn` become the
effect audit, which tells nobody at once.
"""

from typing import Any, Final

from gpuledger.core.policy.model import Policy
from gpuledger.core.policy.render import Document, Note, Rendered, Setting
from gpuledger.core.policy.render.clouds import Asked, asked, mode_of, too_large

_KINDS: Final = {
    "Microsoft.Compute/virtualMachines": "Microsoft.Compute/virtualMachines/sku.name",
    "Microsoft.Compute/virtualMachineScaleSets": "Microsoft.Compute/virtualMachineScaleSets/sku.name",
}


def render(policy: Policy, setting: Setting) -> Rendered:
    """Return a definition per rule. Raises UsageError when the policy is off."""
    mode = mode_of(policy, "Azure Policy", ("enforce", "warn", "audit"))
    effect = "deny" if mode == "enforce" else "audit"
    notes: list[Note] = [
        Note("machines", "partly", "virtual machines and scale sets; AKS makes node pools of its own")
    ]
    if mode == "warn":
        notes.append(Note("mode", "partly", "warn becomes audit: whoever makes a machine isn't told"))
    files: dict[str, tuple[Document, ...]] = {}
    for one in asked(policy, setting, "azure", notes):
        files[f"require-{one.rule.replace('_', '-')}.json"] = (_definition(one, effect, notes),)
    for name, types in too_large(policy, "azure"):
        word = "".join(sign if sign.isalnum() else "-" for sign in name.lower())
        files[f"limit-{word}.json"] = (_document(f"gpuledger: {name}", types, [], effect),)
    return Rendered(files, tuple(notes))


def _definition(one: Asked, effect: str, notes: list[Note]) -> Document:
    if one.pattern is not None and one.values is None:
        notes.append(Note(one.rule, "partly", "regular expressions don't exist here: any value passes"))
    tests: list[dict[str, Any]] = []
    for key in one.keys:
        field = f"tags['{key}']"
        if one.values is None:
            tests.append({"field": field, "exists": "false"})
        else:
            other = {"field": field, "notIn": list(one.values)}
            tests.append({"anyOf": [{"field": field, "exists": "false"}, other]})
    return _document(f"gpuledger: {one.rule} of GPU machines", one.types, tests, effect)


def _document(title: str, types: tuple[str, ...], tests: list[dict[str, Any]], effect: str) -> Document:
    sizes = [
        {"allOf": [{"field": "type", "equals": kind}, {"field": alias, "in": list(types)}]}
        for kind, alias in _KINDS.items()
    ]
    return {
        "properties": {
            "displayName": title,
            "policyType": "Custom",
            "mode": "Indexed",
            "metadata": {"category": "Cost"},
            "policyRule": {"if": {"allOf": [{"anyOf": sizes}, *tests]}, "then": {"effect": effect}},
        }
    }
