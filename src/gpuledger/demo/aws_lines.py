"""Line items of the AWS bill, as CUR 2.0 states them, each with what it really is.

Columns: docs.aws.amazon.com/cur/latest/userguide/table-dictionary-cur2.html. Amounts carry ten decimals, as in real
exports. In us-east-1 usage types have no region prefix.
"""

import re
from base64 import b32encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Final

from gpuledger.demo.company import COMPANY, DAY, GPUS, HOUR, LIST_PRICE, ZERO, Month, compact, plain
from gpuledger.demo.truth import Fact

TEN: Final = Decimal("1e-10")
ACCOUNTS: Final = {
    "111122223333": "example-ml-prod (synthetic)",
    "444455556666": "example-research (synthetic)",
    "777788889999": "example-platform (synthetic)",
}
PAYER: Final = "999900001111"
EDP: Final = Decimal("0.06")
REGIONS: Final = {
    "us-east-1": ("", "US East (N. Virginia)"),
    "us-west-2": ("USW2-", "US West (Oregon)"),
    "eu-central-1": ("EUC1-", "EU (Frankfurt)"),
}
_SHAPES: Final = {
    "p5.48xlarge": ("192", "2048 GiB", "GPU instance"),
    "p4d.24xlarge": ("96", "1152 GiB", "GPU instance"),
    "g6e.xlarge": ("4", "32 GiB", "GPU instance"),
    "g6e.12xlarge": ("48", "384 GiB", "GPU instance"),
    "g6e.48xlarge": ("192", "1536 GiB", "GPU instance"),
    "m7i.8xlarge": ("32", "128 GiB", "General purpose"),
}


def ten(value: Decimal) -> str:
    """Amount with ten decimals; `value` must have no more."""
    if value.quantize(TEN) != value:
        raise ValueError(f"more than ten decimals: {value}")
    return f"{value.quantize(TEN):f}"


def stamp(moment: datetime) -> str:
    """UTC time as CUR 2.0 writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass(frozen=True, slots=True)
class Line:
    """A line item and its truth.

    `before` holds the cells that the first delivery stated otherwise, `billed_before` what it billed then; `late`
    lines are missing in the first delivery.
    """

    cells: dict[str, str]
    fact: Fact
    before: dict[str, str] = field(default_factory=dict)
    late: bool = False
    billed_before: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """An EC2 instance of the example."""

    resource: str
    kind: str
    account: str
    tags: dict[str, str]
    region: str = "us-east-1"
    zone: str = "a"


@dataclass(frozen=True, slots=True)
class Meter:
    """What a metered service counts, in which unit, at which public rate; `discounted` by the programme or not."""

    code: str
    usage: str
    operation: str
    rate: Decimal
    unit: str
    discounted: bool = True


def created_by(name: str, sort: str = "AssumedRole") -> dict[str, str]:
    """Return AWS's own tag on who created a resource, as CUR 2.0 spells its key; users can't set it.

    docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/aws-tags.html: account type, access key, user or session name.
    """
    return {"aws_created_by": f"{sort}:{'AIDA' if sort == 'IAMUser' else 'ASIA'}SYNTHETIC0000001:{name}"}


def sku(usage: str) -> dict[str, str]:
    """Cells that name the product and its on-demand price: a product is a usage type in a region."""
    code = f"SYN{re.sub('[^A-Z0-9]', '', usage.upper())}"
    return {"product_sku": code, "pricing_rate_code": f"{code}.JRTCKXETXF.6YS6EN2CT7"}


def names_owner(tags: dict[str, str]) -> bool:
    """Say whether a tag names a team, a cost centre or an owner."""
    return any(part in key for key in tags for part in ("team", "squad", "cost", "owner"))


class Lines:
    """Makes line items of one month; ids are derived from the seed and a running number."""

    def __init__(self, month: Month, seed: int) -> None:
        self.month = month
        self.seed = seed
        self.count = 0

    def base(self, kind: str, start: datetime, end: datetime, account: str) -> dict[str, str]:
        """Cells that every line item has."""
        self.count += 1
        digest = blake2b(f"{self.seed}/{self.month.text}/{self.count}".encode(), digest_size=32).digest()
        return {
            "bill_bill_type": "Anniversary",
            "bill_billing_entity": "AWS",
            "bill_billing_period_start_date": stamp(self.month.start),
            "bill_billing_period_end_date": stamp(self.month.end),
            "bill_invoice_id": f"SYNTHETIC-{self.month.start:%Y%m}",
            "bill_invoicing_entity": "Amazon Web Services, Inc.",
            "bill_payer_account_id": PAYER,
            "bill_payer_account_name": COMPANY,
            "cost_category": "{}",
            "discount": "{}",
            "identity_line_item_id": b32encode(digest).decode().rstrip("=").lower(),
            "identity_time_interval": f"{start:%Y-%m-%dT%H:%M:%SZ}/{end:%Y-%m-%dT%H:%M:%SZ}",
            "line_item_currency_code": "USD",
            "line_item_legal_entity": "Amazon Web Services, Inc.",
            "line_item_line_item_type": kind,
            "line_item_usage_account_id": account,
            "line_item_usage_account_name": ACCOUNTS[account],
            "line_item_usage_start_date": stamp(start),
            "line_item_usage_end_date": stamp(end),
            "product": "{}",
            "resource_tags": "{}",
        }

    @staticmethod
    def money(
        cells: dict[str, str], cost: Decimal, rate: Decimal | None = None, net: Decimal | None = None
    ) -> None:
        """Fill the cost columns; `net` is the cost after the discount programme."""
        after = cost if net is None else net
        cells["line_item_unblended_cost"] = cells["line_item_blended_cost"] = ten(cost)
        cells["line_item_net_unblended_cost"] = ten(after)
        if rate is not None:
            cells["line_item_unblended_rate"] = cells["line_item_blended_rate"] = ten(rate)
            cells["line_item_net_unblended_rate"] = ten(rate if after == cost else rate * (1 - EDP))
        if after != cost:
            cells["discount"] = compact({"edp_discount": ten(after - cost)})
            cells["discount_total_discount"] = ten(after - cost)

    def instance(
        self, machine: Machine, kind: str, start: datetime, amount: Decimal, rate: Decimal
    ) -> dict[str, str]:
        """Cells of an instance's hour: `amount` hours at a public `rate`."""
        prefix, place = REGIONS[machine.region]
        cells = self.base(kind, start, start + HOUR, machine.account)
        vcpu, memory, family = _SHAPES[machine.kind]
        gpu = GPUS.get(machine.kind)
        usage = f"{prefix}BoxUsage:{machine.kind}"
        cells.update(
            line_item_product_code="AmazonEC2",
            line_item_usage_type=usage,
            line_item_operation="RunInstances",
            line_item_availability_zone=machine.region + machine.zone,
            line_item_resource_id=machine.resource,
            line_item_usage_amount=ten(amount),
            line_item_line_item_description=f"${rate} per On Demand Linux {machine.kind} Instance Hour",
            pricing_currency="USD",
            pricing_term="OnDemand",
            pricing_unit="Hrs",
            pricing_public_on_demand_cost=ten((amount * rate).quantize(TEN)),
            pricing_public_on_demand_rate=ten(rate),
            product=compact(
                {
                    "product_name": "Amazon Elastic Compute Cloud",
                    "vcpu": vcpu,
                    "memory": memory,
                    **({"gpu": str(gpu[1])} if gpu else {}),
                    "operating_system": "Linux",
                    "tenancy": "Shared",
                }
            ),
            product_instance_family=family,
            product_instance_type=machine.kind,
            product_location=place,
            product_location_type="AWS Region",
            product_operation="RunInstances",
            product_product_family="Compute Instance",
            product_region_code=machine.region,
            product_servicecode="AmazonEC2",
            product_usagetype=usage,
            resource_tags=compact(machine.tags),
            **sku(usage),
        )
        return cells

    def on_demand(
        self, machine: Machine, start: datetime, amount: Decimal, *, rate: Decimal | None = None,
        incident: str | None = None, usual_rate: Decimal | None = None,
    ) -> Line:  # fmt: skip
        """Make an hour at the list price; `usual_rate` is what it had cost without the incident."""
        price = LIST_PRICE[machine.kind] if rate is None else rate
        cost = (amount * price).quantize(TEN)
        cells = self.instance(machine, "Usage", start, amount, price)
        self.money(cells, cost, price)
        gpu = GPUS.get(machine.kind)
        fact = Fact(
            cost, cost, resource=True, owned=names_owner(machine.tags),
            gpu=gpu[0] if gpu else None, gpu_hours=amount * gpu[1] if gpu else ZERO,
            incident=incident,
            injected=None if usual_rate is None else cost - (amount * usual_rate).quantize(TEN),
        )  # fmt: skip
        return Line(cells, fact)

    def metered(
        self, meter: Meter, resource: str, when: tuple[datetime, timedelta], amount: Decimal,
        payer: tuple[str, dict[str, str]], **cells: str,
    ) -> Line:  # fmt: skip
        """Make a line of a metered service; `payer` is the account and the tags."""
        start, length = when
        account, tags = payer
        found = self.base("Usage", start, start + length, account)
        cost = (amount * meter.rate).quantize(TEN)
        net = cost - (cost * EDP).quantize(TEN) if meter.discounted else cost
        found.update(
            line_item_product_code=meter.code,
            line_item_usage_type=meter.usage,
            line_item_operation=meter.operation,
            line_item_resource_id=resource,
            line_item_usage_amount=ten(amount),
            line_item_line_item_description=f"${plain(meter.rate)} per {meter.unit} of {meter.usage}",
            pricing_currency="USD",
            pricing_term="OnDemand",
            pricing_unit=meter.unit,
            pricing_public_on_demand_cost=ten(cost),
            pricing_public_on_demand_rate=ten(meter.rate),
            product_operation=meter.operation,
            product_region_code="us-east-1",
            product_location="US East (N. Virginia)",
            product_location_type="AWS Region",
            product_servicecode=meter.code,
            product_usagetype=meter.usage,
            resource_tags=compact(tags),
        )
        found.update(cells)
        self.money(found, cost, meter.rate, net)
        return Line(found, Fact(net, net, resource=bool(resource), owned=names_owner(tags)))

    def monthly(
        self, kind: str, account: str, cost: Decimal, net: Decimal | None = None, **cells: str
    ) -> dict[str, str]:
        """Cells of a line for the whole month: fees, tax, credits and discounts."""
        found = self.base(kind, self.month.start, self.month.end, account)
        found.update(line_item_usage_amount=ten(Decimal(1)), pricing_currency="USD")
        self.money(found, cost, net=net)
        found.update(cells)
        return found


def days(month: Month) -> Iterator[tuple[datetime, timedelta]]:
    """Every day of the month with its length."""
    return ((month.start + index * DAY, DAY) for index in range(month.days))
