"""Kubernetes objects as submissions: what any job object asks for and says, from the object alone.

Deadlines are read where the platforms enforce them: `activeDeadlineSeconds` (batch/v1 Job, KubeRay's RayJob, Argo
Workflows, pods), `runPolicy.activeDeadlineSeconds` (Kubeflow training operator, MPI operator), Kueue's
`kueue.x-k8s.io/max-exec-time-seconds`; and `gpuledger.io/max-hours`, which is a promise that nothing enforces.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from gpuledger.core.policy.model import Default
from gpuledger.core.policy.submission import Cards, Submission
from gpuledger.core.usage import Evidence
from gpuledger.core.workload.attribution import DIMENSIONS, PREFIX, REQUESTED_BY, dimensions, said
from gpuledger.core.workload.fields import (
    Json,
    annotations,
    at,
    group,
    kind,
    labels,
    mapping,
    namespace,
    quantity,
    whole,
)
from gpuledger.core.workload.manifests import Finder, JobSize, job_size, templates
from gpuledger.core.workload.nodes import cards_of_labels, selected_labels
from gpuledger.core.workload.objects import Objects
from gpuledger.prices.accelerators import gpu_type

MAX_HOURS: Final = f"{PREFIX}max-hours"
QUEUE: Final = "kueue.x-k8s.io/queue-name"
_MAX_SECONDS: Final = "kueue.x-k8s.io/max-exec-time-seconds"
_SAID_ITSELF: Final = 2  # ranks of evidence that are the object's own labels and annotations
_SERVES: Final = frozenset(
    {
        *("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Rollout"),
        *("RayService", "RayCluster", "InferenceService", "LLMInferenceService", "LeaderWorkerSet"),
        *("Notebook", "Service", "DynamoGraphDeployment", "NIMService", "SandboxWarmPool", "Sandbox"),
    }
)
_DEADLINES: Final = (
    ("spec", "activeDeadlineSeconds"),
    ("spec", "runPolicy", "activeDeadlineSeconds"),
    ("spec", "jobTemplate", "spec", "activeDeadlineSeconds"),
    ("spec", "jobTemplate", "activeDeadlineSeconds"),
    ("spec", "workflowSpec", "activeDeadlineSeconds"),
)
_DEADLINE_OF: Final = {
    **dict.fromkeys(("Job", "RayJob", "Workflow", "Pod"), "spec.activeDeadlineSeconds"),
    **dict.fromkeys(("CronJob",), "spec.jobTemplate.spec.activeDeadlineSeconds"),
    **dict.fromkeys(
        ("PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob"),
        "spec.runPolicy.activeDeadlineSeconds",
    ),
}
_INSTANCE_TYPES: Final = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
_Place = tuple[str | None, str | None, str | None]  # model, instance type, region
_REGION: Final = "topology.kubernetes.io/region"


def submission_of(
    obj: Json,
    objects: Objects | None = None,
    *,
    own_namespace: Json | None = None,
    default_namespace: str | None = None,
    submitter: str | None = None,
    before: Json | None = None,
) -> Submission | None:
    """Return a job object as a submission; None for an object that runs no pods.

    `objects` are those that it may refer to (runtimes, claim templates …), `own_namespace` its Namespace object,
    `before` what it was before an update.
    """
    size = job_size(obj, objects)
    if size is None:
        return None
    space = namespace(obj) or default_namespace
    own = kind(obj)
    return Submission(
        plane="kubernetes",
        kind=own,
        name=size.name,
        namespace=space,
        submitter=submitter or labels(obj).get(REQUESTED_BY) or annotations(obj).get(REQUESTED_BY),
        cards=_cards(obj, size, objects),
        most_gpus=size.most_gpus,
        hours=deadline_hours(obj),
        serves=own in _SERVES and not (own == "Service" and group(obj) != "serving.knative.dev"),
        said=_said(obj),
        offered=_offered(obj, own_namespace, submitter),
        before=None if before is None else {name: one.value for name, one in _said(before).items()},
        fields={
            **{name: f"the label {label_of(name)}" for name in DIMENSIONS},
            "deadline": _DEADLINE_OF.get(own, f"the annotation {MAX_HOURS}"),
        },
        problems=size.problems,
    )


def label_of(dimension: str) -> str:
    """Return the label that says a dimension."""
    return PREFIX + dimension.replace("_", "-")


def _said(obj: Json) -> dict[str, Evidence]:
    found: dict[str, Evidence] = {}
    for name, one in said((obj,)):
        if name not in found or one.rank < found[name].rank:
            found[name] = one
    return found


def _offered(
    obj: Json, own_namespace: Json | None, submitter: str | None
) -> Mapping[Default, Mapping[str, str]]:
    found: dict[Default, Mapping[str, str]] = {}
    if own_namespace is not None:
        found["namespace"] = {
            name: one.value
            for name, one in dimensions((), own_namespace).items()
            if one.rank <= _SAID_ITSELF + 1
        }
    if queue := labels(obj).get(QUEUE):
        found["queue"] = dict.fromkeys(DIMENSIONS, queue)
    if submitter:
        found["submitter"] = dict.fromkeys(DIMENSIONS, submitter)
    return found


def _cards(obj: Json, size: JobSize, objects: Objects | None) -> tuple[Cards, ...]:
    """Return the cards by where their pods may run; one entry without a model where pods of several share a claim."""
    if not size.resources and size.complete:
        return ()
    by_place: dict[_Place, list[int]] = {}
    selector: object = None
    place: _Place = (None, None, None)
    for number, one in enumerate(templates(obj, Finder(objects or Objects()))):
        if not size.pod_sets[number].request.devices:
            continue
        spec = mapping(one.template.get("spec"))
        wanted = (spec.get("nodeSelector"), spec.get("affinity"))
        if wanted != selector:
            selector, place = wanted, _place(spec)
        by_place.setdefault(place, []).append(number)
    cards = [
        Cards(_only(size, numbers).gpus, model, instance_type, region)
        for (model, instance_type, region), numbers in by_place.items()
    ]
    total = size.gpus
    known = [card.gpus for card in cards if card.gpus is not None]
    if total is None or len(known) < len(cards) or sum(known) != total or not cards:
        models = {card.model for card in cards}
        return (Cards(total, models.pop() if len(models) == 1 else None),)
    return tuple(cards)


def _only(size: JobSize, numbers: list[int]) -> JobSize:
    chosen = tuple(size.pod_sets[number] for number in numbers)
    return JobSize(size.kind, size.name, size.namespace, chosen, (), size.complete)


def _place(spec: Json) -> _Place:
    tags = selected_labels(spec)
    instance_type = next((tags[key] for key in _INSTANCE_TYPES if key in tags), None)
    known = gpu_type(instance_type) if instance_type else None
    model = cards_of_labels(tags).model or (known.gpu_model if known else None)
    return model, instance_type, tags.get(_REGION)


def deadline_places() -> tuple[tuple[tuple[str, ...], ...], str, str]:
    """Return where objects say their deadline: paths and a label in seconds, a label or annotation in hours."""
    return _DEADLINES, _MAX_SECONDS, MAX_HOURS


def serves(obj_kind: str) -> bool:
    """Say whether objects of a kind run until somebody deletes them (Knative's Service is told by its group)."""
    return obj_kind in _SERVES


def deadline_hours(obj: Json) -> Decimal | None:
    """Return the hours after which a job is ended, None without a deadline."""
    seconds = [found for path in _DEADLINES if (found := whole(at(obj, *path))) is not None]
    limit = whole(labels(obj).get(_MAX_SECONDS))
    if limit is not None:
        seconds.append(limit)
    if not seconds and (sets := templates(obj)):
        below = [whole(at(one.template, "spec", "activeDeadlineSeconds")) for one in sets]
        if all(one is not None for one in below):
            seconds.append(max(one for one in below if one is not None))
    hours = [Decimal(one) / 3600 for one in seconds]
    promised = quantity(annotations(obj).get(MAX_HOURS) or labels(obj).get(MAX_HOURS))
    if promised is not None and promised > 0:
        hours.append(promised)
    return min(hours, default=None)
