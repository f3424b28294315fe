"""Bills and telemetry to allocated charges, end to end: figures that can be checked by hand, and nothing ever lost."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from tests.pipeline.allocation_world import CARDS_ONLY, T0, World, charge, hour, job, node, owned, pod


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_whole_machine_is_its_jobs(world: World) -> None:
    world.bill(charge("80"), charge("3", "vol-9", ServiceCategory="Storage"))
    world.telemetry(node(), job("train", dimensions=owned(team="ml")), pod("train", gpus="8"))
    (built,) = world.build()
    assert (built.name, built.rows) == ("allocated_cost cloud 2026-10", 1)
    assert world.costs("job_id", "state", "team") == {
        ("east/train", "running", "ml"): Decimal(80),
        (None, None, None): Decimal(3),
    }
