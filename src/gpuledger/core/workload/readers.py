"""Where the known kinds of job objects keep their pod templates, and how many pods each stands for."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from gpuledger.core.workload.fields import Json, items, kind, mapping, metadata, name, namespace, text, whole
from gpuledger.core.workload.manifests import (
    Finder,
    Reader,
    Template,
    anywhere,
    below,
    labelled,
    replicas,
    templates,
)
from gpuledger.core.workload.workflows import argo, tekton

# KubeRay's default for the container that submits a job, and for the autoscaler beside the head.
_SUBMITTER: Final = {
    "name": "ray-job-submitter",
    "resources": {"requests": {"cpu": "500m", "memory": "200Mi"}},
}
_AUTOSCALER: Final = {
    "requests": {"cpu": "500m", "memory": "512Mi"},
    "limits": {"cpu": "500m", "memory": "512Mi"},
}
_SPARK_MEMORY: Final = re.compile(r"(\d+)([kmgtp]?)b?", re.IGNORECASE)
_STEP: Final = "trainer.kubeflow.org/trainjob-ancestor-step"


def _pod(obj: Json, _: Finder) -> list[Template]:
    return [Template("pod", obj, 1, 1)] if below(obj, "spec") else []


def _scaled(obj: Json, finder: Finder) -> list[Template]:
    """Deployment, ReplicaSet, StatefulSet and their like: `spec.replicas` pods of `spec.template`."""
    spec = below(obj, "spec")
    if not below(spec, "template"):
        other = text(below(spec, "workloadRef").get("name"))
        found = finder.refer(
            (text(below(spec, "workloadRef").get("kind")) or "Deployment",), namespace(obj), other
        )
        spec = {**spec, "template": below(found, "spec", "template")} if found is not None else {}
    number = replicas(spec)
    return [Template("pods", below(spec, "template"), number, number)] if spec else []


def _every_node(obj: Json, _: Finder) -> list[Template]:
    return [Template("pods", below(obj, "spec", "template"), None, None)]


def _job(obj: Json, _: Finder) -> list[Template]:
    """batch/v1 Job: `parallelism` pods at once, but never more than are left to complete."""
    spec = below(obj, "spec")
    number = replicas(spec, "parallelism")
    completions = whole(spec.get("completions"))
    number = number if completions is None else min(number, completions)
    return [Template("pods", below(spec, "template"), number, number)]


def _cron_job(obj: Json, finder: Finder) -> list[Template]:
    return _job(below(obj, "spec", "jobTemplate"), finder)


def _scaled_job(obj: Json, finder: Finder) -> list[Template]:
    """KEDA's ScaledJob: from `minReplicaCount` (0) to `maxReplicaCount` (100) Jobs, as its queue is long."""
    spec = below(obj, "spec")
    least, limit = replicas(spec, "minReplicaCount", 0), replicas(spec, "maxReplicaCount", 100)
    return [
        replace(one, pods=_times(one.pods, least), most=_times(one.most, limit))
        for one in _job({"spec": spec.get("jobTargetRef")}, finder)
    ]


def _times(pods: int | None, jobs: int) -> int | None:
    return None if pods is None else pods * jobs


def _job_set(obj: Json, finder: Finder) -> list[Template]:
    """JobSet: `replicas` Jobs of each replicated job."""
    found = []
    for one in items(below(obj, "spec").get("replicatedJobs")):
        jobs = replicas(one)
        for own in _job(below(one, "template"), finder):
            number = None if own.pods is None else own.pods * jobs
            found.append(Template(text(one.get("name")) or own.name, own.template, number, number))
    return found


def _replica_specs(obj: Json, _: Finder) -> list[Template]:
    """Training operator and MPI operator: `<framework>ReplicaSpecs`, one entry per role."""
    spec = below(obj, "spec")
    limit = whole(below(spec, "elasticPolicy").get("maxReplicas"))
    found = []
    for key, roles in spec.items():
        if not str(key).endswith("ReplicaSpecs"):
            continue
        for role, own in mapping(roles).items():
            number = replicas(mapping(own))
            most = max(number, limit) if limit is not None and role == "Worker" else number
            found.append(Template(str(role).lower(), below(own, "template"), number, most))
    return found


def _train_job(obj: Json, finder: Finder) -> list[Template]:
    """TrainJob: the runtime's JobSet, with `numNodes` pods of the trainer step and the TrainJob's resources."""
    spec = below(obj, "spec")
    trainer, reference = below(spec, "trainer"), below(spec, "runtimeRef")
    wanted = text(reference.get("kind")) or "ClusterTrainingRuntime"
    override = trainer.get("resourcesPerNode")
    # With resources of its own, all that the runtime could add are initialisers without cards.
    runtime = finder.refer((wanted,), namespace(obj), text(reference.get("name")), needed=override is None)
    nodes = whole(trainer.get("numNodes"))
    if runtime is None:
        container = {"name": "node", "resources": override}
        return [Template("node", {"spec": {"containers": [container]}}, nodes, nodes)] if override else []
    if nodes is None:
        nodes = replicas(below(runtime, "spec", "mlPolicy"), "numNodes")
    found = []
    for one in items(below(runtime, "spec", "template", "spec").get("replicatedJobs")):
        own = _job_set({"spec": {"replicatedJobs": [one]}}, finder)[0]
        template = below(one, "template")
        trains = labelled(template, _STEP) == "trainer" or (
            labelled(template, _STEP) is None and text(one.get("name")) in {"node", "trainer-node"}
        )
        if trains:
            own = replace(own, template=_with_resources(own.template, override), pods=nodes, most=nodes)
        found.append(own)
    return found


def _with_resources(template: Json, override: object) -> Json:
    """Return the template with its first container's resources replaced."""
    containers = items(below(template, "spec").get("containers"))
    if not isinstance(override, Mapping) or not containers:
        return template
    place = next((at for at, one in enumerate(containers) if one.get("name") == "node"), 0)
    containers[place] = {**containers[place], "resources": override}
    return {**template, "spec": {**below(template, "spec"), "containers": containers}}


def _ray_cluster(obj: Json, _: Finder) -> list[Template]:
    return _ray(below(obj, "spec"))


def _ray_job(obj: Json, _: Finder) -> list[Template]:
    """RayJob: its cluster, and the pod that submits (in the default mode, from the head's image)."""
    return _ray_job_spec(below(obj, "spec"))


def _ray_cron_job(obj: Json, _: Finder) -> list[Template]:
    return _ray_job_spec(below(obj, "spec", "jobTemplate"))


def _ray_service(obj: Json, _: Finder) -> list[Template]:
    return _ray(below(obj, "spec", "rayClusterConfig"))


def _ray_job_spec(spec: Json) -> list[Template]:
    found = _ray(below(spec, "rayClusterSpec"))
    mode = text(spec.get("submissionMode")) or "K8sJobMode"
    if mode == "SidecarMode" and found:
        found[0] = replace(found[0], template=_beside(found[0].template, _SUBMITTER))
    if mode == "K8sJobMode":
        template = below(spec, "submitterPodTemplate") or {"spec": {"containers": [_SUBMITTER]}}
        found.append(Template("submitter", template, 1, 1))
    return found


def _ray(cluster: Json) -> list[Template]:
    """Return head and workers of a Ray cluster: each worker group has replicas within its bounds × hosts."""
    if not cluster:
        return []
    head = below(cluster, "headGroupSpec", "template")
    scales = cluster.get("enableInTreeAutoscaling") is True
    if scales:
        resources = below(cluster, "autoscalerOptions", "resources") or _AUTOSCALER
        head = _beside(head, {"name": "autoscaler", "resources": resources})
    found = [Template("head", head, 1, 1)]
    for worker in items(cluster.get("workerGroupSpecs")):
        least, limit = replicas(worker, "minReplicas", 0), whole(worker.get("maxReplicas"))
        number = max(replicas(worker, default=least), least)
        number = number if limit is None else min(number, limit)
        most = limit if scales else number
        if worker.get("suspend") is True:
            number = most = 0
        hosts = replicas(worker, "numOfHosts")
        called = text(worker.get("groupName")) or "worker"
        found.append(
            Template(
                called, below(worker, "template"), number * hosts, None if most is None else most * hosts
            )
        )
    return found


def _beside(template: Json, container: Json) -> Json:
    spec = below(template, "spec")
    return {**template, "spec": {**spec, "containers": [*items(spec.get("containers")), container]}}


def _leader_worker_set(obj: Json, _: Finder) -> list[Template]:
    """LeaderWorkerSet: per replica one leader and `size` - 1 workers; leaders are workers unless told otherwise."""
    spec = below(obj, "spec")
    groups, group = replicas(spec), below(spec, "leaderWorkerTemplate")
    size, worker = replicas(group, "size"), below(group, "workerTemplate")
    leader = below(group, "leaderTemplate") or worker
    found = [Template("leader", leader, groups, groups)] if size else []
    workers = groups * (size - 1)
    return [*found, Template("worker", worker, workers, workers)] if size > 1 else found


def _app_wrapper(obj: Json, finder: Finder) -> list[Template]:
    """AppWrapper: each component as its own kind, or as the pod sets that it declares when the kind isn't known."""
    found = []
    for component in items(below(obj, "spec").get("components")):
        wrapped = mapping(component.get("template"))
        declared = items(component.get("podSets"))
        if declared and (None, kind(wrapped)) not in READERS:
            for one in declared:
                number = replicas(one)
                template = _at_path(wrapped, text(one.get("path")) or "")
                found.append(
                    Template(text(one.get("name")) or kind(wrapped).lower(), template, number, number)
                )
            continue
        inner = {**wrapped, "metadata": {"namespace": namespace(obj), **metadata(wrapped)}}
        found += [replace(one, name=f"{name(wrapped)}/{one.name}") for one in templates(inner, finder)]
    return found


def _at_path(component: Json, path: str) -> Json:
    """Return the pod template at an AppWrapper's path, such as `template.spec.tasks[0].template`."""
    value: object = {"template": component}
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, list):
            value = value[int(step)] if step.isdigit() and int(step) < len(value) else None
        else:
            value = mapping(value).get(step)
    return mapping(value)


def _spark(obj: Json, _: Finder) -> list[Template]:
    spec = below(obj, "spec")
    return _spark_spec(below(spec, "template") if kind(obj).startswith("Scheduled") else spec)


def _spark_spec(spec: Json) -> list[Template]:
    """SparkApplication: a driver and executors, sized by fields of Spark's own unless they have a template."""
    driver, executor, dynamic = (
        below(spec, "driver"),
        below(spec, "executor"),
        below(spec, "dynamicAllocation"),
    )
    number = most = replicas(executor, "instances")
    if dynamic.get("enabled") is True:
        number = replicas(dynamic, "initialExecutors", replicas(dynamic, "minExecutors", number))
        limit = whole(dynamic.get("maxExecutors"))
        return [
            Template("driver", _spark_pod(driver), 1, 1),
            Template("executor", _spark_pod(executor), number, limit),
        ]
    return [
        Template("driver", _spark_pod(driver), 1, 1),
        Template("executor", _spark_pod(executor), number, most),
    ]


def _spark_pod(role: Json) -> Json:
    """Return a pod template with what Spark asks for: `memory` in Java's form, without the overhead that it adds."""
    requests: dict[str, object] = {"cpu": role.get("coreRequest") or role.get("cores") or 1}
    if found := _SPARK_MEMORY.fullmatch(text(role.get("memory")) or "1g"):
        requests["memory"] = f"{found[1]}{found[2].upper() or 'M'}i"
    if resource := text(below(role, "gpu").get("name")):
        requests[resource] = below(role, "gpu").get("quantity")
    container = {"name": "spark", "resources": {"requests": requests}}
    template = below(role, "template")
    spec = below(template, "spec")
    own = items(spec.get("containers"))
    nodes = {"nodeSelector": role.get("nodeSelector") or spec.get("nodeSelector")}
    if own:
        asked = below(own[0], "resources")
        merged = {**below(asked, "limits"), **requests, **below(asked, "requests")}
        container = {**own[0], "resources": {"requests": merged}}
    return {**template, "spec": {**spec, **nodes, "containers": [container, *own[1:]]}}


def _inference_service(obj: Json, finder: Finder) -> list[Template]:
    """KServe InferenceService: predictor, transformer and explainer, at least `minReplicas` of each."""
    found = []
    for role in ("predictor", "transformer", "explainer"):
        own = below(obj, "spec", role)
        if not own:
            continue
        number, limit = replicas(own, "minReplicas"), whole(own.get("maxReplicas"))
        containers = items(own.get("containers")) or [
            {"name": str(key), **mapping(value)}
            for key, value in own.items()
            if "resources" in mapping(value)
        ]
        spec = {**own, "containers": containers}
        found.append(Template(role, {"spec": spec}, number, max(number, limit) if limit else number))
        # A model over several nodes: the head is the predictor's own pod, the worker spec the others.
        worker = below(own, "workerSpec")
        if worker:
            stages = whole(worker.get("pipelineParallelSize"))
            others = None if stages is None else number * max(stages - 1, 0)
            found += [
                replace(one, pods=others, most=others)
                for one in anywhere(worker, f"{role}-worker", 1, finder)
            ]
    return found


# By API group and kind, or by kind alone when no other group is known to use the word.
READERS: Final[Mapping[tuple[str | None, str], Reader]] = {
    (None, "Pod"): _pod,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron_job,
    **dict.fromkeys(
        (
            (None, word)
            for word in ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController", "Rollout")
        ),
        _scaled,
    ),
    **dict.fromkeys(((None, "DaemonSet"),), _every_node),
    (None, "ScaledJob"): _scaled_job,
    (None, "JobSet"): _job_set,
    **dict.fromkeys(
        ((None, f"{word}Job") for word in ("PyTorch", "TF", "MPI", "XGBoost", "Paddle", "JAX", "MX")),
        _replica_specs,
    ),
    (None, "TrainJob"): _train_job,
    (None, "RayCluster"): _ray_cluster,
    (None, "RayJob"): _ray_job,
    (None, "RayCronJob"): _ray_cron_job,
    (None, "RayService"): _ray_service,
    (None, "LeaderWorkerSet"): _leader_worker_set,
    (None, "AppWrapper"): _app_wrapper,
    **dict.fromkeys(((None, "SparkApplication"), (None, "ScheduledSparkApplication")), _spark),
    (None, "InferenceService"): _inference_service,
    **dict.fromkeys(((None, "Workflow"), (None, "CronWorkflow")), argo),
    **dict.fromkeys(((None, "PipelineRun"), (None, "TaskRun")), tekton),
}
