"""The views of a ledger: each charge once, whatever is estimated, split, restated or gone."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.allocation_world import T0, World, charge, hour, job, node, owned, pod

from gpuledger.errors import UsageError
from gpuledger.focus.schema import ALLOCATED_COST
from gpuledger.pipeline.views import unit_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def estimate(cost: str, resource: str = "i-1", hours: tuple[float, float] = (0, 1)) -> dict[str, Any]:
    return charge(cost, resource, hours, x_CostStatus="Estimated")


def metered(world: World, *rows: dict[str, Any]) -> None:
    world.bill(*rows, source="metered-2026-10-05", table="estimated_cost")


def test_an_empty_ledger_has_all_views(world: World) -> None:
    con = world.ledger.connect()
    for name in ("cost_and_usage", "allocated", "jobs", "job", "node_interval", "usage_interval"):
        assert con.execute(f"SELECT count(*) FROM {name}").fetchall() == [(0,)]
    columns = [row[0] for row in con.execute("DESCRIBE allocated").fetchall()]
    assert columns == [column.name for column in ALLOCATED_COST]


def test_estimates_stand_until_the_bill_comes(world: World) -> None:
    metered(world, estimate("10"), estimate("11", hours=(1, 2)), estimate("7", "i-2"))
    assert world.ask("SELECT sum(BilledCost) FROM cost_and_usage") == [(28,)]
    world.bill(charge("9"))
    assert world.costs("ResourceId", "status") == {
        ("i-1", "Final"): Decimal(9), ("i-1", "Estimated"): Decimal(11), ("i-2", "Estimated"): Decimal(7),
    }  # fmt: skip
    # Whole columns, in order, whichever branch a row comes from.
    assert world.ask("SELECT * FROM allocated LIMIT 0") == []
    assert world.ask("SELECT count(*), sum(BilledCost) FROM allocated") == [(3, 27)]


def test_estimates_are_split_and_their_parts_go_with_them(world: World) -> None:
    metered(world, estimate("10"), estimate("10", hours=(1, 2)))
    world.bill(charge("5", "i-9"))
    world.telemetry(node(), pod("train", (0, 2), "4"))
    (built,) = world.build()
    assert built.name == "allocated_cost metered-2026-10-05 2026-10"
    assert world.costs("job_id", "status") == {
        ("east/train", "Estimated"): Decimal(10), (None, "Estimated"): Decimal(10), (None, "Final"): Decimal(5),
    }  # fmt: skip

    world.bill(charge("8"), charge("5", "i-9"))  # the first hour's bill, not yet split
    assert world.costs("job_id", "status") == {
        ("east/train", "Estimated"): Decimal(5), (None, "Estimated"): Decimal(5), (None, "Final"): Decimal(13),
    }  # fmt: skip
    world.build()
    assert world.costs("job_id", "status") == {
        ("east/train", "Estimated"): Decimal(5), (None, "Estimated"): Decimal(5),
        ("east/train", "Final"): Decimal(4), (None, "Final"): Decimal(9),
    }  # fmt: skip

    metered(world, estimate("20", hours=(1, 2)))  # metered anew: whole until built
    assert world.costs("job_id", where=["status=Estimated"]) == {None: Decimal(20)}
    assert world.ledger.costs(allocated=True).diagnostics == []  # estimates change all the time


def test_the_newest_word_on_a_job_counts(world: World) -> None:
    day = timedelta(days=1)
    first = job(
        "train", dimensions=owned(team="ml", owner="ann"), submitted=None, state="Pending", started=None
    )
    world.telemetry(first, node())
    later = job("train", dimensions=owned(team="nlp"), state="Running", attempts=2, started=T0 + day)
    world.telemetry(replace(later, attempts=2), node(hours=(24, 48)), days=2, source="k8s")
    world.telemetry(job("train", dimensions=owned(team="guess")), node(), source="prometheus-1", days=2)
    names = "job_id, name, team, owner, state, attempts, started, ended"
    assert world.ask(f"SELECT {names} FROM jobs") == [
        ("east/train", "train", "nlp", None, "Running", 2, T0 + day, None)
    ]


def test_a_job_that_ended_has_its_end(world: World) -> None:
    world.telemetry(job("a", ended=hour(3), state="Succeeded"), node())
    assert world.ask("SELECT ended, state FROM jobs") == [(hour(3), "Succeeded")]


def test_columns_of_allocation_need_allocation(world: World) -> None:
    world.bill(charge("1"))
    with pytest.raises(UsageError, match="namespace is known of allocated charges only") as raised:
        world.ledger.costs(["namespace"])
    assert raised.value.hint == "Add --allocated."
    with pytest.raises(UsageError, match="no column 'namespce'") as raised:
        world.ledger.costs(["namespce"], allocated=True)
    assert "x_Namespace" in str(raised.value.hint)


def test_where_a_files_unit_is_read_from() -> None:
    file = "s3://bucket/a=b/cost_and_usage/x_Source=my%20bill/x_BillingPeriod=2026-10/x_DeliveryId=d%2F1/0a.parquet"
    assert unit_of(file) == ("my bill", "2026-10")
