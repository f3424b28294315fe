"""What an hour of a card costs: typed, or what the ledger's bills say, or the dated list price of its machine or model.

In this order. The lowest price of a model is a bound, said as such: a card costs at least that much. SageMaker's
instances cost more than EC2's of the same type, whose price is then the bound. Unknown stays unknown.
"""

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal, NamedTuple

from gpuledger.core.zombies import Observation
from gpuledger.pipeline.zombie_holders import Machine
from gpuledger.pipeline.zombie_rates import Rates
from gpuledger.prices import accelerator, cards

_MICRO: Final = Decimal("0.000001")


Source = Literal["typed", "ledger", "list", "lowest list"]


class CardPrice(NamedTuple):
    """USD per hour of one card or slice, None when not known, and where it is from."""

    usd_per_hour: Decimal | None
    basis: str | None
    source: Source | None = None


def card_price(
    one: Observation, machine: Machine | None, typed: Decimal | None, day: date, rates: Rates | None = None
) -> CardPrice:
    """Return the price of a card or of its slice: `typed` counts for every card, since who types it knows."""
    found = _whole(one, machine, typed, day, rates)
    if found is None or one.share is None:
        return CardPrice(None, None)
    whole, basis, source = found
    return CardPrice(_decimal(whole * one.share), basis, source)


def wasted(usd_per_hour: Decimal | None, seconds: int | None) -> Decimal | None:
    """Return what an idle time cost, to a millionth of a dollar."""
    return (
        None if usd_per_hour is None or seconds is None else _decimal(Fraction(usd_per_hour) * seconds / 3600)
    )


def _whole(
    one: Observation, machine: Machine | None, typed: Decimal | None, day: date, rates: Rates | None
) -> tuple[Fraction, str, Source] | None:
    if typed is not None:
        return Fraction(typed), "typed", "typed"
    model = one.gpu_model or (machine.gpu_model if machine else None)
    if rates is not None and (known := rates.rate(machine, model)) is not None:
        return *known, "ledger"
    if machine is not None and machine.instance_type and (listed := _listed(machine, day)) is not None:
        return listed
    named = accelerator(one.model_name) if one.model_name else None
    found = None if model is None else cards.lowest(model, named.memory_gib if named else None, day)
    return None if found is None else (found.usd_per_gpu_hour, f"at least: {found.basis}", "lowest list")


def _listed(machine: Machine, day: date) -> tuple[Fraction, str, Source] | None:
    """Return the dated list price of a machine's type in its region, by card."""
    name = machine.instance_type or ""
    spot = bool(machine.spot)
    price = cards.of_machine(name, machine.region, day, spot=spot)
    if price is not None:
        return price.usd_per_gpu_hour, price.basis, "list"
    if not name.startswith("ml."):
        return None
    bound = cards.of_machine(name.removeprefix("ml."), machine.region, day, spot=spot)
    return (
        None if bound is None else (bound.usd_per_gpu_hour, f"at least: EC2's {bound.basis}", "lowest list")
    )


def _decimal(amount: Fraction) -> Decimal:
    millionths = (2 * amount.numerator * 10**6 + amount.denominator) // (2 * amount.denominator)
    return (Decimal(millionths) * _MICRO).quantize(_MICRO)
