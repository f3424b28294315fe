"""How many more GPUs a Kubernetes cluster would start, as its own objects say: quotas, queues and autoscalers.

Doors are ways to start GPUs: a namespace's ResourceQuota, a Kueue queue, a workload that scales itself, and namespaces
that nothing limits. Hardware is what they start: nodes of one pool, with the most that an autoscaler may make of them.

Sources: Kubernetes, "Resource Quotas" (extended resources have `requests.` only) and "HorizontalPodAutoscaler"
(autoscaling/v2); Karpenter, "NodePools" (`spec.limits`); Cluster Autoscaler's ConfigMap `cluster-autoscaler-status`, YAML
since 1.30 and text before; KEDA, "ScaledObject" (100 replicas where none is said); Kueue, "ClusterQueue".
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Final

from gpuledger.core.workload.devices import cards_of, is_accelerator
from gpuledger.core.workload.fields import Json, at, items, mapping, name, namespace, quantity, text, whole
from gpuledger.core.workload.manifests import job_size
from gpuledger.core.workload.nodes import NodeShape, node_shape
from gpuledger.core.workload.pods import pod_request

_GROUP_TEXT: Final = re.compile(
    r"^\s*Name:\s+(\S+)|cloudProviderTarget=(\d+) \(minSize=\d+, maxSize=(\d+)\)", re.MULTILINE
)
_KEDA_MOST: Final = 100
_REQUESTS: Final = "requests."


@dataclass(frozen=True, slots=True)
class Hardware:
    """Nodes of one sort. `held` cards have a pod; `most` is how many cards there can be, None where nothing limits that."""

    name: str
    shape: NodeShape | None
    cards: int
    held: int
    most: int | None
    why: str
    grows: bool = True

    @property
    def room(self) -> int | None:
        """Cards that can be taken: new ones on top of those held now, or any of nodes that stay, whose jobs may end."""
        if self.most is None or not self.grows:
            return self.most
        return max(self.most - self.held, 0)


@dataclass(frozen=True, slots=True)
class Door:
    """A way to start GPUs; `gpus` is how many more it lets through, None where it has no limit of its own."""

    name: str
    gpus: int | None
    why: str
    is_quota: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Cards of some hardware that go through a door; `room` is what the hardware still had for it. None: no limit."""

    door: Door
    hardware: Hardware
    gpus: int | None
    room: int | None


@dataclass(slots=True)
class Seen:
    """Objects of a cluster by kind; a kind that may not be read, or isn't served, is absent."""

    objects: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    autoscaler_status: str | None = None

    def all(self, kind: str) -> Sequence[Json]:
        """Return the objects of a kind."""
        return self.objects.get(kind, ())


def starts(doors: Iterable[Door], hardware: Sequence[Hardware]) -> list[Start]:
    """Let each door through in turn, hardware in the order given, until what is left of either is used up.

    So the sum is never more than there can be, and no card counts twice.
    """
    left = [one.room for one in hardware]
    found = []
    for door in doors:
        wanted = door.gpus
        for place, one in enumerate(hardware):
            room = left[place]
            if wanted == 0 or room == 0:
                continue
            gpus = room if wanted is None else wanted if room is None else min(wanted, room)
            found.append(Start(door, one, gpus, room))
            if gpus is None:
                continue
            wanted = None if wanted is None else wanted - gpus
            left[place] = None if room is None else room - gpus
    return found


def hardware(seen: Seen) -> tuple[list[Hardware], list[str]]:
    """Return the nodes with cards by pool, with the most that an autoscaler makes of them, and what can't be told."""
    held = _held(seen.all("Pod"))
    pools: dict[str, list[tuple[NodeShape, int, int]]] = defaultdict(list)
    for node in seen.all("Node"):
        shape = node_shape(node)
        if shape.cards.count:
            key = shape.pool or shape.instance_type or shape.cards.model or "nodes"
            pools[key].append((shape, int(shape.cards.count), held.get(shape.node, 0)))
    groups = autoscaler_groups(seen.autoscaler_status)
    used: set[str] = set()
    found = []
    karpenter = {name(pool): pool for pool in seen.all("NodePool")}
    for key, nodes in sorted(pools.items()):
        cards, taken = sum(count for _, count, _ in nodes), sum(one for _, _, one in nodes)
        shape = max(nodes, key=lambda one: one[1])[0]
        mine = [group for group in groups if _names(group.name, key)]
        used |= {group.name for group in mine}
        if key in karpenter:
            most, why = _karpenter(karpenter[key])
        elif mine:
            largest = max(count for _, count, _ in nodes)
            size = sum(group.most for group in mine)
            most, why = size * largest, f"Cluster Autoscaler: at most {size} nodes × {largest} GPUs"
        else:
            most, why = cards, f"no autoscaler grows it: {len(nodes)} nodes"
        found.append(Hardware(key, shape, cards, taken, most, why, grows=key in karpenter or bool(mine)))
    for key, pool in sorted(karpenter.items()):
        if key not in pools and _is_for_gpus(pool):
            most, why = _karpenter(pool)
            found.append(Hardware(key, _planned(pool), 0, 0, most, why))
    empty = [group.name for group in groups if group.name not in used and group.now == 0 and group.most]
    return found, empty


def doors(seen: Seen) -> list[Door]:
    """Return the ways to start GPUs: those with limits first, then the namespaces that have none."""
    quotas = _quotas(seen.all("ResourceQuota"))
    found = [
        Door(space, gpus, f"ResourceQuota of namespace {space}: {why}", is_quota=True)
        for space, (gpus, why) in sorted(quotas.items())
    ]
    spaces = {name(one) for one in seen.all("Namespace")}
    unlimited = sorted(spaces - set(quotas))
    if spaces and not unlimited:
        return found
    found += _queues(seen, set(quotas))
    found += _scaled(seen, set(quotas))
    said = f"{', '.join(unlimited[:3])}{f' and {len(unlimited) - 3} more' if len(unlimited) > 3 else ''}"  # noqa: PLR2004
    return [
        *found,
        Door("no quota", None, f"no ResourceQuota of GPUs in {said or 'namespaces that may not be read'}"),
    ]


@dataclass(frozen=True, slots=True)
class Group:
    """A node group of Cluster Autoscaler: nodes now and at most."""

    name: str
    now: int
    most: int


def autoscaler_groups(status: str | None) -> list[Group]:
    """Read the node groups of Cluster Autoscaler's status, in either form; none of a text that is neither."""
    if not status:
        return []
    if "nodeGroups:" in status:
        import yaml

        try:
            content = yaml.safe_load(status)
        except yaml.YAMLError:
            return []
        found = [
            (text(group.get("name")), whole(at(group, "health", "cloudProviderTarget")), whole(at(group, "health", "maxSize")))
            for group in items(mapping(content).get("nodeGroups"))
        ]  # fmt: skip
        return [Group(named, now or 0, most) for named, now, most in found if named and most is not None]
    groups, current = [], None
    for match in _GROUP_TEXT.finditer(status):
        if match[1]:
            current = match[1]
        elif current is not None:
            groups.append(Group(current, int(match[2]), int(match[3])))
            current = None
    return groups


def _names(group: str, pool: str) -> bool:
    """Tell whether a cloud's group is that of a pool: its name is a part of the group's, between dashes."""
    return f"-{pool}-" in f"-{group.rpartition('/')[2]}-"


def _karpenter(pool: Json) -> tuple[int | None, str]:
    limits = [
        (resource, amount)
        for resource, said in mapping(at(pool, "spec", "limits")).items()
        if _whole_cards(resource) and (amount := quantity(said)) is not None
    ]
    if limits:
        told = ", ".join(f"{resource} {amount:f}" for resource, amount in limits)
        return int(
            sum(amount for _, amount in limits)
        ), f"Karpenter NodePool {name(pool)}: spec.limits {told}"
    return None, f"Karpenter NodePool {name(pool)} has no limit of GPUs"


def _requirements(pool: Json) -> Iterator[tuple[str, str, list[str]]]:
    for one in items(at(pool, "spec", "template", "spec", "requirements")):
        values = one.get("values")
        said = [str(value) for value in values] if isinstance(values, (list, tuple)) else []
        yield str(one.get("key")), str(one.get("operator")), said


def _is_for_gpus(pool: Json) -> bool:
    from gpuledger.prices.accelerators import gpu_type

    if any(_whole_cards(resource) for resource in mapping(at(pool, "spec", "limits"))):
        return True
    for key, operator, values in _requirements(pool):
        if "gpu" in key and operator in {"In", "Exists", "Gt"}:
            return True
        if key == "node.kubernetes.io/instance-type" and operator == "In" and any(map(gpu_type, values)):
            return True
    taints = items(at(pool, "spec", "template", "spec", "taints"))
    return any(is_accelerator(str(taint.get("key"))) for taint in taints)


def _planned(pool: Json) -> NodeShape | None:
    """What a NodePool without nodes would start, where its requirements name one instance type only."""
    said = {key: values for key, operator, values in _requirements(pool) if operator == "In"}
    types = said.get("node.kubernetes.io/instance-type", [])
    if len(types) != 1:
        return None
    regions = said.get("topology.kubernetes.io/region", [])
    spot = said.get("karpenter.sh/capacity-type", ["on-demand"]) == ["spot"]
    return NodeShape(
        name(pool), instance_type=types[0], region=regions[0] if len(regions) == 1 else None, spot=spot
    )


def _held(pods: Iterable[Json]) -> dict[str, int]:
    """Cards that pods have, by node; parts of cards count as whole ones, of which nobody else gets the rest."""
    found: dict[str, Fraction] = defaultdict(Fraction)
    for pod in pods:
        node = text(at(pod, "spec", "nodeName"))
        if node is None or at(pod, "status", "phase") in {"Succeeded", "Failed"}:
            continue
        found[node] += cards_of(pod_request(pod).devices) or 0
    return {node: ceil(cards) for node, cards in found.items()}


def _whole_cards(resource: str) -> bool:
    return is_accelerator(resource) and "/mig-" not in resource


def _quotas(quotas: Iterable[Json]) -> dict[str, tuple[int, str]]:
    """Headroom by namespace. A quota with scopes binds some pods only, so it is no limit of a namespace."""
    found: dict[str, tuple[int, str]] = {}
    for quota in quotas:
        space = namespace(quota)
        if space is None or at(quota, "spec", "scopes") or at(quota, "spec", "scopeSelector"):
            continue
        hard, used = mapping(at(quota, "spec", "hard")), mapping(at(quota, "status", "used"))
        limits = {
            key.removeprefix(_REQUESTS): (quantity(said), quantity(used.get(key)) or Decimal(0))
            for key, said in hard.items()
            if key.startswith(_REQUESTS) and _whole_cards(key.removeprefix(_REQUESTS))
        }
        known = {key: (most, now) for key, (most, now) in limits.items() if most is not None}
        if not known:
            continue
        left = int(sum(max(most - now, Decimal(0)) for most, now in known.values()))
        why = ", ".join(f"{key} {most:f} less {now:f} used" for key, (most, now) in known.items())
        if space not in found or left < found[space][0]:
            found[space] = left, f"{name(quota)}, {why}"
    return found


def _queues(seen: Seen, limited: set[str]) -> list[Door]:
    """Kueue's queues that namespaces without a quota use. Borrowing moves quota between queues, so each counts its own."""
    local = seen.all("LocalQueue")
    used_by: dict[str, set[str]] = defaultdict(set)
    for one in local:
        used_by[str(at(one, "spec", "clusterQueue"))].add(namespace(one) or "")
    found = []
    for queue in seen.all("ClusterQueue"):
        spaces = used_by.get(name(queue), set())
        if local and not spaces - limited:
            continue
        nominal = _flavors(items(at(queue, "spec", "resourceGroups")), "flavors", "nominalQuota")
        used = _usage(items(at(queue, "status", "flavorsUsage")))
        if nominal is not None:
            why = f"Kueue ClusterQueue {name(queue)}: nominalQuota {nominal:f} less {used:f} used"
            found.append(
                Door(f"queue {name(queue)}", int(max(nominal - used, Decimal(0))), why, is_quota=True)
            )
    return found


def _flavors(groups: Sequence[Json], key: str, amount: str) -> Decimal | None:
    found = [
        quantity(resource.get(amount))
        for group in groups
        for flavor in items(group.get(key))
        for resource in items(flavor.get("resources"))
        if _whole_cards(str(resource.get("name")))
    ]
    known = [one for one in found if one is not None]
    return sum(known, Decimal(0)) if known else None


def _usage(flavors: Sequence[Json]) -> Decimal:
    return _flavors([{"flavors": flavors}], "flavors", "total") or Decimal(0)


def _scaled(seen: Seen, limited: set[str]) -> list[Door]:
    """Workloads that scale themselves (HPA, KEDA), in namespaces without a quota."""
    targets = {
        (namespace(one), str(one.get("kind")), name(one)): one
        for kind in ("Deployment", "StatefulSet", "ReplicaSet")
        for one in seen.all(kind)
    }
    found: dict[tuple[str | None, str, str], Door] = {}
    for one in (*seen.all("ScaledObject"), *seen.all("HorizontalPodAutoscaler")):
        keda = "maxReplicaCount" in mapping(one.get("spec")) or one.get("kind") == "ScaledObject"
        most = whole(at(one, "spec", "maxReplicaCount" if keda else "maxReplicas"))
        most = _KEDA_MOST if most is None and keda else most
        to = mapping(at(one, "spec", "scaleTargetRef"))
        key = (namespace(one), str(to.get("kind") or "Deployment"), str(to.get("name")))
        target = targets.get(key)
        if target is None or most is None or key[0] in limited:
            continue
        size = job_size(target)
        cards = (
            None
            if size is None
            else sum(((cards_of(part.request.devices) or 0) for part in size.pod_sets), Fraction(0))
        )
        now = whole(at(target, "status", "replicas")) or 0
        if cards and most > now:
            word = "KEDA ScaledObject" if keda else "HorizontalPodAutoscaler"
            why = f"{word} {name(one)}: {most} replicas less {now} now × {cards} GPUs of {key[2]}"
            found[key] = Door(f"{key[0]}/{key[2]}", ceil((most - now) * cards), why)
    return list(found.values())
