"""From a cluster's metrics to usage records: what each container held and used, step by step, and whose it is.

Sources: kube-state-metrics (pods, requests, owners, nodes), cAdvisor (CPU, memory), dcgm-exporter and HAMi (cards).
A pod counts from its start to its end while it has a node and is Pending (held) or Running. Where kube-state-metrics
wasn't scraped, a container seen before and after is taken to have held its resources in between; otherwise the time
is a gap: unknown, not idle.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from gpuledger.core.metric_containers import Containers, Used, blind, containers, used
from gpuledger.core.metric_devices import Device, Devices, devices
from gpuledger.core.metric_grid import Interval, Window
from gpuledger.core.metric_names import shown_labels
from gpuledger.core.metric_nodes import Shapes, bridge, node_intervals, node_shapes
from gpuledger.core.metric_owners import OWNED, Edges, OwnerEdge, job_id, owner_edges, root
from gpuledger.core.metric_pieces import (
    Holders,
    Kinds,
    Lanes,
    container_lanes,
    seat_lanes,
    seats_of,
    unlisted,
    usage,
)
from gpuledger.core.usage import Job, NodeInterval, Resource, UsageInterval
from gpuledger.core.usage_columns import Owner, UsageColumns, micros
from gpuledger.diagnostics import Diagnostic

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Batch:
    """All records of [start, end). `gaps` are times of which nothing is known: they are not idle."""

    start: datetime
    end: datetime
    held: UsageColumns
    nodes: tuple[NodeInterval, ...]
    jobs: tuple[Job, ...]
    owners: tuple[OwnerEdge, ...]
    gaps: tuple[Interval, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def usage(self) -> tuple[UsageInterval, ...]:
        """What was held and used, one by one."""
        return tuple(self.held)


def records(window: Window) -> Batch:
    """Turn a window of series into records."""
    edges = owner_edges(window.cluster, {name: window.of(name).own for name in OWNED})
    shapes = node_shapes(window)
    cards = devices(window)
    steps = blind(window)
    bridge(shapes, steps, window.steps)
    held = _held(window, containers(window, steps), cards, shapes, edges)
    gaps = tuple((window.at(first), window.at(past)) for first, past in steps)
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
        held,
        tuple(node_intervals(window, shapes, _models(cards.listed, shapes))),
        tuple(_jobs(window, held, edges)),
        tuple(edges.values()),
        gaps,
        window.diagnostics + told,
    )


def _models(listed: Sequence[Device], shapes: Shapes) -> dict[str, dict[str, str | None]]:
    """Return the model names of cards by uuid by node."""
    models: dict[str, dict[str, str | None]] = defaultdict(dict)
    for device in listed:
        if (node := device.node(shapes)) is not None:
            models[node][device.uuid] = device.model_name
    return models


def _held(window: Window, found: Containers, cards: Devices, shapes: Shapes, edges: Edges) -> UsageColumns:
    """Return what containers held and used, and whoever else DCGM names."""
    lanes = Lanes(Kinds())
    container_lanes(lanes, found, seats_of(cards), shapes)
    owners: dict[Owner, int] = {}
    for place, name in enumerate(found.names):
        kind, top = root(edges, name.namespace, name.pod)
        job = job_id(window.cluster, name.namespace, kind, top, name.uid)
        owner = Owner(found.nodes[place] or "", job, name.pod, name.container, name.namespace, name.uid)
        owners[owner] = place
    for seat in unlisted(cards.seats, {(name.namespace, name.pod) for name in found.names}):
        node = seat.device.node(shapes) or ""
        by, space = seat.by, seat.by.namespace or ""
        if by.pod is None:
            job = f"{window.cluster}/slurm/{by.slurm_job}"
        else:
            job = job_id(window.cluster, space, *root(edges, space, by.pod), by.pod_uid)
        owner = Owner(node, job, by.pod, by.container, by.namespace, by.pod_uid)
        seat_lanes(lanes, owners.setdefault(owner, len(owners)), seat, window.steps)
    told: dict[Resource, Used] = {"cpu": used(window, "cpu"), "memory": used(window, "memory")}
    return usage(window.cluster, found, _holders(window, list(owners), found), lanes, cards, told)


def _holders(window: Window, owners: list[Owner], found: Containers) -> Holders:
    """Return the containers as holders, and below them those that only DCGM names, which count whenever they are seen."""
    shape = (len(owners) - len(found.names), window.steps)
    length = window.step // _MICROSECOND
    starts = np.broadcast_to(micros(window.start) + length * np.arange(window.steps), shape)
    return Holders(
        owners,
        np.concatenate((found.alive, np.ones(shape, np.bool_))),
        np.concatenate((found.waits, np.zeros(shape, np.bool_))),
        np.concatenate((found.attempts, np.ones(shape, np.int64))),
        np.concatenate((found.starts, starts)),
        np.concatenate((found.ends, starts + length)),
    )


def _jobs(window: Window, held: UsageColumns, edges: Edges) -> Iterator[Job]:
    """Yield the jobs of pods that held something: each as the first of its pods tells it."""
    tags = {(labels.get("namespace"), labels.get("pod")): labels for labels in window.of("pod_labels").own}
    seen = [held.owners[place] for place in np.unique(held.owner).tolist()]
    found: set[str] = set()
    for owner in sorted(seen, key=lambda one: (one.node, one.job_id, one.pod or "", one.container or "")):
        if owner.pod is None or owner.job_id in found:
            continue
        found.add(owner.job_id)
        kind, name = root(edges, owner.namespace or "", owner.pod)
        labels = shown_labels(tags.get((owner.namespace, owner.pod), {}))
        yield Job(owner.job_id, window.cluster, kind, name, owner.namespace, labels=labels)
