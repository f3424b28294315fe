"""Rows of the Azure bill of the example, as cost details of an Enterprise Agreement state them.

Columns: learn.microsoft.com/azure/cost-management-billing/dataset-schema/cost-usage-details-ea. EA files write tags as
JSON without its outer braces and dates with the month first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib import resources
from typing import Final

from gpuledger.demo import files
from gpuledger.demo.company import (
    COMPANY,
    DAY,
    GPUS,
    LIST_PRICE,
    ZERO,
    busy,
    compact,
    guid,
    identifier,
    plain,
    stream,
    tags,
)
from gpuledger.demo.truth import Commitment, Fact, Truth

PROVIDER: Final = "azure"
SUBSCRIPTIONS: Final = {
    "llm-pretraining": ("5e0f0001-0000-4000-8000-0000000000a1", "example-llm (synthetic)"),
    "agents-platform": ("5e0f0002-0000-4000-8000-0000000000a2", "example-agents (synthetic)"),
    "recsys": ("5e0f0003-0000-4000-8000-0000000000a3", "example-recsys (synthetic)"),
    None: ("5e0f0004-0000-4000-8000-0000000000a4", "example-sandbox (synthetic)"),
}
RESERVED: Final = 3
_ORDER: Final = "5e0f0005-0000-4000-8000-0000000000b5"
RESERVATION: Final = f"/providers/Microsoft.Capacity/reservationOrders/{_ORDER}/reservations/5e0f0006-0000-4000-8000-0000000000b6"
_RESERVED_KIND: Final = "Standard_ND96isr_H100_v5"
_RESERVED_PRICE: Final = Decimal("60.9584")
_RESERVED_USED: Final = Decimal("0.94")


@dataclass(frozen=True, slots=True)
class Item:
    """One row of both exports: cells that agree, then cost and price as either export states them."""

    cells: dict[str, str]
    quantity: Decimal
    price: Decimal
    fact: Fact
    amortized_price: Decimal | None = None
    actual: bool = True
    amortized: bool = True


class _Month:
    """Makes rows of one month."""

    def __init__(self, setting: files.Setting) -> None:
        self.setting = setting
        month = setting.month
        self.base = {
            "BillingAccountId": "59110001",
            "BillingAccountName": COMPANY,
            "BillingPeriodStartDate": f"{month.start:%m/%d/%Y}",
            "BillingPeriodEndDate": f"{month.end - DAY:%m/%d/%Y}",
            "BillingProfileId": "59110001",
            "BillingProfileName": COMPANY,
            "AccountOwnerId": "finance@example.com",
            "AccountName": COMPANY,
            "BillingCurrency": "USD",
            "InvoiceSection": "Synthetic",
            "OfferId": "MS-AZR-0017P",
            "IsAzureCreditEligible": "True",
            "PublisherName": "Microsoft",
            "PublisherType": "Azure",
            "ChargeType": "Usage",
            "Frequency": "UsageBased",
            "PricingModel": "OnDemand",
            "ServiceFamily": "Compute",
            "ResourceLocation": "EastUS",
            "MeterRegion": "Virginia",
        }

    def meter(self, category: str, sub: str, name: str, unit: str, family: str = "Compute") -> dict[str, str]:
        """Cells that name a meter; its id follows from its name."""
        rng = stream(0, self.setting.month, f"azure/meter/{category}/{sub}/{name}")
        return {
            "Product": f"{sub} - {name} - US East",
            "PartNumber": f"SYN-{identifier(rng, '0123456789', 5)}",
            "MeterId": guid(stream(0, self.setting.month, f"azure/meter-id/{sub}/{name}")),
            "MeterCategory": category,
            "MeterSubCategory": sub,
            "MeterName": name,
            "UnitOfMeasure": unit,
            "PlanName": name,
            "ServiceFamily": family,
        }

    def row(
        self, day: datetime, team: str | None, owner: dict[str, str], resource: str, **cells: str
    ) -> dict[str, str]:
        """Cells of a resource's day; `resource` is provider/type/name."""
        subscription, name = SUBSCRIPTIONS.get(team, SUBSCRIPTIONS[None])
        group = f"rg-{team or 'sandbox'}"
        # EA exports leave out the outer braces.
        text = ",".join(f'"{key}": "{value}"' for key, value in owner.items())
        found = self.base | {
            "Date": f"{day:%m/%d/%Y}",
            "SubscriptionId": subscription,
            "SubscriptionName": name,
            "ResourceGroup": group,
            "ConsumedService": resource.split("/", maxsplit=1)[0],
            "ResourceId": f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{resource}",
            "ResourceName": resource.rsplit("/", 1)[-1],
            "Tags": text,
        }
        return found | cells


def _days(setting: files.Setting) -> list[datetime]:
    return [setting.month.start + index * DAY for index in range(setting.month.days)]


def _item(
    cells: dict[str, str], quantity: Decimal, price: Decimal, *, owned: bool = True, kind: str | None = None
) -> Item:
    """Make a row of usage at the list price; `kind` is the machine, quantity then its hours."""
    cost = quantity * price
    model, cards = GPUS[kind] if kind else (None, 0)
    fact = Fact(cost, cost, resource=True, owned=owned, gpu=model, gpu_hours=quantity * cards)
    return Item(cells | {"PayGPrice": plain(price), "UnitPrice": plain(price)}, quantity, price, fact)


class _Reservation:
    """Three reserved 8 x H100 machines, well used: what is missing is downtime."""

    def __init__(self, make: _Month) -> None:
        self.make = make
        self.meter = make.meter("Virtual Machines", "NDisrH100v5 Series", "ND96isr H100 v5", "1 Hour")
        reservation = RESERVATION.rsplit("/", 1)[-1]
        self.bought = {
            "ReservationId": reservation,
            "ReservationName": "synthetic-h100-1y",
            "ProductOrderId": _ORDER,
            "ProductOrderName": f"Reserved VM Instance, {_RESERVED_KIND}, US East, 1 Year",
            "Term": "12",
            "PricingModel": "Reservation",
            "benefitId": RESERVATION,
            "benefitName": "synthetic-h100-1y",
            "UnitPrice": plain(LIST_PRICE[_RESERVED_KIND]),
            "PayGPrice": "0",
        }
        self.info = compact(
            {
                "UsageType": "ComputeHR",
                "ServiceType": _RESERVED_KIND,
                "VCPUs": 96,
                "ReservationOrderId": _ORDER,
                "ReservationId": reservation,
            }
        )

    def own(self, day: datetime, **cells: str) -> dict[str, str]:
        """Cells of a row about the reservation itself."""
        found = self.make.row(
            day, "llm-pretraining", {}, "Microsoft.Capacity/reservationOrders/-", **self.meter
        )
        return (
            found | self.bought | {"ResourceId": RESERVATION, "ResourceName": "", "ResourceGroup": ""} | cells
        )

    def downtime(self) -> list[list[int]]:
        """Unused hours by day and machine: in sum what the wanted utilisation leaves."""
        month = self.make.setting.month
        rng = stream(self.make.setting.seed, month, "azure/reservation")
        down = RESERVED * month.hours - int((_RESERVED_USED * RESERVED * month.hours).to_integral_value())
        idle = [[0] * RESERVED for _ in range(month.days)]
        while down:
            day, machine = rng.randrange(month.days), rng.randrange(RESERVED)
            step = min(down, rng.randint(1, 6), 24 - idle[day][machine])
            idle[day][machine] += step
            down -= step
        return idle

    def rows(self) -> Iterator[Item]:
        """The month's fee, then each day's used and unused hours."""
        month = self.make.setting.month
        fee = _RESERVED_PRICE * month.hours
        cells = self.own(month.start, ChargeType="Purchase", Frequency="Recurring", UnitPrice=plain(fee))
        yield Item(cells, Decimal(RESERVED), fee, Fact(fee * RESERVED, ZERO), amortized=False)
        model, cards = GPUS[_RESERVED_KIND]
        owner = tags(PROVIDER, "llm-pretraining", env="prod")
        for day, idle in zip(_days(self.make.setting), self.downtime(), strict=True):
            for machine, down in enumerate(idle):
                hours = Decimal(24 - down)
                if not hours:
                    continue
                name = f"Microsoft.Compute/virtualMachines/atlas-{machine}"
                cells = self.make.row(
                    day, "llm-pretraining", owner, name, **self.meter, AdditionalInfo=self.info
                )
                effective, cards_used = hours * _RESERVED_PRICE, hours * cards
                fact = Fact(
                    ZERO, effective, resource=True, gpu=model, gpu_hours=cards_used, commitment=RESERVATION
                )
                yield Item(cells | self.bought, hours, ZERO, fact, amortized_price=_RESERVED_PRICE)
            if unused := Decimal(sum(idle)):
                fact = Fact(ZERO, unused * _RESERVED_PRICE, commitment=RESERVATION, used=False)
                cells = self.own(day, ChargeType="UnusedReservation")
                yield Item(cells, unused, ZERO, fact, amortized_price=_RESERVED_PRICE, actual=False)


def _machines(make: _Month) -> Iterator[Item]:
    setting = make.setting
    kind = "Standard_NC24ads_A100_v4"
    meter = make.meter("Virtual Machines", "NCadsA100v4 Series", "NC24ads A100 v4", "1 Hour")
    info = compact({"ServiceType": kind, "UsageType": "ComputeHR", "VCPUs": 24})
    rng = stream(setting.seed, setting.month, "azure/machines")
    for number in range(6):
        team = "recsys" if number < 4 else None  # noqa: PLR2004
        for day in _days(setting):
            at_work = team is not None or busy(day.replace(hour=12))
            hours = Decimal(24) if at_work else Decimal(rng.randint(2, 9))
            owner = tags(PROVIDER, team, env="prod" if team else "dev")
            cells = make.row(
                day,
                team,
                owner,
                f"Microsoft.Compute/virtualMachines/nc24-{number}",
                **meter,
                AdditionalInfo=info,
            )
            yield _item(cells, hours, LIST_PRICE[kind], owned=team is not None, kind=kind)


def _disks(make: _Month) -> Iterator[Item]:
    meter = make.meter("Storage", "Premium SSD Managed Disks", "P60 LRS Disk", "1/Month", "Storage")
    for team, count in (("llm-pretraining", 4), ("recsys", 2), (None, 1)):
        for number in range(count):
            for day in _days(make.setting):
                quantity = (Decimal(1) / make.setting.month.days).quantize(Decimal("0.000001"))
                name = f"Microsoft.Compute/disks/{team or 'old'}-{number}"
                cells = make.row(day, team, tags(PROVIDER, team), name, **meter)
                yield _item(cells, quantity, Decimal("860.16"), owned=team is not None)


def _models(make: _Month) -> Iterator[Item]:
    """Azure OpenAI: tokens per thousand, and provisioned throughput that costs the same used or not."""
    rng = stream(make.setting.seed, make.setting.month, "azure/models")
    family = "AI + Machine Learning"
    meters = [
        (make.meter("Foundry Models", "Azure OpenAI", f"gpt 4.1 {word} glbl Tokens", "1K", family), price, usual)
        for word, price, usual in (
            ("Inp", Decimal("0.002"), 90_000), ("cached Inp", Decimal("0.0005"), 70_000), ("Outp", Decimal("0.008"), 14_000),
        )
    ]  # fmt: skip
    provisioned = make.meter(
        "Foundry Models", "Azure OpenAI", "Provisioned Managed Global Unit", "1/Hour", family
    )
    name = "Microsoft.CognitiveServices/accounts/example-agents"
    for day in _days(make.setting):
        owner = tags(PROVIDER, "agents-platform", env="prod")
        for meter, price, usual in meters:
            level = rng.randint(70, 130) if day.weekday() < 5 else rng.randint(15, 40)  # noqa: PLR2004
            quantity = Decimal(usual * level * 10 + rng.randrange(1000)) / 1000
            cells = make.row(
                day, "agents-platform", owner, name, **meter, ResourceLocation="EastUS2", MeterRegion=""
            )
            yield _item(cells, quantity, price)
        cells = make.row(
            day, "agents-platform", owner, name, **provisioned, ResourceLocation="EastUS2", MeterRegion=""
        )
        yield _item(cells, Decimal(50 * 24), Decimal(1))


def columns() -> tuple[str, ...]:
    """Return the header of both exports."""
    return tuple(
        resources.files("gpuledger.demo").joinpath("azure_columns.csv").read_text("utf-8").split()[1:]
    )


def items(setting: files.Setting, truth: Truth) -> list[Item]:
    """All rows of the month, of both exports."""
    public = LIST_PRICE[_RESERVED_KIND]
    covers = f"{RESERVED} x {_RESERVED_KIND}"
    truth.commitments[RESERVATION] = Commitment(
        PROVIDER, "Reserved VM Instance", "headline: well used", covers, public, _RESERVED_PRICE
    )
    make = _Month(setting)
    return [*_Reservation(make).rows(), *_machines(make), *_disks(make), *_models(make)]
