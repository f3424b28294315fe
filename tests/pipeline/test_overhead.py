"""Fees of control planes shared among the jobs of their cluster: figures by hand, and nothing ever lost."""
# ruff: noqa: ANN401  # charges take any of their fields

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.allocation_world import World, charge, job, node, owned, pod
from tests.surfaces.api_world import DAY, ask, client, exact

from gpuledger.config import Config
from gpuledger.errors import ConfigError
from gpuledger.pipeline.jobs import jobs

SERVICE = "Amazon Elastic Kubernetes Service"
WHERE = [f"ServiceName={SERVICE}"]
EAST = "arn:aws:eks:us-east-1:1:cluster/east"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def fee(cost: str, resource: str = EAST, hours: tuple[float, float] = (0, 1), **more: Any) -> dict[str, Any]:
    return charge(cost, resource, hours, **{"ServiceName": SERVICE, **more})


def fleet(world: World, *fees: dict[str, Any]) -> None:
    """East's machine at 80 an hour: `a` holds six cards, `b` two, for one hour of two. West's at 10: `c` holds all."""
    world.bill(charge("80"), charge("80", hours=(1, 2)), charge("10", "i-2"), *fees)
    world.telemetry(
        node(hours=(0, 2)),
        node("w1", "i-2", (0, 1), cluster="west"),
        job("a", dimensions=owned(team="ml")),
        job("b"),
        job("c", cluster="west"),
        pod("a", gpus="6"),
        pod("b", gpus="2"),
        pod("c", gpus="8", cluster="west", node="w1", job_id="west/c"),
    )


def overhead(world: World, *keys: str, where: tuple[str, ...] = ()) -> dict[Any, Decimal]:
    return world.costs(*(keys or ("job_id",)), where=["state=overhead", *where])


@pytest.mark.parametrize(
    ("settings", "key", "expected"),
    [
        ({"method": "even"}, "job_id", {"east/a": "0.05", "east/b": "0.05"}),
        ({"method": "proportional"}, "job_id", {"east/a": "0.075", "east/b": "0.025"}),
        ({}, "job_id", {"east/a": "0.075", "east/b": "0.025"}),
        ({"method": "none"}, "job_id", {None: "0.1"}),
        (
            {"method": "fixed", "shares": {"lab": 3, "web": 1}},
            "AllocatedResourceId",
            {"lab": "0.075", "web": "0.025"},
        ),
    ],
    ids=["even", "proportional", "default", "none", "fixed"],
)
def test_a_fee_is_shared_as_configured(
    world: World, settings: dict[str, Any], key: str, expected: dict[str | None, str]
) -> None:
    world.settings(overhead=[{"where": WHERE, **settings}])
    fleet(world, fee("0.1"))
    (built,) = world.build()
    assert built.detail.endswith(
        "3 charges of machines split among those who held them, 1 charges of overhead shared as configured"
    )
    assert overhead(world, key) == {name: Decimal(cost) for name, cost in expected.items()}
    method = f"gpuledger-overhead-{settings.get('method', 'proportional')}-1"
    assert overhead(world, "AllocatedMethodId", "cluster", "node") == {(method, "east", None): Decimal("0.1")}
    assert world.diagnostics == []


def test_parts_say_who_and_whose(world: World) -> None:
    world.settings(overhead=[{"where": WHERE}])
    fleet(world, fee("0.1", x_CostCenter="cc-1"))
    world.build()
    assert world.ask(
        "SELECT x_JobId, x_Team, x_CostCenter, x_Job, AllocatedResourceId, AllocatedResourceName, AllocatedMethodDetails, "
        "ServiceName, ResourceId, x_GpuCost FROM allocated WHERE x_AllocationState = 'overhead' ORDER BY 1"
    ) == [
        ("east/a", "ml", "cc-1", "a", "east/a", "a", '{"Elements":[{"AllocatedRatio":0.75}]}', SERVICE, EAST, None),
        ("east/b", None, "cc-1", "b", "east/b", "b", '{"Elements":[{"AllocatedRatio":0.25}]}', SERVICE, EAST, None),
    ]  # fmt: skip


def test_nothing_is_lost_to_the_last_digit_and_credits_follow(world: World) -> None:
    """Odd amounts over three jobs of two clusters, each cost of its own; what a credit gives back goes the same way."""
    world.settings(overhead=[{"where": WHERE, "method": "even"}])
    odd = {"EffectiveCost": "0.000000000000000007", "ListCost": "0.11", "ContractedCost": None}
    west = fee("0.100000000000000001", "arn:aws:eks:us-east-1:1:cluster/west")
    fleet(world, fee("0.100000000000000001") | odd, west, fee("-0.05", ChargeCategory="Credit"), fee("0"))
    before = world.ask("SELECT sum(BilledCost), sum(EffectiveCost), sum(ListCost) FROM cost_and_usage")
    world.build()  # holds every unit to the audit
    assert overhead(world, "job_id", "ChargeCategory") == {
        ("east/a", "Usage"): Decimal("0.050000000000000001"), ("east/b", "Usage"): Decimal("0.05"),
        ("west/c", "Usage"): Decimal("0.100000000000000001"),
        ("east/a", "Credit"): Decimal("-0.025"), ("east/b", "Credit"): Decimal("-0.025"),
    }  # fmt: skip
    assert world.ask("SELECT sum(BilledCost), sum(EffectiveCost), sum(ListCost) FROM allocated") == before
    (effective,) = world.ask(
        f"SELECT list(EffectiveCost ORDER BY x_JobId), count(ContractedCost) FROM allocated WHERE ListCost = 0.055 AND ServiceName = '{SERVICE}'"
    )
    assert effective == ([Decimal("4E-18"), Decimal("3E-18")], 0)


@pytest.mark.parametrize("method", ["even", "proportional"])
def test_while_no_job_ran_the_fee_stays_whole(world: World, method: str) -> None:
    world.settings(overhead=[{"where": WHERE, "method": method}])
    fleet(world, fee("0.1"), fee("0.2", hours=(1, 2)))
    world.build()
    found = overhead(world)
    assert found.pop(None) == Decimal("0.2")
    assert sum(found.values()) == Decimal("0.1")


def test_a_fee_of_a_day_goes_by_all_that_its_jobs_cost(world: World) -> None:
    """Idle time that is shared to jobs gives no weight: it would count twice."""
    world.settings(overhead=[{"where": WHERE}], idle="even")
    world.bill(charge("80"), charge("40", hours=(1, 2)), fee("2.4", hours=(0, 24)))
    world.telemetry(node(), pod("a", gpus="6"), pod("b", (1, 2), "4"))
    world.build()
    assert overhead(world) == {"east/a": Decimal("1.8"), "east/b": Decimal("0.6")}


@pytest.mark.parametrize(
    ("resource", "more", "settings", "cluster"),
    [
        ("arn:aws:eks:us-east-1:1:cluster/WEST", {}, {}, "west"),
        ("cluster-9", {"Tags": {"aws:eks:cluster-name": "west"}}, {}, "west"),
        ("cluster-9", {}, {"cluster": "west"}, "west"),
        (EAST, {}, {"cluster": "west"}, "west"),
        ("cluster-9", {"Tags": {"Environment": "west"}}, {}, None),
        ("cluster-9", {"Tags": {"cluster": "west", "k8s-cluster": "east"}}, {}, None),
        (None, {}, {}, None),
    ],
    ids=["resource", "tag", "given", "given-first", "other-tag", "two-tags", "nothing"],
)
def test_whose_fee_it_is(
    world: World, resource: str, more: dict[str, Any], settings: dict[str, Any], cluster: str | None
) -> None:
    world.settings(overhead=[{"where": WHERE, **settings}])
    fleet(world, fee("0.1", resource, **more))
    world.build()
    assert world.costs("cluster", "state", where=WHERE) == {
        (cluster, "overhead" if cluster else None): Decimal("0.1")
    }
    if cluster is None:
        (told,) = world.diagnostics
        assert (told.code, told.source) == (
            "overhead-cluster-unknown", f"allocation.overhead, entry 1 (ServiceName={SERVICE})",
        )  # fmt: skip
        assert "nothing tells their cluster" in told.message


def test_the_only_cluster_has_every_fee_and_an_unknown_one_is_said(world: World) -> None:
    world.settings(overhead=[{"where": WHERE}, {"where": ["ServiceName=Support"], "cluster": "esat"}])
    world.bill(charge("80"), fee("0.1", "cluster-9"), charge("5", "plan", ServiceName="Support"))
    world.telemetry(node(), pod("a", gpus="8"))
    world.build()
    assert overhead(world, "cluster", "job_id") == {
        ("east", "east/a"): Decimal("0.1"),
        ("esat", None): Decimal(5),
    }
    (told,) = world.diagnostics
    assert told.source.startswith("allocation.overhead, entry 2 ")
    assert "telemetry knows no cluster esat" in told.message


def test_the_first_entry_counts_and_machines_and_splits_of_the_provider_are_none(world: World) -> None:
    world.settings(
        overhead=[{"where": WHERE, "method": "even"}, {"where": ["provider!=x"], "cluster": "east"}]
    )
    split = fee("7", AllocatedMethodId="AWS split cost allocation", AllocatedResourceId="pod/a")
    fleet(world, fee("0.1"), fee("3", "nat-1", ServiceName="VPC"), split)
    world.build()
    assert world.costs("AllocatedMethodId") == {
        "gpuledger-node-1": Decimal(170),
        "gpuledger-overhead-even-1": Decimal("0.1"),
        "gpuledger-overhead-proportional-1": Decimal(3),
        "AWS split cost allocation": Decimal(7),
    }


def test_each_currency_goes_by_costs_in_it(world: World) -> None:
    world.settings(overhead=[{"where": WHERE, "cluster": "east"}])
    world.bill(
        charge("80"), charge("8", "i-2", BillingCurrency="EUR"), fee("0.1"), fee("0.2", BillingCurrency="EUR")
    )
    world.telemetry(
        node(), node("n2", "i-2"), pod("a", gpus="8"), pod("b", gpus="8", node="n2"),
    )  # fmt: skip
    world.build()
    assert overhead(world, "job_id", "BillingCurrency") == {
        ("east/a", "USD"): Decimal("0.1"), ("east/b", "EUR"): Decimal("0.2"),
    }  # fmt: skip


def test_settings_that_changed_are_applied(world: World) -> None:
    fleet(world, fee("0.1"))
    world.build()
    assert overhead(world) == {}
    world.settings(overhead=[{"where": WHERE, "method": "even"}])
    stale = world.ledger.costs(allocated=True).diagnostics
    assert [told.code for told in stale] == ["allocation-stale"]
    assert len(world.build()) == 1
    assert overhead(world) == {"east/a": Decimal("0.05"), "east/b": Decimal("0.05")}
    assert world.build() == []
    world.settings(overhead=[{"where": WHERE, "method": "none"}])
    assert len(world.build()) == 1
    assert overhead(world) == {None: Decimal("0.1")}
    world.settings()
    world.build()
    assert world.costs("state", where=WHERE) == {None: Decimal("0.1")}


def test_a_bill_of_fees_alone(world: World) -> None:
    """Its jobs' machines are on no bill of that source: nobody can take it, but fixed shares."""
    world.settings(overhead=[{"where": WHERE}])
    world.bill(fee("0.1"))
    world.telemetry(node(), pod("a", gpus="8"))
    (built,) = world.build()
    assert (built.rows, built.detail) == (1, "1 charges of overhead shared as configured")
    assert overhead(world) == {None: Decimal("0.1")}
    world.settings(overhead=[{"where": WHERE, "method": "fixed", "shares": {"lab": 1}}])
    world.build()
    assert overhead(world, "AllocatedResourceId") == {"lab": Decimal("0.1")}


def test_jobs_show_it_as_shared(world: World) -> None:
    world.settings(overhead=[{"where": WHERE}])
    fleet(world, fee("0.1"))
    world.build()
    found = {row["job_id"]: (row["cost"], row["shared_cost"]) for row in jobs(world.ledger).rows}
    assert found["east/a"] == (Decimal("60.075"), Decimal("0.075"))
    assert found["east/b"] == (Decimal("20.025"), Decimal("0.025"))
    assert found["west/c"][0] == Decimal(10)


def test_the_opencost_api_adds_up(world: World) -> None:
    world.settings(overhead=[{"where": WHERE}])
    fleet(world, fee("0.1"), fee("0.2", hours=(1, 2)))
    world.build()
    found = {}
    with client(world) as http:
        for aggregate in ("cluster", "namespace", "jobID", "node", ""):
            (items,) = ask(http, "/allocation", window=DAY, aggregate=aggregate, includeIdle="true")
            assert exact(items) == Decimal("170.3")
            found[aggregate] = {name: item["externalCost"] for name, item in items.items()}
    assert found["cluster"] == {"east": 0.3, "west": 0, "__idle__": 0}
    assert found["namespace"] == {"ml": 0.1, "__idle__": 0, "__overhead__": 0.2}
    assert found["jobID"]["east/a"] == 0.075


@pytest.mark.parametrize(
    "wrong",
    [
        {"where": []},
        {"where": WHERE, "method": "fixed"},
        {"where": WHERE, "shares": {"lab": 1}},
        {"where": WHERE, "clusters": "east"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="overhead"):
        Config.model_validate({"allocation": {"overhead": [wrong]}})


@pytest.mark.parametrize("text", ["ServiceNam=EKS", "ServiceName"])
def test_a_condition_that_cannot_be_read_names_its_entry(world: World, text: str) -> None:
    world.settings(overhead=[{"where": WHERE}, {"where": [text]}])
    fleet(world, fee("0.1"))
    with pytest.raises(ConfigError, match=r"allocation\.overhead, entry 2"):
        world.build()
