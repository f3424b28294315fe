"""The example's commitments on AWS: an idle savings plan on H100 machines and a well used reservation of CPU nodes.

A savings plan shows as covered usage at the on-demand price, a negation that takes it back, and the hourly fee
(docs.aws.amazon.com/cur/latest/userguide/cur-sp.html); a reservation as discounted usage without cost and one monthly
fee that says what stayed unused.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from gpuledger.demo.aws_lines import TEN, Line, Lines, Machine, created_by, stamp, ten
from gpuledger.demo.company import GPUS, HOUR, LIST_PRICE, ZERO, identifier, stream, tags
from gpuledger.demo.truth import Commitment, Fact, Truth

_HEX: Final = "0123456789abcdef"
_PROD, _PLATFORM = "111122223333", "777788889999"
_YEAR: Final = timedelta(days=365)
ONE: Final = Decimal(1)

PLAN_ARN: Final = "arn:aws:savingsplans::999900001111:savingsplan/5e0f6b0c-0000-4000-8000-5a11e5910001"
PLAN_MACHINES: Final = 8
PLAN_USED: Final = Decimal("0.61")
PLAN_KIND: Final = "p5.48xlarge"
_ADAS: Final = 3  # machines that Ada started; Marie started the others, and the weekend run
_PLAN_RATE: Final = Decimal("39.6288")

RESERVATION_ARN: Final = (
    "arn:aws:ec2:us-east-1:777788889999:reserved-instances/5e0f6b0c-0000-4000-8000-5a11e5910002"
)
RESERVED: Final = 4
_RESERVED_KIND: Final = "m7i.8xlarge"
_RECURRING: Final = Decimal("0.5081")
_AMORTIZED: Final = Decimal("0.5080")
_FACTOR: Final = Decimal(64)


def plan_counts(lines: Lines) -> list[int]:
    """How many machines of the plan run in each hour: in sum the wanted share of the commitment, to the hour."""
    rng = stream(lines.seed, lines.month, "aws/plan")
    hours = lines.month.hours
    found = []
    level = 5
    for index in range(hours):
        if index % 6 == 0:
            level = min(PLAN_MACHINES, max(2, level + rng.choice((-1, -1, 0, 1, 1))))
        found.append(level)
    missing = int((PLAN_USED * PLAN_MACHINES * hours).to_integral_value()) - sum(found)
    step = 1 if missing > 0 else -1
    while missing:
        index = rng.randrange(hours)
        if 0 <= found[index] + step <= PLAN_MACHINES:
            found[index] += step
            missing -= step
    return found


def _plan_cells(lines: Lines) -> dict[str, str]:
    return {
        "savings_plan_savings_plan_a_r_n": PLAN_ARN,
        "savings_plan_offering_type": "EC2InstanceSavingsPlans",
        "savings_plan_payment_option": "No Upfront",
        "savings_plan_purchase_term": "1yr",
        "savings_plan_region": "us-east-1",
        "savings_plan_instance_type_family": "p5",
        "savings_plan_start_time": stamp(lines.month.start - _YEAR / 5),
        "savings_plan_end_time": stamp(lines.month.start + 4 * _YEAR / 5),
    }


def _plan_fee(lines: Lines, start: datetime, used: Decimal) -> dict[str, str]:
    """Cells of the plan's hourly fee."""
    committed = _PLAN_RATE * PLAN_MACHINES
    cells = lines.base("SavingsPlanRecurringFee", start, start + HOUR, _PROD)
    lines.money(cells, committed, committed)
    cells.update(
        line_item_product_code="ComputeSavingsPlans",
        line_item_usage_type="EC2SP:p5.1yrNoUpfront",
        line_item_resource_id=PLAN_ARN,
        line_item_usage_amount=ten(ONE),
        line_item_line_item_description="1 year No Upfront p5 EC2 Instance Savings Plan in us-east-1",
        product='{"product_name":"Savings Plans for AWS Compute usage"}',
        savings_plan_recurring_commitment_for_billing_period=ten(committed * lines.month.hours),
        savings_plan_amortized_upfront_commitment_for_billing_period=ten(ZERO),
        savings_plan_total_commitment_to_date=ten(committed),
        savings_plan_used_commitment=ten(used),
    )
    return cells


def savings_plan(lines: Lines, truth: Truth) -> Iterator[Line]:
    """Rows of the plan that is only used to about 61 %: the rest of the commitment is stranded."""
    price = LIST_PRICE[PLAN_KIND]
    covers = f"{PLAN_MACHINES} x {PLAN_KIND}"
    truth.commitments[PLAN_ARN] = Commitment(
        "aws", "EC2 Instance Savings Plan", "headline: over-committed", covers, price, _PLAN_RATE
    )
    model, cards = GPUS[PLAN_KIND]
    rng = stream(lines.seed, lines.month, "aws/plan-machines")
    names = [f"i-0{identifier(rng, _HEX, 16)}" for _ in range(PLAN_MACHINES)]
    machines = [
        Machine(
            name,
            PLAN_KIND,
            _PROD,
            tags("aws", "llm-pretraining", user_name=f"p5-{n}", user_project="atlas")
            | created_by("ada@example.com" if n < _ADAS else "marie@example.com"),
        )
        for n, name in enumerate(names)
    ]
    plan = _plan_cells(lines)
    rate = {
        "savings_plan_savings_plan_effective_cost": ten(_PLAN_RATE),
        "savings_plan_savings_plan_rate": ten(_PLAN_RATE),
    }
    covered = Fact(ZERO, _PLAN_RATE, resource=True, gpu=model, gpu_hours=Decimal(cards), commitment=PLAN_ARN)
    committed = _PLAN_RATE * PLAN_MACHINES
    for index, count in enumerate(plan_counts(lines)):
        start = lines.month.hour(index)
        for machine in machines[:count]:
            cells = lines.instance(machine, "SavingsPlanCoveredUsage", start, ONE, price)
            lines.money(cells, price, price)
            yield Line(cells | plan | rate, covered)
        if count:
            cells = lines.instance(machines[0], "SavingsPlanNegation", start, Decimal(count), price)
            lines.money(cells, -price * count, price)
            cells.update(plan, line_item_resource_id="", resource_tags="{}", pricing_public_on_demand_cost="")
            text = f"SavingsPlanNegation used by AccountId : {_PROD} and UsageSku : {cells['product_sku']}"
            yield Line(cells | {"line_item_line_item_description": text}, Fact(ZERO, ZERO))
        used = _PLAN_RATE * count
        fact = Fact(committed, committed - used, commitment=PLAN_ARN, used=False)
        yield Line(_plan_fee(lines, start, used) | plan, fact)


def _reservation_cells(lines: Lines) -> dict[str, str]:
    return {
        "reservation_reservation_a_r_n": RESERVATION_ARN,
        "reservation_subscription_id": "5911000002",
        "reservation_start_time": stamp(lines.month.start - _YEAR / 2),
        "reservation_end_time": stamp(lines.month.start + _YEAR / 2),
        "pricing_term": "Reserved",
        "pricing_lease_contract_length": "1yr",
        "pricing_offering_class": "standard",
        "pricing_purchase_option": "Partial Upfront",
        "line_item_normalization_factor": ten(_FACTOR),
    }


def _reservation_fee(lines: Lines, total: int, unused: int) -> dict[str, str]:
    """Cells of the month's fee for `total` hours, of which some stayed unused."""
    cells = lines.monthly(
        "RIFee",
        _PLATFORM,
        (_RECURRING * total).quantize(TEN),
        line_item_product_code="AmazonEC2",
        line_item_usage_type=f"HeavyUsage:{_RESERVED_KIND}",
        line_item_operation="RunInstances",
        line_item_resource_id=RESERVATION_ARN,
        line_item_line_item_description=f"USD {_RECURRING} hourly fee per Linux/UNIX, {_RESERVED_KIND} instance",
        product='{"product_name":"Amazon Elastic Compute Cloud"}',
        product_instance_type=_RESERVED_KIND,
        product_region_code="us-east-1",
        product_servicecode="AmazonEC2",
    )
    cells.update(
        line_item_usage_amount=ten(Decimal(total)),
        line_item_unblended_rate=ten(_RECURRING),
        line_item_net_unblended_rate=ten(_RECURRING),
        line_item_normalized_usage_amount=ten(_FACTOR * total),
        reservation_amortized_upfront_fee_for_billing_period=ten(_AMORTIZED * total),
        reservation_number_of_reservations=str(RESERVED),
        reservation_total_reserved_units=str(total),
        reservation_units_per_reservation=str(lines.month.hours),
        reservation_normalized_units_per_reservation=str(_FACTOR * lines.month.hours),
        reservation_total_reserved_normalized_units=str(_FACTOR * total),
        reservation_unused_quantity=ten(Decimal(unused)),
        reservation_unused_normalized_unit_quantity=ten(_FACTOR * unused),
        reservation_unused_recurring_fee=ten(_RECURRING * unused),
        reservation_unused_amortized_upfront_fee_for_billing_period=ten(_AMORTIZED * unused),
        reservation_upfront_value=ten(_AMORTIZED * RESERVED * 365 * 24),
    )
    return cells


def reserved_instances(lines: Lines, truth: Truth) -> Iterator[Line]:
    """Rows of a partial upfront reservation of CPU nodes that is almost always used."""
    price = LIST_PRICE[_RESERVED_KIND]
    rate = _RECURRING + _AMORTIZED
    covers = f"{RESERVED} x {_RESERVED_KIND}"
    truth.commitments[RESERVATION_ARN] = Commitment(
        "aws", "Standard Reserved Instances", "supporting: CPU nodes", covers, price, rate
    )
    reservation = _reservation_cells(lines)
    share = {
        "line_item_normalized_usage_amount": ten(_FACTOR),
        "reservation_effective_cost": ten(rate),
        "reservation_amortized_upfront_cost_for_usage": ten(_AMORTIZED),
        "reservation_recurring_fee_for_usage": ten(_RECURRING),
    }
    rng = stream(lines.seed, lines.month, "aws/reserved")
    gap = range(first := rng.randrange(lines.month.hours - 40), first + 40)
    used = 0
    for number in range(RESERVED):
        name = f"i-0{identifier(rng, _HEX, 16)}"
        machine = Machine(
            name,
            _RESERVED_KIND,
            _PLATFORM,
            tags("aws", "data-platform", user_name=f"node-{number}") | created_by("terraform-shared"),
        )
        for index in range(lines.month.hours):
            if number == 0 and index in gap:
                continue
            used += 1
            cells = lines.instance(machine, "DiscountedUsage", lines.month.hour(index), ONE, price)
            lines.money(cells, ZERO, ZERO)
            fact = Fact(ZERO, rate, resource=True, commitment=RESERVATION_ARN)
            yield Line(cells | reservation | share, fact)
    total = RESERVED * lines.month.hours
    unused = total - used
    fee = (_RECURRING * total).quantize(TEN)
    fact = Fact(fee, rate * unused, commitment=RESERVATION_ARN, used=False)
    yield Line(_reservation_fee(lines, total, unused) | reservation, fact)
