"""Unit economics of serving: what a dollar buys, from sums. Pure; every quotient is exact to a stated digit.

C is the cost charged to a deployment over its hours, T_in its input tokens, T_cache the part of them read from a cache,
T_out its output tokens, reasoning included. TPS/$ = T / (3600 C): tokens per second per dollar an hour. Tokens per
dollar = T / C = 3600 TPS/$. Cost per million tokens = 10^6 C / T. Ratios are sums divided by sums, never means of
ratios, and idle time stays in the denominator. Quotients are rounded half even to DIGITS decimals, once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Final, Literal, cast, get_args

from gpuledger.errors import UsageError

TokenBasis = Literal["output", "total", "computed", "weighted"]
CostBasis = Literal["list", "effective", "fully_loaded"]
TOKEN_BASES: Final[tuple[TokenBasis, ...]] = get_args(TokenBasis)
COST_BASES: Final[tuple[CostBasis, ...]] = get_args(CostBasis)
DIGITS: Final = 12
_MILLION: Final = 1_000_000
_WIDE: Final = Context(prec=200)


@dataclass(frozen=True, slots=True)
class Weights:
    """What an input token counts, in output tokens: computed, and read from a cache. For the basis `weighted`.

    The defaults are the ratios of Claude Sonnet 4.5's list prices (3 : 0.30 : 15 dollars per million), a convention:
    they say nothing about the time that a card takes.
    """

    input: Decimal = Decimal("0.2")
    cached: Decimal = Decimal("0.02")


@dataclass(frozen=True, slots=True)
class Sums:
    """What adds up of a group of deployments over its hours. None: nobody told.

    `rated_requests` (`rated_output`) are those of which it is known whether they met their service level,
    `good_requests` (`good_output`) those that did. `list_cost` is None when a charge states no list price. `idle` and
    `stranded` are the shares of idle machines and of unused commitments, which `fully_loaded` adds to `effective`.
    `hours` are the hours in which there was a charge or an answer; `untold_cost` is the effective cost of hours
    without token telemetry, `measured_gpu_hours` the GPU-hours whose use was measured.
    """

    input_tokens: Decimal | None = None
    cached_tokens: Decimal | None = None
    output_tokens: Decimal | None = None
    requests: Decimal | None = None
    failed_requests: Decimal | None = None
    rated_requests: Decimal | None = None
    good_requests: Decimal | None = None
    rated_output: Decimal | None = None
    good_output: Decimal | None = None
    effective: Decimal | None = None
    list_cost: Decimal | None = None
    idle: Decimal | None = None
    stranded: Decimal | None = None
    untold_cost: Decimal | None = None
    gpu_hours: Decimal | None = None
    measured_gpu_hours: Decimal | None = None
    used_gpu_hours: Decimal | None = None

    def __add__(self, other: "Sums") -> "Sums":
        """Merge two groups: what is known adds up; a list cost is known only when both are."""
        found = {
            field.name: plus(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
        }
        if None in (self.list_cost, other.list_cost) and self != Sums() and other != Sums():
            found["list_cost"] = None
        return Sums(**found)


def plus(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """Add what is known, exactly; None when neither is."""
    if one is None or other is None:
        return one if other is None else other
    return _WIDE.add(one, other)


def quotient(
    numerator: Decimal | Fraction | int | None,
    denominator: Decimal | Fraction | int | None,
    digits: int = DIGITS,
) -> Decimal | None:
    """Divide exactly, then round half even to `digits` decimals; None when a side is unknown or the denominator 0."""
    if numerator is None or denominator is None or not denominator:
        return None
    return rounded(Fraction(numerator) / Fraction(denominator), digits)


def rounded(value: Fraction, digits: int = DIGITS) -> Decimal:
    """Return the decimal nearest to a fraction, half even, with so many decimals at most."""
    scaled = round(value * 10**digits)  # Fraction rounds half even, without any loss
    return Decimal(scaled).scaleb(-digits, _WIDE)


def token_basis(text: str) -> TokenBasis:
    """Read the name of a token basis. Raises UsageError."""
    return cast("TokenBasis", _known(text, TOKEN_BASES, "token basis"))


def cost_basis(text: str) -> CostBasis:
    """Read the name of a cost basis. Raises UsageError."""
    return cast("CostBasis", _known(text, COST_BASES, "cost basis"))


def _known(text: str, names: tuple[str, ...], what: str) -> str:
    folded = text.strip().casefold().replace("-", "_")
    if folded not in names:
        raise UsageError(f"no {what} {text!r}", hint=f"There are: {', '.join(names)}.")
    return folded


def tokens(sums: Sums, basis: TokenBasis, weights: Weights | None = None) -> Decimal | None:
    """Tokens of a group in a basis.

    output: T_out. total: T_in + T_out. computed: T_in - T_cache + T_out. weighted: T_out + a (T_in - T_cache) +
    b T_cache. Where an engine tells nothing of its cache, nothing came from it. None when output (or, where the basis
    needs it, input) isn't known.
    """
    given, cached, out = sums.input_tokens, sums.cached_tokens or Decimal(0), sums.output_tokens
    if basis == "output" or out is None or given is None:
        return out if basis == "output" else None
    if basis == "total":
        return _WIDE.add(given, out)
    computed = _WIDE.subtract(given, cached)
    if basis == "computed":
        return _WIDE.add(computed, out)
    weights = weights or Weights()
    worth = _WIDE.add(_WIDE.multiply(weights.input, computed), _WIDE.multiply(weights.cached, cached))
    return _WIDE.add(out, worth)


def cost(sums: Sums, basis: CostBasis) -> Decimal | None:
    """Cost of a group in a basis; fully_loaded = effective + share of idle + share of stranded commitment."""
    if basis == "list":
        return sums.list_cost
    if basis == "effective":
        return sums.effective
    return plus(plus(sums.effective, sums.idle), sums.stranded)


def tps_per_dollar(count: Decimal | None, dollars: Decimal | None) -> Decimal | None:
    """Tokens per second per dollar an hour: T / (3600 C). 0 when nothing came of a cost, None without a cost."""
    return None if dollars is None else quotient(count, 3600 * dollars)


@dataclass(frozen=True, slots=True)
class Basis:
    """What figures are in: which tokens, which cost, and what a weighted token is. Figures of two never compare."""

    tokens: TokenBasis = "output"
    cost: CostBasis = "effective"
    weights: Weights = Weights()


def figures(
    sums: Sums, hours: int, basis: Basis, peak: tuple[Decimal, Decimal] | None = None
) -> dict[str, Any]:
    """All ratios of a group, each with its basis beside it. `peak` is tokens and cost of its best window.

    Zero tokens with a cost: TPS/$ is 0 and cost per token None, with the flag `no-tokens`.
    """
    count, spent = tokens(sums, basis.tokens, basis.weights), cost(sums, basis.cost)
    observed, best = tps_per_dollar(count, spent), tps_per_dollar(*peak) if peak else None
    used = quotient(sums.used_gpu_hours, sums.measured_gpu_hours)
    busy = (
        None
        if used is None or sums.gpu_hours is None
        else Fraction(sums.gpu_hours)
        * Fraction(sums.used_gpu_hours or 0)
        / Fraction(sums.measured_gpu_hours or 1)
    )
    return {
        "token_basis": basis.tokens,
        "cost_basis": basis.cost,
        "tokens": count,
        "cost": spent,
        "gpu_hours": sums.gpu_hours,
        "tokens_per_second": quotient(count, 3600 * hours),
        "tps_per_dollar": observed,
        "tokens_per_dollar": quotient(count, spent),
        "cost_per_mtok": None if spent is None else quotient(_MILLION * Fraction(spent), count),
        "cost_per_inference": quotient(spent, sums.requests),
        "cost_per_good_inference": _good(spent, sums),
        "cost_per_gpu_hour": quotient(spent, sums.gpu_hours),
        "cost_per_busy_gpu_hour": None if not busy or spent is None else rounded(Fraction(spent) / busy),
        "gpu_utilization": used,
        "peak_tps_per_dollar": best,
        "load_efficiency": _share(count, spent, peak),
        "slo_met_share": quotient(sums.good_requests, sums.rated_requests),
        "slo_tps_per_dollar": _slo(sums, spent, basis),
        "requests": sums.requests,
        "failed_requests": sums.failed_requests,
        "hours": hours,
        "untold_cost": sums.untold_cost,
        "flags": _flags(sums, count, spent),
    }


def _good(spent: Decimal | None, sums: Sums) -> Decimal | None:
    """C / R_ok, when it is known of every request whether it was within its service level."""
    whole = sums.rated_requests is not None and sums.rated_requests == sums.requests
    return quotient(spent, sums.good_requests) if whole else None


def _slo(sums: Sums, spent: Decimal | None, basis: Basis) -> Decimal | None:
    """TPS/$ of output tokens of good requests alone, when that is known of all output."""
    whole = (
        basis.tokens == "output" and sums.rated_output is not None and sums.rated_output == sums.output_tokens
    )
    return tps_per_dollar(sums.good_output, spent) if whole else None


def _share(
    count: Decimal | None, spent: Decimal | None, peak: tuple[Decimal, Decimal] | None
) -> Decimal | None:
    """Observed ÷ peak TPS/$, from the exact ratios."""
    if count is None or not spent or peak is None or not peak[0] or not peak[1]:
        return None
    return rounded(Fraction(count) / Fraction(spent) / (Fraction(peak[0]) / Fraction(peak[1])))


def _flags(sums: Sums, count: Decimal | None, spent: Decimal | None) -> list[str]:
    found = []
    if spent and count is not None and not count:
        found.append("no-tokens")
    if spent is None:
        found.append("cost-unknown")
    if count is None:
        found.append("tokens-unknown")
    if sums.untold_cost:
        found.append("telemetry-gaps")
    if sums.gpu_hours is not None and (sums.measured_gpu_hours or 0) < sums.gpu_hours:
        found.append("use-partly-measured" if sums.measured_gpu_hours else "use-not-measured")
    return found


def ranked(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Best TPS/$ first, unknown last. Raises ValueError for figures of different bases: they have no common order."""
    listed = list(rows)
    if len({(row["token_basis"], row["cost_basis"]) for row in listed}) > 1:
        raise ValueError("figures of different token or cost bases can't be ranked together")
    return sorted(listed, key=lambda row: (row["tps_per_dollar"] is None, -(row["tps_per_dollar"] or 0)))
