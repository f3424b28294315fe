"""Bills and telemetry to allocated charges, end to end: figures that can be checked by hand, and nothing ever lost."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.allocation_world import World, charge, job, node, owned, pod

from gpuledger.core.usage import UsageInterval

TRAIN = pod("train", gpus="8")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def cards(name: str, share: Fraction, sharing: str, count: int = 1) -> list[UsageInterval]:
    """Pods that hold a part of one card each."""
    return [
        pod(f"{name}-{i}", device="GPU-0", share=share, sharing=sharing, job_id=f"east/{name}-{i}")
        for i in range(count)
    ]


def by_state(world: World, metric: str = "billed") -> dict[str | None, Decimal]:
    return world.costs("state", metric=metric)


def test_a_whole_machine_is_its_jobs(world: World) -> None:
    world.bill(charge("80"), charge("3", "vol-9", ServiceCategory="Storage"))
    world.telemetry(node(), job("train", dimensions=owned(team="ml")), TRAIN)
    (built,) = world.build()
    assert (built.name, built.rows) == ("allocated_cost cloud 2026-10", 1)
    assert world.costs("job_id", "job", "state", "team", "cluster", "node", "namespace", "pod") == {
        ("east/train", "train", "running", "ml", "east", "n1", "ml", "train"): Decimal(80),
        (None,) * 8: Decimal(3),
    }
    assert world.costs("ResourceId") == {"east/uid-train": Decimal(80), "vol-9": Decimal(3)}
    assert world.costs("Tags.team") == {"ml": Decimal(80), None: Decimal(3)}
    (row,) = world.ask(
        "SELECT AllocatedMethodId, AllocatedMethodDetails, AllocatedTags, x_OriginChargeId, ResourceId, x_DeliveryId "
        "FROM allocated WHERE x_JobId IS NOT NULL"
    )
    assert row[0] == "gpuledger-node-1"
    assert row[1].startswith('{"Elements":[{"AllocatedRatio":1,"UsageUnit":"GPU-Hours","UsageQuantity":8}')
    assert row[2] == {"team": "ml"}
    assert row[4:] == ("i-1", "d1")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (cards("mig", Fraction(1, 7), "mig", 7), {"running": "2.10"}),
        (cards("mig", Fraction(2, 7), "mig", 2), {"running": "1.20", "idle": "0.90"}),
        (cards("hami", Fraction(1, 4), "hami", 4), {"running": "2.10"}),
        (cards("slice", Fraction(1, 4), "time-slicing", 3), {"running": "1.575", "idle": "0.525"}),
        (cards("claim", Fraction(1, 2), "dra", 2), {"running": "2.10"}),
        ([pod("gang", gpus="1", state="held")], {"held": "2.10"}),
        ([], {"idle": "2.10"}),
        ([pod("odd", gpus="1", sharing="mig")], {"unknown": "2.10"}),
    ],
    ids=["mig-7", "mig-2g", "hami", "time-slicing", "dra", "held", "idle", "slice-unknown"],
)
def test_shared_cards(world: World, usage: list[UsageInterval], expected: dict[str, str]) -> None:
    """One card for an hour at 2.10."""
    world.bill(charge("2.10"))
    world.telemetry(node(gpu_count=Decimal(1)), *usage)
    world.build()
    assert by_state(world) == {state: Decimal(cost) for state, cost in expected.items()}
    pods = {key: cost for key, cost in world.costs("pod").items() if key}
    assert len(set(pods.values())) <= 1  # equal slices cost the same


def test_a_restart_is_two_attempts_and_its_gap_is_idle(world: World) -> None:
    world.bill(charge("80"))
    again = pod("train", (0.5, 1), "8", attempt=2, pod_uid="uid-again")
    world.telemetry(node(), pod("train", (0, 0.25), "8"), again)
    world.build()
    assert world.costs("state", "attempt") == {
        ("running", 1): Decimal(20), ("running", 2): Decimal(40), ("idle", None): Decimal(20),
    }  # fmt: skip


def test_one_namespace_in_two_clusters_stays_apart(world: World) -> None:
    world.bill(charge("10"), charge("30", "i-2"))
    west = pod("api", gpus="4", cluster="west", job_id="west/api", pod_uid=None)
    world.telemetry(node(), node("n1", "i-2", cluster="west"), pod("api", gpus="8", pod_uid=None), west)
    world.build()
    assert world.costs("cluster", "namespace") == {
        ("east", "ml"): Decimal(10), ("west", "ml"): Decimal(15), ("west", None): Decimal(15),
    }  # fmt: skip


def test_a_pod_pays_each_hours_own_price(world: World) -> None:
    world.bill(*(charge(cost, hours=(i, i + 1)) for i, cost in enumerate(("10", "16", "4"))))
    world.telemetry(node(), pod("train", (0.5, 2.5), "8"))
    world.build()
    assert by_state(world) == {"running": Decimal(23), "idle": Decimal(7)}


@pytest.mark.parametrize(("start", "end"), [(0, 24), (-4 * 24, 27 * 24)], ids=["day", "month"])
def test_charges_of_a_day_or_a_month(world: World, start: int, end: int) -> None:
    """One line for the time of 24 machine-hours that are seen, six of them held by a job with all cards."""
    world.bill(charge("240", hours=(start, end), ConsumedQuantity=24, ConsumedUnit="Hrs"))
    world.telemetry(node(), pod("train", (10, 16), "8"))
    world.build()
    assert by_state(world) == {"running": Decimal(60), "idle": Decimal(180)}


def test_time_paid_and_not_seen_is_unknown_for_credits_too(world: World) -> None:
    """Of four hours paid, three were seen, of which the job held half. Unpaid hours of the month don't count."""
    day: dict[str, Any] = {"hours": (0, 24), "ConsumedUnit": "Hours"}
    world.bill(
        charge("40", **day, ConsumedQuantity=4, SkuId="box"),
        charge("8", **day, ConsumedQuantity=4, SkuId="licence"),
        charge("-4", **day, ChargeCategory="Credit"),
    )
    world.telemetry(node(hours=(0, 3)), pod("train", (0, 3), "4"))
    world.build()
    assert by_state(world) == {"running": Decimal("16.5"), "idle": Decimal("16.5"), "unknown": Decimal(11)}


def test_credits_follow_what_they_credit_and_quantities_are_split(world: World) -> None:
    world.bill(charge("80", ConsumedQuantity=1, ConsumedUnit="Hours"), charge("-8", ChargeCategory="Credit"))
    world.telemetry(node(), pod("train", gpus="6"))
    world.build()
    assert world.costs("state", "ChargeCategory") == {
        ("running", "Usage"): Decimal(60), ("idle", "Usage"): Decimal(20),
        ("running", "Credit"): Decimal(-6), ("idle", "Credit"): Decimal(-2),
    }  # fmt: skip
    assert world.ask("SELECT sum(ConsumedQuantity) FROM allocated") == [(1,)]


def test_what_the_provider_split_is_not_split_again(world: World) -> None:
    split: dict[str, Any] = {"AllocatedMethodId": "AWS split cost allocation", "AllocatedResourceId": "pod/a"}
    world.bill(
        charge("60", **split), charge("20", **split | {"AllocatedResourceId": None}), charge("8", "i-2")
    )
    world.telemetry(node(), node("n2", "i-2"), TRAIN)
    (built,) = world.build()
    assert built.rows == 1
    assert world.costs("AllocatedMethodId", "state") == {
        ("AWS split cost allocation", None): Decimal(80), ("gpuledger-node-1", "idle"): Decimal(8),
    }  # fmt: skip


def test_charges_that_are_no_machines_stay_whole(world: World) -> None:
    """Purchases, machines of others, and time before the machine was known."""
    world.bill(
        charge("10"),
        charge("500", ChargeCategory="Purchase"),
        charge("9", "i-other"),
        charge("7", hours=(-48, -47)),
    )
    world.telemetry(node(), TRAIN)
    world.build()
    assert by_state(world) == {"running": Decimal(10), None: Decimal(516)}


def test_cards_cores_and_memory_are_told_apart(world: World) -> None:
    world.settings(gpu="2.50", cpu="0.03", memory="0.004")
    world.bill(charge("26.976") | {"EffectiveCost": "13.488"})
    asks = {"cpu": "24", "memory": "256"}
    usage = [
        pod("train", resource=name, requested=Decimal(asked)) for name, asked in {**asks, "gpu": "2"}.items()
    ]
    world.telemetry(node(), *usage)
    world.build()
    costs = "x_GpuCost, x_CpuCost, x_MemoryCost, EffectiveCost - x_GpuCost - x_CpuCost - x_MemoryCost"
    assert world.ask(f"SELECT x_AllocationState, BilledCost, {costs} FROM allocated ORDER BY 1") == [
        ("idle", Decimal("20.232"), Decimal("7.5"), Decimal("1.08"), Decimal("1.536"), 0),
        ("running", Decimal("6.744"), Decimal("2.5"), Decimal("0.36"), Decimal("0.512"), 0),
    ]


@pytest.mark.parametrize(
    ("idle", "shares", "expected"),
    [
        ("none", {}, {("east/a", "running"): "3", ("east/b", "running"): "1", (None, "idle"): "4"}),
        ("even", {}, {("east/a", "idle"): "2", ("east/b", "idle"): "2"}),
        ("proportional", {}, {("east/a", "idle"): "3", ("east/b", "idle"): "1"}),
        ("fixed", {"lab": 3, "web": 1}, {(None, "idle"): "4"}),
    ],
)
def test_idle_is_shared_as_configured(
    world: World, idle: str, shares: dict[str, int], expected: dict[tuple[str | None, str], str]
) -> None:
    world.settings(idle=idle, shares=shares, gpu=1, cpu="0.01", memory="0.001")
    world.bill(charge("8"), charge("-0.800000000000000007", ChargeCategory="Credit"))
    pods = [
        pod(name, resource=part, requested=Decimal(size) * share)
        for name, share in (("a", 3), ("b", 1))
        for part, size in (("gpu", 1), ("cpu", 12), ("memory", 128))
    ]
    world.telemetry(node(), *pods)
    world.build()
    found = world.costs("job_id", "state", where=["ChargeCategory=Usage"])
    # Shares of idle go by ratios of 18 decimals.
    assert {key: round(found[key], 15) for key in expected} == {
        key: Decimal(cost) for key, cost in expected.items()
    }
    assert sum(found.values()) == 8
    (parts,) = world.ask(
        "SELECT bool_and(x_GpuCost + x_CpuCost + x_MemoryCost = EffectiveCost), count(x_GpuCost) = count(*) FROM allocated"
    )
    assert parts == (True, True)
    whole = world.ask("SELECT sum(x_GpuCost), sum(x_CpuCost), sum(x_MemoryCost) FROM allocated")
    world.settings(gpu=1, cpu="0.01", memory="0.001")
    world.build()
    assert world.ask("SELECT sum(x_GpuCost), sum(x_CpuCost), sum(x_MemoryCost) FROM allocated") == whole


def test_shared_idle_names_its_targets(world: World) -> None:
    world.settings(idle="fixed", shares={"lab": 3, "web": 1})
    world.bill(charge("8"))
    world.telemetry(node())
    world.build()
    assert world.costs("AllocatedResourceId") == {"lab": Decimal(6), "web": Decimal(2)}


def test_a_volume_is_its_claimants_and_idle_while_nobody_claims_it(world: World) -> None:
    world.bill(
        charge("24", "arn:aws:ec2:us-east-1:1:volume/vol-9", hours=(0, 24), ServiceCategory="Storage"),
        charge("5", "vol-8", ServiceCategory="Storage"),
        charge("3", "vol-9", ServiceCategory="Networking"),
    )
    claim = pod("data", (6, 18), resource="storage", device="vol-9", requested=Decimal(100), node="n1")
    world.telemetry(node(), claim)
    world.build()
    assert world.costs("AllocatedMethodId", "job_id", "state") == {
        ("gpuledger-volume-1", "east/data", "running"): Decimal(12),
        ("gpuledger-volume-1", None, "idle"): Decimal(12),
        (None, None, None): Decimal(8),
    }
    assert world.ask("SELECT DISTINCT x_Node, x_MemoryCost FROM allocated") == [(None, None)]


def test_owners_come_from_the_job_where_it_has_them_else_from_the_charge(world: World) -> None:
    world.bill(charge("80", x_Team="platform", x_CostCenter="cc-1"))
    world.telemetry(node(), job("train", dimensions=owned(team="ml", owner="ann")), pod("train", gpus="4"))
    world.build()
    assert world.costs("team", "owner", "cost_center") == {
        ("ml", "ann", "cc-1"): Decimal(40), ("platform", None, "cc-1"): Decimal(40),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "billed", "more"),
    [
        ("i-0AB", "arn:aws:ec2:us-east-1:1:instance/i-0ab", {}),
        (
            "gce://lab/us-a/gpu-1",
            "//compute.googleapis.com/projects/lab/zones/us-a/instances/gpu-1",
            {"HostProviderName": "Google Cloud"},
        ),
        (
            "gce://lab/us-a/gpu-1",
            "//compute.googleapis.com/projects/12/zones/us-a/instances/345",
            {"HostProviderName": "Google Cloud", "ResourceName": "gpu-1", "SubAccountId": "lab"},
        ),
        (None, "east/n1", {}),
    ],
)
def test_machines_are_found_by_any_of_their_names(
    world: World, provider: str | None, billed: str, more: dict[str, Any]
) -> None:
    world.bill(charge("8", billed, **more))
    world.telemetry(node(provider=provider), TRAIN)
    world.build()
    assert by_state(world) == {"running": Decimal(8)}


@pytest.mark.parametrize(
    "more",
    [
        {"ResourceId": "//compute.googleapis.com/projects/prod/zones/us-a/instances/gpu-1"},
        {"ResourceId": "//compute.googleapis.com/projects/lab/zones/us-b/instances/gpu-1"},
        {"ResourceId": "345", "ResourceName": "gpu-1", "SubAccountId": "prod"},
    ],
    ids=["project", "zone", "account"],
)
def test_a_name_of_another_project_is_another_machine(world: World, more: dict[str, Any]) -> None:
    world.bill(charge("8", **{"HostProviderName": "Google Cloud", **more}))
    world.telemetry(node(provider="gce://lab/us-a/gpu-1"), TRAIN)
    assert world.build() == []
    assert by_state(world) == {None: Decimal(8)}


def test_google_bills_cards_cores_and_memory_apart(world: World) -> None:
    name = "//compute.googleapis.com/projects/lab/zones/us-a/instances/gpu-1"
    lines = {
        "Nvidia H100 80GB GPU running": "64",
        "A3 Instance Core running": "9.6",
        "A3 Instance Ram running": "4",
    }
    world.bill(
        *(
            charge(cost, name, HostProviderName="Google Cloud", SkuId=sku, SkuMeter=sku)
            for sku, cost in lines.items()
        )
    )
    usage = [
        pod("a", resource=part, requested=Decimal(n))
        for part, n in (("gpu", 4), ("cpu", 96), ("memory", 256))
    ]
    world.telemetry(node(provider="gce://lab/us-a/gpu-1"), *usage)
    world.build()
    assert world.costs("state", "SkuMeter") == {
        ("running", "Nvidia H100 80GB GPU running"): Decimal(32), ("idle", "Nvidia H100 80GB GPU running"): Decimal(32),
        ("running", "A3 Instance Core running"): Decimal("9.6"),
        ("running", "A3 Instance Ram running"): Decimal(1), ("idle", "A3 Instance Ram running"): Decimal(3),
    }  # fmt: skip


def test_a_scale_set_is_one_machine_of_all_its_nodes(world: World) -> None:
    scale_set = "/subscriptions/1/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets/aks"
    world.bill(charge("32", scale_set, hours=(0, 2)))
    nodes = [
        node("n1", f"{scale_set}/virtualMachines/0", (0, 2)),
        node("n2", f"{scale_set.lower()}/virtualMachines/1", (0, 2)),
    ]
    usage = [
        pod("a", (0, 2), device="0", share=Fraction(1), sharing="whole", node=name) for name in ("n1", "n2")
    ]
    world.telemetry(*nodes, *usage, pod("b", (0, 1), "8", node="n2"))
    world.build()
    # 16 cards × 2 hours: a holds one card of each node, b would hold eight beside a on a node of eight.
    assert world.costs("job_id") == {"east/a": Decimal(4), "east/b": Decimal(8), None: Decimal(20)}


def test_a_machine_that_registered_again_keeps_its_history(world: World) -> None:
    world.bill(charge("48", hours=(0, 24), ConsumedQuantity=24, ConsumedUnit="Hours"))
    world.telemetry(
        node("old", hours=(0, 12)), node("new", hours=(12, 24)),
        pod("a", (0, 12), "8", node="old"), pod("b", (12, 18), "8", node="new"),
    )  # fmt: skip
    world.build()
    assert world.costs("job_id") == {"east/a": Decimal(24), "east/b": Decimal(12), None: Decimal(12)}


def test_a_machine_of_two_clusters_is_said(world: World) -> None:
    world.bill(charge("8"))
    world.telemetry(node(), node(cluster="west", hours=(0, 2)), TRAIN)
    world.build()
    assert [told.code for told in world.diagnostics] == ["machine-in-two-clusters"]
    assert world.costs("cluster") == {"east": Decimal(8)}


def test_nothing_is_done_twice_and_what_changed_is_done_anew(world: World) -> None:
    world.bill(charge("80"))
    world.telemetry(node(), TRAIN)
    assert len(world.build()) == 1
    assert world.build() == []
    stale = world.ledger.costs(["job_id"], allocated=True)
    assert stale.diagnostics == []

    world.telemetry(node(), replace(TRAIN, requested=Decimal(4)))
    (told,) = world.ledger.costs(["job_id"], allocated=True).diagnostics
    assert (told.code, told.severity, told.hint) == ("allocation-stale", "warning", "gpuledger build")
    assert by_state(world) == {"running": Decimal(80)}
    assert len(world.build()) == 1
    assert by_state(world) == {"running": Decimal(40), "idle": Decimal(40)}

    world.bill(charge("100"), charge("1", "i-7"))  # restated: until built, the machine's charge is whole
    assert by_state(world) == {None: Decimal(101)}
    assert [told.code for told in world.ledger.costs(allocated=True).diagnostics] == ["allocation-stale"]
    world.build()
    assert by_state(world) == {"running": Decimal(50), "idle": Decimal(50), None: Decimal(1)}

    world.settings(idle="proportional")
    (built,) = world.build()
    assert built.rows == 2
    assert world.costs("job_id") == {"east/train": Decimal(100), None: Decimal(1)}


def test_a_bill_that_no_longer_has_the_machine_loses_its_split(world: World) -> None:
    world.bill(charge("80"))
    world.telemetry(node(), TRAIN)
    world.build()
    world.bill(charge("5", "i-9"))
    assert world.build() == []
    assert by_state(world) == {None: Decimal(5)}
    assert world.ask("SELECT count(*) FROM allocated_cost") == [(0,)]
    assert world.ledger.costs(allocated=True).diagnostics == []


def test_an_earlier_state_is_read_as_it_was_allocated_then(world: World) -> None:
    world.bill(charge("80"))
    version = world.ledger.history()[0]["version"]
    before = world.ledger.history()[0]["committed"]
    world.telemetry(node(), TRAIN)
    world.build()
    allocated = world.ledger.store.history("allocated_cost")[0]["committed"]
    world.bill(charge("100"))
    world.build()

    def then(as_of: object) -> dict[str | None, Decimal]:
        answer = world.ledger.costs(["state"], metric="billed", allocated=True, as_of=as_of)  # type: ignore[arg-type]
        assert answer.diagnostics == []
        return {row["state"]: row["cost"] for row in answer.rows}

    assert then(version) == {None: Decimal(80)}  # its parts gave way to those of the newer bill
    assert then(allocated) == {"running": Decimal(80)}
    assert then(before) == {None: Decimal(80)}
    assert then(None) == {"running": Decimal(100)}


def test_without_telemetry_nothing_changes(world: World) -> None:
    world.bill(charge("80"))
    assert world.build() == []
    assert world.ledger.store.table("allocated_cost") is None
    assert by_state(world) == {None: Decimal(80)}


def test_a_month_borders_its_neighbours(world: World) -> None:
    """A charge of the last hour of a month that is billed in the next, and telemetry of that day."""
    late = charge("80", hours=(0, 1), BillingPeriodStart="2026-11-01T00:00:00Z")
    world.bill(late)
    world.telemetry(node(), TRAIN)
    assert world.build() == []  # telemetry of October 5 can't be about November's bill
