"""ValidatingAdmissionPolicy (admissionregistration.k8s.io/v1, Kubernetes 1.30 and later): a policy per mode, bound.

A binding says what a broken rule means: `Deny` and `Audit` to enforce, `Warn` and `Audit` to warn, `Audit` alone.
"""

from typing import Any, Final

from gpuledger.core.policy.model import Mode, Policy
from gpuledger.core.policy.render import Document, Note, Rendered, Setting
from gpuledger.core.policy.render.cel import both, quoted
from gpuledger.core.policy.render.cel_objects import resource_rules
from gpuledger.core.policy.render.cel_rules import MODES, Program, needed, program

API: Final = "admissionregistration.k8s.io/v1"
ACTIONS: Final[dict[Mode, list[str]]] = {
    "enforce": ["Deny", "Audit"],
    "warn": ["Warn", "Audit"],
    "audit": ["Audit"],
}


def render(policy: Policy, setting: Setting) -> Rendered:
    """Return policies and bindings."""
    rules = program(policy, setting)
    documents: list[Document] = []
    for mode in modes_of(policy):
        documents += [_policy(rules, mode, setting), _binding(mode)]
    return Rendered({"validating-admission-policy.yaml": tuple(documents)}, rules.notes)


def modes_of(policy: Policy) -> list[Mode]:
    """Return the modes that anything is decided in, the strictest first; none for a policy that is off."""
    said = {policy.mode, *(scope.mode for scope in policy.scope)}
    return [mode for mode in MODES if mode in said]


def metadata(name: str, notes: tuple[Note, ...]) -> dict[str, Any]:
    """Return an object's metadata with what it doesn't enforce."""
    noted = {"gpuledger.io/not-enforced": "\n".join(note.text for note in notes)} if notes else {}
    labels = {"app.kubernetes.io/managed-by": "gpuledger"}
    return {"name": name, "labels": labels, **({"annotations": noted} if noted else {})}


def body(rules: Program, mode: Mode, setting: Setting) -> dict[str, Any]:
    """Return what every engine of such policies shares: variables, validations, audit annotations."""
    here = f"variables.mode == {quoted(mode)}"
    validations = []
    for check in rules.checks:
        if check.broken == "false":
            continue
        one = {
            "expression": f"!({both(here, check.broken)})",
            "message": " ".join(
                f"gpuledger: {check.message}".split()
            ),  # the API server allows no line breaks
            "reason": "Forbidden",
        }
        if check.told is not None:
            one["messageExpression"] = f'"gpuledger: " + {check.told}'
        validations.append(one)
    audits = [
        {"key": f"exemption-{place}", "valueExpression": f'({both(here, condition)}) ? {quoted(name)} : ""'}
        for place, (name, condition) in enumerate(rules.exemptions)
        if condition != "false"
    ]
    texts = [text for one in (*validations, *audits) for text in one.values()]
    return {
        "failurePolicy": setting.failure_policy,
        "matchConstraints": {"resourceRules": resource_rules()},
        "variables": [variable.as_dict() for variable in needed(rules.variables, texts)],
        "validations": validations or [{"expression": "true", "message": "gpuledger: no rule"}],
        **({"auditAnnotations": audits} if audits else {}),
    }


def _policy(rules: Program, mode: Mode, setting: Setting) -> Document:
    return {
        "apiVersion": API,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata(f"gpuledger-{mode}", rules.notes),
        "spec": body(rules, mode, setting),
    }


def _binding(mode: Mode) -> Document:
    return {
        "apiVersion": API,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata(f"gpuledger-{mode}", ()),
        "spec": {"policyName": f"gpuledger-{mode}", "validationActions": ACTIONS[mode]},
    }
