"""Token prices of the catalogue: known ones as published, unknown ones absent."""

from datetime import date
from decimal import Decimal

from gpuledger.prices.tokens import known, token_prices


def test_published_prices_per_token() -> None:
    """Claude Sonnet 4.5: $3, $15, $0.30, $3.75 and $6 a million; $6 above 200k tokens; $10 per 1,000 searches."""
    found = {
        (price.kind, price.above): price.price
        for price in token_prices("anthropic", ["claude-sonnet-4-5-20250929"])
    }
    assert found[("input", 0)] == Decimal("0.000003")
    assert found[("input", 200_000)] == Decimal("0.000006")
    assert found[("output", 0)] == Decimal("0.000015")
    assert found[("cache_read", 0)] == Decimal("0.0000003")
    assert found[("cache_write", 0)] == Decimal("0.00000375")
    assert found[("cache_write_1h", 0)] == Decimal("0.000006")
    assert found[("web_search", 0)] == Decimal("0.01")


def test_prices_have_their_day() -> None:
    days = {price.since for price in token_prices("openai", ["o3"]) if price.kind == "input"}
    assert days == {None, date(2025, 6, 10)}


def test_unknown_models_have_no_price() -> None:
    assert list(token_prices("anthropic", ["claude-synthetic-unknown"])) == []
    assert known("openai", ["gpt-5", "gpt-synthetic-unknown"]) == {"gpt-5"}
    assert known("anthropic", []) == set()
