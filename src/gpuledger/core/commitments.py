"""A commitment's arithmetic: used, unused, break-even, net loss, and which usage it could have covered.

Definitions: utilisation is used over committed, in money for spend-based commitments and by quantity for others;
break-even utilisation is what the used part costs over what it would have cost on demand (1 - discount); the net loss
counts only below it. Money and quantities are exact decimals; a ratio is a quotient of sums. Pure functions.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from gpuledger.core.commitment_terms import Terms

ALERT: Final = Decimal("0.75")
_ZERO: Final = Decimal(0)
_RATIO: Final = Decimal("1e-6")
# AWS's normalisation factors: docs.aws.amazon.com/AWSEC2/latest/UserGuide/apply_ri.html; `<n>xlarge` is 8 n.
_SIZES: Final = {"nano": "0.25", "micro": "0.5", "small": "1", "medium": "2", "large": "4", "xlarge": "8"}


def ratio(part: Decimal | None, whole: Decimal | None) -> Decimal | None:
    """Quotient to six digits; None where one of both is unknown or the whole is nothing."""
    return (part / whole).quantize(_RATIO) if part is not None and whole else None


def family(provider: str | None, instance_type: str | None, meter: str | None = None) -> str | None:
    """Return the family that commitments know an instance type by; None where nothing tells it.

    AWS: what stands before the dot. Azure: the series, without its number of cores ('Standard_ND96isr_H100_v5' is
    'NDisr_H100_v5'). Google: the first word of the type, or of the meter of a core ('N2 Instance Core' is 'n2'). Others:
    the type itself.
    """
    seller = (provider or "").casefold()
    if instance_type:
        if "aws" in seller or "amazon" in seller:
            return instance_type.removeprefix("ml.").partition(".")[0]
        if "microsoft" in seller or "azure" in seller:
            return re.sub(r"^([A-Za-z]+)\d+(?:-\d+)?", r"\1", instance_type.removeprefix("Standard_"))
        return instance_type.partition("-")[0].lower() if "google" in seller else instance_type
    if meter and "google" in seller:
        found = re.search(r"\b([a-z]\d[a-z]?)\b.* (?:core|ram|cpu)\b", meter.casefold())
        return found[1] if found else None
    return None


def resource(meter: str | None) -> str | None:
    """Return which part of a machine a meter charges where a provider charges cores, memory and cards apart."""
    text = (meter or "").casefold()
    return next((name for name, words in _PARTS if any(word in text for word in words)), None)


_PARTS: Final = (("cores", (" core ", " cpu ")), ("memory", (" ram ",)), ("cards", (" gpu ",)))


def weight(instance_type: str) -> Decimal | None:
    """Return AWS's normalisation factor of an instance type's size; None for one without (metal)."""
    size = instance_type.rpartition(".")[2]
    if size in _SIZES:
        return Decimal(_SIZES[size])
    found = re.fullmatch(r"(\d+)xlarge", size)
    return Decimal(8 * int(found[1])) if found else None


@dataclass(frozen=True, slots=True)
class Place:
    """What decides which commitment fits a usage. Unknown is None, and fits nothing that asks for it."""

    provider: str | None = None
    currency: str | None = None
    payer: str | None = None
    account: str | None = None
    region: str | None = None
    zone: str | None = None
    instance_type: str | None = None
    gpu_model: str | None = None
    meter: str | None = None
    tenancy: str | None = None
    platform: str | None = None
    spot: bool = False
    reserved: bool = False

    @property
    def family(self) -> str | None:
        """Family of the instance type."""
        return family(self.provider, self.instance_type, self.meter)


@dataclass(slots=True)
class Commitment:
    """One commitment over a window. Amounts are in `unit`, costs in `currency`; `used` None where nobody counts it.

    `on_demand` is what the used part would have cost without it, and `price` says from where that is known.
    """

    id: str
    kind: str
    terms: Terms
    place: Place
    category: str | None
    type: str | None
    name: str | None
    unit: str | None
    committed: Decimal | None = None
    used: Decimal | None = None
    cost: Decimal = _ZERO
    used_cost: Decimal | None = None
    unused_cost: Decimal | None = None
    on_demand: Decimal | None = None
    price: str | None = None
    accounts: frozenset[str | None] = frozenset()
    started: datetime | None = None
    expires: datetime | None = None
    offering_class: str | None = None
    by_type: dict[str | None, tuple[Decimal, Decimal]] = field(default_factory=dict)

    @property
    def unused(self) -> Decimal | None:
        """What was committed and not used."""
        return None if self.used is None or self.committed is None else self.committed - self.used

    @property
    def utilization(self) -> Decimal | None:
        """Used over committed."""
        return ratio(self.used, self.committed)

    @property
    def break_even(self) -> Decimal | None:
        """Return the utilisation at which it costs as much as on demand: 1 - discount."""
        return ratio(self.used_cost, self.on_demand)

    @property
    def net_loss(self) -> Decimal | None:
        """What it cost more than its used part would have cost on demand; 0 above break-even, None where unknown."""
        if self.on_demand is None or self.used is None:
            return None
        return max(self.cost - self.on_demand, _ZERO)

    @property
    def esr(self) -> Decimal | None:
        """Effective savings rate: 1 - cost, unused included, over the used part at on-demand prices."""
        share = ratio(self.cost, self.on_demand)
        return None if share is None else 1 - share

    def discount(self, instance_type: str | None) -> Decimal | None:
        """Return committed over on-demand price, of that instance type where it covered some; None where unknown."""
        cost, price = self.by_type.get(instance_type, (_ZERO, _ZERO))
        if price > 0:
            return cost / price
        return self.used_cost / self.on_demand if self.used_cost and self.on_demand else None


def mismatches(commitment: Commitment, usage: Place) -> tuple[str, ...]:
    """Return why a commitment doesn't cover a usage, the hardest reasons first; empty when nothing is in the way.

    Reasons: 'provider', 'currency', 'interruption' (spot), 'reserved already', 'contract' (another payer), 'service', 'family',
    'instance type', 'platform', 'tenancy', 'region', 'zone', 'account'.
    """
    mine, terms = commitment.place, commitment.terms
    found = [
        ("provider", mine.provider != usage.provider),
        ("currency", mine.currency != usage.currency),
        ("interruption", usage.spot),
        ("reserved already", terms.whole and usage.reserved),
        ("contract", mine.payer is not None and usage.payer != mine.payer),
        (
            "service",
            resource(mine.meter) != resource(usage.meter) if commitment.category == "Usage" else False,
        ),
        ("family", terms.family and (usage.family is None or mine.family != usage.family)),
        (
            "instance type",
            (terms.size or (terms.key == "azure-reservation")) and mine.instance_type != usage.instance_type,
        ),
        ("platform", terms.machine and _differ(mine.platform, usage.platform)),
        ("tenancy", terms.machine and _differ(mine.tenancy, usage.tenancy)),
        ("region", terms.region and (usage.region is None or mine.region != usage.region)),
        ("zone", terms.zone and mine.region == usage.region and mine.zone != usage.zone),
        ("account", bool(commitment.accounts) and usage.account not in commitment.accounts),
    ]
    return tuple(name for name, wrong in found if wrong)


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one.casefold() != other.casefold()


def need(commitment: Commitment, usage: Place, cost: Decimal, quantity: Decimal | None) -> Decimal | None:
    """Return how much of a commitment, in its own unit, covers a usage of that cost and quantity; None where unknown.

    Spend-based: the cost at the commitment's discount. Normalised hours: hours by the size's factor. Else the quantity.
    """
    if commitment.category == "Spend" or commitment.unit == commitment.place.currency:
        share = commitment.discount(usage.instance_type)
        return None if share is None else cost * share
    if quantity is None:
        return None
    if commitment.unit == "Normalized Hours":
        factor = weight(usage.instance_type or "")
        return None if factor is None else quantity * factor
    return quantity


def one_of(values: Iterable[str | None]) -> str | None:
    """Return the value if there is one, else None."""
    found = {value for value in values if value is not None}
    return found.pop() if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Expiry:
    """Commitments of one currency that end in a quarter, with what a month of them costs."""

    quarter: str
    currency: str | None
    commitments: tuple[str, ...]
    cost: Decimal
    share: Decimal | None


def ladder(commitments: Iterable[Commitment]) -> list[Expiry]:
    """Return by quarter and currency which commitments end, and their share of the window's committed cost."""
    found: dict[tuple[str, str | None], list[Commitment]] = {}
    whole: dict[str | None, Decimal] = {}
    for one in commitments:
        if one.kind == "throughput":
            continue  # a deployment has no term
        when = one.expires
        quarter = f"{when.year}-Q{(when.month + 2) // 3}" if when else "unknown"
        found.setdefault((quarter, one.place.currency), []).append(one)
        whole[one.place.currency] = whole.get(one.place.currency, _ZERO) + one.cost
    rows = []
    for (quarter, currency), group in sorted(found.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        cost = sum((one.cost for one in group), _ZERO)
        ids = tuple(sorted(one.id for one in group))
        rows.append(Expiry(quarter, currency, ids, cost, ratio(cost, whole[currency])))
    return rows
