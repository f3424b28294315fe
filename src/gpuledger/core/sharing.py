"""How much of a card a holder has: MIG slices, time-slicing, MPS, HAMi, DRA; and what a pod asks for in all.

Shares are fractions, so that seven sevenths are one card. What can't be told is None, never a guess.

Sources: NVIDIA Multi-Instance GPU User Guide (supported GPUs, supported MIG profiles); NVIDIA k8s-device-plugin
(`replicas`); Project-HAMi (`nvidia.com/gpucores`, `gpumem`, `gpumem-percentage`); Kubernetes KEP-753 for sidecars.
"""

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Final, Literal

from gpuledger.core.usage import UsageInterval

# Allocation counts cards in this many units: exact for halves to 512ths, thirds, ninths, sevenths, and a billionth.
CARD_UNITS: Final = 2**9 * 3**2 * 5**9 * 7

# Decimals of quantities in the tables.
_SCALE: Final = 14

MigPolicy = Literal["compute", "memory", "max"]
HamiPolicy = Literal["max", "cores", "memory"]

# Compute slices of a card in MIG mode, by canonical model. Cards with seven have eight slices of memory.
_SLICES: Final = {
    **dict.fromkeys(("A100", "A800", "H100", "H800", "H20", "H200", "GH200", "B200", "GB200", "B300", "GB300"), 7),
    **dict.fromkeys(("A30", "RTX PRO 6000"), 4),
    **dict.fromkeys(("RTX PRO 5000", "RTX PRO 4500"), 2),
}  # fmt: skip
# '1g.10gb', '1g.10gb+me', '1c.3g.40gb', and Kubernetes' resource names 'nvidia.com/mig-1g.10gb.me'.
_PROFILE: Final = re.compile(
    r"^(?:nvidia\.com/)?(?:mig[- ])?(?:(\d+)c\.)?(\d+)g\.(\d+)gb(?:[.+-].*)?$", re.IGNORECASE
)
_SEVEN: Final = 7


def mig_slices(gpu_model: str | None) -> int | None:
    """Compute slices of a whole card; None for a model that isn't known to have MIG."""
    return None if gpu_model is None else _SLICES.get(gpu_model)


def mig_share(
    profile: str,
    gpu_model: str | None,
    card_memory_gib: Decimal | None = None,
    policy: MigPolicy = "compute",
) -> Fraction | None:
    """Share of the card that a MIG profile is.

    `compute` counts compute slices, so valid layouts never exceed a card. `memory` counts the card's memory slices
    and needs `card_memory_gib`; `max` is the larger of both, and some layouts (4g beside 3g) then exceed one card.
    A compute instance (`1c.3g.40gb`) has its part of the slice. None when the profile, or what it needs, isn't known.
    """
    found = _PROFILE.match(profile.strip())
    slices = mig_slices(gpu_model)
    if found is None or slices is None:
        return None
    own, wide, gigabytes = int(found[1] or found[2]), int(found[2]), int(found[3])
    if not 0 < own <= wide <= slices:
        return None
    compute = Fraction(own, slices)
    if policy == "compute":
        return compute
    if card_memory_gib is None or card_memory_gib <= 0:
        return None
    parts = slices + 1 if slices == _SEVEN else slices
    taken = min(parts, max(1, round(Fraction(gigabytes * parts) / Fraction(card_memory_gib))))
    memory = Fraction(taken * own, parts * wide)
    return memory if policy == "memory" else max(compute, memory)


def replica_share(replicas: int | None, requested: int = 1) -> Fraction | None:
    """Share of a card under time-slicing or MPS with `replicas` a card. Its utilisation can't be told apart."""
    if replicas is None or replicas < 1:
        return None
    return Fraction(requested, replicas)


def hami_share(
    *,
    cores_percent: Decimal | None = None,
    memory_percent: Decimal | None = None,
    memory_mib: Decimal | None = None,
    card_memory_mib: Decimal | None = None,
    policy: HamiPolicy = "max",
) -> Fraction | None:
    """Share of one card that a HAMi request takes: the larger of its core and memory shares, or one of them.

    A share that wasn't asked for doesn't count; with none at all the card is whole. None when memory was asked for
    in MiB and the card's memory isn't known.
    """
    cores = None if cores_percent is None else Fraction(cores_percent) / 100
    memory = None if memory_percent is None else Fraction(memory_percent) / 100
    if memory is None and memory_mib is not None:
        if not card_memory_mib:
            return None
        memory = Fraction(memory_mib) / Fraction(card_memory_mib)
    asked = {"max": (cores, memory), "cores": (cores,), "memory": (memory,)}[policy]
    known = [share for share in asked if share is not None]
    return min(Fraction(1), max(known)) if known else Fraction(1)


def claim_share(pods: int, device: Fraction = Fraction(1)) -> Fraction | None:
    """Share of a device that each of the pods reserved for one DRA claim has; `device` is the claim's part of a card."""
    return device / pods if pods > 0 else None


def effective_request(
    main: Iterable[Decimal],
    init: Iterable[tuple[Decimal, bool]] = (),
    overhead: Decimal = Decimal(0),
) -> Decimal:
    """What Kubernetes reserves for a pod: max(init, sum of main containers and sidecars), plus the pod's overhead.

    `init` lists init containers in their order with whether each restarts always (a sidecar): a sidecar stays while
    the later ones run.
    """
    sidecars = highest = Decimal(0)
    for amount, is_sidecar in init:
        if is_sidecar:
            sidecars += amount
            highest = max(highest, sidecars)
        else:
            highest = max(highest, sidecars + amount)
    return max(highest, sum(main, sidecars)) + overhead


def card_units(share: Fraction) -> int:
    """A share in CARD_UNITS, rounded half up."""
    return (2 * share.numerator * CARD_UNITS + share.denominator) // (2 * share.denominator)


def held_units(row: UsageInterval) -> int | None:
    """What a GPU row holds, in CARD_UNITS; None when it can't be told.

    A row with a device holds `share` of it (all of it when the row says nothing or 'whole'). A row without holds
    `requested` cards; beside a share below one, a whole number counts slices of that share, and slices of unknown
    share can't be told.
    """
    share = None if row.share is None else card_units(row.share)
    if row.device is not None:
        return share if share is not None else CARD_UNITS if row.sharing in {None, "whole"} else None
    if row.requested is None:
        return share
    cards = int(row.requested.scaleb(_SCALE).to_integral_value(ROUND_HALF_UP))
    count, rest = divmod(cards, 10**_SCALE)
    if count > 0 and rest == 0 and share is not None and share < CARD_UNITS:
        return share * count
    if cards < 0 or (rest == 0 and share is None and row.sharing not in {None, "whole"}):
        return None
    return (cards * CARD_UNITS + 10**_SCALE // 2) // 10**_SCALE
