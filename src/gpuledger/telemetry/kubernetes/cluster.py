"""What there is in a cluster that we want to see, and keeping a timeline of it: listed once, or watched for good.

Pods and nodes are needed; everything else that can't be read is told once and done without. Owners of kinds that
nobody listed are fetched one by one, whatever their kind, by asking the API what it serves.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Self

from gpuledger.core.paging import backoff
from gpuledger.core.workload import Owner, Timeline
from gpuledger.core.workload.fields import Json, at, items, text, uid
from gpuledger.core.workload.timeline import DRA_KINDS
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError
from gpuledger.telemetry.kubernetes.api import (
    Api,
    BrokenError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    Resource,
)

PODS: Final = Resource("", "v1", "pods", "Pod")
NODES: Final = Resource("", "v1", "nodes", "Node", namespaced=False)
ALWAYS: Final = (
    PODS,
    NODES,
    Resource("", "v1", "namespaces", "Namespace", namespaced=False),
    Resource("apps", "v1", "deployments", "Deployment"),
    Resource("apps", "v1", "replicasets", "ReplicaSet"),
    Resource("apps", "v1", "statefulsets", "StatefulSet"),
    Resource("apps", "v1", "daemonsets", "DaemonSet"),
    Resource("batch", "v1", "jobs", "Job"),
    Resource("batch", "v1", "cronjobs", "CronJob"),
)
# Groups in which these kinds are watched where the cluster serves them, at the version that it prefers.
OPTIONAL: Final = {
    "resource.k8s.io": frozenset(DRA_KINDS),
    "jobset.x-k8s.io": frozenset({"JobSet"}),
    "kubeflow.org": frozenset(
        {"PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob", "MXJob", "Notebook"}
    ),
    "trainer.kubeflow.org": frozenset({"TrainJob", "TrainingRuntime", "ClusterTrainingRuntime"}),
    "ray.io": frozenset({"RayJob", "RayCluster", "RayService", "RayCronJob"}),
    "leaderworkerset.x-k8s.io": frozenset({"LeaderWorkerSet"}),
    "workload.codeflare.dev": frozenset({"AppWrapper"}),
    "argoproj.io": frozenset(
        {"Workflow", "CronWorkflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "Rollout"}
    ),
    "sparkoperator.k8s.io": frozenset({"SparkApplication", "ScheduledSparkApplication"}),
    "serving.kserve.io": frozenset({"InferenceService", "LLMInferenceService"}),
    "batch.volcano.sh": frozenset({"Job"}),
    "scheduling.volcano.sh": frozenset({"PodGroup"}),
    "scheduling.x-k8s.io": frozenset({"PodGroup"}),
    "scheduling.run.ai": frozenset({"PodGroup"}),
    "scheduling.k8s.io": frozenset({"PodGroup"}),
}
# Of these only who owns them matters, and there are many.
_METADATA_ONLY: Final = frozenset({"ReplicaSet"})
# Seconds between tries of what isn't allowed, and how often a watch may break off before that is told.
_RARELY: Final = 300.0
_PATIENCE: Final = 3

What = Literal["list", "seen", "gone", "alive", "trouble"]


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch has to tell: all its objects, one of them, that all is as it was, or what is wrong.

    `of` is the sort of objects, `space` the only namespace that is watched.
    """

    what: What
    of: str
    at: datetime
    objects: Sequence[Json] = ()
    space: str | None = None
    trouble: Diagnostic | None = None


@dataclass(slots=True)
class Discovery:
    """What the API serves, asked once per group and version."""

    api: Api
    _served: dict[str, dict[str, Resource]] = field(default_factory=dict)

    def wanted(self) -> list[Resource]:
        """Return the resources to watch in this cluster."""
        found = list(ALWAYS)
        groups = {
            str(one.get("name")): one
            for one in items(self.api.get("/apis", what="the API's groups").get("groups"))
        }
        for group, kinds in OPTIONAL.items():
            version = text(at(groups.get(group), "preferredVersion", "groupVersion"))
            if version is not None:
                served = self.served(version)
                found += [served[kind] for kind in sorted(kinds) if kind in served]
        return found

    def served(self, api_version: str) -> dict[str, Resource]:
        """Return the resources of a group and version, by kind; empty when it isn't served."""
        if api_version not in self._served:
            group, _, version = api_version.rpartition("/")
            path = f"/apis/{api_version}" if group else f"/api/{version}"
            try:
                listed = items(self.api.get(path, what=api_version).get("resources"))
            except (NotFoundError, ForbiddenError):
                listed = []
            self._served[api_version] = {
                str(one.get("kind")): Resource(
                    group, version, str(one.get("name")), str(one.get("kind")), one.get("namespaced") is True
                )
                for one in listed
                if "/" not in str(one.get("name"))  # a subresource such as pods/log
            }
        return self._served[api_version]


@dataclass(slots=True)
class Owners:
    """Owners that no list brought: fetched once each, and not asked for again when they can't be had."""

    api: Api
    discovery: Discovery
    _asked: set[str] = field(default_factory=set)
    _told: set[str] = field(default_factory=set)

    def fill(self, timeline: Timeline) -> list[Diagnostic]:
        """Put unknown owners into the timeline, and theirs in turn. Returns what couldn't be read, once per kind."""
        troubles = []
        while wanted := [one for one in timeline.unknown_owners() if one[0].uid not in self._asked]:
            for owner, namespace in wanted:
                self._asked.add(owner.uid)
                try:
                    found = self._fetch(owner, namespace)
                except SourceError as error:
                    found = None
                    if owner.kind not in self._told:
                        self._told.add(owner.kind)
                        troubles.append(_trouble(owner.kind, error))
                if found is not None and uid(found) == owner.uid:
                    timeline.see(found, self.api.server_now())
        return troubles

    def _fetch(self, owner: Owner, namespace: str | None) -> Json | None:
        resource = self.discovery.served(owner.api_version).get(owner.kind)
        if resource is None:
            return None
        path = resource.path(namespace, owner.name)
        try:
            found = self.api.get(path, what=resource.words)
        except NotFoundError:
            return None
        return {**found, "kind": owner.kind, "apiVersion": owner.api_version}


def observe(api: Api, timeline: Timeline, namespaces: Sequence[str] = ()) -> list[Diagnostic]:
    """List everything once into a timeline. Returns what couldn't be read; raises SourceError when pods can't."""
    discovery = Discovery(api)
    troubles = []
    for resource in discovery.wanted():
        try:
            found = {space: _list(api, resource, space)[0] for space in _spaces(resource, namespaces)}
        except (ForbiddenError, NotFoundError) as error:
            if resource is PODS:
                raise
            troubles += [_trouble(resource.kind, error)] if isinstance(error, ForbiddenError) else []
            continue
        for space, listed in found.items():
            timeline.relist(resource.sort, listed, api.server_now(), space)
    return troubles + Owners(api, discovery).fill(timeline)


@dataclass(slots=True)
class Watcher:
    """Keeps a timeline as the cluster is: every kind has a thread that lists, watches, reconnects and lists again.

    Use it as a context, which closes the API when it ends. `update` brings the timeline up to date; between two calls
    nothing is lost.
    """

    api: Api
    timeline: Timeline
    namespaces: Sequence[str] = ()
    _changes: queue.Queue[Change] = field(default_factory=queue.Queue)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _owners: Owners | None = None
    _awaited: set[tuple[str, str | None]] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        """Whether the first list of every kind has been applied, or can't be had: before, the timeline lacks things."""
        return not self._awaited

    def __enter__(self) -> Self:
        discovery = Discovery(self.api)
        self._owners = Owners(self.api, discovery)
        for resource in discovery.wanted():
            for space in _spaces(resource, self.namespaces):
                thread = threading.Thread(
                    target=self._run, args=(resource, space), name=f"watch {resource.plural}", daemon=True
                )
                self._threads.append(thread)
                self._awaited.add((resource.sort, space))
                thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.api.close()

    def update(self, wait: float = 0.0) -> list[Diagnostic]:
        """Apply what has come in, waiting up to `wait` seconds for the first of it. Returns what is wrong."""
        troubles = []
        try:
            change = self._changes.get(timeout=wait) if wait else self._changes.get_nowait()
            while True:
                if change.trouble is not None:
                    troubles.append(change.trouble)
                apply(change, self.timeline)
                if change.what in {"list", "trouble"}:
                    self._awaited.discard((change.of, change.space))
                change = self._changes.get_nowait()
        except queue.Empty:
            pass
        return troubles + (self._owners.fill(self.timeline) if self._owners is not None else [])

    def _run(self, resource: Resource, space: str | None) -> None:
        try:
            for change in follow(self.api, resource, space, self._stop.is_set, self._stop.wait):
                self._changes.put(change)
        except Exception as error:
            if self._stop.is_set():
                return  # the connection was closed under it, to end it
            trouble = Diagnostic(
                "kubernetes-watch-ended",
                "error",
                self.api.access.where,
                f"the watch of {resource.words} ended: {type(error).__name__}: {error}",
                "Nothing after this is told. Start the meter again, and report this.",
            )
            self._changes.put(
                Change("trouble", resource.sort, self.api.server_now(), space=space, trouble=trouble)
            )
            raise


def apply(change: Change, timeline: Timeline) -> None:
    """Bring a change into a timeline."""
    if change.what == "list":
        timeline.relist(change.of, change.objects, change.at, change.space)
    elif change.what == "alive":
        timeline.confirm(change.of, change.at, change.space)
    for obj in change.objects:
        if change.what == "seen":
            timeline.see(obj, change.at)
        elif change.what == "gone":
            timeline.gone(obj, change.at)


def follow(
    api: Api,
    resource: Resource,
    space: str | None,
    stopped: Callable[[], bool],
    sleep: Callable[[float], object],
) -> Iterator[Change]:
    """Yield what happens to a sort of objects, until stopped: a list, then changes, and a list again after a gap.

    One that may not be read, or isn't served any more, is told once and then tried rarely.
    """
    failures = 0
    while not stopped():
        rare = False
        try:
            listed, version = _list(api, resource, space)
            yield Change("list", resource.sort, api.server_now(), listed, space)
            failures = 0
            yield from _watch(api, resource, space, version, stopped, sleep)
        except GoneError:
            pass  # what happened in between is lost: list again
        except SourceError as error:
            if stopped():
                return
            if failures == 0:
                trouble = _trouble(resource.kind, error)
                yield Change("trouble", resource.sort, api.server_now(), space=space, trouble=trouble)
            failures += 1
            rare = isinstance(error, (ForbiddenError, NotFoundError))
        sleep(_RARELY if rare else backoff(failures, api.jitter()))


def _watch(
    api: Api,
    resource: Resource,
    space: str | None,
    version: str,
    stopped: Callable[[], bool],
    sleep: Callable[[float], object],
) -> Iterator[Change]:
    """Yield changes from a resource version on, over as many connections as it takes.

    Raises GoneError when the version is too old, and SourceError when the server refuses or stays away.
    """
    quiet = 0
    while not stopped():
        before = version
        try:
            for event in api.watch(resource, version, space):
                version = text(at(event.obj, "metadata", "resourceVersion")) or version
                if event.type == "BOOKMARK":
                    yield Change("alive", resource.sort, event.at, space=space)
                else:
                    what: What = "gone" if event.type == "DELETED" else "seen"
                    yield Change(what, resource.sort, event.at, (event.obj,), space)
                if stopped():
                    return
        except BrokenError:
            if quiet >= _PATIENCE:
                raise
        # A server that ends watches at once shall not be asked at once again.
        quiet = 0 if version != before else quiet + 1
        if quiet:
            sleep(backoff(quiet, api.jitter()))


def _list(api: Api, resource: Resource, namespace: str | None) -> tuple[list[Json], str]:
    return api.listed(resource, namespace, metadata_only=resource.kind in _METADATA_ONLY)


def _spaces(resource: Resource, namespaces: Sequence[str]) -> Sequence[str | None]:
    return namespaces if namespaces and resource.namespaced else (None,)


def _trouble(kind: str, error: SourceError) -> Diagnostic:
    needed = kind in {PODS.kind, NODES.kind}
    return Diagnostic(
        "kubernetes-not-readable",
        "error" if needed else "warning",
        error.where or "kubernetes",
        f"{kind}: {error.message}",
        error.hint or "",
    )
