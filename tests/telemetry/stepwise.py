"""A cluster's records step by step, one value after the other: the plain way to tell what `core.cluster_metrics` tells.

Slow and simple; tests compare both on the same series.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import add, itemgetter

from tests.telemetry.stepwise_cards import (
    Cards,
    Device,
    Interval,
    Owner,
    Piece,
    Seat,
    What,
    Window,
    devices,
    joined,
    merged,
    spans,
)

from gpuledger.core.card_facts import Holder
from gpuledger.core.metric_devices import rounded
from gpuledger.core.metric_names import resource_name, shown_labels
from gpuledger.core.metric_owners import OWNED, OwnerEdge, job_id, owner_edges, root
from gpuledger.core.metric_series import Series
from gpuledger.core.usage import HoldState, Job, UsageInterval
from gpuledger.core.workload.fields import gib
from gpuledger.core.workload.nodes import NodeShape, node_shape

NONE = Decimal(0)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STATE_METRICS = ("phase", "running", "requests")
Place = tuple[str, str]
Shapes = dict[str, dict[datetime, NodeShape]]


@dataclass(frozen=True, slots=True)
class Told:
    """All records of a window; the time of each node by what it is."""

    usage: list[UsageInterval]
    nodes: list[tuple[NodeShape, list[Interval]]]
    jobs: list[Job]
    gaps: list[Interval]


def records(window: Window) -> Told:
    """Turn a window of series into records."""
    edges = owner_edges(window.cluster, {name: [labels for labels, _ in window.of(name)] for name in OWNED})
    shapes = node_shapes(window)
    gaps = blind(window)
    _bridge(shapes, gaps, window.step)
    rows = _Pods(window, edges, shapes, devices(window), gaps).rows()
    nodes: list[tuple[NodeShape, list[Interval]]] = []
    for _, steps in sorted(shapes.items()):
        alike: dict[str, tuple[NodeShape, list[datetime]]] = {}
        for when, shape in steps.items():
            alike.setdefault(repr(shape), (shape, []))[1].append(when)
        nodes += [(shape, spans(whens, window.step)) for shape, whens in alike.values()]
    return Told(rows, nodes, list(_jobs(window, rows, edges)), gaps)


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


def blind(window: Window) -> list[Interval]:
    """Times in which no metric of kube-state-metrics was scraped."""
    seen = {when for _, series in window.of(*STATE_METRICS) for when in series.values}
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


def node_shapes(window: Window) -> dict[str, dict[datetime, NodeShape]]:
    """What each node is in each step in which it was seen."""
    known: dict[str, dict[datetime, dict[str, object]]] = defaultdict(lambda: defaultdict(dict))
    for labels, series in window.of("node_info", "node_labels", "node_capacity"):
        node = labels.get("node")
        if not node:
            continue
        for when, value in series.values.items():
            told = known[node][when]
            if "resource" in labels:
                told[f"capacity {resource_name(labels['resource'])}"] = value
            elif provider := labels.get("provider_id"):
                told["provider"] = provider
            told.update({f"label {key}": text for key, text in shown_labels(labels).items()})
    cache: dict[tuple[object, ...], NodeShape] = {}
    return {
        node: {when: _shape(node, told, cache) for when, told in steps.items()}
        for node, steps in known.items()
    }


def _shape(node: str, told: Mapping[str, object], cache: dict[tuple[object, ...], NodeShape]) -> NodeShape:
    key = (node, *sorted((name, str(value)) for name, value in told.items()))
    if key not in cache:
        tags = {
            name.removeprefix("label "): value for name, value in told.items() if name.startswith("label ")
        }
        sizes = {
            name.removeprefix("capacity "): format(value, "f")
            for name, value in told.items()
            if name.startswith("capacity ") and isinstance(value, Decimal)
        }
        cache[key] = node_shape(
            {
                "kind": "Node",
                "metadata": {"name": node, "labels": tags},
                "spec": {"providerID": told.get("provider")},
                "status": {"capacity": sizes},
            }
        )
    return cache[key]


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
        for start, end, what in joined(sorted(pieces, key=itemgetter(0))):
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
                    times[place][labels.get("uid")] = EPOCH + timedelta(
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
            cores = asked.get("cpu", NONE)
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
            used, size = memory.get(when), asked.get("memory", NONE)
            size = None if size is None else rounded(gib(size))
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
