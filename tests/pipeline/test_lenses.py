"""Lenses on cards and volumes: what was there, held, used, idle and fragmented."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.allocation_world import World, charge, node, pod
from tests.surfaces.shell import gpuledger

from gpuledger.errors import UsageError
from gpuledger.pipeline.lenses import lens


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def figures(row: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def test_cards_held_used_idle_and_fragmented(world: World) -> None:
    """Two machines for two hours: on the first three cards are held in the first hour, on the second none."""
    world.bill(*(charge("80", name, (i, i + 1)) for name in ("i-1", "i-2") for i in range(2)))
    world.telemetry(
        node(hours=(0, 2)),
        node("n2", "i-2", (0, 2), pool="spare"),
        pod("train", (0, 1), "2", used=Decimal(1)),
        pod("web", (0, 1), "1", namespace="web"),
    )
    world.build()
    (row,) = lens(world.ledger, "gpu").rows
    hours = (
        "gpu_hours",
        "allocated_gpu_hours",
        "measured_gpu_hours",
        "used_gpu_hours",
        "idle_gpu_hours",
        "fragmented_gpu_hours",
    )
    assert figures(row, "cluster", *hours) == ("east", 32, 3, 2, 1, 29, 5)
    costs = ("allocated_cost", "used_cost", "idle_cost", "fragmented_cost", "unknown_cost")
    assert figures(row, *costs) == (30, 10, 290, 50, None)
    pools = lens(world.ledger, "gpu", by=["pool", "gpu_model"]).rows
    assert [figures(row, "pool", "gpu_model", "idle_cost", "fragmented_cost") for row in pools] == [
        ("spare", "H100", 160, 0), ("gpus", "H100", 130, 50),
    ]  # fmt: skip
    spaces = {
        row["namespace"]: figures(row, *hours[1:4])
        for row in lens(world.ledger, "gpu", by=["namespace"]).rows
    }
    assert spaces == {"ml": (2, 2, 1), "web": (1, None, None), None: (None, None, None)}


def test_a_longer_charge_pays_for_the_fragmented_part_of_its_time(world: World) -> None:
    world.bill(charge("160", hours=(0, 2)))
    world.telemetry(node(hours=(0, 2)), pod("train", (0.5, 1.5), "4"))
    world.build()
    (row,) = lens(world.ledger, "gpu").rows
    assert figures(row, "idle_gpu_hours", "fragmented_gpu_hours", "idle_cost", "fragmented_cost") == (
        12, 4, 120, 40,
    )  # fmt: skip


def test_a_window_cuts_hours_and_takes_the_charges_that_start_in_it(world: World) -> None:
    world.bill(charge("80"), charge("80", hours=(24, 25)))
    world.telemetry(node(hours=(0, 48)), pod("train", (23, 25), "8"), days=2)
    world.build()
    (row,) = lens(world.ledger, "gpu", window="2026-10-06").rows
    assert figures(row, "gpu_hours", "allocated_gpu_hours", "allocated_cost", "idle_cost") == (
        192,
        8,
        80,
        None,
    )


def test_what_nobody_knows_is_null(world: World) -> None:
    world.telemetry(node(gpu_count=None), node("cpu", None, gpu_count=None, gpu_model=None))
    (row,) = lens(world.ledger, "gpu").rows
    assert figures(row, "gpu_hours", "idle_gpu_hours", "allocated_gpu_hours", "idle_cost") == (None,) * 4


def test_two_sources_tell_of_one_machine(world: World) -> None:
    world.telemetry(node(hours=(0, 2)), pod("a", (0, 2), "8"))
    world.telemetry(node(hours=(1, 3), gpu_count=None), source="slurm")
    (row,) = lens(world.ledger, "gpu").rows
    assert figures(row, "gpu_hours", "allocated_gpu_hours", "idle_gpu_hours") == (16, 16, 0)


def test_volumes_provisioned_claimed_used_and_wasted(world: World) -> None:
    """A volume of 100 GiB for 24 hours at 24, claimed half of them, 40 GiB used; and one that nobody tells of."""
    world.bill(
        charge("24", "vol-9", (0, 24), ServiceCategory="Storage"),
        charge("5", "vol-8", (0, 24), ServiceCategory="Storage"),
    )
    world.telemetry(
        node(),
        pod("data", (0, 12), resource="storage", device="vol-9", requested=Decimal(100), used=Decimal(40)),
    )
    world.build()
    found = lens(world.ledger, "storage")
    names = ("provisioned_gib_hours", "claimed_gib_hours", "used_gib_hours")
    assert figures(found.rows[0], "cluster", *names) == ("east", 2400, 1200, 480)
    costs = ("claimed_cost", "unclaimed_cost", "unused_cost", "wasted_cost", "unknown_cost")
    assert figures(found.rows[0], *costs) == (12, 12, Decimal("7.2"), Decimal("19.2"), None)
    assert found.totals["untold_cost"] == 5
    rows = {
        row["namespace"]: figures(row, *costs[:3])
        for row in lens(world.ledger, "storage", by=["namespace"]).rows
    }
    assert rows == {"ml": (12, None, Decimal("7.2")), None: (None, 12, None)}


def test_large_volumes_and_clusters_do_not_overflow(world: World) -> None:
    """200 TiB for five days at 3,000, and free cards at 15,000."""
    world.bill(
        charge("3000", "vol-9", (0, 120), ServiceCategory="Storage"),
        charge("60000", hours=(0, 120)),
        charge("7", "i-2"),
    )
    world.telemetry(
        node(hours=(0, 120)),
        node("n2", "i-2", gpu_count=None, gpu_model=None),  # no cards that anybody knows of
        pod(
            "data",
            (0, 120),
            resource="storage",
            device="vol-9",
            requested=Decimal(204800),
            used=Decimal(51200),
        ),
        pod("train", (0, 120), "6"),
        days=5,
    )
    world.build()
    (row,) = lens(world.ledger, "storage").rows
    assert figures(row, "claimed_cost", "unused_cost", "used_gib_hours") == (3000, 2250, 51200 * 120)
    (row,) = lens(world.ledger, "gpu").rows
    assert figures(row, "gpu_hours", "idle_cost", "fragmented_cost") == (960, 15000, 15000)


def test_unknown_groups_are_refused_and_the_command_prints(world: World) -> None:
    world.bill(charge("80"))
    world.telemetry(node(hours=(0, 1)), pod("a", gpus="8"))
    world.build()
    with pytest.raises(UsageError, match="the storage lens has no 'pool'"):
        lens(world.ledger, "storage", by=["pool"])
    place = ("--ledger", world.ledger.location)
    shown = gpuledger(*place, "lenses", "gpu", "--by", "gpu-model,namespace", "--window", "2026-10")
    assert shown.code == 0, shown.err
    assert shown.document["command"] == "lenses gpu"
    assert [(row["gpu_model"], row["namespace"]) for row in shown.document["rows"]] == [
        ("H100", None),
        ("H100", "ml"),
    ]
    assert gpuledger(*place, "lenses", "storage").document["rows"] == []
