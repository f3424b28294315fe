"""From which load on serving a model oneself is cheaper than paying an API by the token. Pure, exact.

One's own machines cost the same whatever they make; an API costs by the token. With R dollars an hour for one whole
replica and a dollars that the API takes for each output token together with the input that came with it (at the
observed mix of input, cached input and output), one replica pays from

    x1 = R / (3600 a)    output tokens per second

on. It makes X at most. Replicas come whole: n of them pay between n x1 and n X. If X < x1 no load pays. Else, between
what n replicas can make and what n + 1 have to, the API is cheaper again, until n X >= (n + 1) x1: from that n's x1 on
every load pays.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil

from gpuledger.core.unit_economics import rounded


@dataclass(frozen=True, slots=True)
class Mix:
    """Tokens observed: input (cached included), the part of it read from a cache, output."""

    input: Decimal
    cached: Decimal
    output: Decimal


@dataclass(frozen=True, slots=True)
class ApiPrice:
    """Dollars per token of input, of input read from a cache (None: as any other input), and of output."""

    input: Decimal
    cached: Decimal | None
    output: Decimal


@dataclass(frozen=True, slots=True)
class BreakEven:
    """`one` is x1 in output tokens per second; `always` the load from which on every load pays, None if none does.

    `replicas` is the n of `always`. `share_of_peak` is x1 ÷ X: how full one replica has to be.
    """

    one: Decimal
    share_of_peak: Decimal
    replicas: int | None
    always: Decimal | None


def api_cost(mix: Mix, price: ApiPrice) -> Fraction:
    """Return what an API takes for these tokens, exactly."""
    cached = price.input if price.cached is None else price.cached
    fresh = Fraction(mix.input) - Fraction(mix.cached)
    return (
        fresh * Fraction(price.input)
        + Fraction(mix.cached) * Fraction(cached)
        + Fraction(mix.output) * Fraction(price.output)
    )


def break_even(replica_hour: Fraction, mix: Mix, price: ApiPrice, peak: Fraction) -> BreakEven | None:
    """Find the loads that pay. `replica_hour` is R in dollars, `peak` X in output tokens per second.

    None where nothing was made, or where the API is free.
    """
    per_output = api_cost(mix, price) / Fraction(mix.output) if mix.output else Fraction(0)
    if per_output <= 0 or peak <= 0:
        return None
    one = replica_hour / (3600 * per_output)
    share = rounded(one / peak)
    if one > peak:
        return BreakEven(rounded(one), share, None, None)
    # n X >= (n + 1) x1 from n = x1 / (X - x1) on; at X = x1 that is never.
    if one == peak:
        return BreakEven(rounded(one), share, None, None)
    replicas = max(1, ceil(one / (peak - one)))
    return BreakEven(rounded(one), share, replicas, rounded(replicas * one))
