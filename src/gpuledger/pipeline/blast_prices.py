"""What an hour of a blast radius's pool costs, from dated catalogues: machines by region, models by token."""

from collections.abc import Mapping
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from gpuledger.core.draws import Dist, fixed, parse, value
from gpuledger.errors import UsageError

KINDS: Final = ("input", "output", "cache_read", "cache_write")
PRICINGS: Final = ("on-demand", "spot")
_MICRO: Final = 1_000_000


def machine_price(pool: str, values: Mapping[str, str], size: int, today: date) -> tuple[Dist, str]:
    """Return the list price of an hour of the pool's instance type, on demand or spot, and its origin.

    Raises UsageError that names the regions whose price is known, when that of the asked one isn't.
    """
    if "instance_type" not in values:
        raise UsageError(
            "no price is given",
            where=f"pool {pool}, usd_per_gpu_hour",
            hint="Give usd_per_gpu_hour=…, or instance_type=… and region=….",
        )
    from gpuledger.prices import gpu_type, load_prices, price_at

    name, region, pricing = values["instance_type"], values.get("region"), _pricing(pool, values)
    point = price_at(name, region, today)
    price = None if point is None else point.spot if pricing == "spot" else point.on_demand
    if point is None or price is None:
        regions = sorted({
            one.region for one in load_prices()
            if one.instance_type == name.lower() and (one.spot if pricing == "spot" else one.on_demand) is not None
        })  # fmt: skip
        known = f"Known regions: {', '.join(regions)}. " if regions else ""
        raise UsageError(
            f"no {pricing} price of {name} in {region or 'no region'} is known",
            where=f"pool {pool}, {'region' if regions else 'instance_type'}",
            hint=f"{known}Or give usd_per_instance_hour=….",
        )
    machine = gpu_type(name)
    if machine is None or machine.gpu_count != size:
        raise UsageError(
            f"the price is of an instance with {machine.gpu_count if machine else 'unknown'} GPUs, not {size}",
            where=f"pool {pool}, gpus_per_instance",
            hint="Give usd_per_instance_hour=….",
        )
    what = "spot price" if pricing == "spot" else "list price"
    origin = f"price file {point.cloud}.csv, {what} of {point.region} as of {point.as_of} ({point.source})"
    return parse(format(price, "f"), "usd", f"pool {pool}, instance_type"), origin


def _pricing(pool: str, values: Mapping[str, str]) -> str:
    said = values.get("pricing", "on-demand").strip().lower().replace("_", "-")
    if said not in PRICINGS:
        raise UsageError(
            f"{values['pricing']!r} is neither on-demand nor spot", where=f"pool {pool}, pricing", hint="Mend it."
        )  # fmt: skip
    return said


class Machine(NamedTuple):
    """What the price of a card depends on; None where it isn't known."""

    instance_type: str | None = None
    region: str | None = None
    spot: bool | None = None
    gpu_model: str | None = None


def card_price(machine: Machine, typed: str | None, today: date) -> tuple[Decimal | None, str]:
    """Return what an hour of one card of a machine costs, and its origin; None where nobody knows.

    Typed, or the list price of its instance type (spot where it is), or the lowest one of its model, which is a bound.
    Raises UsageError for a typed price that is none.
    """
    from gpuledger.prices import cards

    if typed is not None:
        return Decimal(value(typed, "usd", "--price")) / _MICRO, "typed: --price"
    spot = bool(machine.spot)
    found = None
    if machine.instance_type is not None:
        found = cards.of_machine(machine.instance_type, machine.region, today, spot=spot)
    if found is not None:
        return _decimal(found.usd_per_gpu_hour), found.basis
    if machine.gpu_model is not None:
        found = cards.lowest(machine.gpu_model, None, today, spot=spot)
    return (None, "") if found is None else (_decimal(found.usd_per_gpu_hour), f"at least: {found.basis}")


def _decimal(price: Fraction) -> Decimal:
    micro = (2 * price.numerator * _MICRO + price.denominator) // (2 * price.denominator)
    return Decimal(micro) / _MICRO


def token_price(
    pool: str, values: Mapping[str, str], origins: Mapping[str, str], today: date
) -> tuple[Dist, str]:
    """Return what an hour of a pool of tokens costs, and its origin: of a model's list price, or of a typed one.

    One of the rates may be uncertain, since the sum of several uncertain ones is of none of our shapes. Raises UsageError.
    """
    rates = {
        kind: parse(values[key], "tokens", f"pool {pool}, {key}")
        for kind in KINDS
        if (key := f"{kind}_tokens_per_minute") in values
    }
    if "model" in values:
        if "usd_per_mtok" in values or "tokens_per_minute" in values or not rates:
            raise UsageError(
                "a model has a price for each kind of token",
                where=f"pool {pool}, model",
                hint=f"Give {', '.join(f'{kind}_tokens_per_minute=…' for kind in KINDS)}, and neither tokens_per_minute nor usd_per_mtok.",
            )
        return _model(pool, values, rates, today)
    if rates or not {"tokens_per_minute", "usd_per_mtok"} <= set(values):
        raise UsageError(
            "no price is given",
            where=f"pool {pool}, usd_per_hour",
            hint="Give usd_per_hour=…, or tokens_per_minute=… and usd_per_mtok=…, or model=… and output_tokens_per_minute=….",
        )
    told = parse(values["tokens_per_minute"], "tokens", f"pool {pool}, tokens_per_minute")
    each = parse(values["usd_per_mtok"], "usd", f"pool {pool}, usd_per_mtok")
    if not told.is_fixed and not each.is_fixed:
        raise UsageError(
            "tokens a minute and their price are both uncertain",
            where=f"pool {pool}, usd_per_mtok",
            hint="Make one of them a plain value, or give usd_per_hour=….",
        )
    shape, points = (
        (each.shape, each.points) if told.is_fixed else (told.shape, [each.points[0]] * len(told.points))
    )
    counts = told.points * len(points) if told.is_fixed else told.points
    hourly = tuple(
        (count * 60 * price + _MICRO // 2) // _MICRO
        for count, price in zip(counts[: len(points)], points, strict=True)
    )
    said = f"{values['tokens_per_minute']} tokens a minute × 60 × {values['usd_per_mtok']} USD per million"
    return Dist(shape, hourly), f"{origins['tokens_per_minute']}: {said}"


def _model(pool: str, values: Mapping[str, str], rates: Mapping[str, Dist], today: date) -> tuple[Dist, str]:
    from gpuledger.prices.tokens import CATALOGUE, provider_of, token_prices

    model, where = values["model"], f"pool {pool}, model"
    provider = values.get("provider") or provider_of(model)
    prices = {
        one.kind: one
        for one in sorted(
            token_prices(provider, [model]) if provider else (), key=lambda one: one.since or date.min
        )
        if one.above == 0 and (one.since is None or one.since <= today)
    }
    if not prices:
        raise UsageError(
            f"{CATALOGUE} knows no price of {model!r}",
            where=where,
            hint="Check the name, give provider=…, or tokens_per_minute=… and usd_per_mtok=….",
        )
    if missing := [kind for kind in rates if kind not in prices]:
        raise UsageError(
            f"{CATALOGUE} knows no price of {missing[0]} tokens of {model}",
            where=where,
            hint=f"Leave out {missing[0]}_tokens_per_minute.",
        )
    uncertain = [kind for kind, rate in rates.items() if not rate.is_fixed]
    certain = sum(
        _hourly(rates[kind].points[0], prices[kind].price) for kind in rates if kind not in uncertain
    )
    if len(uncertain) > 1 or (uncertain and certain and rates[uncertain[0]].shape == "lognormal"):
        raise UsageError(
            "only one kind of tokens may be uncertain, and beside others not lognormal",
            where=f"pool {pool}, {uncertain[0]}_tokens_per_minute",
            hint="Give plain values, or usd_per_hour=….",
        )
    said = " + ".join(
        f"{values[f'{kind}_tokens_per_minute']} {kind.replace('_', ' ')} × {format((prices[kind].price * _MICRO).normalize(), 'f')} USD"
        for kind in rates
    )
    origin = f"{CATALOGUE}, list prices of {provider} {model}: ({said} per million) × 60 minutes"
    if not uncertain:
        return fixed(certain), origin
    kind = uncertain[0]
    points = tuple(certain + _hourly(count, prices[kind].price) for count in rates[kind].points)
    return Dist(rates[kind].shape, points), origin


def _hourly(tokens_per_minute: int, price: Decimal) -> int:
    """Millionths of a dollar an hour of so many tokens a minute."""
    return int((price * tokens_per_minute * 60 * _MICRO).quantize(Decimal(1), ROUND_HALF_UP))
