"""Why estimate and bill differ: each difference in its class, at the granularity that the bill has."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.models.metering_rows import bill, charge, connect, meter, node, rows

from gpuledger.core.metering import CustomPrice, PriceBook
from gpuledger.core.usage import NodeInterval
from gpuledger.models import metering

LIST = Decimal("55.04")
HOUR = Decimal(50)  # what an hour was estimated at
BOOK = PriceBook([CustomPrice(HOUR, instance_type="p5.48xlarge")])


def ran(start: float, end: float, name: str = "i-1", kind: str = "p5.48xlarge", **facts: Any) -> NodeInterval:  # noqa: ANN401
    return node(
        name, start, end, provider_id=name, instance_type=kind, region="us-east-1", cloud="aws", **facts
    )


def compare(nodes: Sequence[NodeInterval], charges: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cells that differ, as group, settled or not, and the classes that aren't 0."""
    con = connect()
    meter(con, [("k8s", one) for one in nodes], BOOK, -24, 48)
    bill(con, charges)
    query = metering.compare("final", "estimated", ['"ResourceId"'], "EffectiveCost", lag=timedelta(hours=2))
    found = rows(con, f"SELECT * FROM ({query}) ORDER BY groups, estimated_time, final_time, counts")
    return [
        {"id": row["groups"]["k0"], "counts": row["counts"]}
        | {name: row[name] for name in metering.CLASSES if row[name]}
        for row in found
        if row["difference"]
    ]


# Another machine, billed as estimated to the end of the day: the provider's bill reaches that far.
REACH = [charge("i-9", 23, 24, "50")]
OTHER = ran(23, 24, "i-9")


def test_what_was_estimated_right_has_no_difference() -> None:
    assert compare([ran(0, 2)], [charge("i-1", 0, 1, "50"), charge("i-1", 1, 2, "50")]) == []


def test_the_same_hours_at_the_same_list_price_differ_by_discount() -> None:
    found = compare([ran(0, 1), OTHER], [charge("i-1", 0, 1, "30", PricingCategory="Committed"), *REACH])
    assert found == [{"id": "i-1", "counts": True, "discount": -20}]


def test_less_discount_than_was_learnt_is_a_discount_too() -> None:
    assert compare([ran(0, 1), OTHER], [charge("i-1", 0, 1, "55"), *REACH]) == [
        {"id": "i-1", "counts": True, "discount": 5}
    ]


def test_another_list_price_is_a_price_error() -> None:
    found = compare([ran(0, 1), OTHER], [charge("i-1", 0, 1, "60", ListCost=Decimal(60)), *REACH])
    assert found == [{"id": "i-1", "counts": True, "price_error": 10}]


def test_spot_prices_are_prices() -> None:
    found = compare([ran(0, 1), OTHER], [charge("i-1", 0, 1, "20", PricingCategory="Dynamic"), *REACH])
    assert found == [{"id": "i-1", "counts": True, "price_error": -30}]


@pytest.mark.parametrize(("cost", "name"), [("40", "discount"), ("60", "price_error")])
def test_without_list_prices_a_lower_rate_is_a_discount(cost: str, name: str) -> None:
    found = compare([ran(0, 1), OTHER], [charge("i-1", 0, 1, cost, ListCost=None), *REACH])
    assert found == [{"id": "i-1", "counts": True, name: Decimal(cost) - 50}]


def test_an_estimate_that_the_bill_has_not_reached_is_late() -> None:
    found = compare([ran(0, 1), ran(22, 23, "i-2"), OTHER], [charge("i-1", 0, 1, "50"), *REACH])
    assert found == [{"id": "i-2", "counts": False, "late_row": -50}]


def test_an_estimate_of_time_that_the_bill_passed_over_is_over_metered() -> None:
    found = compare([ran(0, 2), OTHER], [charge("i-1", 0, 1, "50"), *REACH])
    assert found == [{"id": "i-1", "counts": True, "over_metered": -50}]


def test_without_any_bill_of_the_provider_everything_is_late() -> None:
    assert compare([ran(0, 1)], []) == [{"id": "i-1", "counts": False, "late_row": -50}]
    assert compare([ran(0, 1)], [charge("i-9", 30, 31, "1", ServiceProviderName="Google Cloud")]) == [
        {"id": "i-1", "counts": False, "late_row": -50},
        {"id": "i-9", "counts": False, "unmetered": 1},
    ]


def test_machines_and_hours_that_nobody_metered() -> None:
    charges = [charge("i-1", 0, 1, "50"), charge("i-1", 1, 2, "50"), charge("i-3", 0, 1, "7"), *REACH]
    assert compare([ran(0, 1), OTHER], charges) == [
        {"id": "i-1", "counts": True, "unmetered": 50},
        {"id": "i-3", "counts": False, "unmetered": 7},  # says nothing of how good estimates are
    ]


def test_hours_and_rate_are_told_apart_within_a_day() -> None:
    # 10 hours billed at 44, 12 hours metered at 50.
    found = compare(
        [ran(0, 12), ran(24, 48, "i-9")],
        [
            charge("i-1", 0, 10, "440") | {"ChargePeriodEnd": charge("", 0, 24, "0")["ChargePeriodEnd"]},
            charge("i-9", 24, 48, "1200"),
        ],
    )
    assert found == [{"id": "i-1", "counts": True, "discount": -60, "over_metered": -100}]


def test_hours_that_only_the_bill_has_cost_what_the_bill_says() -> None:
    # 15 hours billed at 44, 12 hours metered at 50.
    day = {"ChargePeriodEnd": charge("", 0, 24, "0")["ChargePeriodEnd"]}
    found = compare(
        [ran(0, 12), ran(24, 48, "i-9")], [charge("i-1", 0, 15, "660") | day, charge("i-9", 24, 48, "1200")]
    )
    assert found == [{"id": "i-1", "counts": True, "discount": -72, "unmetered": 132}]


def test_a_monthly_charge_is_compared_as_a_month() -> None:
    found = compare(
        [ran(0, 12), ran(30, 32)],
        [charge("i-1", -456, 264, "700") | {"x_GpuHours": Decimal(14 * 8), "ListCost": 14 * LIST}],
    )
    assert found == []
    found = compare(
        [ran(0, 12)],
        [charge("i-1", -456, 264, "500") | {"x_GpuHours": Decimal(12 * 8), "ListCost": 12 * LIST}],
    )
    assert found == [{"id": "i-1", "counts": True, "discount": -100}]


def test_what_had_no_price_is_unpriced() -> None:
    found = compare([ran(0, 1, kind="p9.huge"), OTHER], [charge("i-1", 0, 1, "60"), *REACH])
    assert found == [{"id": "i-1", "counts": True, "unpriced": 60}]


def test_other_spellings_are_the_same_machine_in_the_bill_s_words() -> None:
    arn = "arn:aws:ec2:us-east-1:1:instance/i-1"
    assert compare([ran(0, 1), OTHER], [charge(arn, 0, 1, "30"), *REACH]) == [
        {"id": arn, "counts": True, "discount": -20}
    ]


def test_a_scale_set_is_billed_as_one_machine() -> None:
    pool = "/subscriptions/s/resourceGroups/r/providers/Microsoft.Compute/virtualMachineScaleSets/gpus"
    nodes = [
        node(
            f"vm{n}",
            0,
            1,
            provider_id=f"{pool}/virtualMachines/{n}",
            instance_type="p5.48xlarge",
            cloud="azure",
        )
        for n in range(3)
    ]
    day = charge(
        pool.lower(), 0, 24, "120", ServiceProviderName="Microsoft", x_GpuHours=Decimal(24), ListCost=None
    )
    other = charge("x", 24, 48, "1", ServiceProviderName="Microsoft", x_GpuHours=None, x_InstanceType=None)
    found = compare(nodes, [day, other | {"ResourceId": pool.lower() + "2", "x_GpuHours": Decimal(8)}])
    assert found[0] == {"id": pool.lower(), "counts": True, "discount": -30}


def test_charges_that_pay_for_no_machine_are_left_out() -> None:
    storage = charge("vol-1", 0, 1, "5", ServiceCategory="Storage")
    tokens = charge(
        None, 0, 1, "5", x_GpuHours=None, x_InstanceType=None, ServiceCategory="AI and Machine Learning"
    )
    split = charge("i-1", 0, 1, "5", AllocatedMethodId="cpu")
    assert compare([], [storage, tokens, split]) == []


def test_cpu_machines_are_compared_by_their_hours() -> None:
    kind = {
        "x_InstanceType": "m7i.large",
        "x_GpuHours": None,
        "x_GpuCount": None,
        "ConsumedUnit": "Hrs",
        "ListCost": None,
    }
    charges = [
        charge("i-1", 0, 24, "100", **kind, ConsumedQuantity=Decimal(2)),
        charge("i-9", 24, 48, "1200"),
    ]
    found = compare([ran(0, 1), ran(24, 48, "i-9")], charges)
    assert found == [{"id": "i-1", "counts": True, "unmetered": 50}]
