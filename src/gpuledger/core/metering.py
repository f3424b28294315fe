"""What an hour of a machine costs before its bill comes, and the exact arithmetic of cut hours.

Prices come from three places, best first: the customer's own effective rate, learnt from bills of the days before;
prices entered in the configuration; dated public list prices. Nobody's guess stands in for a price that isn't known:
no other region, no later date, no on-demand price for spot capacity. Definitions: docs/metering.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Final, Literal

from gpuledger.prices import gpu_type, price_at
from gpuledger.prices.accelerators import accelerator

PriceSource = Literal["effective", "custom", "list"]

_DAY: Final = timedelta(days=1)
_HOUR_US: Final = 3_600_000_000
_MICROSECOND: Final = timedelta(microseconds=1)
_QUANTITY_DIGITS: Final = 14
_MONEY_DIGITS: Final = 18
_EXACT: Final = Context(prec=100)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the price of a machine depends on. Unknown is None; unknown `spot` is priced as on-demand."""

    instance_type: str | None = None
    gpu_model: str | None = None
    gpu_count: Decimal | None = None
    region: str | None = None
    spot: bool | None = None
    cloud: str | None = None


@dataclass(frozen=True, slots=True)
class CustomPrice:
    """A price of the configuration: USD per hour of an instance type, or of one card of an accelerator model."""

    usd_per_hour: Decimal
    instance_type: str | None = None
    gpu_model: str | None = None
    region: str | None = None
    spot: bool | None = None
    valid_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Who is billed; None where bills say nothing, or several things."""

    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """What one hour of a whole machine costs, in `currency`, 18 decimals. `listed` is None when not known.

    `basis` says in words where the price is from.
    """

    source: PriceSource
    basis: str
    effective: Decimal
    billed: Decimal
    contracted: Decimal
    listed: Decimal | None
    currency: str = "USD"
    account: Account = field(default_factory=Account)


@dataclass(frozen=True, slots=True)
class Priced:
    """A price while it holds: [start, end). `price` None: not known."""

    start: datetime
    end: datetime
    price: UnitPrice | None


@dataclass(frozen=True, slots=True)
class BilledDay:
    """What bills say of one instance type in one region on one day, in one currency.

    Costs are sums, None where a row doesn't know. `counted` rows are those whose quantity counts hours of the machine:
    `gpu_hours` of cards, of which it has `gpu_count`, or else `hours`. The others bill parts of it, such as memory.
    """

    instance_type: str
    region: str | None
    spot: bool
    counted: bool
    day: date
    currency: str
    effective: Decimal | None
    billed: Decimal | None
    contracted: Decimal | None
    listed: Decimal | None
    hours: Decimal | None = None
    gpu_hours: Decimal | None = None
    gpu_count: Decimal | None = None
    account: Account = field(default_factory=Account)


Place = tuple[str, str | None, bool]


def quantity(start: datetime, end: datetime) -> Decimal:
    """Return the hours of [start, end), which lies in one clock hour, to 14 decimals.

    It is the difference of two marks of the clock hour, so that parts add up to the whole however it is cut.
    """
    return _scaled(_mark(end, start) - _mark(start, start), _QUANTITY_DIGITS)


def cost(unit_price: Decimal, start: datetime, end: datetime) -> Decimal:
    """Return what [start, end), in one clock hour, costs at `unit_price` an hour, to 18 decimals; cut hours add up."""

    def until(moment: datetime) -> int:
        product = Fraction(unit_price) * Fraction(_mark(moment, start), 10**_QUANTITY_DIGITS)
        return _half_up(product * 10**_MONEY_DIGITS)

    return _scaled(until(end) - until(start), _MONEY_DIGITS)


def clock_hours(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut [start, end) at full hours."""
    while start < end:
        until = min(end, start.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1))
        yield start, until
        start = until


def _mark(moment: datetime, within: datetime) -> int:
    """Hours since the clock hour of `within` began, in units of the 14th decimal."""
    passed = (moment - within.replace(minute=0, second=0, microsecond=0)) // _MICROSECOND
    return _half_up(Fraction(passed * 10**_QUANTITY_DIGITS, _HOUR_US))


def _half_up(value: Fraction) -> int:
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def _scaled(units: int, digits: int) -> Decimal:
    return Decimal(units).scaleb(-digits, _EXACT)


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All prices that may apply. `learnt` are the effective rates as of the day that is metered."""

    custom: Sequence[CustomPrice] = ()
    learnt: Mapping[Place, UnitPrice] = field(default_factory=dict)
    prefer_custom: bool = False

    def at(self, shape: Shape, moment: datetime) -> UnitPrice | None:
        """Return what an hour of the machine costs at a moment; None when nobody says."""
        on_demand = _list_price(shape, moment, spot=False)
        listed = on_demand[0] if on_demand else None
        own = self._own(shape)
        if own is not None and own.listed is None and own.currency == "USD" and listed is not None:
            own = replace(own, listed=listed)
        entered = self._entered(shape, moment, listed)
        first, second = (entered, own) if self.prefer_custom else (own, entered)
        return first or second or self._public(shape, moment, listed)

    def over(self, shape: Shape, start: datetime, end: datetime) -> list[Priced]:
        """Return the prices of the machine over [start, end), without gaps, in order."""
        cuts = {start, end}
        cuts |= {
            price.valid_from for price in self.custom if price.valid_from and start < price.valid_from < end
        }
        midnight = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
        while midnight < end:
            cuts.add(midnight)
            midnight += _DAY
        found: list[Priced] = []
        for since, until in pairwise(sorted(cuts)):
            price = self.at(shape, since)
            if found and found[-1].price == price:
                found[-1] = Priced(found[-1].start, until, price)
            else:
                found.append(Priced(since, until, price))
        return found

    def _own(self, shape: Shape) -> UnitPrice | None:
        name, spot = _folded(shape.instance_type), bool(shape.spot)
        if name is None:
            return None
        return self.learnt.get((name, _folded(shape.region), spot)) or self.learnt.get((name, None, spot))

    def _entered(self, shape: Shape, moment: datetime, listed: Decimal | None) -> UnitPrice | None:
        fits = [
            price
            for price in self.custom
            if _fits(price, shape) and (price.valid_from is None or price.valid_from <= moment)
        ]
        if not fits:
            return None
        price = max(fits, key=_rank)
        amount = price.usd_per_hour
        if price.instance_type is None:
            cards = _cards(shape)
            if cards is None:
                return None
            amount = _rounded(Fraction(amount) * cards)
        since = f" since {price.valid_from.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if price.valid_from else ""
        each = "" if price.instance_type is not None else f", {price.usd_per_hour} a card"
        return UnitPrice("custom", f"configuration{since}{each}", amount, amount, amount, listed)

    @staticmethod
    def _public(shape: Shape, moment: datetime, listed: Decimal | None) -> UnitPrice | None:
        found = _list_price(shape, moment, spot=bool(shape.spot))
        if found is None:
            return None
        amount, basis = found
        return UnitPrice("list", basis, amount, amount, amount, amount if listed is None else listed)


def learn(billed: Iterable[BilledDay], day: date, days: int) -> dict[Place, UnitPrice]:
    """Return effective rates as of `day`: costs over hours of bills of the `days` days before it, sums over sums.

    Usage that commitments cover and usage that they don't is blended, as nobody knows beforehand which an hour will be.
    Where a type was billed in several currencies, the one with the most hours is taken.
    """
    first = day - days * _DAY
    held: dict[tuple[Place, str], list[BilledDay]] = defaultdict(list)
    for told in billed:
        if first <= told.day < day:
            place = (_folded(told.instance_type) or "", _folded(told.region), told.spot)
            held[place, told.currency].append(told)
    found: dict[Place, tuple[Fraction, str, UnitPrice]] = {}
    basis = f"bills of {first} to {day - _DAY}"
    for (place, currency), group in held.items():
        known = gpu_type(place[0])
        parts = group if known and known.billed_per_accelerator else [told for told in group if told.counted]
        hours = sum((_machine_hours(told) for told in parts), Fraction(0))
        price = _ratios(parts, hours, currency, basis)
        if price is not None and (place not in found or (hours, currency) > found[place][:2]):
            found[place] = (hours, currency, price)
    return {place: price for place, (_, _, price) in found.items()}


def _ratios(parts: Sequence[BilledDay], hours: Fraction, currency: str, basis: str) -> UnitPrice | None:
    if hours <= 0:
        return None
    sums = [
        _per_hour([getattr(told, name) for told in parts], hours)
        for name in ("effective", "billed", "contracted", "listed")
    ]
    effective, billed, contracted, listed = sums
    if effective is None or effective < 0:
        return None
    accounts = {told.account for told in parts}
    return UnitPrice(
        "effective",
        basis,
        effective,
        effective if billed is None or billed < 0 else billed,
        effective if contracted is None or contracted < 0 else contracted,
        listed,
        currency,
        next(iter(accounts)) if len(accounts) == 1 else Account(),
    )


def _per_hour(amounts: Sequence[Decimal | None], hours: Fraction) -> Decimal | None:
    known = [Fraction(amount) for amount in amounts if amount is not None]
    return _rounded(sum(known, Fraction(0)) / hours) if len(known) == len(amounts) else None


def _machine_hours(told: BilledDay) -> Fraction:
    if not told.counted:
        return Fraction(0)
    if told.gpu_hours is not None:
        known = gpu_type(told.instance_type)
        cards = known.gpu_count if known and known.gpu_count else None
        cards = cards or (Fraction(told.gpu_count) if told.gpu_count else None)
        return Fraction(told.gpu_hours) / cards if cards else Fraction(0)
    return Fraction(told.hours) if told.hours is not None else Fraction(0)


def _list_price(shape: Shape, moment: datetime, *, spot: bool) -> tuple[Decimal, str] | None:
    point = price_at(shape.instance_type, shape.region, moment) if shape.instance_type else None
    amount = None if point is None else point.spot if spot else point.on_demand
    return None if point is None or amount is None else (amount, f"{point.source} of {point.as_of}")


def _fits(price: CustomPrice, shape: Shape) -> bool:
    if price.region is not None and _folded(price.region) != _folded(shape.region):
        return False
    if price.spot is not None and price.spot != bool(shape.spot):
        return False
    if price.instance_type is not None:
        return _folded(price.instance_type) == _folded(shape.instance_type)
    model = shape.gpu_model
    if model is None and shape.instance_type is not None and (known := gpu_type(shape.instance_type)):
        model = known.gpu_model
    return model is not None and _canonical(price.gpu_model or "") == _canonical(model)


def _rank(price: CustomPrice) -> tuple[bool, bool, bool, datetime, Decimal]:
    """The more specific price wins, then the newer one; the dearer of two that say the same."""
    since = price.valid_from or datetime.min.replace(tzinfo=UTC)
    return (
        price.instance_type is not None,
        price.region is not None,
        price.spot is not None,
        since,
        price.usd_per_hour,
    )


def _cards(shape: Shape) -> Fraction | None:
    if shape.gpu_count is not None:
        return Fraction(shape.gpu_count)
    known = gpu_type(shape.instance_type) if shape.instance_type else None
    return known.gpu_count if known else None


def _canonical(model: str) -> str:
    found = accelerator(model)
    return (found.model if found else model).casefold()


def _folded(text: str | None) -> str | None:
    return text.strip().lower() or None if text else None


def _rounded(value: Fraction) -> Decimal:
    return _scaled(_half_up(value * 10**_MONEY_DIGITS), _MONEY_DIGITS)
