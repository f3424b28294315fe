"""Gatekeeper: a ConstraintTemplate per mode for its CEL engine (K8sNativeValidation), and its constraint.

Gatekeeper: "Integration with Kubernetes Validating Admission Policy" (CEL in templates is stable since 3.18); fields
of the engine's source as in Gatekeeper's `k8scel` driver. A constraint is bound to one enforcement action, so there is
a kind per mode.
"""

from typing import Any, Final

from gpuledger.core.policy.model import Mode, Policy
from gpuledger.core.policy.render import Document, Note, Rendered, Setting
from gpuledger.core.policy.render.cel_objects import RESOURCES
from gpuledger.core.policy.render.cel_rules import program
from gpuledger.core.policy.render.vap import body, metadata, modes_of

_ACTIONS: Final[dict[Mode, str]] = {"enforce": "deny", "warn": "warn", "audit": "dryrun"}
_KEPT: Final = ("expression", "message", "messageExpression")  # a template's validation has no reason


def render(policy: Policy, setting: Setting) -> Rendered:
    """Return templates and constraints; the constraints' kinds exist once Gatekeeper has read the templates."""
    rules = program(policy, setting)
    notes = (
        *rules.notes,
        Note(
            "namespaces",
            "partly",
            "a Gatekeeper that hands CEL no namespaceObject knows no defaults of namespaces: values count as missing",
        ),
        *(
            Note(
                name,
                "partly",
                "that the exemption was used isn't recorded: templates have no audit annotations",
            )
            for name, _ in rules.exemptions
        ),
    )
    templates: list[Document] = []
    constraints: list[Document] = []
    for mode in modes_of(policy):
        kind = f"Gpuledger{mode.capitalize()}"
        source = body(rules, mode, setting)
        validations = [{key: one[key] for key in _KEPT if key in one} for one in source["validations"]]
        variables = [
            {
                **one,
                "expression": one["expression"].replace(
                    'variables.space == "" ?', "namespaceObject == null ?"
                ),
            }
            if one["name"].startswith("ns_")
            else one
            for one in source["variables"]
        ]
        code = {"failurePolicy": source["failurePolicy"], "variables": variables, "validations": validations}
        templates.append(_template(kind, code, notes))
        constraints.append(_constraint(kind, mode))
    return Rendered({"templates.yaml": tuple(templates), "constraints.yaml": tuple(constraints)}, notes)


def _template(kind: str, code: dict[str, Any], notes: tuple[Note, ...]) -> Document:
    return {
        "apiVersion": "templates.gatekeeper.sh/v1",
        "kind": "ConstraintTemplate",
        "metadata": metadata(kind.lower(), notes),
        "spec": {
            "crd": {"spec": {"names": {"kind": kind}, "validation": {"openAPIV3Schema": {"type": "object"}}}},
            "targets": [
                {
                    "target": "admission.k8s.gatekeeper.sh",
                    "code": [{"engine": "K8sNativeValidation", "source": code}],
                }
            ],
        },
    }


def _constraint(kind: str, mode: Mode) -> Document:
    groups: dict[str, list[str]] = {}
    for known, (group, _) in RESOURCES.items():
        groups.setdefault(group, []).append(known)
    kinds = [{"apiGroups": [group], "kinds": sorted(known)} for group, known in groups.items()]
    return {
        "apiVersion": "constraints.gatekeeper.sh/v1beta1",
        "kind": kind,
        "metadata": metadata(f"gpuledger-{mode}", ()),
        "spec": {"enforcementAction": _ACTIONS[mode], "match": {"kinds": kinds}},
    }
