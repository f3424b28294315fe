"""What a container asks for of accelerators, in whatever form, and how much of a card that is.

A request says *how many* devices and, where it can be told, *which part of a card* each of them is. Without knowing
the node some parts can't be told (`nvidia.com/gpu.shared` is one over the node's replicas): then `share` is None.

Sources: NVIDIA k8s-device-plugin (shared resources, MIG strategies) and GPU feature discovery (node labels);
Project-HAMi and Volcano vGPU (cores, memory); NVIDIA KAI scheduler and Run:ai (`gpu-fraction` annotations); ROCm
k8s-device-plugin (partition names); AWS Neuron and virtual GPU device plugins; GKE's GPU sharing labels.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Final

from gpuledger.core.sharing import hami_share, mig_share, replica_share
from gpuledger.core.usage import Sharing
from gpuledger.core.workload.fields import Json, mapping, quantity, whole

_MIG: Final = re.compile(r"nvidia\.com/mig-(?P<profile>\d+g\.\d+gb[a-z.]*?)(?P<shared>\.shared)?")
_AMD_PARTITION: Final = re.compile(r"amd\.com/(?P<compute>[sdtqc]px)_nps\d+")
# Profiles whose card can't be told by name: four slices on an RTX PRO 6000, eight memory slices on a 96 GB H100.
_AMBIGUOUS: Final = frozenset({"1g.24gb", "1g.12gb", "2g.24gb"})
# Profiles that only one family of cards with fewer than seven slices has.
_CARD_OF_PROFILE: Final = {
    **dict.fromkeys(("1g.6gb", "2g.12gb", "4g.24gb"), "A30"),
    **dict.fromkeys(("2g.48gb", "4g.96gb"), "RTX PRO 6000"),
}
_SEVEN_SLICES: Final = "A100"
_AMD_PARTS: Final = {"spx": 1, "dpx": 2, "tpx": 3, "qpx": 4}
_AMD_CORE_PARTS: Final = {"MI300A": 6, **dict.fromkeys(("MI300X", "MI325X", "MI350X", "MI355X"), 8)}

# Resources whose unit is one whole card, beside everything named `<vendor>/gpu`.
_WHOLE: Final = re.compile(
    r"google\.com/tpu|cloud-tpus\.google\.com/(?:preemptible-)?v\d+\S*|habana\.ai/(?:gaudi|goya)|nvidia\.com/pgpu"
    r"|aws\.amazon\.com/neuron(?:device)?|huawei\.com/Ascend\d+[A-Z]*|cambricon\.com/mlu|hygon\.com/dcu"
    r"|gpu\.intel\.com/(?:i915|xe)|[^/\s]+/gpu"
)
_SHARED: Final = re.compile(r"(?:nvidia\.com/gpu|gpu\.intel\.com/(?:i915|xe))\.shared")
_VIRTUAL: Final = "k8s.amazonaws.com/vgpu"
_NEURON_CORE: Final = "aws.amazon.com/neuroncore"

# HAMi and Volcano's vGPU: number of cards, then percent of cores, MiB of memory and percent of memory of each.
_HAMI: Final = (
    ("nvidia.com/gpu", "nvidia.com/gpucores", "nvidia.com/gpumem", "nvidia.com/gpumem-percentage"),
    (
        "volcano.sh/vgpu-number",
        "volcano.sh/vgpu-cores",
        "volcano.sh/vgpu-memory",
        "volcano.sh/vgpu-memory-percentage",
    ),
)
_HAMI_NAMES: Final = frozenset(name for names in _HAMI for name in names[1:])
_FRACTION: Final = "gpu-fraction"
_FRACTION_MEMORY: Final = "gpu-memory"
_FRACTION_DEVICES: Final = "gpu-fraction-num-devices"
_FRACTION_CONTAINER: Final = "gpu-fraction-container-name"


@dataclass(frozen=True, slots=True)
class Cards:
    """What is known of the cards of a node, or of the nodes that a pod selects. None where it isn't known.

    `count` is physical cards, `memory_mib` the memory of one whole card. `replicas` maps a resource to the holders
    per device under time-slicing or MPS. `profile` is set when `nvidia.com/gpu` counts MIG slices. `per_card` maps a
    resource that divides a card (`k8s.amazonaws.com/vgpu`, `aws.amazon.com/neuroncore`) to its units per card.
    """

    model: str | None = None
    count: Fraction | None = None
    memory_mib: Decimal | None = None
    strategy: Sharing | None = None
    profile: str | None = None
    replicas: Mapping[str, int] | None = None
    per_card: Mapping[str, Fraction] | None = None


UNKNOWN_CARDS: Final = Cards()


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """Devices of one form that a container or a pod asks for.

    `count` is None when the request names no number (a DRA claim on all matching devices). `share` is the part of a
    card that each device is. `claim` is `namespace/name` of a DRA claim that pods share. `device` is the card's uuid
    where the allocation is known.
    """

    resource: str
    count: Decimal | None
    share: Fraction | None = Fraction(1)
    sharing: Sharing | None = "whole"
    container: str | None = None
    claim: str | None = None
    device: str | None = None

    @property
    def cards(self) -> Fraction | None:
        """Whole cards that the devices amount to, None when that can't be told."""
        return None if self.count is None or self.share is None else Fraction(self.count) * self.share


def cards_of(requests: tuple[DeviceRequest, ...]) -> Fraction | None:
    """Add up the cards of requests; None as soon as one can't be told."""
    total = Fraction(0)
    for request in requests:
        if request.cards is None:
            return None
        total += request.cards
    return total


def asked(resources: Json) -> dict[str, object]:
    """Return what a container asks for per resource: its requests, or the limit where it only has that."""
    return {**mapping(resources.get("limits")), **mapping(resources.get("requests"))}


def container_devices(
    resources: Json,
    container: str | None,
    cards: Cards = UNKNOWN_CARDS,
    classes: Mapping[str, str] | None = None,
) -> tuple[list[DeviceRequest], list[str]]:
    """Return the accelerators in a container's `resources`, and what can't be read.

    `classes` maps extended resource names to the DRA device class that serves them.
    """
    amounts: dict[str, Decimal] = {}
    problems = []
    unread = []
    for name, value in asked(resources).items():
        if _is_accelerator(name) or name in (classes or {}):
            amount = quantity(value)
            if amount is None or amount < 0:
                problems.append(f"{name}: {value!r} is no quantity")
                unread.append(DeviceRequest(name, None, None, None, container))
            elif amount:
                amounts[name] = amount
    found = []
    for names in _HAMI:
        if any(name in amounts for name in names[1:]):
            found.append(_hami(names, amounts, container, cards))
            for name in names:
                amounts.pop(name, None)
    for name, amount in sorted(amounts.items()):
        if classes and name in classes:
            found.append(DeviceRequest(name, amount, Fraction(1), "dra", container))
        else:
            found.append(_plain(name, amount, container, cards))
    return [*found, *unread], problems


def is_accelerator(resource: str) -> bool:
    """Whether the name of an extended resource counts cards or parts of cards."""
    return _is_accelerator(resource) and resource not in _HAMI_NAMES


def resource_patterns() -> tuple[str, str, str, str]:
    """Return regular expressions for whole names of resources, in a syntax that RE2 has too.

    Of every accelerator; of those that count whole cards; of those that count parts, each at most a card; and of
    those among the last whose size the name doesn't tell.
    """
    names = (*sorted(_HAMI_NAMES), _VIRTUAL, _NEURON_CORE, "volcano.sh/vgpu-number")
    every = (_WHOLE, _SHARED, _MIG, _AMD_PARTITION)
    unsized = "|".join(re.escape(profile) for profile in sorted(_AMBIGUOUS))
    return (
        "|".join((*(pattern.pattern for pattern in every), *(re.escape(name) for name in names))),
        _WHOLE.pattern,
        r"nvidia\.com/mig-\d+g\.\d+gb[a-z.]*",
        rf"nvidia\.com/mig-(?:{unsized})(?:\.[a-z.]+)?|\S+\.shared",
    )


def _is_accelerator(name: str) -> bool:
    return (
        name in _HAMI_NAMES
        or name in {_VIRTUAL, _NEURON_CORE, "volcano.sh/vgpu-number"}
        or any(pattern.fullmatch(name) for pattern in (_WHOLE, _SHARED, _MIG, _AMD_PARTITION))
    )


def _plain(name: str, count: Decimal, container: str | None, cards: Cards) -> DeviceRequest:
    """Return the request for one resource that stands for itself."""
    request = DeviceRequest(name, count, container=container)
    replicas = (cards.replicas or {}).get(name)
    if slice_ := _MIG.fullmatch(name):
        share = slice_share(slice_["profile"], cards)
        if slice_["shared"] or replicas is not None:
            part = replica_share(replicas)
            share = None if share is None or part is None else share * part
        return replace(request, share=share, sharing="mig")
    if partition := _AMD_PARTITION.fullmatch(name):
        parts = _AMD_PARTS.get(partition["compute"]) or _AMD_CORE_PARTS.get(cards.model or "")
        return replace(
            request, share=Fraction(1, parts) if parts else None, sharing="whole" if parts == 1 else "mig"
        )
    if _SHARED.fullmatch(name):
        return replace(request, share=replica_share(replicas), sharing=cards.strategy or "time-slicing")
    if name in {_VIRTUAL, _NEURON_CORE}:
        per_card = (cards.per_card or {}).get(name)
        sharing: Sharing = "mps" if name == _VIRTUAL else "mig"
        return replace(request, share=1 / per_card if per_card else None, sharing=sharing)
    if name == "nvidia.com/gpu":
        return _nvidia(request, replicas, cards)
    return request


def _nvidia(request: DeviceRequest, replicas: int | None, cards: Cards) -> DeviceRequest:
    """`nvidia.com/gpu` is a card, unless the node makes it a MIG slice or one of several turns at a card."""
    share: Fraction | None = Fraction(1)
    sharing: Sharing = "whole"
    if cards.profile:
        share, sharing = slice_share(cards.profile, cards), "mig"
    if replicas is not None and replicas > 1:
        part = replica_share(replicas)
        share = None if share is None or part is None else share * part
        sharing = cards.strategy or "time-slicing"
    return replace(request, share=share, sharing=sharing)


def slice_share(profile: str, cards: Cards = UNKNOWN_CARDS) -> Fraction | None:
    """Share of the card that a MIG profile is, by compute slices; None when the card decides and isn't known."""
    base = profile.split("+", maxsplit=1)[0].split(".me", maxsplit=1)[0].lower()
    model = cards.model or _CARD_OF_PROFILE.get(base)
    if model is None and base not in _AMBIGUOUS:
        model = _SEVEN_SLICES
    return mig_share(base, model)


def _hami(
    names: tuple[str, ...], amounts: Mapping[str, Decimal], container: str | None, cards: Cards
) -> DeviceRequest:
    number, cores, memory, percentage = names
    share = hami_share(
        cores_percent=amounts.get(cores),
        memory_percent=amounts.get(percentage),
        memory_mib=amounts.get(memory),
        card_memory_mib=cards.memory_mib,
    )
    return DeviceRequest(number, amounts.get(number, Decimal(1)), share, "hami", container)


def annotated_devices(
    annotations: Mapping[str, str], first_container: str | None, cards: Cards = UNKNOWN_CARDS
) -> tuple[list[DeviceRequest], list[str]]:
    """Return the part of a card that KAI's or Run:ai's annotations ask for, and what can't be read.

    Such a pod asks for no GPU in its resources; a reservation pod of the scheduler holds the card for it.
    """
    key = _FRACTION if _FRACTION in annotations else _FRACTION_MEMORY
    if key not in annotations:
        return [], []
    number = whole(annotations.get(_FRACTION_DEVICES, "1"))
    amount = quantity(annotations[key])
    if amount is None or amount <= 0 or not number or (key == _FRACTION and amount > 1):
        return [], [f"annotation {key}: {annotations[key]!r} is no part of a card"]
    if key == _FRACTION:
        share: Fraction | None = Fraction(amount)
    else:
        share = hami_share(memory_mib=amount, card_memory_mib=cards.memory_mib)
    container = annotations.get(_FRACTION_CONTAINER, first_container)
    return [DeviceRequest(key, Decimal(number), share, "time-slicing", container)], []


def hami_allocation(
    annotation: str, containers: list[str], cards: Cards = UNKNOWN_CARDS
) -> list[DeviceRequest]:
    """Return the cards that HAMi gave a pod, from its annotation `hami.io/vgpu-devices-allocated`.

    The form is `uuid,type,MiB,percent of cores:` per device and `;` per container; the percent is 0 when no cores
    were asked for. Devices that can't be read are left out, and the caller falls back on the request.
    """
    found = []
    for place, part in enumerate(annotation.split(";")):
        for device in filter(None, part.split(":")):
            fields = device.split(",")
            memory, cores = (quantity(field) for field in fields[2:4]) if len(fields) == 4 else (None, None)  # noqa: PLR2004 - the form above
            if memory is None or cores is None or not fields[0]:
                return []
            share = hami_share(
                cores_percent=cores or None, memory_mib=memory or None, card_memory_mib=cards.memory_mib
            )
            container = containers[place] if place < len(containers) else None
            found.append(
                DeviceRequest("nvidia.com/gpu", Decimal(1), share, "hami", container, device=fields[0])
            )
    return found
