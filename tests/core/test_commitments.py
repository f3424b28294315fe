"""Which usage a commitment fits, how much of it it takes, what it lost, and when it ends."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from gpuledger.core.commitment_terms import TERMS, terms_of
from gpuledger.core.commitments import Commitment, Place, family, ladder, mismatches, need, weight

D = Decimal
HERE = Place("AWS", "USD", "payer", "a", "us-east-1", "us-east-1a", "p5.48xlarge", "H100", platform="Linux")


def commitment(key: str, place: Place = HERE, unit: str = "USD", category: str = "Spend") -> Commitment:
    return Commitment(
        "c", "discount", TERMS[key], place, category, "Savings Plan", None, unit, accounts=frozenset({"a"})
    )


@pytest.mark.parametrize(
    ("provider", "instance_type", "meter", "expected"),
    [
        ("AWS", "p5.48xlarge", None, "p5"),
        ("AWS", "ml.p4d.24xlarge", None, "p4d"),
        ("Microsoft", "Standard_ND96isr_H100_v5", None, "NDisr_H100_v5"),
        ("Microsoft", "Standard_NC48ads_A100_v4", None, "NCads_A100_v4"),
        ("Google Cloud", "a3-highgpu-8g", None, "a3"),
        ("Google Cloud", None, "N2 Instance Core running in Americas", "n2"),
        ("Google Cloud", None, "Nvidia H100 80GB GPU running in Americas", None),
        ("CoreWeave", "gd-8xh100ib-i128", None, "gd-8xh100ib-i128"),
        ("AWS", None, "BoxUsage:p5.48xlarge", None),
    ],
)
def test_families(provider: str, instance_type: str | None, meter: str | None, expected: str | None) -> None:
    assert family(provider, instance_type, meter) == expected


@pytest.mark.parametrize(
    ("key", "usage", "expected"),
    [
        ("aws-ec2-savings-plan", HERE, ()),
        ("aws-ec2-savings-plan", replace(HERE, instance_type="p5.4xlarge", zone="us-east-1b"), ()),
        ("aws-ec2-savings-plan", replace(HERE, account="b"), ("account",)),
        ("aws-ec2-savings-plan", replace(HERE, region="us-west-2", account="b"), ("region", "account")),
        ("aws-ec2-savings-plan", replace(HERE, instance_type="p4d.24xlarge"), ("family",)),
        ("aws-ec2-savings-plan", replace(HERE, spot=True), ("interruption",)),
        ("aws-ec2-savings-plan", replace(HERE, platform="Windows"), ()),
        ("aws-compute-savings-plan", replace(HERE, instance_type="p4d.24xlarge", region="eu-west-1"), ()),
        ("aws-ec2-savings-plan", replace(HERE, payer="other"), ("contract",)),
        ("aws-ec2-savings-plan", replace(HERE, provider="Microsoft"), ("provider", "family")),
        ("aws-reservation", replace(HERE, platform="Windows"), ("platform",)),
        ("aws-reservation", replace(HERE, instance_type="p5.4xlarge"), ("instance type",)),
        ("aws-flexible-reservation", replace(HERE, instance_type="p5.4xlarge"), ()),
        ("aws-capacity-reservation", replace(HERE, zone="us-east-1b"), ("zone",)),
        ("aws-capacity-reservation", replace(HERE, region="us-west-2", zone="us-west-2a"), ("region",)),
    ],
)
def test_what_is_in_the_way(key: str, usage: Place, expected: tuple[str, ...]) -> None:
    assert mismatches(commitment(key), usage) == expected


def test_how_much_of_a_commitment_a_usage_takes() -> None:
    plan = commitment("aws-ec2-savings-plan")
    plan.used_cost, plan.on_demand = D(72), D(100)
    assert need(plan, HERE, D(50), D(1)) == 36
    plan.by_type = {"p5.48xlarge": (D(60), D(100))}
    assert need(plan, HERE, D(50), D(1)) == 30, "the discount of that type, where it covered some"
    unused = commitment("aws-ec2-savings-plan")
    assert need(unused, HERE, D(50), D(1)) is None, "it covered nothing: nobody knows its discount"
    flexible = commitment("aws-flexible-reservation", unit="Normalized Hours", category="Usage")
    assert need(flexible, HERE, D(50), D(2)) == 2 * 384
    assert weight("m7i.large") == 4
    assert weight("m7i.metal") is None
    assert need(commitment("aws-reservation", unit="Hours", category="Usage"), HERE, D(50), D("0.5")) == D(
        "0.5"
    )


def test_loss_counts_below_break_even_only() -> None:
    """72 % of the price: at 61 % use 8 units cost 5.76 a unit price and served 4.88."""
    plan = commitment("aws-ec2-savings-plan")
    plan.committed, plan.used = D(100), D(61)
    plan.cost, plan.used_cost, plan.unused_cost, plan.on_demand = D(72), D("43.92"), D("28.08"), D(61)
    assert (plan.unused, plan.utilization, plan.break_even) == (D(39), D("0.61"), D("0.72"))
    assert plan.net_loss == 11
    assert plan.esr == 1 - D("1.180328")
    plan.on_demand = D(80)
    assert plan.net_loss == 0
    plan.on_demand = None
    assert [plan.net_loss, plan.esr, plan.break_even] == [None] * 3


def test_ladder_by_quarter() -> None:
    one, two, three = (commitment("other") for _ in range(3))
    one.expires, one.cost, one.id = datetime(2027, 3, 31, tzinfo=UTC), D(30), "one"
    two.expires, two.cost, two.id = datetime(2027, 1, 1, tzinfo=UTC), D(10), "two"
    three.cost = D(60)
    deployment = commitment("other")
    deployment.kind = "throughput"
    steps = [
        (step.quarter, step.commitments, step.cost, step.share)
        for step in ladder([one, two, three, deployment])
    ]
    assert steps == [("2027-Q1", ("one", "two"), D(40), D("0.4")), ("unknown", ("c",), D(60), D("0.6"))]


@pytest.mark.parametrize(
    ("kind", "provider", "category", "words", "flexible", "expected"),
    [
        ("discount", "AWS", "Spend", "Savings Plan EC2InstanceSavingsPlans", False, "aws-ec2-savings-plan"),
        ("discount", "AWS", "Spend", "ComputeSavingsPlans", False, "aws-compute-savings-plan"),
        ("discount", "AWS", "Spend", "SageMakerSavingsPlans", False, "aws-sagemaker-savings-plan"),
        ("discount", "AWS", "Usage", "Reserved Instance", True, "aws-flexible-reservation"),
        ("discount", "AWS", "Usage", "Reserved Instance", False, "aws-reservation"),
        ("discount", "Microsoft", "Usage", "Reservation", False, "azure-reservation"),
        (
            "discount",
            "Microsoft",
            "Usage",
            "Reservation Provisioned Managed Global",
            False,
            "azure-ptu-reservation",
        ),
        ("discount", "Microsoft", "Spend", "SavingsPlan", False, "azure-savings-plan"),
        ("discount", "Google Cloud", "Usage", "Resource-based", False, "google-resource-cud"),
        ("discount", "Google Cloud", "Spend", "Spend-based", False, "google-spend-cud"),
        ("capacity", "AWS", "Usage", "BoxUsage:p5.48xlarge", False, "aws-capacity-reservation"),
        ("capacity", "AWS", "Usage", "CapacityBlockFee", False, "aws-capacity-block"),
        ("capacity", "Microsoft", "Usage", "", False, "azure-capacity-reservation"),
        ("capacity", "Google Cloud", "Usage", "", False, "google-reservation"),
        ("throughput", "AWS", "Usage", "", False, "provisioned-throughput"),
        ("contract", "CoreWeave", "Spend", "", False, "contract"),
        ("discount", "Oracle", "Spend", "", False, "other"),
    ],
)
def test_terms(kind: str, provider: str, category: str, words: str, flexible: bool, expected: str) -> None:  # noqa: FBT001
    assert terms_of(kind, provider, category, words, flexible=flexible).key == expected


def test_what_can_be_done_has_a_source() -> None:
    for terms in TERMS.values():
        for step, way in terms.ways():
            assert way.source.startswith("https://") or way.possible is None, (terms.key, step)
    order = [step for step, _ in TERMS["azure-reservation"].ways()]
    assert order == ["share", "exchange", "resell", "lapse"]
