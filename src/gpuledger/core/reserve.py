"""What a flat commitment would have been worth on an hourly demand: how much of it used, how much left on demand.

Amounts are in the demand's own unit times hours, cost in the on-demand price of one unit for one hour. Pure functions
of numbers; nothing here is money of a bill.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil

from gpuledger.core.burst import share_of


@dataclass(frozen=True, slots=True)
class Committed:
    """A commitment of `size` units through all hours of a demand.

    `utilization` is used over committed, `coverage` used over demanded; `stranded` was committed and not used, `spill`
    was demanded beyond it. A share of nothing is None.
    """

    size: int
    utilization: float | None
    coverage: float | None
    stranded: float
    spill: float


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The size whose cost is least, that cost, and its share of the cost without any commitment."""

    size: int
    cost: float
    of_on_demand: float | None


def committed(levels: Sequence[float], size: int) -> Committed:
    """Say what a commitment of that size would have come to. Raises ValueError for a negative size."""
    if size < 0:
        raise ValueError(f"not a size of a commitment: {size}")
    used = sum(min(level, size) for level in levels)
    whole = size * len(levels)
    demand = sum(levels)
    return Committed(size, share_of(used, whole), share_of(used, demand), whole - used, demand - used)


def cheapest(levels: Sequence[float], discount: float) -> Cheapest:
    """Return the commitment that costs least, when each committed unit costs 1 - `discount` in every hour, used or not.

    Demand beyond it costs 1. Of sizes that cost the same, the smallest. Raises ValueError for a discount outside 0 to 1.
    """
    if not 0 <= discount <= 1:
        raise ValueError(f"not a discount: {discount}")
    ordered = sorted(levels, reverse=True)
    sums = [0.0, *accumulate(ordered)]
    best, least, above = 0, sums[-1], len(ordered)
    for size in range(1, ceil(ordered[0]) + 1 if ordered else 1):
        while above and ordered[above - 1] <= size:
            above -= 1
        cost = size * len(ordered) * (1 - discount) + sums[above] - size * above
        if cost < least:
            best, least = size, cost
    return Cheapest(best, least, share_of(least, sums[-1]))
