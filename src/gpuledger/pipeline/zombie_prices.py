"""What an hour of a card costs: typed, or the dated list price of its machine, or the lowest one of its model.

The lowest price of a model is a bound, said as such: a card costs at least that much. Unknown stays unknown.
"""

from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Final, NamedTuple

from gpuledger.core.zombies import Observation
from gpuledger.pipeline.zombie_holders import Machine
from gpuledger.prices import accelerator, gpu_type, gpu_types, load_prices, price_at

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
        known = gpu_type(machine.instance_type)
        point = price_at(machine.instance_type, machine.region, day)
        price = None if point is None else point.spot if machine.spot else point.on_demand
        if known is not None and known.gpu_count and point is not None and price is not None:
            kind = "spot" if machine.spot else "on-demand"
            return (
                Fraction(price) / known.gpu_count,
                f"{kind} list price of {point.instance_type}, {point.as_of}",
            )
    model = one.gpu_model or (machine.gpu_model if machine else None)
    named = accelerator(one.model_name) if one.model_name else None
    found = None if model is None else _lowest(model, named.memory_gib if named else None, day)
    return (None, None) if found is None else (found[0], f"at least: {found[1]}")


@cache
def _lowest(model: str, memory_gib: Decimal | None, day: date) -> tuple[Fraction, str] | None:
    """Return the lowest on-demand list price of a whole card of a model, of its memory size where that is told."""
    types = {one.instance_type: one for one in gpu_types() if one.gpu_model == model and one.gpu_count}
    sized = {
        name: one
        for name, one in types.items()
        if memory_gib is not None and one.gpu_memory_gib == memory_gib
    }
    types = sized or types
    best: tuple[Fraction, str] | None = None
    for point in load_prices():
        known = types.get(point.instance_type)
        if known is None or not known.gpu_count or known.gpu_count < 1 or known.cloud != point.cloud:
            continue
        if point.on_demand is None or point.as_of > day:
            continue
        price = Fraction(point.on_demand) / known.gpu_count
        if best is None or price < best[0]:
            best = price, f"{point.cloud} {point.instance_type} on demand, {point.as_of}"
    return best


def _decimal(amount: Fraction) -> Decimal:
    millionths = (2 * amount.numerator * 10**6 + amount.denominator) // (2 * amount.denominator)
    return (Decimal(millionths) * _MICRO).quantize(_MICRO)
