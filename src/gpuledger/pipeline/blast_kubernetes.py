"""What a Kubernetes cluster's quotas and autoscalers let a mistake start, as pools of a blast radius."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from gpuledger.core import kube_limits
from gpuledger.core.kube_limits import Hardware, Seen, Start
from gpuledger.core.workload.fields import Json, at, items, text
from gpuledger.diagnostics import Diagnostic
from gpuledger.pipeline.blast_live import Found, Live
from gpuledger.pipeline.blast_prices import Machine, card_price
from gpuledger.pipeline.blast_radius import Written
from gpuledger.telemetry import kubernetes
from gpuledger.telemetry.kubernetes.api import Api, ForbiddenError, NotFoundError, Resource
from gpuledger.telemetry.kubernetes.cluster import ALWAYS, NODES, PODS, Discovery

_STATUS: Final = "/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status"
_ALWAYS: Final = (
    *(one for one in ALWAYS if one.kind in {"Namespace", "Deployment", "StatefulSet"}),
    Resource("", "v1", "resourcequotas", "ResourceQuota"),
    Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
)
_GROUPS: Final[Mapping[str, frozenset[str]]] = {
    "karpenter.sh": frozenset({"NodePool"}),
    "kueue.x-k8s.io": frozenset({"ClusterQueue", "LocalQueue"}),
    "keda.sh": frozenset({"ScaledObject"}),
}


def limits(live: Live, found: Found) -> None:
    """Add a pool for each way to start GPUs and each sort of nodes. Raises SourceError when nodes can't be read."""
    options = kubernetes.Options(timeout=10.0, tries=2, environ=live.environ)
    api = kubernetes.connect(options)
    try:
        cluster = kubernetes.cluster_id(api, options)
        seen = _read(api, found)
    finally:
        api.close()
    source = f"Kubernetes {cluster}"
    hardware, empty = kube_limits.hardware(seen)
    if empty:
        found.tell(
            "blast-radius-unbounded", "warning", source,
            f"node groups without a node, {', '.join(empty[:5])}: what is in one of theirs isn't known, so they are left out",
            "If they have GPUs, add them by --pool.",
        )  # fmt: skip
    if not hardware:
        found.tell(
            "blast-radius-no-pools",
            "warning",
            source,
            "no node has a GPU, and no NodePool makes such nodes",
            "Is it the right cluster?",
        )
        return
    priced = sorted(((one, *_price(one, live)) for one in hardware), key=lambda one: -(one[1] or -1))
    for one in hardware:
        if one.room == 0:
            found.tell(
                "blast-radius-no-headroom", "info", source,
                f"all {one.held} GPUs of {one.name} are held, and no more can come: {one.why}", "",
            )  # fmt: skip
    for start in kube_limits.starts(kube_limits.doors(seen), [one for one, _, _ in priced]):
        price, basis = next((price, basis) for one, price, basis in priced if one is start.hardware)
        _add(start, price, basis, cluster, found)


def _price(one: Hardware, live: Live) -> tuple[Decimal | None, str]:
    shape = one.shape
    if shape is None:
        return card_price(Machine(), live.price, live.today)
    machine = Machine(shape.instance_type, shape.region, shape.spot, shape.cards.model)
    return card_price(machine, live.price, live.today)


def _add(start: Start, price: Decimal | None, basis: str, cluster: str, found: Found) -> None:
    door, one, source = start.door, start.hardware, f"Kubernetes {cluster}"
    what = f"{door.name} on {one.name}"
    if start.gpus is None:
        found.tell(
            "blast-radius-unbounded", "warning", source, f"nothing limits {what}: {door.why}; {one.why}",
            "Set spec.limits of the NodePool, or a ResourceQuota. Until then add it by --pool with a number of yours.",
        )  # fmt: skip
        return
    if price is None:
        found.tell(
            "blast-radius-unpriced", "warning", source, f"no price is known for {what}: {start.gpus} GPUs are left out",
            "Give --price USD, what an hour of one card costs.",
        )  # fmt: skip
        return
    values = {
        "name": f"{cluster} {what}"[:60].replace(",", " "),
        "gpus": str(start.gpus),
        "usd_per_gpu_hour": format(price.normalize(), "f"),
    }
    origins = {
        "name": source,
        "gpus": f"{source}: as many as its limits let through now, on top of what runs",
        "usd_per_gpu_hour": basis,
    }
    if door.is_quota and door.gpus is not None:
        values["quota"], origins["quota"] = str(door.gpus), f"{source}: {door.why}"
    if start.room is not None:
        key = "autoscaler_max" if one.grows else "obtainable"
        values[key] = str(start.room)
        rest = "" if one.grows else ", whose jobs may end before a mistake does"
        origins[key] = (
            f"{source}: {one.why}; {one.held} held now{rest}, {start.room} not counted with a pool above"
        )
    found.written.append(Written(values, origins))


def _read(api: Api, found: Found) -> Seen:
    objects: dict[str, list[Json]] = {"Node": api.listed(NODES)[0]}
    groups = {
        str(one.get("name")): one for one in items(api.get("/apis", what="the API's groups").get("groups"))
    }
    discovery = Discovery(api)
    wanted = [PODS, *_ALWAYS]
    for group, kinds in _GROUPS.items():
        version = text(at(groups.get(group), "preferredVersion", "groupVersion"))
        if version is not None:
            served = discovery.served(version)
            wanted += [served[kind] for kind in sorted(kinds) if kind in served]
    for resource in wanted:
        try:
            objects[resource.kind] = api.listed(resource)[0]
        except NotFoundError:
            continue
        except ForbiddenError as error:
            found.diagnostics.append(
                Diagnostic(
                    "kubernetes-not-readable", "warning", api.access.where,
                    f"{resource.words} may not be listed: {error.message}; limits that they set aren't known",
                    f"Allow list on {resource.words}.",
                )
            )  # fmt: skip
    try:
        status = text(at(api.get(_STATUS, what="configmaps"), "data", "status"))
    except (NotFoundError, ForbiddenError):
        status = None
    return Seen(objects, status)
