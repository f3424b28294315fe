"""AWS' quotas of GPU instances, which count vCPUs, as instances and GPUs that can still be started.

Source: Amazon EC2, "On-Demand Instance quotas": a quota for each group of families and region, counted in the default
vCPUs of running instances. Spot instances have quotas of their own and don't count.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota by its code, and the letters that its families begin with."""

    code: str
    name: str
    families: tuple[str, ...]

    def counts(self, instance_type: str) -> bool:
        """Tell whether an instance type counts against it."""
        letters = re.match(r"[a-z]+", instance_type.lower())
        return letters is not None and letters[0] in self.families


QUOTAS: Final = (
    Quota("L-417A185B", "Running On-Demand P instances", ("p",)),
    Quota("L-DB2E81BA", "Running On-Demand G and VT instances", ("g", "gr", "vt")),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """An instance type: vCPUs, GPUs, and its price an hour where one is known."""

    instance_type: str
    vcpus: int
    gpus: int
    price: Decimal | None


@dataclass(frozen=True, slots=True)
class Headroom:
    """What a quota of `limit` vCPUs leaves beside `used` ones, in instances of a type; `why` says who chose the type."""

    quota: Quota
    limit: int
    used: int
    kind: Kind
    why: str

    @property
    def instances(self) -> int:
        """Whole instances that can still be started."""
        return max(self.limit - self.used, 0) // self.kind.vcpus

    @property
    def gpus(self) -> int:
        """Their GPUs."""
        return self.instances * self.kind.gpus

    @property
    def told(self) -> str:
        """The arithmetic."""
        left = max(self.limit - self.used, 0)
        return (
            f"{self.quota.code} {self.quota.name}: {self.limit:,} vCPUs − {self.used:,} running = {left:,}; "
            f"÷ {self.kind.vcpus} vCPUs = {self.instances:,} × {self.kind.instance_type} with {self.kind.gpus} GPUs"
        )


def used_vcpus(quota: Quota, running: Iterable[str], kinds: Mapping[str, Kind]) -> tuple[int, list[str]]:
    """Return the vCPUs of running on-demand instances that count against a quota, and types whose size isn't known."""
    total, unknown = 0, set()
    for one in running:
        if quota.counts(one):
            if one in kinds:
                total += kinds[one].vcpus
            else:
                unknown.add(one)
    return total, sorted(unknown)


def worst_kind(
    quota: Quota, left: int, running: Sequence[str], kinds: Mapping[str, Kind]
) -> tuple[Kind, str] | None:
    """Return the type that a mistake would start: the one that runs most, else the one that costs most by vCPU.

    Only types with GPUs and a price, of which one fits into what is left; None where there is none.
    """
    able = {
        name: one for name, one in kinds.items()
        if quota.counts(name) and one.price is not None and one.gpus and one.vcpus <= left
    }  # fmt: skip
    if not able:
        return None
    counts = {name: running.count(name) for name in able if name in running}
    if counts:
        most = max(sorted(counts), key=lambda name: counts[name])
        return able[most], f"{counts[most]} of this type run now, the most of its kind"
    dearest = max(
        sorted(able), key=lambda name: ((able[name].price or Decimal(0)) / able[name].vcpus, able[name].gpus)
    )
    return able[dearest], "none of its kind runs: the type that costs most for the quota"
