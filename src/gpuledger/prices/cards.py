"""What a card costs an hour at list prices: on its machine, or the lowest price of its model anywhere as a bound."""

from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from gpuledger.prices.accelerators import gpu_type, gpu_types
from gpuledger.prices.points import load_prices, price_at


class ListPrice(NamedTuple):
    """USD per card and hour, exactly, and where it is from."""

    usd_per_gpu_hour: Fraction
    basis: str


def of_machine(instance_type: str, region: str | None, day: date, *, spot: bool = False) -> ListPrice | None:
    """Return the price of a card on a machine of that type; None where no price of that time is known."""
    known = gpu_type(instance_type)
    point = price_at(instance_type, region, day)
    price = None if point is None else point.spot if spot else point.on_demand
    if known is None or not known.gpu_count or point is None or price is None:
        return None
    kind = "spot" if spot else "on-demand"
    return ListPrice(
        Fraction(price) / known.gpu_count, f"{kind} list price of {point.instance_type}, {point.as_of}"
    )


@cache
def lowest(model: str, memory_gib: Decimal | None, day: date, *, spot: bool = False) -> ListPrice | None:
    """Return the lowest list price of a whole card of a model, of its memory size where that is told."""
    types = {one.instance_type: one for one in gpu_types() if one.gpu_model == model and one.gpu_count}
    sized = {
        name: one
        for name, one in types.items()
        if memory_gib is not None and one.gpu_memory_gib == memory_gib
    }
    types = sized or types
    best: ListPrice | None = None
    for point in load_prices():
        known = types.get(point.instance_type)
        if known is None or not known.gpu_count or known.gpu_count < 1 or known.cloud != point.cloud:
            continue
        listed = point.spot if spot else point.on_demand
        if listed is None or point.as_of > day:
            continue
        price = Fraction(listed) / known.gpu_count
        if best is None or price < best.usd_per_gpu_hour:
            kind = "spot" if spot else "on demand"
            best = ListPrice(price, f"{point.cloud} {point.instance_type} {kind}, {point.as_of}")
    return best
