"""From a cluster's metrics to usage records: what each container held and used, step by step, and whose it is.

Sources: kube-state-metrics (pods, requests, owners, nodes), cAdvisor (CPU, memory), dcgm-exporter and HAMi (cards).
A pod counts from its start to its end while it has a node and is Pending (held) or Running. Where kube-state-metrics
wasn't scraped, a container seen before and after is taken to have held its resources in between; otherwise the time
is a gap: unknown, not idle.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import add
from typing import Final

from gpuledger.core.card_facts import Holder
from gpuledger.core.metric_devices import Device, Seat, devices, rounded
from gpuledger.core.metric_nodes import node_intervals, node_shapes, shown_labels
from gpuledger.core.metric_pieces import Cards, Owner, Piece, What, in_gib, joined
from gpuledger.core.metric_series import Interval, Series, Window, merged, spans
from gpuledger.core.usage import HoldState, Job, NodeInterval, UsageInterval
from gpuledger.core.workload.fields import gib
from gpuledger.core.workload.nodes import NodeShape
from gpuledger.diagnostics import Diagnostic

_DEPTH: Final = 16
_NONE: Final = Decimal(0)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STATE_METRICS: Final = ("phase", "running", "requests")
_OWNED: Final = (
    ("pod_owner", "Pod", "pod"),
    ("replicaset_owner", "ReplicaSet", "replicaset"),
    ("job_owner", "Job", "job_name"),
)

Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class OwnerEdge:
    """An object's controller, by names: kube-state-metrics has no owner's uid."""

    cluster: str
    namespace: str
    kind: str
    name: str
    owner_kind: str
    owner_name: str


@dataclass(frozen=True, slots=True)
class Batch:
    """All records of [start, end). `gaps` are times of which nothing is known: they are not idle."""

    start: datetime
    end: datetime
    usage: tuple[UsageInterval, ...]
    nodes: tuple[NodeInterval, ...]
    jobs: tuple[Job, ...]
    owners: tuple[OwnerEdge, ...]
    gaps: tuple[Interval, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(slots=True)
class _Container:
    namespace: str
    pod: str
    uid: str | None
    name: str
    node: str | None = None
    requests: dict[str, list[Series]] = field(default_factory=lambda: defaultdict(list))
    other: dict[str, list[Series]] = field(default_factory=lambda: defaultdict(list))
    asked: dict[str, dict[datetime, Decimal]] = field(default_factory=dict)
    running: dict[datetime, Decimal] = field(default_factory=dict)
    restarts: dict[datetime, Decimal] = field(default_factory=dict)

    def settle(self) -> None:
        """Join what several scrapes said."""
        self.asked = {name: merged(series) for name, series in self.requests.items()}
        self.running, self.restarts = merged(self.other["running"]), merged(self.other["restarts"], max)


def records(window: Window) -> Batch:
    """Turn a window of series into records."""
    edges = owner_edges(window)
    shapes = node_shapes(window)
    found = devices(window)
    gaps = blind(window)
    _bridge(shapes, gaps, window.step)
    rows = _Pods(window, edges, shapes, found, gaps).rows()
    models: dict[str, dict[str, str | None]] = defaultdict(dict)
    for device in found:
        if (node := device.node(shapes)) is not None:
            models[node][device.uuid] = device.model_name
    told = tuple(
        Diagnostic(
            "telemetry-gap",
            "warning",
            window.cluster,
            f"nothing is known of the pods from {start.isoformat()} to {end.isoformat()}",
            "Was kube-state-metrics down, or not scraped? What ran then is unknown, and not counted as idle.",
        )
        for start, end in gaps
    )
    return Batch(
        window.start,
        window.end,
        tuple(rows),
        tuple(node_intervals(window, shapes, models)),
        tuple(_jobs(window, rows, edges)),
        tuple(edges.values()),
        tuple(gaps),
        window.diagnostics + told,
    )


def blind(window: Window) -> list[Interval]:
    """Times in which no metric of kube-state-metrics was scraped."""
    seen = {when for _, series in window.of(*_STATE_METRICS) for when in series.values}
    return spans(set(window.steps) - seen, window.step)


def _bridge(
    shapes: Mapping[str, dict[datetime, NodeShape]], gaps: Iterable[Interval], step: timedelta
) -> None:
    """A node that is the same before and after a gap was there meanwhile."""
    for start, end in gaps:
        for steps in shapes.values():
            before = steps.get(start - step)
            if before is not None and before == steps.get(end):
                for place in range((end - start) // step):
                    steps.setdefault(start + step * place, before)


def owner_edges(window: Window) -> dict[tuple[str, str, str], OwnerEdge]:
    """Controllers by namespace, kind and name. An owner of '' or '<none>' is none, and a Node owns no job."""
    found = {}
    for question, kind, label in _OWNED:
        for labels, _ in window.of(question):
            space, name = labels.get("namespace", ""), labels.get(label)
            of, called = labels.get("owner_kind", "<none>"), labels.get("owner_name", "<none>")
            if (
                name
                and "<none>" not in {of, called}
                and of != "Node"
                and labels.get("owner_is_controller") != "false"
            ):
                found[space, kind, name] = OwnerEdge(window.cluster, space, kind, name, of, called)
    return found


def root(edges: Mapping[tuple[str, str, str], OwnerEdge], namespace: str, pod: str) -> tuple[str, str]:
    """Return kind and name of the job that a pod belongs to, as far as the edges lead."""
    kind, name = "Pod", pod
    for _ in range(_DEPTH):
        edge = edges.get((namespace, kind, name))
        if edge is None:
            break
        kind, name = edge.owner_kind, edge.owner_name
    return kind, name


def job_id(cluster: str, namespace: str, kind: str, name: str, uid: str | None = None) -> str:
    """Return the ledger's key of a job that is known by its names, or by its uid if it is a bare pod."""
    return f"{cluster}/{uid}" if kind == "Pod" and uid else f"{cluster}/{namespace}/{kind}/{name}"


def _jobs(
    window: Window, rows: Iterable[UsageInterval], edges: Mapping[tuple[str, str, str], OwnerEdge]
) -> Iterator[Job]:
    tags = {
        (labels.get("namespace"), labels.get("pod")): shown_labels(labels)
        for labels, _ in window.of("pod_labels")
    }
    found: dict[str, Job] = {}
    for row in rows:
        if row.pod is None or row.job_id in found:
            continue
        kind, name = root(edges, row.namespace or "", row.pod)
        found[row.job_id] = Job(
            row.job_id,
            window.cluster,
            kind,
            name,
            row.namespace,
            labels=tags.get((row.namespace, row.pod), {}),
        )
    yield from found.values()


@dataclass(slots=True)
class _Pods:
    """The containers of a window, with what is needed to tell what they held."""

    window: Window
    edges: Mapping[tuple[str, str, str], OwnerEdge]
    shapes: Mapping[str, Mapping[datetime, NodeShape]]
    devices: list[Device]
    gaps: list[Interval]
    containers: dict[tuple[str, str, str | None, str], _Container] = field(default_factory=dict)
    held: dict[Place, list[tuple[Device, Holder]]] = field(default_factory=lambda: defaultdict(list))
    phases: dict[tuple[str, str, str | None], dict[datetime, str]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    starts: dict[Place, dict[str | None, datetime]] = field(default_factory=lambda: defaultdict(dict))
    ends: dict[Place, dict[str | None, datetime]] = field(default_factory=lambda: defaultdict(dict))

    def rows(self) -> list[UsageInterval]:
        """Return all rows in order, neighbours in time that say the same joined."""
        self._read()
        cpu, memory = self._used("cpu"), self._used("memory")
        found: dict[Owner, list[Piece]] = {}
        for one in self.containers.values():
            if alive := self._alive(one):
                kind, name = root(self.edges, one.namespace, one.pod)
                job = job_id(self.window.cluster, one.namespace, kind, name, one.uid)
                key = (one.namespace, one.pod, one.name)
                used = (cpu.get(key, {}), memory.get(key, {}))
                owner: Owner = (one.node or "", job, one.pod, one.name, one.namespace, one.uid)
                found.setdefault(owner, []).extend(self._pieces(one, alive, *used))
        for seat in self._unlisted():
            found.setdefault(self._seen_by(seat), []).extend(self._seen(seat))
        # Owners that differ in what isn't sorted by are one group.
        groups: dict[tuple[str, str, str, str], list[Owner]] = defaultdict(list)
        for owner in found:
            groups[owner[0], owner[1], owner[2] or "", owner[3] or ""].append(owner)
        rows: list[UsageInterval] = []
        for group in sorted(groups):
            owners = groups[group]
            told = [row for owner in owners for row in self._rows(owner, found.pop(owner))]
            if len(owners) > 1:
                told.sort(key=lambda row: (row.resource, row.device or "", row.start))
            rows += told
        return rows

    def _rows(self, owner: Owner, pieces: Iterable[Piece]) -> Iterator[UsageInterval]:
        node, job, pod, container, namespace, uid = owner
        for start, end, what in joined(pieces):
            resource, device, requested, used, sharing, share, attempt, state = what
            yield UsageInterval(
                self.window.cluster,
                node,
                job,
                resource,
                start,
                end,
                requested,
                used,
                namespace,
                pod,
                uid,
                container,
                attempt,
                device,
                sharing,
                share,
                state,
            )

    def _read(self) -> None:
        for question in ("requests", "running", "restarts"):
            for labels, series in self.window.of(question):
                key = (
                    labels.get("namespace", ""),
                    labels.get("pod", ""),
                    labels.get("uid"),
                    labels.get("container", ""),
                )
                one = self.containers.setdefault(key, _Container(*key))
                one.node = labels.get("node") or one.node
                if question == "requests":
                    one.requests[labels.get("resource", "")].append(series)
                else:
                    one.other[question].append(series)
        nodes = {
            (labels.get("namespace"), labels.get("pod")): node
            for labels, _ in self.window.of("pod_info")
            if (node := labels.get("node"))
        }
        for one in self.containers.values():
            one.node = one.node or nodes.get((one.namespace, one.pod))
            one.settle()
        for device in self.devices:
            for at in device.held:
                self.held[at.namespace or "", at.pod or ""].append((device, at))
        for labels, series in self.window.of("phase"):
            phased = (labels.get("namespace", ""), labels.get("pod", ""), labels.get("uid"))
            for when, value in series.values.items():
                now = labels.get("phase", "") if value > 0 else ""
                # A pod that was Pending and then Running in one step was running.
                self.phases[phased][when] = max(self.phases[phased].get(when, ""), now)
        for question, times in (("pod_start", self.starts), ("pod_end", self.ends)):
            for labels, series in self.window.of(question):
                if series.values:
                    place = (labels.get("namespace", ""), labels.get("pod", ""))
                    times[place][labels.get("uid")] = _EPOCH + timedelta(
                        seconds=float(max(series.values.values()))
                    )

    def _used(self, question: str) -> dict[tuple[str, str, str], dict[datetime, Decimal]]:
        """Usage per container. Its restarts are cgroups of their own: CPU adds up, memory is the larger of both."""
        groups: dict[tuple[str, str, str], dict[str, list[Series]]] = defaultdict(lambda: defaultdict(list))
        for labels, series in self.window.of(question):
            if (container := labels.get("container")) and container != "POD":
                key = (labels.get("namespace", ""), labels.get("pod", ""), container)
                groups[key][labels.get("id", "")].append(series)
        join = add if question == "cpu" else max
        return {
            key: merged((Series({"id": name}, merged(same)) for name, same in ids.items()), join)
            for key, ids in groups.items()
        }

    def _alive(self, one: _Container) -> list[datetime]:
        """Steps in which the container held its resources; a step of a gap counts when it did before and after."""
        if one.node is None:
            return []
        seen = {when for values in (one.running, *one.asked.values()) for when in values}
        phases = self.phases.get((one.namespace, one.pod, one.uid), {})
        alive = sorted(when for when in seen if phases.get(when, "Running") in {"Pending", "Running"})
        step = self.window.step
        bridged = [
            when
            for start, end in self.gaps
            if start - step in alive and end in alive
            for when in self.window.steps
            if start <= when < end
        ]
        return sorted([*alive, *bridged])

    def _pieces(
        self,
        one: _Container,
        alive: Iterable[datetime],
        cpu: Mapping[datetime, Decimal],
        memory: Mapping[datetime, Decimal],
    ) -> Iterator[Piece]:
        phases = self.phases.get((one.namespace, one.pod, one.uid), {})
        cards = Cards(
            self.shapes.get(one.node or "", {}),
            self.held.get((one.namespace, one.pod), ()),
            one.name,
            one.uid,
        )
        for when in alive:
            start, end = self._clipped(one, when)
            if start >= end:
                continue
            waits = phases.get(when) == "Pending" or one.running.get(when) == 0
            state: HoldState = "held" if waits else "running"
            restarts = one.restarts.get(when)
            attempt = 1 if restarts is None else int(restarts) + 1
            asked = {name: self._asked(one, name, when) for name in one.asked}
            used = cpu.get(when)
            cores = asked.get("cpu", _NONE)
            what: What = (
                "cpu",
                None,
                cores,
                None if used is None else rounded(used),
                None,
                None,
                attempt,
                state,
            )
            yield start, end, what
            used, size = memory.get(when), asked.get("memory", _NONE)
            size = None if size is None else in_gib(size)
            what = (
                "memory",
                None,
                size,
                None if used is None else rounded(gib(used)),
                None,
                None,
                attempt,
                state,
            )
            yield start, end, what
            for hold in cards.at(when, asked):
                yield start, end, ("gpu", *hold, attempt, state)

    def _asked(self, one: _Container, resource: str, when: datetime) -> Decimal | None:
        """What was asked for in a step: in a gap, what was asked for before it."""
        values = one.asked[resource]
        if (now := values.get(when)) is not None:
            return now
        earlier = [step for step in values if step <= when]
        return values[max(earlier)] if earlier else None

    def _clipped(self, one: _Container, when: datetime) -> Interval:
        """Return the part of the step in which the pod was there. Times from a clock that is off don't fit, and don't count."""
        start, end = when, when + self.window.step
        starts, ends = self.starts[one.namespace, one.pod], self.ends[one.namespace, one.pod]
        first, last = starts.get(one.uid), ends.get(one.uid)
        if first is not None and start < first < end:
            start = first
        # A stateful set's next pod has the name of the last, which must have gone before it came.
        after = [
            moment
            for uid, moment in starts.items()
            if uid != one.uid and first is not None and moment > first
        ]
        return start, min(
            [end, *(moment for moment in (last, *after) if moment is not None and start < moment < end)]
        )

    def _unlisted(self) -> Iterator[Seat]:
        """Cards whose holder only DCGM names: Slurm jobs, and pods where kube-state-metrics is missing."""
        listed = {(one.namespace, one.pod) for one in self.containers.values()}
        for device in self.devices:
            for at in device.held:
                if (at.namespace or "", at.pod) in listed and at.pod is not None:
                    continue
                if at.pod is not None or at.slurm_job is not None:
                    yield Seat(device, at)

    def _seen_by(self, seat: Seat) -> Owner:
        one, cluster = seat.by, self.window.cluster
        node, space = seat.device.node(self.shapes) or "", one.namespace or ""
        if one.pod is None:
            job = f"{cluster}/slurm/{one.slurm_job}"
        else:
            job = job_id(cluster, space, *root(self.edges, space, one.pod), one.pod_uid)
        return node, job, one.pod, one.container, one.namespace, one.pod_uid

    def _seen(self, seat: Seat) -> Iterator[Piece]:
        for when in sorted(seat.steps):
            hold = seat.hold(None, when)
            yield when, when + self.window.step, ("gpu", *hold, 1, "running")
