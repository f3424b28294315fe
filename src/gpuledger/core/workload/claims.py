"""Accelerators asked for through Dynamic Resource Allocation: claims, their templates, and what was allocated.

Source: Kubernetes API `resource.k8s.io` v1, v1beta2 (requests below `exactly` or `firstAvailable`), v1beta1 and
v1alpha3 (requests flat); KEP-5004 for extended resources served by a device class; NVIDIA and AMD DRA drivers for
the names of device classes, attributes and MIG profiles.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final

from gpuledger.core.sharing import hami_share
from gpuledger.core.workload.devices import UNKNOWN_CARDS, Cards, DeviceRequest, slice_share
from gpuledger.core.workload.fields import Json, at, items, mapping, name, namespace, quantity, text, whole
from gpuledger.core.workload.objects import Objects

# The resource of a request behind a claim that isn't known: it may be a card or not.
UNKNOWN: Final = "unknown resource claim"
IMPLICIT: Final = "deviceclass.resource.kubernetes.io/"
# Names of device classes and drivers that hand out accelerators; channels between them (IMEX) are none.
_ACCELERATOR: Final = re.compile(
    r"(?:^|[./-])(?:gpu|mig|tpu|neuron|gaudi|npu|xpu)s?(?:[./-]|$)", re.IGNORECASE
)
_CHANNEL: Final = re.compile(r"(?:^|[./-])(?:imex|compute-domain)", re.IGNORECASE)
_DRIVER: Final = re.compile(r"device\.driver\s*==\s*['\"]([^'\"]+)['\"]")
_PROFILE: Final = re.compile(r"\bprofile\s*==\s*['\"](\d+g\.\d+gb[^'\"]*)['\"]")
_BYTES_PER_MIB: Final = Decimal(2**20)


class Claims:
    """The DRA objects that are known, and the requests of pods that they stand for."""

    def __init__(self, objects: Objects | Iterable[Json] = ()) -> None:
        self._objects = objects if isinstance(objects, Objects) else Objects(objects)
        self._slices: tuple[int, dict[tuple[str, str, str], Json]] = (-1, {})

    def classes(self) -> dict[str, str]:
        """Return the extended resources that device classes of accelerators serve, each with its class."""
        found = {}
        for device_class in self._objects.of_kind("DeviceClass"):
            served = text(at(device_class, "spec", "extendedResourceName"))
            if self.is_accelerator(name(device_class)):
                found[f"{IMPLICIT}{name(device_class)}"] = name(device_class)
                if served:
                    found[served] = name(device_class)
        return found

    def is_accelerator(self, device_class: str) -> bool:
        """Whether a device class hands out accelerators: by the driver that it selects, else by its name."""
        known = self._objects.named("DeviceClass", None, device_class)
        drivers = [
            driver
            for selector in items(at(known, "spec", "selectors"))
            for driver in _DRIVER.findall(text(at(selector, "cel", "expression")) or "")
        ]
        return any(_is_accelerator(said) for said in drivers or [device_class])

    def devices(self, pod: Json, cards: Cards = UNKNOWN_CARDS) -> tuple[list[DeviceRequest], list[str]]:
        """Return the accelerators that a pod (or pod template) claims, and what isn't known.

        Once a claim is allocated, its devices are returned, each with its uuid where resource slices tell it.
        A claim that pods share by name has `claim` set: its devices are there once, however many pods use it. What
        isn't known might be cards: a request of unknown number stands for it.
        """
        found: list[DeviceRequest] = []
        problems: list[str] = []
        space = namespace(pod)
        given = {
            text(status.get("name")): text(status.get("resourceClaimName"))
            for status in items(at(pod, "status", "resourceClaimStatuses"))
        }
        for entry in items(at(pod, "spec", "resourceClaims")):
            label = text(entry.get("name")) or ""
            shared = text(entry.get("resourceClaimName")) or text(at(entry, "source", "resourceClaimName"))
            template = text(entry.get("resourceClaimTemplateName")) or text(
                at(entry, "source", "resourceClaimTemplateName")
            )
            claim = self._named("ResourceClaim", space, shared or given.get(label))
            spec = at(claim, "spec") if claim is not None else self._template(space, template)
            if spec is None:
                called = shared or template or "nothing"
                problems.append(f"resource claim {label!r}: {called} isn't known")
                found.append(DeviceRequest(f"{UNKNOWN} {called}", None, None, "dra"))
                continue
            container = _only_user(pod, label)
            own = self._allocated(claim, container, cards) if claim is not None else None
            own = self._requested(spec, container, cards) if own is None else own
            found += [_shared(request, space, shared) for request in own]
        return found, problems

    def extended(self, pod: Json, cards: Cards = UNKNOWN_CARDS) -> tuple[list[DeviceRequest], frozenset[str]]:
        """Return the devices allocated for a pod's extended resources, and the resources that they satisfy."""
        status = at(pod, "status", "extendedResourceClaimStatus")
        claim = self._named("ResourceClaim", namespace(pod), text(mapping(status).get("resourceClaimName")))
        devices = None if claim is None else self._allocated(claim, None, cards)
        if devices is None:
            return [], frozenset()
        mappings = items(mapping(status).get("requestMappings"))
        return devices, frozenset(resource for one in mappings if (resource := text(one.get("resourceName"))))

    def _named(self, kind: str, space: str | None, called: str | None) -> Json | None:
        return None if called is None else self._objects.named(kind, space, called)

    def _template(self, space: str | None, called: str | None) -> Json | None:
        found = self._named("ResourceClaimTemplate", space, called)
        return None if found is None else mapping(at(found, "spec", "spec"))

    def _requested(self, spec: Json, container: str | None, cards: Cards) -> list[DeviceRequest]:
        return [
            one
            for request in items(at(spec, "devices", "requests"))
            if (one := self._request(_first_choice(request), container, cards)) is not None
        ]

    def _request(self, request: Json, container: str | None, cards: Cards) -> DeviceRequest | None:
        device_class = text(request.get("deviceClassName")) or ""
        if not self.is_accelerator(device_class) or request.get("adminAccess") is True:
            return None
        number = None if request.get("allocationMode") == "All" else Decimal(whole(request.get("count")) or 1)
        profile = next(
            (
                wanted
                for selector in items(request.get("selectors"))
                for wanted in _PROFILE.findall(text(at(selector, "cel", "expression")) or "")
            ),
            None,
        )
        share: Fraction | None = Fraction(1)
        if profile is not None:
            share = slice_share(profile, cards)
        elif re.search(r"(?:^|\.)mig(?:\.|$)", device_class):
            share = None
        else:
            share = _capacity_share(mapping(at(request, "capacity", "requests")), cards.memory_mib)
        return DeviceRequest(device_class, number, share, "dra", container)

    def _allocated(self, claim: Json, container: str | None, cards: Cards) -> list[DeviceRequest] | None:
        """Return the accelerators allocated to a claim, None while it has no allocation."""
        results = at(claim, "status", "allocation", "devices", "results")
        if results is None:
            return None
        classes = {
            text(request.get("name")): text(_first_choice(request).get("deviceClassName"))
            for request in items(at(claim, "spec", "devices", "requests"))
        }
        found = []
        for result in items(results):
            driver = text(result.get("driver")) or ""
            device_class = classes.get((text(result.get("request")) or "").split("/")[0])
            if result.get("adminAccess") is True or not (
                _is_accelerator(driver) or (device_class and self.is_accelerator(device_class))
            ):
                continue
            found.append(self._result(result, driver, device_class or driver, container, cards))
        return found

    def _result(
        self, result: Json, driver: str, device_class: str, container: str | None, cards: Cards
    ) -> DeviceRequest:
        pool, device = text(result.get("pool")) or "", text(result.get("device")) or ""
        slice_ = self._device(driver, pool, device)
        attributes = {_last(key): value for key, value in mapping(slice_.get("attributes")).items()}
        profile = text(at(attributes.get("profile"), "string"))
        memory = _memory(mapping(slice_.get("capacity")))
        if profile is None and "mig" in device.lower().split("-"):
            share = None
        elif profile is not None:
            share = slice_share(profile, cards)
        else:
            share = _capacity_share(mapping(result.get("consumedCapacity")), memory or cards.memory_mib)
        parent = text(at(attributes.get("parentUUID"), "string")) or text(
            at(attributes.get("uuid"), "string")
        )
        return DeviceRequest(
            device_class, Decimal(1), share, "dra", container, device=parent or f"{pool}/{device}"
        )

    def _device(self, driver: str, pool: str, device: str) -> Json:
        """Return a device of a resource slice: attributes and capacity, empty when the slice isn't known."""
        if self._slices[0] != self._objects.version:
            self._slices = (self._objects.version, dict(self._all_devices()))
        return self._slices[1].get((driver, pool, device), {})

    def _all_devices(self) -> Iterable[tuple[tuple[str, str, str], Json]]:
        for slice_ in self._objects.of_kind("ResourceSlice"):
            driver, pool = (
                text(at(slice_, "spec", "driver")) or "",
                text(at(slice_, "spec", "pool", "name")) or "",
            )
            for device in items(at(slice_, "spec", "devices")):
                yield (driver, pool, text(device.get("name")) or ""), mapping(device.get("basic")) or device


def claim_key(space: str | None, called: str) -> str:
    """Return the name by which pods that share a claim are found: `namespace/name`."""
    return f"{space or ''}/{called}"


def _is_accelerator(said: str) -> bool:
    return _ACCELERATOR.search(said) is not None and _CHANNEL.search(said) is None


def _first_choice(request: Json) -> Json:
    """Return the part of a request that names its class: below `exactly`, the first alternative, or the request."""
    alternatives = items(request.get("firstAvailable"))
    return mapping(request.get("exactly")) or (alternatives[0] if alternatives else request)


def _shared(request: DeviceRequest, space: str | None, shared: str | None) -> DeviceRequest:
    if shared is None:
        return request
    return DeviceRequest(
        request.resource,
        request.count,
        request.share,
        request.sharing,
        request.container,
        claim_key(space, shared),
        request.device,
    )


def _only_user(pod: Json, claim: str) -> str | None:
    """Return the one container that uses a claim, None when several do or none says so."""
    users = [
        text(container.get("name"))
        for container in items(at(pod, "spec", "containers"))
        if any(text(one.get("name")) == claim for one in items(at(container, "resources", "claims")))
    ]
    return users[0] if len(users) == 1 else None


def _capacity_share(consumed: Mapping[str, object], whole_mib: Decimal | None) -> Fraction | None:
    """Share of a device whose memory was asked for; the whole device when nothing was."""
    memory = _memory(consumed)
    if memory is None:
        return None if consumed else Fraction(1)
    return hami_share(memory_mib=memory, card_memory_mib=whole_mib)


def _memory(capacity: Mapping[str, object]) -> Decimal | None:
    """Return the memory among capacities in MiB; a value may stand below `value`."""
    for key, value in capacity.items():
        if _last(key) == "memory":
            size = quantity(mapping(value).get("value")) if isinstance(value, Mapping) else quantity(value)
            return None if size is None else size / _BYTES_PER_MIB
    return None


def _last(key: object) -> str:
    return str(key).rsplit("/", 1)[-1]
