"""Estimated rows: one per machine and hour, each machine once, every field that can be known."""

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.models.metering_rows import DAY, at, bill, charge, connect, meter, node

from gpuledger.core.metering import CustomPrice, PriceBook, learn
from gpuledger.core.usage import NodeInterval
from gpuledger.models import metering

TEN = PriceBook([CustomPrice(Decimal(10), instance_type="x")])
P5 = {
    "provider_id": "i-0abc", "instance_type": "p5.48xlarge", "region": "us-east-1", "zone": "us-east-1a", "cloud": "aws",
    "gpu_model": "H100", "gpu_count": Decimal(8), "spot": False, "pool": "train", "labels": {"team": "vision"},
}  # fmt: skip


def estimates(*told: NodeInterval, book: PriceBook = TEN, source: str = "k8s") -> list[dict[str, Any]]:
    return meter(connect(), [(source, one) for one in told], book)


def hours(rows: list[dict[str, Any]]) -> list[tuple[float, float, Any]]:
    def hour(moment: Any) -> float:  # noqa: ANN401
        return float((moment - DAY).total_seconds() / 3600)

    return [
        (hour(row["ChargePeriodStart"]), hour(row["ChargePeriodEnd"]), row["EffectiveCost"]) for row in rows
    ]


def test_one_row_per_hour_cut_exactly() -> None:
    found = estimates(node("a", 0.5, 2.25, instance_type="x"))
    assert hours(found) == [(0.5, 1, 5), (1, 2, 10), (2, 2.25, Decimal("2.5"))]
    assert [row["PricingQuantity"] for row in found] == [Decimal("0.5"), 1, Decimal("0.25")]


def test_a_row_says_what_is_known() -> None:
    (row,) = estimates(node("gpu-1", 3, 4, **P5), book=PriceBook())
    assert {name: value for name, value in row.items() if value is not None} == {
        "AvailabilityZone": "us-east-1a",
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), Decimal("55.04")),
        **dict.fromkeys(("ContractedUnitPrice", "ListUnitPrice"), Decimal("55.04")),
        **dict.fromkeys(
            ("PricingCurrencyContractedUnitPrice", "PricingCurrencyListUnitPrice"), Decimal("55.04")
        ),
        "PricingCurrencyEffectiveCost": Decimal("55.04"),
        "BillingCurrency": "USD",
        "PricingCurrency": "USD",
        "BillingPeriodStart": DAY.replace(day=1),
        "BillingPeriodEnd": DAY.replace(day=1, month=12),
        "ChargeCategory": "Usage",
        "ChargeDescription": "p5.48xlarge on-demand in us-east-1, metered while node gpu-1 ran",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": at(3),
        "ChargePeriodEnd": at(4),
        "ConsumedQuantity": 1,
        "ConsumedUnit": "Hours",
        "PricingQuantity": 1,
        "PricingUnit": "Hours",
        "PricingCategory": "Standard",
        "HostProviderName": "AWS",
        "ProviderName": "AWS",
        "ServiceProviderName": "AWS",
        "InvoiceIssuerName": "Amazon Web Services, Inc.",
        "PublisherName": "Amazon Web Services, Inc.",
        "RegionId": "us-east-1",
        "RegionName": "us-east-1",
        "ResourceId": "i-0abc",
        "ResourceName": "gpu-1",
        "ResourceType": "instance",
        "ServiceCategory": "Compute",
        "ServiceSubcategory": "Virtual Machines",
        "ServiceName": "Amazon Elastic Compute Cloud",
        "SkuId": "metered/p5.48xlarge",
        "SkuMeter": "Instance hours",
        "SkuPriceId": "metered/p5.48xlarge/us-east-1/on-demand/list",
        "SkuPriceDetails": row["SkuPriceDetails"],
        "Tags": {"team": "vision"},
        "x_CostStatus": "Estimated",
        "x_SourceVersion": "metered",
        "x_InstanceType": "p5.48xlarge",
        "x_GpuModel": "H100",
        "x_GpuCount": 8,
        "x_GpuMemoryGiB": 80,
        "x_GpuHours": 8,
        "x_Native": {"cluster": "c", "node": "gpu-1", "pool": "train", "telemetry": "k8s"},
    }
    assert json.loads(row["SkuPriceDetails"]) == {
        "InstanceType": "p5.48xlarge", "GpuCount": 8, "x_GpuModel": "H100", "x_Capacity": "on-demand", "x_Cluster": "c",
        "x_Node": "gpu-1", "x_Pool": "train", "x_PriceSource": "list", "x_PriceBasis": "karpenter-aws of 2026-07-20",
    }  # fmt: skip


def test_a_spot_price_that_changes_within_the_hour_splits_the_row() -> None:
    spot = [
        CustomPrice(Decimal(4), instance_type="x", spot=True),
        CustomPrice(Decimal(7), instance_type="x", spot=True, valid_from=at(1.25)),
    ]
    found = estimates(node("a", 0, 2, instance_type="x", spot=True), book=PriceBook(spot))
    assert hours(found) == [(0, 1, 4), (1, 1.25, 1), (1.25, 2, Decimal("5.25"))]
    assert {row["PricingCategory"] for row in found} == {"Dynamic"}


def test_without_a_price_the_cost_is_unknown_and_the_row_stays() -> None:
    (row,) = estimates(node("a", 0, 1, instance_type="y"))
    assert {row[name] for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")} == {None}
    assert row["x_DataIssues"] == "BilledCost: unpriced, no price of y on-demand is known"
    assert row["PricingQuantity"] == 1


def test_a_machine_that_several_sources_tell_of_costs_once() -> None:
    told = [
        ("k8s", node("a", 0, 2, provider_id="i-1", instance_type="x")),
        ("prom", node("a", 0.5, 3, gpu_model="L4", gpu_count=Decimal(1))),
        ("host", node("a.internal", 0.25, 1, cluster="single", provider_id="I-1", instance_type="x")),
    ]
    found = meter(connect(), told, TEN)
    assert hours(found) == [(0, 1, 10), (1, 2, 10), (2, 3, 10)]
    assert {(row["ResourceId"].lower(), row["x_GpuModel"], row["x_GpuHours"]) for row in found} == {
        ("i-1", "L4", 1)
    }


def test_a_gap_is_not_charged() -> None:
    found = estimates(node("a", 0, 0.25, instance_type="x"), node("a", 0.75, 1, instance_type="x"))
    assert hours(found) == [(0, 0.25, Decimal("2.5")), (0.75, 1, Decimal("2.5"))]


def test_a_name_that_passes_to_another_machine_is_two_machines() -> None:
    found = estimates(
        node("a", 0, 0.5, provider_id="i-1", instance_type="x"),
        node("a", 0.5, 1, provider_id="i-2", instance_type="x"),
    )
    assert [(row["ResourceId"], row["EffectiveCost"]) for row in found] == [("i-1", 5), ("i-2", 5)]


def test_the_same_name_in_two_clusters_is_two_machines() -> None:
    found = estimates(node("a", 0, 1, instance_type="x"), node("a", 0, 1, cluster="d", instance_type="x"))
    assert [row["ResourceId"] for row in found] == ["c/a", "d/a"]


def test_readings_of_a_state_cut_nothing() -> None:
    found = estimates(
        *(
            node("a", n / 4, (n + 1) / 4, instance_type="x", labels={"slurm/as-of": str(n), "rack": "7"})
            for n in range(4)
        )
    )
    assert hours(found) == [(0, 1, 10)]
    assert found[0]["Tags"] == {"rack": "7"}


def test_what_is_outside_the_time_in_question_is_cut_off() -> None:
    con = connect()
    found = meter(con, [("k8s", node("a", -3, 30, instance_type="x"))], TEN, 22.5, 24)
    assert hours(found) == [(22.5, 23, 5), (23, 24, 10)]


def test_a_cluster_without_names_of_its_cloud_is_one_s_own() -> None:
    (row,) = estimates(
        node("gpu1", 0, 1, gpu_model="H100", gpu_count=Decimal(8)),
        book=PriceBook([CustomPrice(Decimal(2), gpu_model="H100")]),
    )
    assert (row["EffectiveCost"], row["ServiceName"], row["ServiceProviderName"]) == (16, "Compute", None)
    assert (row["SkuId"], row["PricingCategory"]) == ("metered/8x h100", "Standard")
    assert json.loads(row["SkuPriceDetails"])["x_Capacity"] == "unknown"


def test_the_instance_type_says_what_telemetry_does_not() -> None:
    (row,) = estimates(node("a", 0, 1, instance_type="p5.48xlarge", region="us-east-1"), book=PriceBook())
    assert (row["x_GpuModel"], row["x_GpuCount"], row["ServiceProviderName"]) == ("H100", 8, "AWS")


@pytest.mark.parametrize(
    ("others", "price"),
    [
        ({}, 30),
        ({"PricingCategory": "Dynamic"}, None),
        ({"ChargeCategory": "Purchase"}, None),
        ({"CommitmentDiscountStatus": "Unused"}, None),
        ({"CapacityReservationStatus": "Unused"}, None),
        ({"AllocatedMethodId": "split"}, None),
        ({"x_CostStatus": "Estimated"}, None),
        ({"RegionId": "eu-west-1"}, None),
        ({"x_InstanceType": None, "SkuPriceDetails": '{"InstanceType": "P5.48xlarge"}'}, 30),
    ],
)
def test_rates_are_learnt_from_what_pays_for_running_machines(
    others: dict[str, Any], price: int | None
) -> None:
    con = connect()
    bill(con, [charge("i-9", -24, -22, "60", **others)])
    rates = learn(metering.billed_days(con, "final", at(-720), at(0)), DAY.date(), 30)
    found = rates.get(("p5.48xlarge", "us-east-1", False))
    assert (found and found.effective) == price


def test_parts_of_a_machine_that_name_no_type_are_of_its_machine() -> None:
    con = connect()
    kind = {"x_InstanceType": "a3-highgpu-8g", "RegionId": "us-central1"}
    memory = {"x_InstanceType": None, "RegionId": "us-central1", "x_GpuHours": None, "x_GpuCount": None}
    bill(
        con,
        [
            charge("vm", -24, -22, "160", **kind),
            charge("vm", -24, -22, "8", **memory),
            charge("vm2", -24, -22, "9", **memory),
        ],
    )
    rates = learn(metering.billed_days(con, "final", at(-720), at(0)), DAY.date(), 30)
    assert rates["a3-highgpu-8g", "us-central1", False].effective == 84


def test_rates_of_machines_without_cards() -> None:
    con = connect()
    kind = {"x_InstanceType": "m7i.8xlarge", "x_GpuCount": None, "x_GpuHours": None, "ConsumedUnit": "Hrs"}
    bill(
        con,
        [
            charge(
                "i-9", -24, -22, "4", **kind, ConsumedQuantity=Decimal(2), SkuMeter="BoxUsage:m7i.8xlarge"
            ),
            charge(
                "i-9", -24, -22, "1", **kind, ConsumedQuantity=Decimal(2), SkuMeter="EBSOptimized:m7i.8xlarge"
            ),
        ],
    )
    rates = learn(metering.billed_days(con, "final", at(-720), at(0)), DAY.date(), 30)
    assert rates["m7i.8xlarge", "us-east-1", False].effective == 2


def test_a_learnt_rate_is_stated() -> None:
    con = connect()
    bill(con, [charge("i-9", -24, -22, "60", BillingAccountId="42", BilledCost=Decimal(0))])
    rates = learn(metering.billed_days(con, "final", at(-720), at(0)), DAY.date(), 30)
    (row,) = meter(con, [("k8s", node("a", 0, 0.5, **P5))], PriceBook(learnt=rates))
    assert (row["EffectiveCost"], row["BilledCost"], row["ListCost"]) == (15, 0, Decimal("27.52"))
    assert (row["BillingAccountId"], row["ListUnitPrice"]) == ("42", Decimal("55.04"))
    details = json.loads(row["SkuPriceDetails"])
    assert (details["x_PriceSource"], details["x_PriceBasis"]) == (
        "effective",
        "bills of 2026-10-21 to 2026-11-19",
    )
