"""A Kustomize folder for `gpuledger admission serve`: two replicas, their rights, and the webhook configurations.

Kubernetes: "Dynamic Admission Control" and "Good practices for admission webhooks". There is no image of ours: one
that has gpuledger is named by `--image`. The certificate comes from a Secret of type `kubernetes.io/tls`, which both
replicas share; leases, where the policy has budgets, from the address in another Secret.
"""

import re
from typing import Any, Final

from gpuledger.core.policy.model import Policy
from gpuledger.core.policy.render import Document, Note, Rendered, Setting
from gpuledger.core.policy.render.cel import listed
from gpuledger.core.policy.render.cel_objects import RESOURCES, accelerated
from gpuledger.errors import UsageError

_NAME: Final = "gpuledger-admission"
_PORT: Final = 9443
_LABELS: Final = {"app.kubernetes.io/name": _NAME, "app.kubernetes.io/managed-by": "gpuledger"}
_GROUPS: Final = (
    *("", "apps", "batch", "jobset.x-k8s.io", "kubeflow.org", "trainer.kubeflow.org", "ray.io"),
    *("leaderworkerset.x-k8s.io", "workload.codeflare.dev", "sparkoperator.k8s.io", "serving.kserve.io"),
    *("argoproj.io", "tekton.dev", "keda.sh", "batch.volcano.sh"),
)
_CORE: Final = ("pods", "replicationcontrollers")
_FILE: Final = re.compile(r"[-._a-zA-Z0-9]+")


def render(policy: Policy, setting: Setting) -> Rendered:
    """Return the folder. Raises UsageError without an image, a CA or the policy's text."""
    if setting.image is None:
        raise UsageError(
            "the webhook needs an image", hint="Give --image IMAGE: one that has gpuledger in it."
        )
    if setting.ca_bundle is None:
        raise UsageError(
            "the webhook needs the CA that signed its certificate", hint="Give --ca-bundle FILE (PEM)."
        )
    if wrong := [name for name in setting.listed if not _FILE.fullmatch(name)]:
        raise UsageError(
            f"the register's file {wrong[0]} can't be a key of a ConfigMap",
            hint="Put it beside the policy file.",
        )
    space, budgets = setting.namespace, bool(policy.budget)
    files: dict[str, tuple[Document, ...]] = {
        "namespace.yaml": (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space, "labels": _LABELS}},
        ),
        "rbac.yaml": _rights(space),
        "policy.yaml": (_config(setting),),
        "deployment.yaml": (_deployment(setting, budgets=budgets), _service(space), _disruption(space)),
        "webhooks.yaml": tuple(_configuration(kind, policy, setting) for kind in ("Mutating", "Validating")),
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": space,
        "resources": list(files),
    }
    return Rendered({"kustomization.yaml": (kustomization,), **files}, tuple(_notes(policy, setting)))


def _notes(policy: Policy, setting: Setting) -> list[Note]:
    found = [
        Note(
            "certificate",
            "partly",
            f"the Secret {_NAME}-tls (tls.crt, tls.key for {_NAME}.{setting.namespace}.svc) isn't rendered: make it "
            "with the CA of --ca-bundle",
        )
    ]
    if policy.budget:
        detail = f"replicas share leases: the Secret {_NAME}-leases (url: postgresql://…) isn't rendered"
        found += [Note(budget.name, "partly", detail) for budget in policy.budget]
    if setting.failure_policy == "Ignore":
        found.append(
            Note("every rule", "partly", "failurePolicy is Ignore: while no replica answers, all passes")
        )
    if any(limit.max_cost_usd is not None for limit in policy.limit) or policy.budget:
        detail = "prices are the policy's and list prices; mount a file of `gpuledger policy snapshot` for your own"
        found.append(Note("prices", "partly", detail))
    return found


def _meta(name: str, space: str | None) -> dict[str, Any]:
    return {"name": name, **({"namespace": space} if space else {}), "labels": _LABELS}


def _rights(space: str) -> tuple[Document, ...]:
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(_NAME, space)},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": _meta(_NAME, None),
            "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": _meta(_NAME, None),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _NAME},
            "subjects": [{"kind": "ServiceAccount", "name": _NAME, "namespace": space}],
        },
    )


def _config(setting: Setting) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(f"{_NAME}-policy", setting.namespace),
        "data": {setting.source_name: setting.source or "", **setting.listed},
    }


def _deployment(setting: Setting, *, budgets: bool) -> Document:
    pod = {
        "serviceAccountName": _NAME,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _LABELS},
            }
        ],
        "containers": [_container(setting, budgets=budgets)],
        "volumes": [
            {"name": "policy", "configMap": {"name": f"{_NAME}-policy"}},
            {"name": "tls", "secret": {"secretName": f"{_NAME}-tls"}},
            {"name": "state", "emptyDir": {}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(_NAME, setting.namespace),
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": _LABELS},
            "template": {"metadata": {"labels": _LABELS}, "spec": pod},
        },
    }


def _container(setting: Setting, *, budgets: bool) -> Document:
    arguments = ["admission", "serve", "--policy", f"/etc/gpuledger/policy/{setting.source_name}", "--kube"]
    arguments += [
        "--port",
        str(_PORT),
        "--cert",
        "/etc/gpuledger/tls/tls.crt",
        "--key",
        "/etc/gpuledger/tls/tls.key",
    ]
    arguments += ["--cluster", setting.cluster] if setting.cluster else []
    # Without budgets nothing is reserved; the store has to be somewhere all the same.
    arguments += (
        ["--leases-env", "GPULEDGER_LEASES"]
        if budgets
        else ["--leases", "sqlite:////var/lib/gpuledger/leases.sqlite"]
    )
    leases = {"secretKeyRef": {"name": f"{_NAME}-leases", "key": "url"}}
    ready, alive = (
        {"httpGet": {"path": path, "port": "https", "scheme": "HTTPS"}} for path in ("/readyz", "/healthz")
    )
    return {
        "name": "admission",
        "image": setting.image,
        "command": ["gpuledger"],
        "args": arguments,
        **({"env": [{"name": "GPULEDGER_LEASES", "valueFrom": leases}]} if budgets else {}),
        "ports": [{"name": "https", "containerPort": _PORT}],
        "readinessProbe": {**ready, "periodSeconds": 5},
        "livenessProbe": {**alive, "periodSeconds": 10, "failureThreshold": 3},
        "resources": {"requests": {"cpu": "100m", "memory": "150Mi"}, "limits": {"memory": "300Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "policy", "mountPath": "/etc/gpuledger/policy", "readOnly": True},
            {"name": "tls", "mountPath": "/etc/gpuledger/tls", "readOnly": True},
            {"name": "state", "mountPath": "/var/lib/gpuledger"},
        ],
    }


def _service(space: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(_NAME, space),
        "spec": {"selector": _LABELS, "ports": [{"name": "https", "port": 443, "targetPort": "https"}]},
    }


def _disruption(space: str) -> Document:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _meta(_NAME, space),
        "spec": {"minAvailable": 1, "selector": {"matchLabels": _LABELS}},
    }


def _configuration(kind: str, policy: Policy, setting: Setting) -> Document:
    own = {
        "key": "kubernetes.io/metadata.name",
        "operator": "NotIn",
        "values": ["kube-system", setting.namespace],
    }
    without = any(
        when.without_gpus
        for when in (*(one.when for one in policy.require), *(one.when for one in policy.limit))
    )
    # Kinds that CEL can't read are always asked about; of the others only what might ask for a card.
    asks = f"!(object.kind in {listed(RESOURCES)}) || {accelerated('object')}"
    reserves = kind == "Mutating" and policy.budget
    rules = [
        {
            "apiGroups": [group],
            "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE"],
            "resources": list(_CORE) if not group else ["*"],
            "scope": "Namespaced",
        }
        for group in _GROUPS
    ]
    webhook: dict[str, Any] = {
        "name": f"{kind.lower()}.gpuledger.io",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "service": {
                "name": _NAME,
                "namespace": setting.namespace,
                "path": "/mutate" if kind == "Mutating" else "/validate",
                "port": 443,
            },
            "caBundle": setting.ca_bundle,
        },
        "failurePolicy": setting.failure_policy,
        "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchExpressions": [own]},
        "rules": rules,
        "sideEffects": "NoneOnDryRun" if reserves else "None",
        "timeoutSeconds": 3,
        **({} if without else {"matchConditions": [{"name": "asks-for-cards", "expression": asks}]}),
    }
    if kind == "Mutating":
        webhook["reinvocationPolicy"] = "IfNeeded"
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": _meta("gpuledger", None),
        "webhooks": [webhook],
    }
