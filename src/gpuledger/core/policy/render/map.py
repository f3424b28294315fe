"""MutatingAdmissionPolicy (admissionregistration.k8s.io/v1, stable since Kubernetes 1.36): what the webhook fills in.

Defaults are written on the object, dimensions on the pod template of kinds with a single one, and who asked as an
annotation. A value that can't be a label is written as an annotation. Nothing is refused here: that is `vap`.
"""

from collections.abc import Iterator
from typing import Any, Final

from gpuledger.core.policy.manifests import label_of
from gpuledger.core.policy.model import Policy
from gpuledger.core.policy.patches import FIXED, LABEL
from gpuledger.core.policy.render import Document, Note, Rendered, Setting
from gpuledger.core.policy.render.cel import both, get, has, listed, quoted, whole
from gpuledger.core.policy.render.cel_dimensions import SUBMITTER, dimensions_of
from gpuledger.core.policy.render.cel_objects import resource_rules
from gpuledger.core.policy.render.cel_rules import needed, program
from gpuledger.core.policy.render.vap import API, metadata
from gpuledger.core.workload.attribution import REQUESTED_BY

_LABEL: Final = whole(LABEL)
# Kinds with one pod template, and where it is.
_TEMPLATES: Final = {
    ("spec", "template"): (
        "Job",
        "Deployment",
        "StatefulSet",
        "ReplicaSet",
        "DaemonSet",
        "ReplicationController",
    ),
    ("spec", "jobTemplate", "spec", "template"): ("CronJob",),
}


def render(policy: Policy, setting: Setting) -> Rendered:
    """Return the policy and its binding."""
    rules = program(policy, setting)
    known = {one.name for one in rules.variables}
    names = [name for name in dimensions_of(policy.require) if f"value_{name}" in known]
    propagated = [
        name for name in names if any(rule.propagate for rule in policy.require if rule.dimension == name)
    ]
    patches = [*_fill(names), *_propagate(propagated), *_requested()]
    kept = needed(rules.variables, [*patches, "variables.mode", "variables.accelerated"])
    notes = (
        Note("every rule", "not enforced", "this only fills in; render vap beside it"),
        Note(
            "pod templates",
            "partly",
            "dimensions are written on the template of "
            + ", ".join(kind for kinds in _TEMPLATES.values() for kind in kinds)
            + "; pods of other kinds carry what their controllers copy",
        ),
        Note("requested-by", "partly", "a spoofed label is left; the annotation is what was really asked"),
    )
    active = 'variables.mode != "off" && variables.accelerated'
    spec: dict[str, Any] = {
        "failurePolicy": setting.failure_policy,
        "reinvocationPolicy": "IfNeeded",
        "matchConstraints": {"resourceRules": resource_rules()},
        "variables": [
            *(one.as_dict() for one in kept),
            {"name": "active", "expression": active},
        ],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": one}} for one in patches],
    }
    policy_document: Document = {
        "apiVersion": API,
        "kind": "MutatingAdmissionPolicy",
        "metadata": metadata("gpuledger", notes),
        "spec": spec,
    }
    binding: Document = {
        "apiVersion": API,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": metadata("gpuledger", ()),
        "spec": {"policyName": "gpuledger"},
    }
    return Rendered({"mutating-admission-policy.yaml": (policy_document, binding)}, notes)


def _patch(path: str, value: str) -> str:
    return f'JSONPatch{{op: "add", path: {quoted(path)}, value: {value}}}'


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _write(root: str, pointer: str, where: str, key: str, value: str, when: str) -> str:
    """Return the patch that writes a label or an annotation, and the map that holds it where there is none."""
    holder = get(root, "metadata", where, default="{}")
    differs = f"!({quoted(key)} in {holder} && {holder}[{quoted(key)}] == {value})"
    made = (
        f"({has(root, 'metadata')} ? [] : [{_patch(f'{pointer}/metadata', '{}')}]) + "
        f"({has(root, 'metadata', where)} ? [] : [{_patch(f'{pointer}/metadata/{where}', '{}')}])"
    )
    put = _patch(f"{pointer}/metadata/{where}/{_escaped(key)}", value)
    return f"{both(when, differs)} ? {made} + [{put}] : []"


def _fill(names: list[str]) -> Iterator[str]:
    """Yield patches, each of one key: they are applied one after the other, on the object as the last one left it."""
    for name in names:
        value = f"variables.value_{name}"
        missing = f'variables.active && variables.said_{name} == "" && {value} != ""'
        label = f"{value}.matches({_LABEL})"
        yield _write("object", "", "labels", label_of(name), value, f"{missing} && {label}")
        yield _write("object", "", "annotations", label_of(name), value, f"{missing} && !{label}")


def _propagate(names: list[str]) -> Iterator[str]:
    for path, kinds in _TEMPLATES.items():
        root, pointer = f"object.{'.'.join(path)}", "/" + "/".join(path)
        fixed = sorted(set(kinds) & FIXED)
        fits = f"object.kind in {listed(kinds)} && {has('object', *path)}"
        if fixed:
            fits += f' && (request.operation == "CREATE" || !(object.kind in {listed(fixed)}))'
        for name in names:
            value = f"variables.value_{name}"
            when = f'variables.active && {fits} && {value} != ""'
            label = f"{value}.matches({_LABEL})"
            yield _write(root, pointer, "labels", label_of(name), value, f"{when} && {label}")
            yield _write(root, pointer, "annotations", label_of(name), value, f"{when} && !{label}")


def _requested() -> Iterator[str]:
    created = (
        f'variables.active && !variables.controlled && request.operation == "CREATE" && {SUBMITTER} != ""'
    )
    yield _write("object", "", "annotations", REQUESTED_BY, SUBMITTER, created)
    notes = get("oldObject", "metadata", "annotations", default="{}")
    before = f'(request.operation == "UPDATE" && {quoted(REQUESTED_BY)} in {notes} ? {notes}[{quoted(REQUESTED_BY)}] : "")'
    updated = f'variables.active && !variables.controlled && {before} != ""'
    yield _write("object", "", "annotations", REQUESTED_BY, before, updated)
