"""What a pod or pod template asks for in all: the effective request by which Kubernetes reserves room on a node.

Rules: KEP-753 (sidecars: the larger of the init phase and the main phase), `spec.overhead`, KEP-2837 (resources of
the pod as a whole outrank its containers'), KEP-1287 (a resize counts once allocated).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from gpuledger.core.sharing import effective_request
from gpuledger.core.workload.claims import Claims
from gpuledger.core.workload.devices import (
    Cards,
    DeviceRequest,
    annotated_devices,
    asked,
    cards_of,
    container_devices,
    hami_allocation,
)
from gpuledger.core.workload.fields import Json, annotations, at, gib, items, mapping, quantity, text
from gpuledger.core.workload.nodes import cards_of_labels, selected_labels

HAMI_ALLOCATED = "hami.io/vgpu-devices-allocated"


@dataclass(frozen=True, slots=True)
class PodRequest:
    """What one pod asks for. `problems` says what couldn't be read or isn't known."""

    cpu_cores: Decimal = Decimal(0)
    memory_gib: Decimal = Decimal(0)
    devices: tuple[DeviceRequest, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def cards(self) -> Fraction | None:
        """Whole cards that the pod asks for, shared claims included; None when that can't be told."""
        return cards_of(self.devices)


def pod_request(
    pod: Json, claims: Claims | None = None, cards: Cards | None = None, classes: dict[str, str] | None = None
) -> PodRequest:
    """Return what a Pod, or a template with `metadata` and `spec`, asks for.

    `cards` are those of the node that it runs on; without, what its node selector says is used. `classes` is
    `claims.classes()`, for callers with many pods.
    """
    claims = claims or Claims()
    classes = claims.classes() if classes is None else classes
    spec = mapping(pod.get("spec"))
    cards = cards or cards_of_labels(selected_labels(spec))
    problems: list[str] = []
    init, main = items(spec.get("initContainers")), items(spec.get("containers"))
    sizes = {}
    for resource in ("cpu", "memory"):
        whole_pod = asked(mapping(spec.get("resources"))).get(resource)
        overhead = _amount(mapping(spec.get("overhead")).get(resource), resource, problems)
        if whole_pod is not None:
            sizes[resource] = _amount(whole_pod, resource, problems) + overhead
            continue
        sizes[resource] = effective_request(
            [_container_amount(pod, container, resource, problems) for container in main],
            [
                (_container_amount(pod, container, resource, problems), _is_sidecar(container))
                for container in init
            ],
            overhead,
        )
    devices, more = _devices(pod, claims, cards, classes)
    return PodRequest(
        sizes["cpu"], gib(sizes["memory"]), tuple(devices), tuple(dict.fromkeys([*problems, *more]))
    )


def _devices(
    pod: Json, claims: Claims, cards: Cards, classes: dict[str, str]
) -> tuple[list[DeviceRequest], list[str]]:
    spec = mapping(pod.get("spec"))
    names = [text(container.get("name")) for container in items(spec.get("containers"))]
    given = annotations(pod).get(HAMI_ALLOCATED)
    claimed, problems = claims.devices(pod, cards)
    extended, satisfied = claims.extended(pod, cards)
    if given and (allocated := hami_allocation(given, [called or "" for called in names], cards)):
        return [*allocated, *claimed, *extended], problems
    stages: list[list[DeviceRequest]] = []
    sidecars: list[DeviceRequest] = []
    for container in items(spec.get("initContainers")):
        own, more = container_devices(
            mapping(container.get("resources")), text(container.get("name")), cards, classes
        )
        problems += more
        stages.append([*sidecars, *own])
        if _is_sidecar(container):
            sidecars += own
    last = list(sidecars)
    for container in items(spec.get("containers")):
        own, more = container_devices(
            mapping(container.get("resources")), text(container.get("name")), cards, classes
        )
        problems += more
        last += own
    asked_for = _largest_stage([last, *stages])
    annotated, more = annotated_devices(annotations(pod), names[0] if names else None, cards)
    problems += more
    if annotated and asked_for:
        problems.append(
            "asks for cards in its resources and for part of one in its annotations: the resources count"
        )
        annotated = []
    kept = [request for request in asked_for if request.resource not in satisfied]
    return [*kept, *annotated, *claimed, *extended], problems


def _largest_stage(stages: Iterable[list[DeviceRequest]]) -> list[DeviceRequest]:
    """Return per resource the devices of the stage with most of them: cards held in turn are held once."""
    best: dict[str, list[DeviceRequest]] = {}
    for stage in stages:
        for resource in dict.fromkeys(request.resource for request in stage):
            own = [request for request in stage if request.resource == resource]
            if resource not in best or _size(own) > _size(best[resource]):
                best[resource] = own
    return [request for requests in best.values() for request in requests]


def _size(requests: list[DeviceRequest]) -> tuple[Fraction, Fraction]:
    count = sum((Fraction(request.count or 0) for request in requests), Fraction(0))
    return (cards_of(tuple(requests)) or count, count)


def _is_sidecar(container: Json) -> bool:
    return container.get("restartPolicy") == "Always"


def _container_amount(pod: Json, container: Json, resource: str, problems: list[str]) -> Decimal:
    """Return what a container asks for, or what was allocated to it while a smaller request waits."""
    wanted = _amount(asked(mapping(container.get("resources"))).get(resource), resource, problems)
    statuses = [
        *items(at(pod, "status", "containerStatuses")),
        *items(at(pod, "status", "initContainerStatuses")),
    ]
    for status in statuses:
        if status.get("name") == container.get("name"):
            allocated = quantity(at(status, "allocatedResources", resource))
            return max(wanted, allocated) if allocated is not None else wanted
    return wanted


def _amount(value: object, resource: str, problems: list[str]) -> Decimal:
    if value is None:
        return Decimal(0)
    found = quantity(value)
    if found is None or found < 0:
        problems.append(f"{resource}: {value!r} is no quantity")
        return Decimal(0)
    return found


def shared_out(request: DeviceRequest, pods: int) -> DeviceRequest:
    """Return a shared claim's devices as each of its pods has them."""
    share = None if request.share is None or pods < 1 else request.share / pods
    return replace(request, share=share)
