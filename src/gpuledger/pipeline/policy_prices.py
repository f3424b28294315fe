"""What cards cost before they run: the policy's own prices, the ledger's effective rates, list prices."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from gpuledger.core.policy import Cards, History, Policy, Rate, Rates, history_key
from gpuledger.prices import cards as listed

if TYPE_CHECKING:
    from gpuledger.engines import duckdb

_MICRO: Final = 6
_RUNS: Final = """
    SELECT kind, namespace, name, epoch(ended - started) FROM jobs
    WHERE ended > started AND state IS DISTINCT FROM 'Failed'
"""
_RATES: Final = """
    SELECT x_GpuModel, sum(EffectiveCost)::VARCHAR, sum(x_GpuHours)::VARCHAR
    FROM cost_and_usage
    WHERE ChargeCategory = 'Usage' AND x_GpuHours > 0 AND x_GpuModel IS NOT NULL AND BillingCurrency = 'USD'
        AND CommitmentDiscountStatus IS DISTINCT FROM 'Unused'
        AND ChargePeriodStart >= (SELECT max(ChargePeriodStart) FROM cost_and_usage) - INTERVAL 30 DAY
    GROUP BY 1
"""


def rates(policy: Policy, learnt: Mapping[str, Decimal], day: date) -> Rates:
    """Return the function that prices cards: the policy's prices, then rates learnt from bills, then list prices."""
    own = {price.gpu_model: price.usd_per_gpu_hour for price in policy.price}

    def rate(card: Cards) -> Rate | None:
        if (price := own.get(card.model)) is not None and card.model is not None:
            return Rate(price, "policy")
        if card.model is not None and (known := learnt.get(card.model)) is not None:
            return Rate(known, "your bills of 30 days")
        if None in own:
            return Rate(own[None], "policy")
        if card.instance_type and (
            found := listed.of_machine(card.instance_type, card.region, day, spot=policy.spot)
        ):
            return Rate(_decimal(found.usd_per_gpu_hour), found.basis)
        if card.model is not None and (found := listed.lowest(card.model, None, day, spot=policy.spot)):
            return Rate(_decimal(found.usd_per_gpu_hour), f"at least: {found.basis}")
        return None

    return rate


def learnt_rates(con: "duckdb.Connection") -> dict[str, Decimal]:
    """Return USD per card-hour of each model over the ledger's last 30 days, machines' cores and memory included."""
    return {
        model: _decimal(Fraction(cost) / Fraction(hours))
        for model, cost, hours in con.execute(_RATES).fetchall()
        if cost is not None and Fraction(hours)
    }


def history(con: "duckdb.Connection") -> History:
    """Return how long earlier runs of each job took."""
    found: dict[tuple[str, str | None, str], list[Decimal]] = {}
    for kind, namespace, name, seconds in con.execute(_RUNS).fetchall():
        if name:
            hours = (Decimal(int(seconds)) / 3600).quantize(Decimal("0.0001"))
            found.setdefault(history_key(kind, namespace, name), []).append(hours)
    return History(found)


def _decimal(amount: Fraction) -> Decimal:
    """Round to a millionth of a dollar upwards."""
    return Decimal(-(-amount.numerator * 10**_MICRO // amount.denominator)).scaleb(-_MICRO)
