"""Tokens that a unit of provisioned throughput carries."""

from decimal import Decimal

import pytest

from gpuledger.prices.provisioned import unit_capacity


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4.1", "gpt-4.1"),
        ("GPT-4.1-2025-04-14", "gpt-4.1"),
        ("azure/gpt-4.1-mini", "gpt-4.1-mini"),
        ("gpt-4o:2024-08-06", "gpt-4o"),
        ("gpt-4.1-nano", None),
        ("gpt-4", None),
        ("claude-sonnet-4", None),
    ],
)
def test_models_by_name(model: str, expected: str | None) -> None:
    found = unit_capacity(model)
    assert (found.model if found else None) == expected


def test_an_hour_of_one_unit() -> None:
    """3,000 input tokens a minute, an output token counting as four: 180,000 in an hour."""
    found = unit_capacity("gpt-4.1")
    assert found is not None
    assert found.unit_hours(Decimal(100_000), Decimal(20_000)) == 1
