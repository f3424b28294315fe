"""Nodes of a cluster over time, from kube-state-metrics: their size, labels, instance type and cards.

Labels are only there when kube-state-metrics is told to show them (`--metric-labels-allowlist`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np

from gpuledger.core.card_facts import canonical
from gpuledger.core.metric_grid import Values, Window, changes, masks, runs
from gpuledger.core.metric_names import resource_name, shown_labels
from gpuledger.core.usage import NodeInterval
from gpuledger.core.workload.nodes import NodeShape, node_shape

_REMEMBERED: Final = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What a node is. `cards` is a text that two nodes have in common when what is known of their cards is the same."""

    node: NodeShape
    cards: str


# What each node is in each step, None where it wasn't seen.
Shapes = dict[str, list[Shape | None]]


@dataclass(slots=True)
class _Told:
    """One series about a node: when it was there, when it changed, and what it says."""

    steps: int
    edges: int
    row: int
    resource: str | None
    texts: tuple[tuple[str, str], ...]


def node_shapes(window: Window) -> Shapes:
    """Return what each node is in each step in which it was seen."""
    told: dict[str, list[tuple[Values, _Told]]] = defaultdict(list)
    for name in ("node_info", "node_labels", "node_capacity"):
        grid = window.of(name)
        values = grid.values
        moved = np.zeros_like(values.known)
        moved[:, 1:] = (np.diff(values.digits) != 0) | (np.diff(values.places) != 0)
        for row, (steps, edges) in enumerate(zip(masks(values.known), masks(moved), strict=True)):
            labels = grid.own[row]
            if node := labels.get("node"):
                one = _Told(steps, changes(steps) | edges, row, labels.get("resource"), _texts(labels))
                told[node].append((values, one))
    found = {node: _steps(node, listed, window.steps) for node, listed in told.items()}
    return {node: steps for node, steps in found.items() if any(steps)}


def _texts(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    found = [(f"label {key}", text) for key, text in shown_labels(labels).items()]
    if "resource" not in labels and (provider := labels.get("provider_id")):
        found.insert(0, ("provider", provider))
    return tuple(found)


def _steps(node: str, listed: Sequence[tuple[Values, _Told]], count: int) -> list[Shape | None]:
    found: list[Shape | None] = [None] * count
    edges = 0
    for _, one in listed:
        edges |= one.edges
    for first, past in runs(edges, count):
        told: dict[str, str] = {}
        seen = False
        for values, one in listed:
            if not one.steps >> first & 1:
                continue
            seen = True
            if one.resource is not None:
                size = format(values.number(one.row, first), "f")
                told[f"capacity {resource_name(one.resource)}"] = size
            told.update(one.texts)
        if seen:
            found[first:past] = [_shape(node, tuple(sorted(told.items())))] * (past - first)
    return found


@lru_cache(_REMEMBERED)
def _shape(node: str, told: tuple[tuple[str, str], ...]) -> Shape:
    tags, sizes = (
        {name.removeprefix(prefix): text for name, text in told if name.startswith(prefix)}
        for prefix in ("label ", "capacity ")
    )
    shape = node_shape(
        {
            "kind": "Node",
            "metadata": {"name": node, "labels": tags},
            "spec": {"providerID": dict(told).get("provider")},
            "status": {"capacity": sizes},
        }
    )
    return Shape(shape, repr(shape.cards))


def bridge(shapes: Shapes, gaps: Iterable[tuple[int, int]], count: int) -> None:
    """A node that is the same before and after a gap was there meanwhile."""
    for first, past in gaps:
        if first == 0 or past == count:
            continue
        for steps in shapes.values():
            before, after = steps[first - 1], steps[past]
            if before is not None and after is not None and before.node == after.node:
                steps[first:past] = [one or before for one in steps[first:past]]


def node_intervals(
    window: Window, shapes: Shapes, cards: Mapping[str, Mapping[str, str | None]]
) -> list[NodeInterval]:
    """Return each node while it stayed the same. `cards` has DCGM's model name by uuid by node."""
    found = []
    for node, steps in sorted(shapes.items()):
        first = 0
        for past in range(1, len(steps) + 1):
            shape = steps[first]
            if past < len(steps) and _same(shape, steps[past]):
                continue
            if shape is not None:
                start, end = window.at(first), window.at(past)
                found.append(_interval(window.cluster, shape.node, start, end, cards.get(node, {})))
            first = past
    return found


def _same(one: Shape | None, other: Shape | None) -> bool:
    return one is other or (one is not None and other is not None and one.node == other.node)


def _interval(
    cluster: str, shape: NodeShape, start: datetime, end: datetime, cards: Mapping[str, str | None]
) -> NodeInterval:
    models = {model for name in cards.values() if (model := canonical(name)) is not None}
    count = shape.cards.count
    if count is None and cards:
        count = _whole(cards)
    return NodeInterval(
        cluster=cluster,
        node=shape.node,
        start=start,
        end=end,
        provider_id=shape.provider_id,
        instance_type=shape.instance_type,
        cloud=shape.cloud,
        region=shape.region,
        zone=shape.zone,
        pool=shape.pool,
        cpu_cores=shape.cpu_cores,
        memory_gib=shape.memory_gib,
        gpu_model=shape.cards.model or (next(iter(models)) if len(models) == 1 else None),
        gpu_count=None if count is None else Decimal(count.numerator) / count.denominator,
        spot=shape.spot,
        labels=shape.labels,
    )


def _whole(cards: Iterable[str]) -> Fraction:
    return Fraction(len(set(cards)))
