"""What cards cost this customer: effective rates out of the ledger's own bills, when there is a ledger.

A rate is Σ EffectiveCost ÷ Σ GPU-hours of used machines over the newest 30 days that the ledger has: of this very
machine, else of its instance type in its region, else, where the type isn't known, of the card's model. Commitments
are in it, what they left unused isn't. Only bills in US dollars, and no estimates: those are list prices.
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import GpuledgerError
from gpuledger.pipeline.zombie_holders import Machine

if TYPE_CHECKING:
    from gpuledger.pipeline.ledger import Ledger

_RATES = """
WITH used AS (
    SELECT ResourceId, lower(coalesce(x_InstanceType, json_extract_string(SkuPriceDetails, '$.InstanceType'))) AS type, RegionId AS region, x_GpuModel AS model,
           PricingCategory = 'Dynamic' AS spot, EffectiveCost AS cost, x_GpuHours AS hours, ChargePeriodStart AS day
    FROM cost_and_usage
    WHERE ChargeCategory = 'Usage' AND x_CostStatus = 'Final' AND BillingCurrency = 'USD'
      AND x_GpuHours > 0 AND EffectiveCost IS NOT NULL
)
SELECT ResourceId, type, region, model, coalesce(spot, false), sum(cost), sum(hours),
       min(day)::DATE, max(day)::DATE
FROM used
WHERE day > (SELECT max(day) FROM used) - INTERVAL 30 DAY
GROUP BY ALL
"""


@dataclass(slots=True)
class _Sum:
    cost: Fraction = Fraction(0)
    hours: Fraction = Fraction(0)

    def add(self, cost: Decimal, hours: Decimal) -> None:
        """Add a row."""
        self.cost, self.hours = self.cost + Fraction(cost), self.hours + Fraction(hours)


@dataclass(frozen=True, slots=True)
class Rates:
    """Effective US dollars per hour of a whole card. `days` says of which time."""

    sums: dict[tuple[str, ...], _Sum]
    days: tuple[date, date]

    def rate(self, machine: Machine | None, model: str | None) -> tuple[Fraction, str] | None:
        """Return the rate of a card of a machine, and what it is of; None where the bills don't know it."""
        span = f"your bills, {self.days[0]} to {self.days[1]}"
        if machine is not None and machine.resource:
            name = machine.resource.rpartition("/")[2].lower()
            if (found := self._of(("resource", name))) is not None:
                return found, f"effective rate of {name}, {span}"
        if machine is not None and machine.instance_type:
            kind = machine.instance_type.lower()
            spot = () if machine.spot is None else (str(machine.spot).lower(),)
            if (found := self._of(("type", kind, machine.region or "", *spot))) is not None:
                return found, f"effective rate of {kind} in {machine.region}, {span}"
            return None
        if model is not None and (found := self._of(("model", model))) is not None:
            return found, f"effective rate of {model}, {span}"
        return None

    def _of(self, key: tuple[str, ...]) -> Fraction | None:
        known = self.sums.get(key)
        return None if known is None or not known.hours or known.cost <= 0 else known.cost / known.hours


def is_there(location: str) -> bool:
    """Tell cheaply whether a folder has a ledger's bills; an address is taken at its word."""
    return "://" in location or (Path(location) / "cost_and_usage" / "_delta_log").is_dir()


def rates_of(ledger: "Ledger") -> tuple[Rates | None, list[Diagnostic]]:
    """Read the rates. A ledger that can't be read, or has no GPU-hours in US dollars, is told of and done without."""
    try:
        con = ledger.connect()
        try:
            rows: list[tuple[Any, ...]] = con.execute(_RATES).fetchall()
        finally:
            con.close()
    except GpuledgerError as error:
        return None, [
            Diagnostic(
                "zombies-no-rates",
                "warning",
                error.where or ledger.location,
                f"the ledger's own rates can't be read: {error.message}",
                "List prices are used instead.",
            )
        ]
    if not rows:
        return None, []
    sums: dict[tuple[str, ...], _Sum] = {}
    for resource, kind, region, model, spot, cost, hours, *_ in rows:
        keys: list[tuple[str, ...]] = []
        if resource:
            keys.append(("resource", str(resource).rpartition("/")[2].lower()))
        if kind and region:
            keys += [("type", kind, region), ("type", kind, region, str(bool(spot)).lower())]
        if model:
            keys.append(("model", model))
        for key in keys:
            sums.setdefault(key, _Sum()).add(cost, hours)
    return Rates(sums, (min(row[7] for row in rows), max(row[8] for row in rows))), []
