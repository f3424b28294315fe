"""Gangs: pods that can only work together. While some of them run and others wait, those that run are held.

A pod is in a gang when something says so: a pod group of a scheduler, a LeaderWorkerSet's group, or a kind of job
whose pods find each other (JobSet, PyTorchJob …). Replicas of a service and tasks of a queue are no gang.
Sources: LeaderWorkerSet, JobSet, Kueue (pod groups), Volcano, coscheduling plugin, KAI scheduler, KEP-4671.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from gpuledger.core.workload.fields import Json, annotations, at, labels, mapping, namespace, text, whole
from gpuledger.core.workload.lifetimes import Interval, PodLife, merged
from gpuledger.core.workload.objects import Objects
from gpuledger.core.workload.owners import Root, controller

_TOGETHER: Final = frozenset(
    {"JobSet", "TrainJob", "PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob", "MXJob"}
)
_RESTART: Final = "jobset.sigs.k8s.io/restart-attempt"
_GROUPS: Final = (
    *("scheduling.k8s.io/group-name", "scheduling.x-k8s.io/pod-group", "pod-group.scheduling.sigs.k8s.io"),
    *("pod-group.scheduling.sigs.k8s.io/name", "pod-group-name"),
)
_INDEX: Final = "batch.kubernetes.io/job-completion-index"
# What tells apart the places in a job that one pod after another takes.
_SLOTS: Final = (
    *("jobset.sigs.k8s.io/replicatedjob-name", "jobset.sigs.k8s.io/job-index", _INDEX),
    *("training.kubeflow.org/replica-type", "training.kubeflow.org/replica-index"),
    *("leaderworkerset.sigs.k8s.io/group-index", "leaderworkerset.sigs.k8s.io/worker-index"),
    *("statefulset.kubernetes.io/pod-name", "tekton.dev/pipelineTask"),
)
# Argo names the nodes of its graph, and the tries of one with a number behind.
_ARGO_NODE: Final = "workflows.argoproj.io/node-name"
_RAY_CLUSTER: Final = "ray.io/cluster"
_ORIGIN: Final = "ray.io/originated-from-crd"


@dataclass(frozen=True, slots=True)
class Gang:
    """The gang of a pod. `size` is how many pods must run, None when that isn't said and all seen places count."""

    key: str
    size: int | None


def gang_of(pod: Json, root: Root, pods: int | None, objects: Objects) -> Gang | None:
    """Return the gang that a pod is in, None for one that works by itself.

    `pods` is the number of pods of its job, if known; `objects` may hold PodGroups, which say how many must run.
    """
    pods = _least(root) or pods
    tags, notes = labels(pod), annotations(pod)
    if key := tags.get("leaderworkerset.sigs.k8s.io/group-key"):
        return Gang(f"lws/{key}", whole(notes.get("leaderworkerset.sigs.k8s.io/size")))
    if (key := tags.get("kueue.x-k8s.io/pod-group-name")) and "kueue.x-k8s.io/pod-group-serving" not in notes:
        return Gang(f"kueue/{namespace(pod)}/{key}", whole(notes.get("kueue.x-k8s.io/pod-group-total-count")))
    own = (
        next((value for group in _GROUPS if (value := notes.get(group) or tags.get(group))), None)
        or text(at(pod, "spec", "schedulingGroup", "podGroupName"))
        or text(at(pod, "spec", "workloadRef", "podGroup"))
    )
    if own:
        group = mapping(objects.named("PodGroup", namespace(pod), own))
        least = whole(at(group, "spec", "minMember")) or whole(
            at(group, "spec", "schedulingPolicy", "gang", "minCount")
        )
        if least is not None:
            return Gang(f"group/{namespace(pod)}/{own}", least) if least > 1 else None
    if root.kind in _TOGETHER:
        return Gang(f"job/{root.uid or root.name}/{tags.get(_RESTART, '')}", pods) if pods != 1 else None
    if root.kind == "Job" and _INDEX in tags and text(at(pod, "spec", "subdomain")) and pods != 1:
        # Numbered pods with names of their own are there to find each other.
        return Gang(f"job/{root.uid or root.name}", pods)
    return None


def _least(root: Root) -> int | None:
    """Return how many pods an elastic job can begin with, if it says so."""
    spec = mapping(root.objects[0].get("spec")) if root.objects else {}
    return (
        whole(at(spec, "elasticPolicy", "minReplicas"))
        or whole(at(spec, "runPolicy", "schedulingPolicy", "minAvailable"))
        or whole(spec.get("minAvailable"))
    )


def slot_of(pod: Json) -> str | None:
    """Return the place that a pod takes in its job; None when its pods have no places."""
    tags = labels(pod)
    parts = [tags[key] for key in _SLOTS if key in tags]
    if _INDEX in tags:
        parts.append(tags.get("batch.kubernetes.io/job-name", ""))
    if (step := annotations(pod).get(_ARGO_NODE)) is not None:
        parts.append(re.sub(r"\(\d+\)$", "", step))
    if not parts or (len(parts) == 1 and "jobset.sigs.k8s.io/replicatedjob-name" in tags):
        return None
    return "/".join(parts)


def waiting(lives: Iterable[PodLife], size: int | None, until: datetime) -> list[Interval]:
    """Return the times in which some of a gang ran while too few did: what runs then is held.

    Pods that succeeded have done their part. A gang that was complete waits again only for a pod that exists.
    """
    members = list(lives)
    needed = size if size is not None else len({slot_of(life.pod) or life.uid for life in members})
    steps: dict[datetime, list[int]] = {}
    for life in members:
        for when, change in _steps(life, until):
            held = steps.setdefault(when, [0, 0, 0])
            for place, amount in enumerate(change):
                held[place] += amount
    found: list[Interval] = []
    running = pending = done = 0
    formed = False
    for when, following in pairwise([*sorted(steps), until]):
        more = steps[when]
        running, pending, done = running + more[0], pending + more[1], done + more[2]
        few = running + done < needed
        formed = formed or not few
        if running and few and (pending or not formed):
            found.append((when, following))
    return merged(found)


def _steps(life: PodLife, until: datetime) -> list[tuple[datetime, tuple[int, int, int]]]:
    """Return how a pod changes the numbers of running, pending and done pods, in time."""
    if life.created >= until:
        return []
    steps = [(life.created, (0, 1, 0))]
    for start, end in life.running(until):
        steps.append((start, (1, -1, 0)))
        if end < until or life.ended == end:
            steps.append((end, (-1, 1, 0)))
    if life.ended is not None and life.ended <= until:
        steps.append((life.ended, (0, -1, int(life.outcome == "Succeeded"))))
    return steps


def attempts_before(lives: Iterable[PodLife]) -> dict[str, int]:
    """Return for each pod of a job, by uid, the tries before it.

    Those are the pods that had its place before and their restarts; for a pod without a place, the pods of its
    controller that had failed. A controller made anew under its old name is the same; a RayJob that tries again makes
    another Ray cluster.
    """
    ordered = sorted(lives, key=lambda life: (life.created, life.uid))
    tried: dict[tuple[object, ...], int] = {}
    failures: dict[tuple[object, ...], list[datetime]] = {}
    clusters: dict[str, int] = {}
    found = {}
    for life in ordered:
        owner, slot = controller(life.pod), slot_of(life.pod)
        group = (life.uid,) if owner is None else (owner.kind, owner.name)
        if slot is not None:
            found[life.uid] = tried.get((*group, slot), 0)
            if life.scheduled is not None:
                tried[*group, slot] = found[life.uid] + 1 + life.restarts
            continue
        tags = labels(life.pod)
        before = 0
        if (called := tags.get(_RAY_CLUSTER)) is not None and tags.get(_ORIGIN) == "RayJob":
            before = clusters.setdefault(called, len(clusters))
        found[life.uid] = before + sum(1 for when in failures.get(group, ()) if when < life.created)
        if life.outcome == "Failed" and life.scheduled is not None:
            failures.setdefault(group, []).append(life.created)
    return found
