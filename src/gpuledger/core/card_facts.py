"""What a card is doing at a moment, whichever tool says so, and how DCGM's exporter says it.

DCGM sources: dcgm-exporter's default and DCP counters and its labels (gpu, UUID, modelName, GPU_I_ID, GPU_I_PROFILE,
Hostname, pod, namespace, container, pod_uid, hpc_job, dra_*); dcgm_structs.h for values that mean "blank".
Two traps are told there: GPU_UTIL is 0 on a card in MIG mode whatever runs, and MIG rows carry their parent's UUID.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from gpuledger.core.exposition import Sample
from gpuledger.core.workload.devices import Cards, slice_share
from gpuledger.prices.accelerators import accelerator

# DCGM_INT32_BLANK, DCGM_INT64_BLANK and DCGM_FP64_BLANK; the next numbers say why (not found, not supported, …).
_BLANK: Final = (Decimal(2147483632), Decimal(9223372036854775792), Decimal(140737488355328))
_REASONS: Final = 16
_EXPORTER: Final = ("dcgm-exporter", "dcgm_exporter", "dcgm-nvidia")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a card: a container of a pod, a DRA claim (`namespace/name`), a Slurm job. None where it isn't said."""

    namespace: str | None = None
    pod: str | None = None
    container: str | None = None
    pod_uid: str | None = None
    claim: str | None = None
    slurm_job: str | None = None


@dataclass(frozen=True, slots=True)
class CardFacts:
    """A card, or a MIG slice of one (`slice_id` is set). Ratios are 0 to 1; what nobody measured is None.

    `utilisation` is the part of time in which any kernel ran; `engine_active` and `tensor_active` are DCGM's ratios
    of the slice or card. `share` is the part of the card that this is: 1, or a slice's compute share.
    `sliced` marks a card that has slices: they are what is held, not the card.
    """

    uuid: str | None
    node: str | None = None
    index: str | None = None
    model_name: str | None = None
    model: str | None = None
    slice_id: str | None = None
    profile: str | None = None
    share: Fraction | None = Fraction(1)
    sliced: bool = False
    utilisation: Decimal | None = None
    engine_active: Decimal | None = None
    tensor_active: Decimal | None = None
    memory_used_mib: Decimal | None = None
    memory_total_mib: Decimal | None = None
    power_watts: Decimal | None = None
    xid: int | None = None
    driver: str | None = None
    holders: tuple[Holder, ...] = ()

    @property
    def busy(self) -> Decimal | None:
        """Utilisation where it can be trusted, else the engine's activity. Under MIG only the latter measures."""
        return (
            self.engine_active
            if self.slice_id or self.sliced or self.utilisation is None
            else self.utilisation
        )


def known(value: Decimal | None) -> Decimal | None:
    """Turn DCGM's blank values into None."""
    if value is None or any(blank <= value < blank + _REASONS for blank in _BLANK):
        return None
    return value


def ratio(value: Decimal | None, scale: int = 1) -> Decimal | None:
    """Return a percentage (`scale` 100) or ratio as one from 0 to 1; None when it is neither."""
    value = known(value)
    return value / scale if value is not None and 0 <= value <= scale else None


@lru_cache(1024)
def canonical(model_name: str | None) -> str | None:
    """Name the model as the ledger does, None when it isn't known."""
    found = accelerator(model_name) if model_name else None
    return found.model if found else None


def own(labels: Mapping[str, str]) -> dict[str, str]:
    """Undo what a scrape without honorLabels does: `exported_pod` is the exporter's own `pod`. Empty ones are left out."""
    if "exported_" not in " ".join(labels) and "" not in labels.values():
        return dict(labels)
    kept = {key: value for key, value in labels.items() if value}
    exported = {
        key.removeprefix("exported_"): value for key, value in kept.items() if key.startswith("exported_")
    }
    return {**{key: value for key, value in kept.items() if not key.startswith("exported_")}, **exported}


def holder(
    labels: Mapping[str, str], named: Mapping[str, str] | None = None, *, exported: bool = False
) -> Holder | None:
    """Return who a DCGM series says holds the card; None when nobody, or only the exporter itself, is named.

    `exported` says that other series of the same scrape have `exported_pod`: then a bare `pod` is the exporter.
    `named` are the labels' `own`, for who has them already.
    """
    if named is None:
        named = own(labels)
    bare = not labels.get("exported_pod")
    pod = named.get("pod") or named.get("pod_name")
    container = named.get("container") or named.get("container_name")
    namespace = named.get("namespace") or named.get("pod_namespace")
    if bare and (exported or any(word in f"{pod} {container}" for word in _EXPORTER)):
        pod = container = namespace = None
    claim, space = named.get("dra_claim_name"), named.get("dra_claim_namespace") or namespace
    found = Holder(
        namespace=namespace if pod else None,
        pod=pod,
        container=container if pod else None,
        pod_uid=named.get("pod_uid") if pod else None,
        claim=f"{space or ''}/{claim}" if claim else None,
        slurm_job=named.get("hpc_job"),
    )
    return found if found != Holder() else None


def slice_of(labels: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return id and profile of the MIG slice that a DCGM series is about, None for a card."""
    return (
        labels.get("GPU_I_ID") or labels.get("dra_mig_device_uuid") or None,
        labels.get("GPU_I_PROFILE") or labels.get("dra_mig_profile") or None,
    )


@dataclass(slots=True)
class _Found:
    labels: dict[str, str]
    values: dict[str, Decimal | None] = field(default_factory=dict)
    holders: dict[Holder, None] = field(default_factory=dict)


def dcgm_cards(samples: Iterable[Sample]) -> list[CardFacts]:
    """Gather DCGM samples by card and slice, in the order of the text. A card that comes twice counts once."""
    found: dict[tuple[str | None, ...], _Found] = {}
    rows = [sample for sample in samples if sample.name.startswith("DCGM_")]
    exported = any(row.labels.get("exported_pod") for row in rows)
    for row in rows:
        uuid, index = row.labels.get("UUID") or None, row.labels.get("gpu") or None
        if uuid is None and index is None:
            continue
        node = row.labels.get("Hostname") or None
        card = found.setdefault(
            (uuid, None if uuid else node, None if uuid else index, slice_of(row.labels)[0]),
            _Found(dict(row.labels)),
        )
        if card.values.get(row.name) is None:
            card.values[row.name] = known(row.value)
        if (held_by := holder(row.labels, exported=exported)) is not None:
            card.holders[held_by] = None
    sliced = {key[:3] for key in found if key[3] is not None}
    return [_facts(card, sliced=key[3] is None and key[:3] in sliced) for key, card in found.items()]


def _facts(card: _Found, *, sliced: bool) -> CardFacts:
    labels, values = card.labels, card.values
    name = labels.get("modelName") or None
    slice_id, profile = slice_of(labels)
    used = values.get("DCGM_FI_DEV_FB_USED")
    parts = [used, values.get("DCGM_FI_DEV_FB_FREE"), values.get("DCGM_FI_DEV_FB_RESERVED")]
    total = values.get("DCGM_FI_DEV_FB_TOTAL")
    if total is None and None not in parts:
        total = sum((part for part in parts if part is not None), Decimal(0))
    xid = values.get("DCGM_FI_DEV_XID_ERRORS")
    blind = sliced or slice_id is not None
    return CardFacts(
        uuid=labels.get("UUID") or None,
        node=labels.get("Hostname") or None,
        index=labels.get("gpu") or None,
        model_name=name,
        model=canonical(name),
        slice_id=slice_id,
        profile=profile,
        share=Fraction(1) if slice_id is None else slice_part(profile, canonical(name)),
        sliced=sliced,
        utilisation=None if blind else ratio(values.get("DCGM_FI_DEV_GPU_UTIL"), 100),
        engine_active=ratio(values.get("DCGM_FI_PROF_GR_ENGINE_ACTIVE")),
        tensor_active=ratio(values.get("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE")),
        memory_used_mib=used,
        memory_total_mib=total,
        power_watts=values.get("DCGM_FI_DEV_POWER_USAGE"),
        xid=None if xid is None else int(xid),
        driver=labels.get("DCGM_FI_DRIVER_VERSION") or None,
        holders=tuple(card.holders),
    )


def slice_part(profile: str | None, model: str | None) -> Fraction | None:
    """Part of the card that a MIG profile is, None when it can't be told."""
    return None if profile is None else slice_share(profile, Cards(model))
