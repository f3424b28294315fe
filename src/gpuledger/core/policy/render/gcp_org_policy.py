"""Google Cloud: custom constraints of the organisation policy on GPU machines' labels, and the policies that set them.

Google Cloud: "Manage Compute Engine resources using custom constraints" (labels and machine types can be conditions)
and "Creating and managing custom constraints". `audit` and `warn` become a dry run. ORGANIZATION_ID is yours to fill in.
"""

from gpuledger.core.policy.model import Policy
from gpuledger.core.policy.render import Document, Note, Rendered, Setting
from gpuledger.core.policy.render.cel import is_re2, listed, quoted, whole
from gpuledger.core.policy.render.clouds import Asked, asked, mode_of, too_large


def render(policy: Policy, setting: Setting) -> Rendered:
    """Return a constraint and its policy per rule. Raises UsageError when the policy is off."""
    mode = mode_of(policy, "an organisation policy", ("enforce", "warn", "audit"))
    notes = [
        Note(
            "machines",
            "partly",
            "Compute Engine's machine types with cards; cards that are attached to other types (N1) aren't seen",
        )
    ]
    if mode == "warn":
        notes.append(Note("mode", "partly", "warn becomes a dry run: whoever makes a machine isn't told"))
    documents: dict[str, tuple[Document, ...]] = {}
    for one in asked(policy, setting, "gcp", notes):
        word = "".join(part.capitalize() for part in one.rule.split("_"))
        documents[f"require-{one.rule.replace('_', '-')}"] = _pair(
            f"gpuledger{word}",
            f"{_machine(one.types)} && {_lacks(one, notes)}",
            f"{one.rule} of GPU machines",
            mode,
        )
    for name, types in too_large(policy, "gcp"):
        word = "".join(part.capitalize() for part in "".join(c if c.isalnum() else " " for c in name).split())
        documents[f"limit-{word.lower()}"] = _pair(f"gpuledgerLimit{word}", _machine(types), name, mode)
    files: dict[str, tuple[Document, ...]] = {}
    for name, (constraint, enforced) in documents.items():
        files[f"{name}.constraint.yaml"] = (constraint,)
        files[f"{name}.policy.yaml"] = (enforced,)
    return Rendered(files, tuple(notes))


def _machine(types: tuple[str, ...]) -> str:
    names = "|".join(one.replace(".", r"\.") for one in types)
    return f"resource.machineType.matches({quoted(f'(^|/)({names})$')})"


def _lacks(one: Asked, notes: list[Note]) -> str:
    """Return the condition that no label says the dimension as it must. Keys of labels are lower case."""
    found = []
    for key in dict.fromkeys(one.keys):
        value = f"resource.labels[{quoted(key)}]"
        said = f"{quoted(key)} in resource.labels"
        if one.values is not None:
            said += f" && {value} in {listed(name.lower() for name in one.values)}"
        elif one.pattern is not None and is_re2(one.pattern):
            said += f" && {value}.matches({whole(one.pattern)})"
        elif one.pattern is not None and key == one.keys[0]:
            notes.append(
                Note(one.rule, "partly", f"RE2 has no such pattern as {one.pattern}: any value passes")
            )
        found.append(f"({said})")
    if one.values is not None and any(name != name.lower() for name in one.values):
        notes.append(
            Note(one.rule, "partly", "labels are lower case here, so values are compared in lower case")
        )
    return f"!({' || '.join(found)})"


def _pair(name: str, condition: str, title: str, mode: str) -> tuple[Document, Document]:
    constraint = {
        "name": f"organizations/ORGANIZATION_ID/customConstraints/custom.{name}",
        "resourceTypes": ["compute.googleapis.com/Instance"],
        "methodTypes": ["CREATE", "UPDATE"],
        "condition": condition,
        "actionType": "DENY",
        "displayName": f"gpuledger: {title}",
        "description": "Rendered from a gpuledger policy",
    }
    rules = {"rules": [{"enforce": True}]}
    policy = {
        "name": f"organizations/ORGANIZATION_ID/policies/custom.{name}",
        ("spec" if mode == "enforce" else "dryRunSpec"): rules,
    }
    return constraint, policy
