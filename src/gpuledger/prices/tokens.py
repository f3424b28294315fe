"""Public list prices of models behind an API, USD per token and per web search, with the day each came into force.

They come from the package genai-prices, offline. They are list prices of the standard tier: no contract, no batch. The
bill wins over them wherever there is one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:  # the catalogue takes a fifth of a second to import
    from genai_prices.types import TieredPrices

CATALOGUE = "genai-prices"
# Our token type, and the name of its price per million in genai-prices.
_KINDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "web_search": "web_searches_kcount",
}
_MILLION = Decimal("0.000001")
_THOUSAND = Decimal("0.001")


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """What one unit of `kind` cost from `since` on (None: from the beginning), in USD.

    `kind` is input, output, cache_read, cache_write, cache_write_1h or web_search. `above` is the number of input
    tokens of a request from which this price holds for all its tokens; 0 is the price below every such threshold.
    """

    model: str
    kind: str
    above: int
    since: date | None
    price: Decimal


def token_prices(provider: str | None, models: Iterable[str]) -> Iterator[TokenPrice]:
    """Prices of those of the models that the catalogue knows; `provider` is 'anthropic' or 'openai' and the like, None the model's maker."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    for model in sorted(set(models)):
        try:
            found = snapshot.find_provider_model(model, None, provider, None)[1]
        except LookupError:
            continue
        for since, prices in _dated(found.prices):
            for kind, name in _KINDS.items():
                scale = _THOUSAND if kind == "web_search" else _MILLION
                for above, price in _tiers(getattr(prices, name, None)):
                    yield TokenPrice(model, kind, above, since, price * scale)


def provider_of(model: str) -> str | None:
    """Return the catalogue's id of the provider that is known for a model, None for a model that it doesn't know."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider_model(model, None, None, None)[0].id
    except LookupError:
        return None


def newest_prices(models: Iterable[str], day: date) -> list[TokenPrice]:
    """Return the makers' prices of those of the models that are known, as of a day, below every threshold."""
    found: dict[tuple[str, str], TokenPrice] = {}
    for price in token_prices(None, models):
        before = found.get((price.model, price.kind))
        if price.above or (price.since is not None and price.since > day):
            continue
        if before is None or (price.since or date.min) >= (before.since or date.min):
            found[price.model, price.kind] = price
    return list(found.values())


def known(provider: str, models: Iterable[str]) -> set[str]:
    """Return those of the models that have a price."""
    return {price.model for price in token_prices(provider, models)}


def _dated(prices: object) -> Iterator[tuple[date | None, object]]:
    """Yield price lists with the day from which they hold; prices that depend on the time of day are left out."""
    if not isinstance(prices, list):
        yield None, prices
        return
    for entry in prices:
        since = getattr(entry.constraint, "start_date", None)
        if entry.constraint is None or since is not None:
            yield since, entry.prices


def _tiers(price: object) -> Iterator[tuple[int, Decimal]]:
    if price is None:
        return
    if isinstance(price, Decimal | int):
        yield 0, Decimal(price)
        return
    tiered = cast("TieredPrices", price)
    yield 0, Decimal(tiered.base)
    for tier in tiered.tiers:
        yield int(tier.start), Decimal(tier.price)
