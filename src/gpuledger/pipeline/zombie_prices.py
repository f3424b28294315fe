"""What an hour of a card costs: typed, or the dated list price of its machine, or the lowest one of its model.

The lowest price of a model is a bound, said as such: a card costs at least that much. Unknown stays unknown.
"""

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from gpuledger.core.zombies import Observation
from gpuledger.pipeline.zombie_holders import Machine
from gpuledger.prices import accelerator, cards

_MICRO: Final = Decimal("0.000001")


class CardPrice(NamedTuple):
    """USD per hour of one card or slice, None when not known, and where it is from."""

    usd_per_hour: Decimal | None
    basis: str | None


def card_price(one: Observation, machine: Machine | None, typed: Decimal | None, day: date) -> CardPrice:
    """Return the price of a card or of its slice: `typed` counts for every card, since who types it knows."""
    whole, basis = _whole(one, machine, typed, day)
    if whole is None or one.share is None:
        return CardPrice(None, None)
    return CardPrice(_decimal(whole * one.share), basis)


def wasted(usd_per_hour: Decimal | None, seconds: int | None) -> Decimal | None:
    """Return what an idle time cost, to a millionth of a dollar."""
    return (
        None if usd_per_hour is None or seconds is None else _decimal(Fraction(usd_per_hour) * seconds / 3600)
    )


def _whole(
    one: Observation, machine: Machine | None, typed: Decimal | None, day: date
) -> tuple[Fraction | None, str | None]:
    if typed is not None:
        return Fraction(typed), "typed"
    if machine is not None and machine.instance_type:
        price = cards.of_machine(machine.instance_type, machine.region, day, spot=bool(machine.spot))
        if price is not None:
            return price.usd_per_gpu_hour, price.basis
    model = one.gpu_model or (machine.gpu_model if machine else None)
    named = accelerator(one.model_name) if one.model_name else None
    found = None if model is None else cards.lowest(model, named.memory_gib if named else None, day)
    return (None, None) if found is None else (found.usd_per_gpu_hour, f"at least: {found.basis}")


def _decimal(amount: Fraction) -> Decimal:
    millionths = (2 * amount.numerator * 10**6 + amount.denominator) // (2 * amount.denominator)
    return (Decimal(millionths) * _MICRO).quantize(_MICRO)
