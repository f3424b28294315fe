"""Golden cases of allocation, with figures that can be checked by hand. Both engines are held to them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.core.kubernetes_objects import START, job, ran, t, watched

from gpuledger.core.allocation import Allocated, Charge, UnitPrice, allocate
from gpuledger.core.sharing import claim_share, effective_request, hami_share, mig_share
from gpuledger.core.usage import NodeInterval, Sharing, UsageInterval

T0 = datetime(2026, 10, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
# A machine whose price is all cards, so that a card's share is the cost's.
CARDS_ONLY = UnitPrice(gpu=Decimal(1), cpu=Decimal(0), memory=Decimal(0))
# 8 × 2.50 + 96 × 0.03 + 1024 × 0.004 = 26.976
CUSTOM = UnitPrice(gpu=Decimal("2.50"), cpu=Decimal("0.03"), memory=Decimal("0.004"))
AN_HOUR = Decimal("26.976")


@dataclass(frozen=True)
class Case:
    charges: tuple[Charge, ...]
    nodes: tuple[NodeInterval, ...]
    usage: tuple[UsageInterval, ...]
    prices: tuple[UnitPrice, ...] = (CARDS_ONLY,)

    def rows(self) -> list[Allocated]:
        return allocate(self.charges, self.nodes, self.usage, self.prices)


def charge(cost: str | Decimal, name: str = "c", hour: int = 0, **more: Any) -> Charge:  # noqa: ANN401
    amounts = dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), Decimal(cost))
    made = Charge(
        name, "east", "n1", T0 + hour * HOUR, T0 + (hour + 1) * HOUR, {**amounts, "x_GpuHours": Decimal(8)}
    )
    return replace(made, **more)


def node(gpus: int | None = 8, **more: Any) -> NodeInterval:  # noqa: ANN401
    made = NodeInterval(
        "east", "n1", T0, T0 + 24 * HOUR,
        cpu_cores=Decimal(96), memory_gib=Decimal(1024), gpu_count=None if gpus is None else Decimal(gpus),
    )  # fmt: skip
    return replace(made, **more)


def pod(name: str, hours: tuple[float, float] = (0, 1), **more: Any) -> UsageInterval:  # noqa: ANN401
    made = UsageInterval(
        cluster="east", node="n1", job_id=f"east/{name}", resource="gpu", namespace="default", pod=name, pod_uid=f"uid-{name}",
        start=T0 + timedelta(hours=hours[0]), end=T0 + timedelta(hours=hours[1]), requested=None,
    )  # fmt: skip
    return replace(made, **more)


def card(
    name: str,
    device: int = 0,
    share: Fraction | None = Fraction(1),
    sharing: Sharing = "whole",
    **more: Any,  # noqa: ANN401
) -> UsageInterval:
    return pod(name, device=f"GPU-{device}", share=share, sharing=sharing, **more)


def costs(rows: Sequence[Allocated], name: str = "BilledCost") -> dict[str, Decimal]:
    """Cost by pod; `idle` and `unknown` by their names."""
    found: dict[str, Decimal] = {}
    for row in rows:
        key = (row.holder.pod or row.holder.job_id or "") if row.holder else (row.state or "")
        found[key] = found.get(key, Decimal(0)) + (row.amounts[name] or Decimal(0))
    return found


def one_card(*usage: UsageInterval, cost: str = "2.10") -> Case:
    hour = charge(cost)
    return Case((replace(hour, amounts={**hour.amounts, "x_GpuHours": Decimal(1)}),), (node(1),), usage)


WHOLE = Case((charge("98.32"),), (node(),), tuple(card("train", device) for device in range(8)))
MIG_SINGLE = one_card(*(card(f"t{i}", share=Fraction(1, 7), sharing="mig") for i in range(7)))
MIG_MIXED = one_card(
    *(
        card(name, share=mig_share(profile, "H100") or Fraction(0), sharing="mig")
        for name, profile in (("a", "3g.40gb"), ("b", "2g.20gb"), ("c", "1g.10gb"), ("d", "1g.10gb"))
    )
)
HAMI = one_card(
    *(
        card(
            f"p{i}",
            share=hami_share(cores_percent=Decimal(25), memory_percent=Decimal(25)) or Fraction(0),
            sharing="hami",
        )
        for i in range(4)
    ),
    cost="3.00",
)
TIME_SLICED = one_card(
    *(pod(f"r{i}", requested=Decimal(1), share=Fraction(1, 4), sharing="time-slicing") for i in range(4)),
    cost="1.00",
)
CLAIM = one_card(
    *(card(name, share=claim_share(2) or Fraction(0), sharing="dra") for name in ("a", "b")), cost="1.00"
)
JOBSET = Case(
    (charge("80"), charge("80", "c2", node="n2")),
    (node(), node(node="n2")),
    tuple(
        pod(f"worker-{i}", node=name, job_id="east/jobset", requested=Decimal(8), sharing="whole")
        for i, name in enumerate(("n1", "n2"))
    ),
)  # fmt: skip
RESTART = Case(
    (charge("80"),),
    (node(),),
    (
        pod("train", (0, 0.25), requested=Decimal(8), attempt=1),
        pod("train", (0.5, 1), requested=Decimal(8), attempt=2, pod_uid="uid-again"),
    ),
)
PRICED = Case(
    (charge(AN_HOUR),),
    (node(),),
    (
        pod("train", requested=Decimal(2)),
        pod("train", resource="cpu", requested=Decimal(24)),
        pod("train", resource="memory", requested=Decimal(256)),
    ),
    (CUSTOM,),
)
SPOT = Case(
    (charge("10", "h0", 0), charge("16", "h1", 1), charge("4", "h2", 2)),
    (node(),),
    (pod("train", (0.5, 2.5), requested=Decimal(8)),),
)
CLUSTERS = Case(
    (charge("10"), charge("30", "w", cluster="west")),
    (node(), node(cluster="west")),
    (pod("api", requested=Decimal(8), pod_uid=None), pod("api", requested=Decimal(4), pod_uid=None, cluster="west", job_id="west/api")),
)  # fmt: skip
CROWDED = one_card(card("a"), card("b"), cost="1.00")
UNKNOWN_SLICE = one_card(
    card("a", share=Fraction(1, 4), sharing="mig"), pod("b", requested=Decimal(1), sharing="mig")
)
PARTLY_SEEN = Case(
    (charge("10", machine_seconds=Decimal(3600)),),
    (node(end=T0 + HOUR / 2),),
    (pod("a", (0, 0.5), requested=Decimal(8)),),
)
SHORT_LIFE = Case(
    (charge("10", machine_seconds=Decimal(1800)),),
    (node(end=T0 + HOUR / 2),),
    (pod("a", (0, 0.5), requested=Decimal(4)),),
)
WAITING = Case((charge("80"),), (node(),), (pod("gang", requested=Decimal(8), state="held"),))
BUSY = replace(WHOLE, usage=tuple(card("train", device, used=Decimal(1)) for device in range(8)))
# 31 days of eight cards at a dollar each; ten days of all cards, five of two, the rest nobody's.
MONTH = Case(
    (charge(Decimal(744 * 8), end=T0 + 744 * HOUR),),
    (node(end=T0 + 744 * HOUR),),
    (pod("long", (12, 252), requested=Decimal(8)), pod("short", (300.5, 420.5), requested=Decimal(2))),
)
# Google and others bill cards, cores and memory apart: each row goes by its own resource, and no price is needed.
PARTS = Case(
    (charge("8", part="gpu"), charge("9.6", "cpu", part="cpu"), charge("4.096", "memory", part="memory")),
    (node(),),
    PRICED.usage,
    (),
)
# The larger of init containers and main ones is reserved for the pod's whole life: max(8 + 0.5, 2 + 1 + 0.5).
INIT = Case(
    (charge("96"),),
    (node(),),
    (
        pod(
            "a",
            resource="cpu",
            requested=effective_request(
                [Decimal(2), Decimal(1)], [(Decimal("0.5"), True), (Decimal(8), False)]
            ),
        ),
    ),
    (UnitPrice(gpu=Decimal(0), cpu=Decimal(1), memory=Decimal(0)),),
)
# Remainders that are equal: one and two units of 1e-18 among three parts of equal weight, and between seen and unseen.
LAST_DIGIT = Decimal("1E-18")
TIES = Case(
    tuple(
        charge(LAST_DIGIT * units, f"{units}-{paid}", machine_seconds=Decimal(paid))
        for units in (1, 2, 3)
        for paid in (3600, 7200)
    ),
    (node(1, cpu_cores=Decimal(1), memory_gib=Decimal(1)),),
    (pod("b", requested=Decimal("0.5")), pod("a", requested=Decimal("0.5"))),
    (UnitPrice(gpu=Decimal(1), cpu=Decimal(1), memory=Decimal(1)),),
)
# Two equal hours, but in the second a pod holds a slice of unknown size beside what it held before.
SECOND_UNKNOWN = Case(
    (charge("8", "h0", 0), charge("8", "h1", 1)),
    (node(),),
    (card("a", hours=(0, 2)), card("a", 1, hours=(1, 2), share=None, sharing="mig")),
)
LATER = UnitPrice(gpu=Decimal(1), cpu=Decimal(0), memory=Decimal(0), valid_from=T0 + HOUR)
CORES = UnitPrice(gpu=Decimal(0), cpu=Decimal(1), memory=Decimal(0), valid_from=T0)
DATED = Case(
    (charge("10", "h0", 0), charge("10", "h1", 1)),
    (node(),),
    (pod("a", (0, 2), requested=Decimal(8)), pod("b", (0, 2), resource="cpu", requested=Decimal(96))),
    (LATER, CORES),
)


def ray() -> Case:
    """A RayJob as an API server tells of it: its cluster owns a head without cards, and workers with four and two.

    Each asks for two cores and 4 GiB; the second worker starts half an hour later.
    """
    ray_job = job("RayJob", "tune", t(0))
    cluster = job("RayCluster", "tune-x", t(0), owner=ray_job)
    pods = (
        (0, "tune-x-head", 0),
        (0, "tune-x-worker-a", 4),
        (30, "tune-x-worker-b", 2),
    )
    seen = [(0, ray_job), (0, cluster)]
    seen += [
        (minute + 1, ran(name, minute + 1, None, owner=cluster, gpus=gpus)) for minute, name, gpus in pods
    ]
    records = watched(*seen, cluster="east").records(START, START + HOUR)
    return Case(
        (charge(AN_HOUR, start=START, end=START + HOUR),),
        (node(start=START, end=START + HOUR),),
        tuple(records.usages),
        (CUSTOM,),
    )


RAY = ray()
GOLDEN = {
    "whole": WHOLE, "mig-single": MIG_SINGLE, "mig-mixed": MIG_MIXED, "hami": HAMI, "time-sliced": TIME_SLICED,
    "claim": CLAIM, "jobset": JOBSET, "ray": RAY, "restart": RESTART, "init": INIT, "priced": PRICED, "spot": SPOT,
    "clusters": CLUSTERS, "busy": BUSY, "month": MONTH, "parts": PARTS, "crowded": CROWDED, "unknown-slice": UNKNOWN_SLICE,
    "ties": TIES, "second-unknown": SECOND_UNKNOWN, "dated": DATED, "partly-seen": PARTLY_SEEN, "short-life": SHORT_LIFE, "waiting": WAITING,
}  # fmt: skip
