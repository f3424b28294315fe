"""Kubernetes objects in CEL: where kinds keep their pod templates, how many pods, and the cards that these ask for.

The same as `core.workload.readers` and `core.workload.devices` for the kinds listed here; where CEL can't follow them
(a card's part, init containers), it counts more, never less. Whatever runs pods by another kind is seen as its pods.
"""

from typing import Final

from gpuledger.core.policy.manifests import deadline_places
from gpuledger.core.policy.render.cel import Variable, get, has, number, quoted, whole
from gpuledger.core.workload.devices import resource_patterns

_EVERY, _WHOLE, _PARTS, _UNSIZED = (whole(pattern) for pattern in resource_patterns())
_TRAINING: Final = {
    "PyTorchJob": "pytorchReplicaSpecs",
    "TFJob": "tfReplicaSpecs",
    "XGBoostJob": "xgbReplicaSpecs",
    "PaddleJob": "paddleReplicaSpecs",
    "JAXJob": "jaxReplicaSpecs",
    "MPIJob": "mpiReplicaSpecs",
}
_SCALED: Final = ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController")
# Group and resource per kind: all that a policy of CEL is asked about.
RESOURCES: Final = {
    "Pod": ("", "pods"),
    "ReplicationController": ("", "replicationcontrollers"),
    **{
        kind: ("apps", f"{kind.lower()}s")
        for kind in ("Deployment", "StatefulSet", "ReplicaSet", "DaemonSet")
    },
    **{kind: ("batch", f"{kind.lower()}s") for kind in ("Job", "CronJob")},
    "JobSet": ("jobset.x-k8s.io", "jobsets"),
    **{kind: ("kubeflow.org", f"{kind.lower()}s") for kind in _TRAINING},
    **{kind: ("ray.io", f"{kind.lower()}s") for kind in ("RayJob", "RayCluster", "RayService")},
    "LeaderWorkerSet": ("leaderworkerset.x-k8s.io", "leaderworkersets"),
}


def resource_rules() -> list[dict[str, list[str]]]:
    """Return the rules by which the API server sends these kinds."""
    groups: dict[str, list[str]] = {}
    for group, resource in RESOURCES.values():
        groups.setdefault(group, []).append(resource)
    return [
        {
            "apiGroups": [group],
            "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE"],
            "resources": sorted(resources),
        }
        for group, resources in groups.items()
    ]


def _set(template: str, pods: str, most: str | None = None) -> str:
    return f'{{"t": dyn({template}), "n": dyn({pods}), "most": dyn({most or pods})}}'


def _job(spec: str) -> str:
    """Pods of a batch/v1 Job at once: `parallelism`, but never more than are left to complete."""
    parallel = number(spec, "parallelism", default="1")
    return f"[{parallel}, {number(spec, 'completions', default=parallel)}].min()"


def _ray(cluster: str) -> str:
    scales = f"{get(cluster, 'enableInTreeAutoscaling', default='false')} == true"
    least, limit = number("w", "minReplicas", default="0"), number("w", "maxReplicas", default="-1")
    wanted = f"[{number('w', 'replicas', default=least)}, {least}].max()"
    bounded = f"({limit} >= 0 ? [{wanted}, {limit}].min() : {wanted})"
    suspended = f"{get('w', 'suspend', default='false')} == true"
    hosts = number("w", "numOfHosts", default="1")
    now = f"({suspended} ? 0 : {bounded}) * {hosts}"
    most = f"({suspended} ? 0 : {scales} ? ({limit} < 0 ? -1 : {limit} * {hosts}) : {bounded} * {hosts})"
    head = _set(get(cluster, "headGroupSpec", "template", default="{}"), "1")
    workers = f"{get(cluster, 'workerGroupSpecs', default='[]')}.map(w, {_set(get('w', 'template', default='{}'), now, most)})"
    return f"[{head}] + {workers}"


def _training(root: str, key: str) -> str:
    roles = f"{root}.spec.{key}"
    now = number(f"{roles}[r]", "replicas", default="1")
    limit = number(f"{root}.spec", "elasticPolicy", "maxReplicas", default="0")
    most = f'(r == "Worker" ? [{now}, {limit}].max() : {now})'
    template = get(f"{roles}[r]", "template", default="{}")
    return f"({has(f'{root}.spec', key)} ? {roles}.map(r, {_set(template, now, most)}) : [])"


def _leader_worker_set(root: str) -> str:
    groups = number(f"{root}.spec", "replicas", default="1")
    own = f"{root}.spec.leaderWorkerTemplate"
    size = number(own, "size", default="1")
    worker = get(own, "workerTemplate", default="{}")
    leader = get(own, "leaderTemplate", default=worker)
    return (
        f"({size} > 0 ? [{_set(leader, groups)}] : []) + "
        f"({size} > 1 ? [{_set(worker, f'{groups} * ({size} - 1)')}] : [])"
    )


def sets(root: str) -> str:
    """Return the pod sets of `object` or `oldObject`: a list of templates `t`, pods `n` and `most` (-1 if not told)."""
    ray = (f"{root}.spec.rayClusterSpec", f"{root}.spec.rayClusterConfig", f"{root}.spec")
    submitter = f"{root}.spec.submitterPodTemplate"
    ray_job = (
        f"({_ray(ray[0])}) + ({has(f'{root}.spec', 'submitterPodTemplate')} ? [{_set(submitter, '1')}] : [])"
    )
    replicated = "r.template.spec"
    jobs = f"{_job(replicated)} * {number('r', 'replicas', default='1')}"
    job_set = f"{get(f'{root}.spec', 'replicatedJobs', default='[]')}.map(r, {_set(f'{replicated}.template', jobs)})"
    template = get(f"{root}.spec", "template", default="{}")
    cases = {
        '"Pod"': f"[{_set(root, '1')}]",
        '"Job"': f"[{_set(template, _job(f'{root}.spec'))}]",
        '"CronJob"': f"[{_set(f'{root}.spec.jobTemplate.spec.template', _job(f'{root}.spec.jobTemplate.spec'))}]",
        '"DaemonSet"': f"[{_set(template, '-1')}]",
        '"JobSet"': job_set,
        **{quoted(kind): _training(root, key) for kind, key in _TRAINING.items()},
        '"RayJob"': f"({has(f'{root}.spec', 'rayClusterSpec')} ? {ray_job} : [])",
        '"RayService"': f"({has(f'{root}.spec', 'rayClusterConfig')} ? {_ray(ray[1])} : [])",
        '"RayCluster"': _ray(ray[2]),
        '"LeaderWorkerSet"': _leader_worker_set(root),
    }
    found = f"[{_set(template, number(f'{root}.spec', 'replicas', default='1'))}]"
    scaled = " || ".join(f"{root}.kind == {quoted(kind)}" for kind in _SCALED)
    found = f"({scaled}) ? {found} : []"
    for kind, own in reversed(cases.items()):
        found = f"{root}.kind == {kind} ? {own} : ({found})"
    return found


def _resources(container: str, part: str) -> str:
    return get(container, "resources", part, default="{}")


def _asks(container: str) -> str:
    """Return a list of what a container asks for of accelerators: resource `r` and amount `v`, a limit if no request."""
    requests, limits = _resources(container, "requests"), _resources(container, "limits")
    zero = '.matches("^0+$")'
    asked = (
        f"{requests}.filter(k, k.matches({_EVERY}) && !string({requests}[k]){zero})"
        f'.map(k, {{"r": k, "v": string({requests}[k])}})'
    )
    limited = (
        f"{limits}.filter(k, k.matches({_EVERY}) && !(k in {requests}) && !string({limits}[k]){zero})"
        f'.map(k, {{"r": k, "v": string({limits}[k])}})'
    )
    return f"({asked} + {limited})"


_NOTED: Final = get("s.t", "metadata", "annotations", default="{}")
_FRACTION: Final = f'("gpu-fraction" in {_NOTED})'
_MEMORY: Final = f'("gpu-memory" in {_NOTED} && !("gpu-fraction" in {_NOTED}))'
_CLAIMS: Final = f"{get('s.t', 'spec', 'resourceClaims', default='[]')}.size() > 0"


def accelerated(root: str) -> str:
    """Return, without variables, the test that an object might ask for a card: for conditions that have none."""
    containers = " || ".join(
        f"{get('s.t', 'spec', part, default='[]')}.exists(c, {_resources('c', kind)}.exists(k, k.matches({_EVERY})))"
        for part in ("containers", "initContainers")
        for kind in ("limits", "requests")
    )
    return f"({sets(root)}).exists(s, {containers} || {_CLAIMS} || {_FRACTION} || {_MEMORY})"


def cards() -> list[Variable]:
    """Return the variables that count: `accelerated`, `countable`, `exact`, `gpus`, and `most` with scaling."""
    main, init = (get("s.t", "spec", part, default="[]") for part in ("containers", "initContainers"))
    sidecar = f'{get("c", "restartPolicy", default=quoted(""))} == "Always"'
    asked = (
        'variables.sets.map(s, {"n": s.n, "most": s.most, '
        f'"main": dyn({main}.map(c, {_asks("c")}) + {init}.filter(c, {sidecar}).map(c, {_asks("c")})), '
        f'"init": dyn({init}.filter(c, !({sidecar})).map(c, {_asks("c")}).filter(l, l.size() > 0)), '
        f'"claims": dyn({_CLAIMS}), "fraction": dyn({_FRACTION}), "memory": dyn({_MEMORY}), '
        f'"devices": dyn({_devices()})}})'
    )
    readable = f'x.v.matches("^[0-9]{{1,9}}$") && (x.r.matches({_WHOLE}) || (x.r.matches({_PARTS}) && !x.r.matches({_UNSIZED})))'
    resources = "(a.main.exists(l, l.size() > 0) || a.init.size() > 0)"
    total = "l.map(x, int(x.v)).sum()"
    known = f"!a.claims && ({resources} || !a.memory) && (a.main + a.init).all(l, l.all(x, {readable}))"
    count = f"a.main.map(l, {total}).sum() + (a.init.map(l, {total}) + [0]).max()"
    whole_cards = f"(a.main + a.init).all(l, l.all(x, x.r.matches({_WHOLE})))"
    demands = (
        'variables.asked.map(a, {"n": a.n, "most": a.most, '
        f'"asks": dyn({resources} || a.claims || a.fraction || a.memory), "known": dyn({known}), '
        f'"exact": dyn(a.init.size() == 0 && {whole_cards} && ({resources} || !a.fraction)), '
        f'"cards": dyn(({known}) ? ({resources} ? {count} : a.fraction ? a.devices : 0) : 0)}}).filter(d, d.asks)'
    )
    return [
        Variable("sets", sets("object")),
        Variable("asked", asked),
        Variable("demands", demands),
        Variable("accelerated", "variables.demands.exists(d, !d.known || d.n != 0)"),
        Variable("countable", "variables.demands.all(d, d.known && d.n >= 0)"),
        Variable("exact", "variables.countable && variables.demands.all(d, d.exact)"),
        Variable("gpus", "variables.demands.map(d, int(d.cards) * int(d.n)).sum()"),
        Variable(
            "most",
            "variables.demands.all(d, d.known && d.most >= 0) ? "
            "variables.demands.map(d, int(d.cards) * int(d.most)).sum() : variables.gpus",
        ),
    ]


def _devices() -> str:
    key = quoted("gpu-fraction-num-devices")
    return f'({key} in {_NOTED} && {_NOTED}[{key}].matches("^[0-9]{{1,6}}$") ? int({_NOTED}[{key}]) : 1)'


def seconds() -> list[Variable]:
    """Return `seconds`, the object's own deadline as a double; -1.0 without one."""
    paths, label, promise = deadline_places()
    parts = []
    for path in paths:
        found = number("object", *path, default="-1")
        parts.append(f"({found} >= 0 ? [double({found})] : [])")
    labels, notes = (get("object", "metadata", kind, default="{}") for kind in ("labels", "annotations"))
    parts.append(
        f'({quoted(label)} in {labels} && {labels}[{quoted(label)}].matches("^[0-9]{{1,15}}$") '
        f"? [double({labels}[{quoted(label)}])] : [])"
    )
    template = number("s.t", "spec", "activeDeadlineSeconds", default="-1")
    held = f"variables.sets.size() > 0 && variables.sets.all(s, {template} >= 0)"
    said = f'({quoted(promise)} in {notes} ? {notes}[{quoted(promise)}].trim() : {quoted(promise)} in {labels} ? {labels}[{quoted(promise)}] : "")'
    hours = r'variables.promised.matches("^[0-9]{1,9}([.][0-9]{1,9})?$") && double(variables.promised) > 0.0'
    below = f"({held} ? [double(variables.sets.map(s, {template}).max())] : [])"
    return [
        Variable("promised", said),
        Variable("told", " + ".join(parts)),
        Variable(
            "limits",
            f"(variables.told.size() > 0 ? variables.told : {below}) + "
            f"({hours} ? [double(variables.promised) * 3600.0] : [])",
        ),
        Variable("seconds", "variables.limits.size() > 0 ? variables.limits.min() : -1.0"),
    ]


CONTROLLED: Final = Variable(
    "controlled",
    f"{get('object', 'metadata', 'ownerReferences', default='[]')}"
    '.exists(o, has(o.controller) && o.controller == true && o.kind != "Node")',
)
