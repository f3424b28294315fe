"""A node as the ledger sees it: which machine on which bill, and what cards are in it.

Sources: well-known labels of Kubernetes, EKS, GKE, AKS, OKE and Karpenter; GPU feature discovery (NVIDIA),
where `nvidia.com/gpu.count` is physical cards except under MIG's `single` strategy, where it is slices;
HAMi's `hami.io/node-nvidia-register` (seven or nine fields, or JSON).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Final

from gpuledger.core.sharing import mig_slices
from gpuledger.core.usage import Sharing
from gpuledger.core.workload.devices import Cards, is_accelerator, slice_share
from gpuledger.core.workload.fields import (
    Json,
    annotations,
    at,
    gib,
    items,
    labels,
    mapping,
    name,
    quantity,
    text,
    whole,
)
from gpuledger.prices.accelerators import accelerator, gpu_type

_POOLS: Final = (
    *("cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup", "alpha.eksctl.io/nodegroup-name"),
    *(
        "karpenter.sh/nodepool",
        "karpenter.sh/provisioner-name",
        "kubernetes.azure.com/agentpool",
        "agentpool",
    ),
    *("node.coreweave.cloud/class", "nodepool", "node-pool", "oci.oraclecloud.com/nodepool"),
)
_TYPES: Final = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
_REGIONS: Final = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
_ZONES: Final = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
# Labels that say a node is spot, and those that say it isn't; values in lower case.
_SPOT: Final = {
    "karpenter.sh/capacity-type": {"spot": True, "on-demand": False, "reserved": False},
    "eks.amazonaws.com/capacitytype": {"spot": True, "on_demand": False, "capacity_block": False},
    "cloud.google.com/gke-spot": {"true": True},
    "cloud.google.com/gke-preemptible": {"true": True},
    "cloud.google.com/gke-provisioning": {"spot": True, "preemptible": True, "standard": False},
    "kubernetes.azure.com/scalesetpriority": {"spot": True, "regular": False},
    "node.kubernetes.io/lifecycle": {"spot": True, "on-demand": False, "normal": False},
    "ray.io/market-type": {"spot": True, "on-demand": False},
}
_CLOUDS: Final = {
    **{word: word for word in ("aws", "azure", "oci", "nebius", "coreweave", "lambda", "digitalocean")},
    "gce": "gcp",
    "alicloud": "alibaba",
    "ocid1": "oci",
}
_PRODUCTS: Final = (
    *("nvidia.com/gpu.product", "amd.com/gpu.product-name", "beta.amd.com/gpu.product-name"),
    *(
        "cloud.google.com/gke-accelerator",
        "cloud.google.com/gke-tpu-accelerator",
        "k8s.amazonaws.com/accelerator",
    ),
    *("karpenter.k8s.aws/instance-gpu-name", "gpu.nvidia.com/class", "gpu.intel.com/product"),
)
_SLICE: Final = re.compile(r"-MIG-(\d+g\.\d+gb\S*)$", re.IGNORECASE)
_REPLICAS: Final = re.compile(r"(nvidia\.com/\S+)\.replicas")
_GKE_PARTITION: Final = "cloud.google.com/gke-gpu-partition-size"
_GKE_CLIENTS: Final = "cloud.google.com/gke-max-shared-clients-per-gpu"
_GKE_STRATEGY: Final = "cloud.google.com/gke-gpu-sharing-strategy"
_STRATEGIES: Final[Mapping[str, Sharing]] = {
    "time-slicing": "time-slicing",
    "time-sharing": "time-slicing",
    "mps": "mps",
}
_HAMI_REGISTER: Final = "hami.io/node-nvidia-register"
_GPU: Final = "nvidia.com/gpu"
_SHARED: Final = "nvidia.com/gpu.shared"
_NEURON: Final = ("aws.amazon.com/neuron", "aws.amazon.com/neurondevice")


@dataclass(frozen=True, slots=True)
class NodeShape:
    """What a machine is, as far as its node object says. Sizes are the node's capacity, not what pods may take."""

    node: str
    provider_id: str | None = None
    instance_type: str | None = None
    cloud: str | None = None
    region: str | None = None
    zone: str | None = None
    pool: str | None = None
    cpu_cores: Decimal | None = None
    memory_gib: Decimal | None = None
    spot: bool | None = None
    cards: Cards = field(default_factory=Cards)
    labels: Mapping[str, str] = field(default_factory=dict)


def node_shape(node: Json) -> NodeShape:
    """Read a Node object."""
    tags = labels(node)
    provider = text(at(node, "spec", "providerID"))
    capacity = mapping(at(node, "status", "capacity"))
    cpu, memory = quantity(capacity.get("cpu")), quantity(capacity.get("memory"))
    instance_type = _first(tags, _TYPES)
    return NodeShape(
        node=name(node),
        provider_id=resource_id(provider),
        instance_type=instance_type,
        cloud=_CLOUDS.get(re.split(r"[:.]", provider or "", maxsplit=1)[0].lower()),
        region=_first(tags, _REGIONS),
        zone=_first(tags, _ZONES),
        pool=_first(tags, _POOLS),
        cpu_cores=cpu,
        memory_gib=None if memory is None else gib(memory),
        spot=_spot(tags),
        cards=cards_of_node(node),
        labels=tags,
    )


def resource_id(provider_id: str | None) -> str | None:
    """Return the ResourceId that the cloud's bill uses for a node's `spec.providerID`.

    AWS bills by instance id, Azure by resource path, OCI by OCID; Google's bill knows the instance's name and number,
    the node only project, zone and name, so `gce://…` stays as it is.
    """
    if provider_id is None:
        return None
    scheme, separator, rest = provider_id.partition("://")
    if not separator:
        return provider_id
    if scheme == "aws":
        return rest.rsplit("/", 1)[-1] or None
    if scheme == "azure":
        return "/" + rest.lstrip("/")
    if scheme in {"oci", "alicloud"}:
        return rest.lstrip("/") or None
    return provider_id


def cards_of_node(node: Json) -> Cards:
    """Return what a Node object says of its cards."""
    tags = labels(node)
    capacity = {
        str(key): amount
        for key, value in mapping(at(node, "status", "capacity")).items()
        if is_accelerator(str(key)) and (amount := quantity(value)) is not None
    }
    registered = _hami_devices(annotations(node).get(_HAMI_REGISTER))
    known = gpu_type(_first(tags, _TYPES) or "")
    told = cards_of_labels(tags)
    model = (
        told.model or (known.gpu_model if known else None) or _named(registered[0][1] if registered else None)
    )
    memory = told.memory_mib or (registered[0][0] if registered else None)
    if memory is None and known is not None and known.gpu_memory_gib is not None:
        memory = known.gpu_memory_gib * 1024
    cards = Cards(model, None, memory, told.strategy, told.profile, told.replicas)
    # What a machine has is paid for even while the device plugin offers less, so capacity is asked last.
    count = Fraction(len(registered)) if registered else _labelled(tags)
    if count is None and known is not None:
        count = known.gpu_count
    if count is None:
        count = _offered(capacity, cards)
    per_card = {
        resource: Fraction(capacity[resource]) / chips
        for resource, chips in (
            ("k8s.amazonaws.com/vgpu", count),
            ("aws.amazon.com/neuroncore", _largest(capacity, _NEURON) or count),
        )
        if resource in capacity and chips
    }
    return Cards(model, count, memory, told.strategy, told.profile, told.replicas, per_card)


def cards_of_labels(tags: Mapping[str, str]) -> Cards:
    """Return what labels say of a node's cards: the node's own, or those that a pod selects."""
    product = _first(tags, _PRODUCTS)
    slice_ = _SLICE.search((product or "").removesuffix("-SHARED"))
    profile = slice_[1] if slice_ else tags.get(_GKE_PARTITION)
    # Under MIG's single strategy the label holds the slice's memory, not the card's.
    memory = None if slice_ else quantity(tags.get("nvidia.com/gpu.memory"))
    replicas = {
        found[1]: number
        for key, value in tags.items()
        if (found := _REPLICAS.fullmatch(key)) and (number := whole(value)) is not None and number > 1
    }
    if (clients := whole(tags.get(_GKE_CLIENTS))) is not None and clients > 1:
        replicas[_GPU] = clients
    if _GPU in replicas:
        replicas[_SHARED] = replicas[_GPU]
    strategy = _STRATEGIES.get(
        (tags.get("nvidia.com/gpu.sharing-strategy") or tags.get(_GKE_STRATEGY) or "").lower()
    )
    found_accelerator = accelerator(product) if product else None
    if memory is None and found_accelerator is not None and found_accelerator.memory_gib is not None:
        memory = found_accelerator.memory_gib * 1024
    return Cards(
        found_accelerator.model if found_accelerator else None, None, memory, strategy, profile, replicas
    )


def selected_labels(spec: Json) -> dict[str, str]:
    """Return the labels that a pod demands of its node: its nodeSelector, and what its affinity requires of one value."""
    found = {
        str(key): value for key, item in mapping(spec.get("nodeSelector")).items() if (value := text(item))
    }
    required = at(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    terms = items(mapping(required).get("nodeSelectorTerms"))
    for demand in items(terms[0].get("matchExpressions")) if len(terms) == 1 else []:
        values = demand.get("values")
        if (
            demand.get("operator") == "In"
            and isinstance(values, list)
            and len(values) == 1
            and text(values[0])
        ):
            found.setdefault(str(demand.get("key")), str(text(values[0])))
    return found


def _labelled(tags: Mapping[str, str]) -> Fraction | None:
    """Return the physical cards that labels tell; NVIDIA's label counts slices under MIG's single strategy."""
    sliced = _SLICE.search((_first(tags, _PRODUCTS) or "").removesuffix("-SHARED"))
    for key in () if sliced else ("nvidia.com/gpu.count", "cloud.google.com/gke-accelerator-count"):
        if (labelled := whole(tags.get(key))) is not None:
            return Fraction(labelled)
    return None


def _offered(capacity: Mapping[str, Decimal], cards: Cards) -> Fraction | None:
    """Return the physical cards behind what the device plugins offer."""
    parts = {"k8s.amazonaws.com/vgpu", "aws.amazon.com/neuroncore"}
    shown = _largest(
        capacity, [key for key in capacity if key not in parts and not key.startswith("nvidia.com/mig-")]
    )
    if not shown:
        return None
    turns = (cards.replicas or {}).get(_GPU, 1)
    if cards.profile is None:
        return shown / turns
    return _cards_behind(shown / turns, cards.profile, cards)


def _cards_behind(slices: Fraction, profile: str, cards: Cards) -> Fraction | None:
    """Return how many cards equal slices come from, when every card holds as many of them as fit."""
    share = slice_share(profile, cards)
    size = re.match(r"\d+g\.(\d+)gb", profile)
    if share is None or size is None:
        return None
    fit = int(1 / share)
    parts = (mig_slices(cards.model) or 7) + 1
    if cards.memory_mib:
        taken = max(1, round(Fraction(int(size[1]) * 1024 * parts) / Fraction(cards.memory_mib)))
        fit = min(fit, parts // taken)
    found = slices / fit
    return found if found.denominator == 1 else None


def _hami_devices(annotation: str | None) -> list[tuple[Decimal | None, str | None]]:
    """Return memory (MiB) and type of each card that HAMi registered on a node."""
    if not annotation:
        return []
    try:
        listed = items(json.loads(annotation))
    except ValueError:
        fields = [part.split(",") for part in annotation.split(":") if part]
        return [(quantity(part[2]), part[4]) for part in fields if len(part) >= 7]  # noqa: PLR2004 - the older form's length
    return [(quantity(device.get("devmem")), text(device.get("type"))) for device in listed]


def _named(spelling: str | None) -> str | None:
    found = accelerator(spelling) if spelling else None
    return found.model if found else None


def _largest(capacity: Mapping[str, Decimal], names: Iterable[str]) -> Fraction | None:
    # One card may be counted by two names (neuron and neurondevice), so names are never added up.
    return max((Fraction(capacity[key]) for key in names if key in capacity), default=None)


def _first(tags: Mapping[str, str], keys: Iterable[str]) -> str | None:
    return next((tags[key] for key in keys if key in tags), None)


def _spot(tags: Mapping[str, str]) -> bool | None:
    lower = {key.lower(): value.lower() for key, value in tags.items()}
    found = [known[lower[key]] for key, known in _SPOT.items() if lower.get(key) in known]
    return any(found) if found else None
