"""How many pods, cards, cores and GiB a job object asks for when all of it runs at once.

Known kinds are read as their controllers read them; in any other object every pod template counts, times the
`replicas` and `parallelism` on the way to it. Defaults are those of the API references of Kubernetes (batch/v1,
apps/v1), JobSet, Kubeflow Training Operator v1 and Trainer v2, MPI operator, KubeRay (`GetWorkerGroupDesiredReplicas`),
LeaderWorkerSet, AppWrapper, Spark operator, KServe, Argo Workflows and Tekton.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Final

from gpuledger.core.workload.claims import Claims
from gpuledger.core.workload.devices import Cards, DeviceRequest
from gpuledger.core.workload.fields import (
    Json,
    at,
    group,
    items,
    kind,
    labels,
    mapping,
    metadata,
    name,
    namespace,
    text,
    whole,
)
from gpuledger.core.workload.objects import Objects
from gpuledger.core.workload.pods import PodRequest, pod_request

# Objects that hold pod templates and run nothing themselves, or only mirror another object.
_DEFINITIONS: Final = frozenset(
    {
        *(
            "PodTemplate",
            "ControllerRevision",
            "WorkflowTemplate",
            "ClusterWorkflowTemplate",
            "Task",
            "ClusterTask",
        ),
        *("Pipeline", "TrainingRuntime", "ClusterTrainingRuntime", "ServingRuntime", "ClusterServingRuntime"),
        *(
            "Workload",
            "PodGroup",
            "SandboxTemplate",
            "AdmissionReview",
            "CustomResourceDefinition",
        ),
        *("LLMInferenceServiceConfig", "ResourceClaimTemplate", "ResourceClaim"),
    }
)
_DEPTH: Final = 24


@dataclass(frozen=True, slots=True)
class Template:
    """A pod template in a job, and how many pods of it there are.

    `pods` is None when the object doesn't say; `most` is what the job may scale to by itself, None without a limit.
    """

    name: str
    template: Json
    pods: int | None
    most: int | None


@dataclass(frozen=True, slots=True)
class PodSet:
    """Pods of one template, with what each asks for."""

    name: str
    pods: int | None
    most: int | None
    request: PodRequest


@dataclass(frozen=True, slots=True)
class JobSize:
    """What a job asks for. `problems` says what couldn't be read or isn't known, and where.

    `complete` is False when an object that holds pod templates of the job isn't known: then no sum is.
    """

    kind: str
    name: str
    namespace: str | None
    pod_sets: tuple[PodSet, ...]
    problems: tuple[str, ...] = ()
    complete: bool = True

    @property
    def pods(self) -> int | None:
        """Pods at once; None when a template's number isn't known."""
        return _total([one.pods for one in self.pod_sets]) if self.complete else None

    @property
    def gpus(self) -> Fraction | None:
        """Whole cards at once, a claim that its pods share once; None when that can't be told."""
        return self._cards([one.pods for one in self.pod_sets])

    @property
    def most_gpus(self) -> Fraction | None:
        """Whole cards after scaling as far as the job may by itself; None without a limit."""
        return self._cards([one.most for one in self.pod_sets])

    @property
    def cpu_cores(self) -> Decimal | None:
        """Cores that all pods ask for."""
        return self._sum(lambda request: request.cpu_cores)

    @property
    def memory_gib(self) -> Decimal | None:
        """Memory that all pods ask for, in GiB."""
        return self._sum(lambda request: request.memory_gib)

    @property
    def resources(self) -> tuple[str, ...]:
        """Names of the accelerators asked for, sorted: resources, annotations or device classes."""
        return tuple(sorted({device.resource for one in self.pod_sets for device in one.request.devices}))

    def _cards(self, numbers: list[int | None]) -> Fraction | None:
        if not self.complete:
            return None
        total = Fraction(0)
        shared: dict[str, list[DeviceRequest]] = {}
        for one, pods in zip(self.pod_sets, numbers, strict=True):
            claimed: dict[str, list[DeviceRequest]] = {}
            for device in one.request.devices:
                if device.claim is not None:
                    claimed.setdefault(device.claim, []).append(device)
                elif device.cards is None or (pods is None and device.cards):
                    return None
                else:
                    total += device.cards * (pods or 0)
            shared = {**claimed, **shared}
        for device in (device for devices in shared.values() for device in devices):
            if device.cards is None:
                return None
            total += device.cards
        return total

    def _sum(self, of: Callable[[PodRequest], Decimal]) -> Decimal | None:
        if not self.complete:
            return None
        total = Decimal(0)
        for one in self.pod_sets:
            if one.pods is None:
                return None
            total += of(one.request) * one.pods
        return total


@dataclass(slots=True)
class Finder:
    """What the functions that find templates share: known objects to follow references, and what went wrong."""

    objects: Objects
    problems: list[str] = field(default_factory=list)
    complete: bool = True

    def refer(
        self, kinds: tuple[str, ...], space: str | None, called: str | None, *, needed: bool = True
    ) -> Json | None:
        """Return a referenced object, or note that it isn't known. Cluster-wide kinds have no namespace.

        `needed`: without it the size of the job can't be told.
        """
        for wanted in kinds if called else ():
            for where in dict.fromkeys((space, None)):
                if (found := self.objects.named(wanted, where, str(called))) is not None:
                    return found
        self.problems.append(f"{kinds[0]} {called or '?'} isn't known")
        self.complete = self.complete and not needed
        return None


Reader = Callable[[Json, Finder], list[Template]]


def job_size(
    obj: Json, objects: Objects | None = None, claims: Claims | None = None, cards: Cards | None = None
) -> JobSize | None:
    """Return what a job object asks for; None for an object that runs no pods (a Service, a queue, a definition).

    `objects` are those that the job may refer to: training runtimes, workflow templates, pipelines, DRA claims and
    their templates. `claims` are by default found among them. `cards` overrides what node selectors say.
    """
    objects = objects if objects is not None else Objects()
    finder = Finder(objects)
    found = templates(obj, finder)
    if not found and not finder.problems:
        return None
    claims = claims or Claims(objects)
    space = namespace(obj)
    sets, problems = [], list(finder.problems)
    before, request = None, None
    for one in found:
        if request is None or one.template != before:  # a job's templates are often the same
            request = pod_request(_placed(one.template, space), claims, cards)
        before = one.template
        problems += [f"{one.name}: {problem}" for problem in request.problems]
        sets.append(PodSet(one.name, one.pods, one.most, request))
    return JobSize(kind(obj), name(obj), space, tuple(sets), tuple(dict.fromkeys(problems)), finder.complete)


def templates(obj: Json, finder: Finder | None = None) -> list[Template]:
    """Return the pod templates of a job object with their numbers; none for an object that runs no pods."""
    from gpuledger.core.workload.readers import READERS

    finder = finder or Finder(Objects())
    own = kind(obj)
    if own in _DEFINITIONS or own.endswith("Template"):
        return []
    reader = READERS.get((group(obj), own)) or READERS.get((None, own))
    if reader is not None:
        return reader(obj, finder)
    return list(anywhere(obj, own.lower(), 1, finder))


def anywhere(value: object, where: str, factor: int, finder: Finder, depth: int = 0) -> Iterator[Template]:
    """Find pod templates anywhere below a value; counts on the way (`replicas`, `parallelism` …) multiply."""
    if depth > _DEPTH:
        return
    if isinstance(value, (list, tuple)):
        for item in items(value):
            yield from anywhere(item, text(item.get("name")) or where, factor, finder, depth + 1)
    if not isinstance(value, Mapping):
        return
    if depth and kind(value) and text(value.get("apiVersion")):
        for one in templates(value, finder):
            yield replace(one, pods=_times(one.pods, factor), most=_times(one.most, factor))
        return
    if _is_pod_spec(value):
        yield Template(where, {"spec": value}, factor, factor)
        return
    factor *= _factor(value)
    for key, item in value.items():
        if key in {"metadata", "status"}:
            continue
        if _is_pod_spec(mapping(item).get("spec")):
            yield Template(text(value.get("name")) or _said(key, where), mapping(item), factor, factor)
            continue
        below = where if key in {"spec", "template"} or isinstance(item, list) else str(key)
        yield from anywhere(item, below, factor, finder, depth + 1)


def replicas(spec: Json, key: str = "replicas", default: int = 1) -> int:
    """Return a count of a spec; its default when it isn't given or isn't a number."""
    found = whole(spec.get(key))
    return default if found is None else found


def _is_pod_spec(value: object) -> bool:
    containers = mapping(value).get("containers")
    return isinstance(containers, list) and any("name" in one or "image" in one for one in items(containers))


def _factor(value: Json) -> int:
    factor = 1
    for key in ("replicas", "parallelism", "numOfHosts", "instances"):
        found = whole(value.get(key))
        if found is not None:
            factor *= found
    return factor


def _said(key: str, where: str) -> str:
    return where if re.fullmatch(r"(?:pod)?template|spec", key, re.IGNORECASE) else key


def _times(number: int | None, factor: int) -> int | None:
    return None if number is None else number * factor


def _total(numbers: list[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _placed(template: Json, space: str | None) -> Json:
    """Give a template its job's namespace, in which its claims are looked up."""
    own = metadata(template)
    return {**template, "metadata": {**own, "namespace": text(own.get("namespace")) or space}}


def labelled(template: Json, key: str) -> str | None:
    """Return a label of a template."""
    return labels(template).get(key)


def below(obj: object, *path: str) -> Json:
    """Return the mapping at a path, empty where there is none."""
    return mapping(at(obj, *path))
