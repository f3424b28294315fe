"""Laws of allocated ledgers: whatever bills and telemetry say, nothing is lost, doubled or invented."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.pipeline.allocation_world import World, charge, node, pod

from gpuledger.core.usage import NodeInterval, Resource, UsageInterval

FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RESOURCES: list[Resource] = ["gpu", "gpu", "cpu", "memory", "storage"]
COSTS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
money = st.decimals(-1000, 1000, places=18).filter(lambda cost: cost != 0)
times = st.tuples(st.integers(0, 11), st.integers(1, 12)).map(lambda t: (t[0] / 2, (t[0] + t[1]) / 2))


@st.composite
def charges(draw: st.DrawFn) -> dict[str, Any]:
    line = charge("0", draw(st.sampled_from(["i-1", "i-2", "i-9", "vol-1"])), draw(times))
    line |= {name: draw(money) for name in COSTS[:2]} | {name: draw(st.none() | money) for name in COSTS[2:]}
    line["ChargeCategory"] = draw(st.sampled_from(["Usage", "Usage", "Credit", "Purchase"]))
    line["BillingCurrency"] = draw(st.sampled_from(["USD", "EUR"]))
    line["AllocatedMethodId"] = draw(st.sampled_from([None, None, None, "provider"]))
    if draw(st.booleans()):
        line |= {"ConsumedQuantity": draw(st.integers(1, 4)), "ConsumedUnit": "Hours", "SkuId": "sku"}
    return line


@st.composite
def machines(draw: st.DrawFn) -> NodeInterval:
    name = draw(st.sampled_from(["1", "2"]))
    made = node(f"n{name}", f"i-{name}", draw(times), cluster=draw(st.sampled_from(["east", "east", "west"])))
    return replace(made, gpu_count=draw(st.none() | st.integers(0, 8).map(Decimal)))


@st.composite
def holds(draw: st.DrawFn) -> UsageInterval:
    made = pod(draw(st.sampled_from("abc")), draw(times), node=draw(st.sampled_from(["n1", "n2"])))
    resource: Resource = draw(st.sampled_from(RESOURCES))
    device = {"gpu": st.sampled_from([None, "GPU-1"]), "storage": st.just("vol-1")}.get(resource, st.none())
    share = draw(st.none() | st.integers(1, 7).map(lambda n: Fraction(n, 7))) if resource == "gpu" else None
    amount = st.none() | st.decimals(0, 40, places=3)
    return replace(
        made, resource=resource, device=draw(device), share=share, sharing="mig" if share else None, requested=draw(amount),
        used=draw(amount), state=draw(st.sampled_from(["running", "held"])), attempt=draw(st.integers(1, 2)),
    )  # fmt: skip


def sums(world: World, relation: str) -> list[tuple[Any, ...]]:
    totals = ", ".join(f"sum({name})" for name in (*COSTS, "ConsumedQuantity"))
    return world.ask(
        f"SELECT BillingCurrency, ChargeCategory, ResourceId, ChargePeriodStart, {totals} FROM {relation} GROUP BY ALL ORDER BY ALL"
    )


@FEW
@given(
    lines=st.lists(charges(), min_size=1, max_size=6),
    told=st.lists(st.one_of(machines(), machines(), holds()), max_size=10),
    idle=st.sampled_from(["none", "even", "proportional"]),
)
def test_every_sum_of_the_ledger_is_kept_and_parts_are_parts(
    lines: list[dict[str, Any]], told: list[NodeInterval | UsageInterval], idle: str
) -> None:
    """By resource, time, category and currency: credits and negative costs too."""
    with TemporaryDirectory() as folder:
        world = World(Path(folder), idle=idle, gpu=3, cpu="0.03", memory="0.004")
        world.bill(*lines)
        world.telemetry(node("n1", "i-1"), *told)
        world.build()
        assert sums(world, "allocated") == sums(world, "cost_and_usage")
        # No part has the other sign than what it was split from, and parts by resource make up the cost.
        signs = world.ask(
            "SELECT x_OriginChargeId, count(DISTINCT sign(EffectiveCost)) FROM allocated "
            "WHERE x_AllocationState IS NOT NULL AND EffectiveCost <> 0 GROUP BY 1 HAVING count(DISTINCT sign(EffectiveCost)) > 1"
        )
        assert signs == []
        parts = world.ask(
            "SELECT EffectiveCost, x_GpuCost, x_CpuCost, x_MemoryCost FROM allocated "
            "WHERE x_AllocationState <> 'unknown' AND AllocatedMethodId <> 'gpuledger-volume-1' "
            "AND x_GpuCost + x_CpuCost + x_MemoryCost <> EffectiveCost"
        )
        assert parts == []
        assert world.build() == []
