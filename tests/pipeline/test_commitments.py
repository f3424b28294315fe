"""Commitments of small bills: used, idle by hour, break-even, reserved capacity, throughput, contracts, and the verbs."""
# ruff: noqa: ANN401  # rows and records take any of their fields

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.allocation_world import World, charge, hour, job, node, owned, pod
from tests.surfaces.shell import Outcome, gpuledger

from gpuledger.core.token_usage import TokenInterval
from gpuledger.core.windows import Window
from gpuledger.pipeline import commitments
from gpuledger.pipeline.commitment_moves import Rules, rebalance
from gpuledger.pipeline.telemetry import store_records

D = Decimal
KEYS = [
    "commitment_id", "provider", "category", "committed", "used", "utilization", "coverage", "break_even", "stranded_cost",
    "net_loss", "expires",
]  # fmt: skip
PLAN = "arn:aws:savingsplans::1:savingsplan/plan"
OCTOBER = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC), ("2026-10",))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def p5(cost: str, resource: str = "i-1", hours: tuple[float, float] = (0, 1), **more: Any) -> dict[str, Any]:
    """An hour of a machine, on demand at 100 dollars unless told otherwise."""
    row = charge(cost, resource, hours) | {
        "ServiceProviderName": "AWS", "SubAccountId": "prod", "RegionId": "us-east-1", "AvailabilityZone": "us-east-1a",
        "x_InstanceType": "p5.48xlarge", "x_GpuModel": "H100", "PricingCategory": "Standard", "PricingQuantity": "1",
        "PricingUnit": "Hours", "SkuMeter": "BoxUsage:p5.48xlarge", "ServiceSubcategory": "Virtual Machines",
    }  # fmt: skip
    return row | more


def of(name: str, status: str, quantity: str | None, unit: str, **more: Any) -> dict[str, Any]:
    """Columns of a charge that a commitment covers, or that is its unused part."""
    category = "Spend" if unit == "USD" else "Usage"
    kind = "Savings Plan" if category == "Spend" else "Reserved Instance"
    found = {
        "CommitmentDiscountId": name, "CommitmentDiscountCategory": category, "CommitmentDiscountStatus": status,
        "CommitmentDiscountType": kind, "CommitmentDiscountQuantity": quantity, "CommitmentDiscountUnit": unit,
        "PricingCategory": "Committed", "BilledCost": "0",
    }  # fmt: skip
    return found | more


def covered(cost: str, hours: tuple[float, float], **more: Any) -> dict[str, Any]:
    """A machine's hour under the plan: 70 dollars instead of 100."""
    return p5("100", hours=hours) | of(PLAN, "Used", cost, "USD", EffectiveCost=cost) | more


def idle(cost: str, hours: tuple[float, float], **more: Any) -> dict[str, Any]:
    """What the plan left unused in an hour; it is of no machine."""
    bare = {
        "RegionId": None,
        "AvailabilityZone": None,
        "x_InstanceType": None,
        "x_GpuModel": None,
        "SkuMeter": "EC2SP:p5.1yr",
    }
    nothing = {"ListCost": "0", "ContractedCost": "0", "ResourceId": PLAN, "EffectiveCost": cost}
    return p5("0", hours=hours) | of(PLAN, "Unused", cost, "USD") | bare | nothing | more


def ask(world: World, *words: object) -> Outcome:
    return gpuledger("--ledger", world.folder / "ledger", "--format", "json", "commitments", *words)


def rows(world: World) -> dict[str, dict[str, Any]]:
    return {row["commitment_id"]: row for row in commitments.utilization(world.ledger).rows}


def test_a_savings_plan_by_hand(world: World) -> None:
    """140 an hour committed for two hours: 70 and 140 used, so that 70 is stranded; the used part is worth 300."""
    world.bill(
        covered("70", (0, 1)), idle("70", (0, 1)), covered("70", (1, 2)), covered("70", (1, 2), ResourceId="i-2"),
        p5("100", "i-9", (1, 2)),
    )  # fmt: skip
    found = rows(world)[PLAN]
    assert set(KEYS) <= set(found)
    assert (found["committed"], found["used"], found["unused"], found["unit"]) == (280, 210, 70, "USD")
    assert (found["utilization"], found["break_even"]) == (D("0.75"), D("0.7"))
    assert (found["stranded_cost"], found["net_loss"]) == (70, 0)
    assert found["coverage"] == D("0.75"), "300 of 400 dollars at on-demand prices"
    assert found["esr"] == 1 - D("0.933333")
    assert (found["kind"], found["region"], found["family"]) == (
        "AWS EC2 Instance Savings Plan",
        "us-east-1",
        "p5",
    )
    assert found["below_threshold"] is False
    assert found["break_even_from"] == "contracted price"
    assert found["expires"] is None
    done = ask(world, "utilization", "--by", "hour")
    assert [(row["hour"], row["committed"], row["used"], row["unused"]) for row in done.document["rows"]] == [
        ("2026-10-05T00:00:00Z", "140", "70", "70"), ("2026-10-05T01:00:00Z", "140", "140", "0"),
    ]  # fmt: skip


def test_a_loss_below_break_even_and_the_alert(world: World) -> None:
    """Half used at 70 % of the price: 140 dollars for what would have cost 100."""
    world.bill(covered("70", (0, 1)), idle("70", (0, 1)))
    done = ask(world, "utilization")
    (row,) = done.document["rows"]
    assert (row["utilization"], row["net_loss"], row["stranded_cost"]) == ("0.5", "40", "70")
    assert (done.code, done.document["totals"]["below_threshold"]) == (1, 1)
    assert ask(world, "utilization", "--threshold", "50%").code == 0
    assert ask(world, "utilization", "--threshold", "0.51").code == 1
    assert ask(world, "utilization", "--threshold", "half").code == 2


def test_a_month_of_unused_reservation_is_told_apart_by_the_hour(world: World) -> None:
    """Nine hours reserved in three, six used: 2, 1 and 3. Each hour leaves what it did not use of three."""
    reserved = [
        p5("0", f"i-{n}-{h}", (h, h + 1), ContractedCost="100")
        | of("ri", "Used", "1", "Hours", EffectiveCost="60")
        for h, count in enumerate((2, 1, 3)) for n in range(count)
    ]  # fmt: skip
    unused = p5("0", hours=(0, 3)) | of("ri", "Unused", "3", "Hours", EffectiveCost="180", ContractedCost="0")
    world.bill(*reserved, unused)
    con = world.ledger.connect()
    found = commitments.idle_hours(con, OCTOBER)
    assert [(row["committed"], row["used"], row["idle"], row["idle_cost"]) for row in found] == [
        (3, 2, 1, 60), (3, 1, 2, 120), (3, 3, 0, 0),
    ]  # fmt: skip
    assert not any(row["even"] for row in found)
    assert (found[0]["covered_cost"], found[0]["covered_on_demand"]) == (360, 600)
    row = rows(world)["ri"]
    assert (row["committed"], row["used"], row["utilization"]) == (9, 6, D("0.666667"))


def test_what_cannot_be_told_by_the_hour_is_spread_evenly(world: World) -> None:
    """Five machines in one hour and none in the other, two hours unused: no even reservation gives that."""
    reserved = [
        p5("0", f"i-{n}", (0, 1)) | of("ri", "Used", "1", "Hours", EffectiveCost="60") for n in range(5)
    ]
    world.bill(*reserved, p5("0", hours=(0, 2)) | of("ri", "Unused", "2", "Hours", EffectiveCost="120"))
    found = commitments.idle_hours(world.ledger.connect(), OCTOBER)
    assert [(row["used"], row["idle"], row["even"]) for row in found] == [(5, 1, True), (0, 1, True)]


def test_used_and_unused_are_committed_to_the_last_digit(world: World) -> None:
    """Thirds of days: hours are cut so that they add up again."""
    world.bill(
        covered("0.1000000000001", (0, 24)), covered("33.3333333333333", (24, 55)), idle("10.0000000000001", (0, 55)),
    )  # fmt: skip
    found = rows(world)[PLAN]
    assert found["used"] + found["unused"] == found["committed"] == D("43.4333333333335")
    hours = commitments.idle_hours(world.ledger.connect(), OCTOBER)
    assert len(hours) == 55
    assert sum(row["used"] for row in hours) == found["used"]
    assert sum(row["idle"] for row in hours) == found["unused"]
    assert all(row["used"] + row["idle"] == row["committed"] for row in hours)


def test_reserved_capacity_and_a_capacity_block(world: World) -> None:
    capacity = {"CapacityReservationId": "cr-1", "CapacityReservationStatus": "Used"}
    block = {"CapacityReservationId": "cr-2", "CapacityReservationStatus": "Used"}
    world.bill(
        p5("100", hours=(0, 1), **capacity),
        p5("100", "cr-1", hours=(0, 1), **(capacity | {"CapacityReservationStatus": "Unused"})),
        p5("300", "cr-2", (0, 4), ChargeCategory="Purchase", CapacityReservationId="cr-2", SkuMeter="CapacityBlockFee"),
        *(p5("0", "i-3", (h, h + 1), ListCost="100", ContractedCost="100", **block) for h in range(3)),
        p5("0", "cr-2", (3, 4), **(block | {"CapacityReservationStatus": "Unused"})),
    )  # fmt: skip
    found = rows(world)
    assert (found["cr-1"]["kind"], found["cr-1"]["utilization"]) == (
        "AWS On-Demand Capacity Reservation",
        D("0.5"),
    )
    assert (found["cr-1"]["stranded_cost"], found["cr-1"]["net_loss"]) == (100, 100)
    assert found["cr-1"]["break_even"] == 1, "reserved at the on-demand price: all of it has to be used"
    assert (found["cr-2"]["kind"], found["cr-2"]["utilization"]) == ("AWS Capacity Block for ML", D("0.75"))
    assert (found["cr-2"]["cost"], found["cr-2"]["stranded_cost"]) == (300, 75), "its fee, by its hours"


def test_an_unknown_price_is_unknown(world: World) -> None:
    world.bill(
        covered("70", (0, 1), ListCost=None, ContractedCost="0", x_InstanceType="p99.big"), idle("70", (0, 1)),
    )  # fmt: skip
    answer = commitments.utilization(world.ledger)
    (row,) = answer.rows
    assert (row["utilization"], row["stranded_cost"]) == (D("0.5"), 70)
    assert [row[name] for name in ("break_even", "net_loss", "coverage", "esr")] == [None] * 4
    assert [told.code for told in answer.diagnostics] == ["commitment-price-unknown"]


def test_a_price_file_stands_in(world: World) -> None:
    """The list price of the price file, where the bill has none."""
    priceless = {"ListCost": None, "ContractedCost": "0", "x_InstanceType": "p5.48xlarge"}
    world.bill(covered("30", (0, 1), **priceless), idle("30", (0, 1)))
    (row,) = commitments.utilization(world.ledger).rows
    assert row["break_even_from"].startswith("list price of ")
    assert row["break_even"] is not None
    assert row["on_demand_equivalent"] > 30


PTU = {
    "ServiceProviderName": "Microsoft", "SubAccountId": "sub", "x_ServiceTier": "provisioned", "SkuMeter": "Provisioned Managed Global Unit",
    "PricingUnit": "Unit-Hours", "RegionId": "eastus2", "x_InstanceType": None, "x_GpuModel": None, "AvailabilityZone": None,
}  # fmt: skip


def test_throughput_has_three_utilisations(world: World) -> None:
    """100 unit hours reserved, 80 deployed, and tokens of 40: at 3,000 tokens a minute a unit, an output token is four."""
    resource = "/subscriptions/s/providers/Microsoft.CognitiveServices/accounts/Agents"
    world.bill(
        p5("80", resource, (0, 1), PricingQuantity="80", ContractedCost="100", **PTU)
        | of("ptu-reservation", "Used", "80", "Unit-Hours", EffectiveCost="64", CommitmentDiscountType="Reservation"),
        p5("0", "ptu-reservation", (0, 1), ContractedCost="0", **PTU)
        | of("ptu-reservation", "Unused", "20", "Unit-Hours", EffectiveCost="16", CommitmentDiscountType="Reservation"),
    )  # fmt: skip
    (before,) = [
        row for row in commitments.utilization(world.ledger).rows if row["kind"] == "Provisioned throughput"
    ]
    assert (before["used"], before["utilization"], before["stranded_cost"]) == (None, None, None)
    assert before["deployed_of_reserved"] == D("0.8")
    # 40 unit hours are 7.2 million input tokens: 3.2 million uncached, and a million of output.
    tokens = TokenInterval(
        "Azure OpenAI", hour(0), hour(1), model="gpt-4.1-2025-04-14", deployment="agents/chat",
        input_tokens=D(4_200_000), cached_input_tokens=D(1_000_000), output_tokens=D(1_000_000),
    )  # fmt: skip
    store_records(world.ledger.store, "azure", hour(0).date(), [tokens], delivery_id="t1", order=9)
    found = {row["kind"]: row for row in commitments.utilization(world.ledger).rows}
    deployed = found["Provisioned throughput"]
    assert (deployed["committed"], deployed["used"], deployed["utilization"]) == (80, 40, D("0.5"))
    assert (deployed["cost"], deployed["stranded_cost"]) == (64, 32)
    assert (deployed["processed_of_deployed"], deployed["processed_of_reserved"]) == (D("0.5"), D("0.4"))
    reservation = found["Azure provisioned throughput reservation"]
    assert (reservation["utilization"], reservation["break_even"]) == (D("0.8"), D("0.64"))
    assert reservation["processed_of_deployed"] is None


CONTRACT = """ContractCommitmentId,ContractCommitmentCategory,ContractCommitmentType,ContractCommitmentCost,BillingCurrency,ContractCommitmentPeriodStart,ContractCommitmentPeriodEnd,ServiceProviderName,ContractId,ContractCommitmentDescription
neo-1,Spend,Reserved cluster,73000,USD,2026-01-01T00:00:00Z,2027-01-01T00:00:00Z,Neo,neo,Cluster for a year
"""


def test_a_contract_is_used_by_charges_that_name_it(world: World, tmp_path: Path) -> None:
    """73,000 for 365 days: 6,200 of October. Charges applied 4,650 of it; others say nothing."""
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "contract.csv").write_text(CONTRACT, "utf-8")
    world.ledger.ingest("focus", str(tmp_path / "contracts"), source="contracts", validate=False)
    world.bill(charge("10", ServiceProviderName="Neo"))
    (row,) = commitments.utilization(world.ledger).rows
    assert (row["kind"], row["committed"], row["cost"]) == ("Contract", 6200, 6200)
    assert [row[name] for name in ("used", "utilization", "stranded_cost", "break_even")] == [None] * 4
    applied = (
        '{"Elements":[{"ContractId":"neo","ContractCommitmentId":"neo-1","ContractCommitmentAppliedCost":4650,'
        '"ContractCommitmentAppliedQuantity":null,"ContractCommitmentAppliedUnit":null}]}'
    )
    world.bill(charge("0", ServiceProviderName="Neo", ListCost="6200", ContractApplied=applied))
    (row,) = commitments.utilization(world.ledger).rows
    assert (row["used"], row["unused"], row["utilization"], row["stranded_cost"]) == (
        4650,
        1550,
        D("0.75"),
        1550,
    )
    assert (row["break_even"], row["net_loss"]) == (D("0.75"), 0)
    done = ask(world, "utilization", "--ladder")
    assert [(step["quarter"], step["commitments"], step["share"]) for step in done.document["rows"]] == [
        ("2027-Q1", ["neo-1"], "1")
    ]


def test_by_place_in_money(world: World) -> None:
    world.bill(
        covered("70", (0, 1)),
        covered("70", (0, 1), SubAccountId="research", ResourceId="i-5"),
        idle("60", (0, 1)),
    )

    def by(name: str) -> list[tuple[Any, ...]]:
        found = ask(world, "utilization", "--by", name).document["rows"]
        return [(row[name], row["committed"], row["used"], row["utilization"]) for row in found]

    assert by("account") == [("prod", "130", "70", "0.538462"), ("research", "70", "70", "1")]
    assert by("family") == [("p5", "200", "140", "0.7")]
    assert by("gpu_model") == [("H100", "200", "140", "0.7")]
    assert by("region") == [("us-east-1", "200", "140", "0.7")]


def test_named_jobs_with_what_is_in_the_way(world: World) -> None:
    world.bill(
        covered("70", (2, 3), x_Native={"savings_plan_offering_type": "EC2InstanceSavingsPlans"}),
        idle("70", (0, 1)), idle("70", (1, 2)), idle("70", (3, 4)),
        p5("100", "i-acc", (0, 1), SubAccountId="research"),
        p5("100", "i-reg", (1, 2), RegionId="us-west-2", AvailabilityZone="us-west-2a"),
        p5("40", "i-fam", (1, 2), x_InstanceType="p4d.24xlarge", x_GpuModel="A100"),
        p5("30", "i-spot", (1, 2), PricingCategory="Dynamic"),
        p5("90", "i-bound", (1, 2), RegionId="eu-west-1", Tags={"region-bound": "true"}),
        p5("100", "i-late", (2, 3), Tags={"deferrable-hours": "4"}),
    )  # fmt: skip
    world.telemetry(
        node("n1", "i-reg", (0, 4)), job("sweep", dimensions=owned(team="ml", owner="ada@example.com")),
        pod("sweep", (1, 2), "8"),
    )  # fmt: skip
    world.build()
    answer = rebalance(world.ledger)
    found = {row["name"] or row["job_id"]: row for row in answer.rows}
    assert {name: (row["saved"], row["blocker"]) for name, row in found.items()} == {
        "i-acc": (100, "account"),
        "sweep": (100, "region"),
        "i-late": (100, "time"),
        "i-fam": (0, "family: p4d, the commitment is for p5"),
        "i-spot": (0, "interruption: spot machines are never covered"),
        "i-bound": (0, "bound to its region"),
    }
    assert "Start sweep (ask ada@example.com) in us-east-1 instead of us-west-2" in found["sweep"]["action"]
    assert "Put off i-late: Mon 05 Oct 02:00 to Mon 05 Oct 03:00" in found["i-late"]["action"]
    assert "Let account research use what prod committed" in found["i-acc"]["action"]
    assert found["sweep"]["job_id"] == "east/sweep"
    totals = answer.totals
    assert (totals["saved"], totals["saved_by_sharing"], totals["saved_by_moving"], totals["saved_by_waiting"]) == (
        300, 100, 100, 100,
    )  # fmt: skip
    assert (totals["stranded_cost"], totals["stranded_used"], totals["stranded_left"]) == (210, 210, 0)
    assert (totals["on_demand_cost"], totals["gap"]) == (460, 0)
    kept = rebalance(world.ledger, rules=Rules(allow=("account", "zone")))
    assert kept.totals["saved_by_moving"] == 0
    steps = [(step["step"], step["possible"]) for step in totals["next_steps"]]
    assert steps == [("share", True), ("exchange", False), ("resell", False), ("lapse", True)]


def test_usage_that_fits_but_was_not_covered_is_left_alone(world: World) -> None:
    """Same account, family and region, and the plan was idle: AWS had a reason that the bill doesn't tell."""
    world.bill(covered("70", (0, 1)), idle("70", (1, 2)), p5("100", "i-9", (1, 2)))
    answer = rebalance(world.ledger)
    assert [(row["saved"], row["blocker"]) for row in answer.rows] == [(0, "not applied by the provider")]
    assert answer.totals["saved"] == 0


def test_the_verbs_of_rebalancing_and_planning(world: World) -> None:
    world.bill(
        covered("70", (0, 1)), idle("70", (1, 2)), p5("100", "i-acc", (1, 2), SubAccountId="research"),
        *(p5("50", "i-7", (h, h + 1), x_InstanceType="g6e.xlarge", x_GpuModel="L40S") for h in range(3)),
    )  # fmt: skip
    done = ask(world, "rebalance")
    assert (done.code, [row["saved"] for row in done.document["rows"]]) == (0, ["100"])
    assert len(ask(world, "rebalance", "--all").document["rows"]) == 2
    table = gpuledger("--ledger", world.folder / "ledger", "--format", "table", "commitments", "rebalance")
    assert "Let account research use what prod committed" in table.out
    done = ask(world, "plan", "--window", "2026-10-05", "--term", "1yr=40%", "--assume-committed", "25")
    assert done.code == 0, done.err
    by = {(row["family"], row["method"]): row for row in done.document["rows"]}
    assert set(by) == {("g6e", "assumed"), ("g6e", "quantile"), ("g6e", "joint")}, "p5 fits what is idle"
    best = by["g6e", "quantile"]
    assert (best["size"], best["saving"], best["hours"], best["demand"]) == ("50", "60", 3, "150")
    assert (best["size_p50"], best["backtest"]) == (None, None), "three hours are no history"
    assert (by["g6e", "assumed"]["spill"], by["g6e", "assumed"]["coverage"]) == ("75", "0.5")
    assert by["g6e", "joint"]["size"] == "50"
    assert [told["code"] for told in done.document["diagnostics"]] == ["commitment-plan-short"]
    assert ask(world, "plan", "--term", "cheap").code == 2
    assert ask(world, "plan", "--demand", "cards").code == 2
    own = ask(world, "plan", "--window", "2026-10-05").document
    assert [told["code"] for told in own["diagnostics"]] == [
        "commitment-plan-own-offer",
        "commitment-plan-short",
    ]
    assert {row["discount"] for row in own["rows"]} == {"0.3"}


def test_no_offer_no_level(world: World) -> None:
    world.bill(p5("50", "i-7", (0, 1)))
    done = ask(world, "plan", "--window", "2026-10-05")
    assert [told["code"] for told in done.document["diagnostics"]] == [
        "commitment-plan-no-offer",
        "commitment-plan-short",
    ]
    assert done.document["rows"] == []


def test_reserved_machines_take_whole_machines_of_their_zone(world: World) -> None:
    """One machine and a half idle: one job moves from the next zone, with the reservation that it must target."""
    unused = {"CapacityReservationId": "cr-1", "CapacityReservationStatus": "Unused"}
    world.bill(
        p5("100", "i-0", (0, 1), CapacityReservationId="cr-1", CapacityReservationStatus="Used"),
        p5("150", "cr-1", (0, 1), PricingQuantity="1.5", **unused),
        p5("100", "i-b", (0, 1), AvailabilityZone="us-east-1b"),
        p5("100", "i-c", (0, 1), AvailabilityZone="us-east-1b"),
    )  # fmt: skip
    answer = rebalance(world.ledger)
    (moved,) = [row for row in answer.rows if row["saved"] > 0]
    assert (moved["saved"], moved["blocker"], moved["stranded_used"]) == (100, "zone", 100)
    assert moved["action"] == (
        "Start i-b in us-east-1a in the reserved capacity: "
        "--capacity-reservation-specification 'CapacityReservationTarget={CapacityReservationId=cr-1}'."
    )
    assert (answer.totals["stranded_left"], answer.totals["gap"]) == (50, 0)
    assert rebalance(world.ledger, rules=Rules(allow=("region", "account"))).totals["saved"] == 0
