"""Rules of OpenAI's costs and usage that the golden rows don't show: numbers, line items, what is split or estimated."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sources.mapped_pages import bill, mapped, rows

from gpuledger import registry
from gpuledger.demo import openai as example
from gpuledger.demo.company import Month
from gpuledger.demo.files import Setting
from gpuledger.demo.truth import Truth
from gpuledger.errors import SourceError
from gpuledger.pipeline.ingest import Options, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store
from gpuledger.sources import openai

MINI = "gpt-4o-mini-2024-07-18"


def cost(
    value: object, item: str | None = f"{MINI}, input", quantity: object = None, **given: object
) -> dict[str, Any]:
    return {
        "object": "organization.costs.result", "amount": {"value": value, "currency": "usd"}, "line_item": item,
        "project_id": "p", "api_key_id": "k", "user_id": None, "quantity": quantity,
        "quantity_unit": None if quantity is None else "tokens", **given,
    }  # fmt: skip


def use(tokens: int, **given: object) -> dict[str, Any]:
    return {
        "object": "organization.usage.completions.result", "input_tokens": tokens, "output_tokens": 0,
        "input_cached_tokens": 0, "num_model_requests": 1, "project_id": "p", "api_key_id": "k", "model": MINI,
        "batch": False, "service_tier": "default", **given,
    }  # fmt: skip


def stamp(day: int, hour: int = 0) -> int:
    return int(datetime(2026, 10, day, hour, tzinfo=UTC).timestamp())


def page(*buckets: tuple[int, int, list[dict[str, Any]]]) -> dict[str, Any]:
    data = [
        {"object": "bucket", "start_time": start, "end_time": end, "results": results}
        for start, end, results in buckets
    ]
    return {"object": "page", "data": data, "has_more": False, "next_page": None}


def day(number: int, *results: dict[str, Any]) -> tuple[int, int, list[dict[str, Any]]]:
    return stamp(number), stamp(number + 1), list(results)


def hour(number: int, at: int, *results: dict[str, Any]) -> tuple[int, int, list[dict[str, Any]]]:
    return stamp(number, at), stamp(number, at) + 3600, list(results)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    amount=st.decimals("-1000000", "1000000", places=18),
    tokens=st.lists(st.integers(1, 10**10), min_size=1, max_size=12),
)
def test_parts_of_a_line_add_up_to_it_and_follow_the_tokens(
    tmp_path: Path, amount: Decimal, tokens: list[int]
) -> None:
    text = json.dumps(page(day(1, cost("@", quantity=sum(tokens))))).replace('"@"', f"{amount:f}")
    used = [hour(1, number, use(count)) for number, count in enumerate(tokens)]
    con = mapped("openai", tmp_path, {"c.json": text, "u.json": page(*used)})
    found = rows(con, "BilledCost, ConsumedQuantity")
    assert sum(part for part, _ in found) == amount
    assert sorted(quantity for _, quantity in found) == sorted(tokens)
    for part, quantity in found:
        assert abs(part - amount * quantity / sum(tokens)) <= Decimal("2e-18")


@pytest.mark.parametrize(
    ("literal", "dollars"),
    [
        ("0.06", "0.06"),
        ("123.4567890123456789", "123.4567890123456789"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("1.5e-7", "0.00000015"),
        ("2E+2", "200"),
        ("-0.000000000000000001", "-0.000000000000000001"),
        ('"90071992547409.930000000000001"', "90071992547409.930000000000001"),
        ("0", "0"),
    ],
)
def test_a_value_is_its_text(tmp_path: Path, literal: str, dollars: str) -> None:
    text = json.dumps(page(day(1, cost("@", item='odd "value": 5, words')))).replace('"@"', literal)
    con = mapped("openai", tmp_path, {"c.json": text})
    assert rows(con, "BilledCost, ChargeDescription") == [(Decimal(dollars), 'odd "value": 5, words')]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("gpt-5.5-2026-04-23, cached input", ("gpt-5.5-2026-04-23", "cache_read", "standard", "text", None)),
        ("gpt-4o-mini-2024-07-18, output", (MINI, "output", "standard", "text", None)),
        (
            "priority | gpt-5.6-sol, output, long context",
            ("gpt-5.6-sol", "output", "priority", "text", "long"),
        ),
        ("flex | gpt-5-mini, input", ("gpt-5-mini", "input", "flex", "text", None)),
        ("gpt-5.6-sol, cache writes", ("gpt-5.6-sol", "cache_write", "standard", "text", None)),
        (
            "gpt-audio-mini-2025-12-15 audio, input",
            ("gpt-audio-mini-2025-12-15", "input", "standard", "audio", None),
        ),
        (
            "gpt-image-2.5-sunburst text, cached input",
            ("gpt-image-2.5-sunburst", "cache_read", "standard", "text", None),
        ),
        ("gpt-image-2, output_image_tokens", ("gpt-image-2", "output", "standard", "image", None)),
        ("gpt-6-astra, input_tokens", ("gpt-6-astra", "input", "standard", "text", None)),
        (
            "ft:gpt-4o-mini-2024-07-18:org::abc, output",
            ("ft:gpt-4o-mini-2024-07-18:org::abc", "output", "standard", "text", None),
        ),
        ("whisper-1, audio", ("whisper-1", None, "standard", "audio", None)),
        ("web search tool calls", (None, None, None, None, None)),
        ("Vector storage", (None, None, None, None, None)),
        ("Text tokens, all of them", (None, None, None, None, None)),
        (None, (None, None, None, None, None)),
    ],
)
def test_line_items(tmp_path: Path, item: str | None, expected: tuple[str | None, ...]) -> None:
    con = mapped("openai", tmp_path, {"c.json": page(day(1, cost(1, item=item)))})
    assert con.execute(
        "SELECT model, token_type, service_tier, modality, long_context FROM native"
    ).fetchall() == [expected]
    assert rows(con, "x_AiModel, x_TokenType, x_ServiceTier") == [expected[:3]]


def test_cached_tokens_are_taken_out_of_the_input(tmp_path: Path) -> None:
    used = use(
        100, input_cached_tokens=30, input_cache_write_tokens=20, output_tokens=7, input_audio_tokens=5
    )
    con = mapped("openai", tmp_path, {"u.json": page(hour(1, 0, used))})
    assert rows(con, "x_TokenType, SkuMeter, ConsumedQuantity") == [
        ("cache_read", "Cached Input Tokens", 30), ("cache_write", "Cache Write Tokens", 20),
        ("input", "Input Tokens", 45), ("input", "Input Tokens (audio)", 5), ("output", "Output Tokens", 7),
    ]  # fmt: skip


def test_only_a_line_with_the_same_tokens_is_split(tmp_path: Path) -> None:
    used = page(hour(1, 0, use(30)), hour(1, 1, use(70)), hour(2, 0, use(30)), hour(2, 1, use(70)))
    con = mapped(
        "openai",
        tmp_path,
        {"c.json": page(day(1, cost(1, quantity=100)), day(2, cost(1, quantity=101))), "u.json": used},
    )
    assert rows(con, "BilledCost, ConsumedQuantity") == [(Decimal("0.3"), 30), (Decimal("0.7"), 70), (1, 101)]


def test_two_prices_of_one_key_are_not_mixed(tmp_path: Path) -> None:
    lines = [cost(1, quantity=40), cost(3, item=f"{MINI}, input, long context", quantity=60)]
    con = mapped("openai", tmp_path, {"c.json": page(day(1, *lines)), "u.json": page(hour(1, 0, use(100)))})
    assert rows(con, "BilledCost, ConsumedQuantity, x_CostStatus") == [(1, 40, "Final"), (3, 60, "Final")]


def test_what_the_newest_day_does_not_count_yet_is_its_latest_usage(tmp_path: Path) -> None:
    used = page(hour(1, 0, use(5_000)), *(hour(2, at, use(1_000_000)) for at in range(4)))
    con = mapped(
        "openai", tmp_path, {"c.json": page(day(2, cost("0.225", quantity=1_500_000))), "u.json": used}
    )
    estimated = rows(
        con,
        "hour(ChargePeriodStart), ConsumedQuantity, BilledCost",
        "x_CostStatus = 'Estimated' AND day(ChargePeriodStart) = 2",
    )
    assert estimated == [
        (1, 500_000, Decimal("0.075")),
        (2, 1_000_000, Decimal("0.15")),
        (3, 1_000_000, Decimal("0.15")),
    ]
    assert rows(con, "sum(ConsumedQuantity)", "day(ChargePeriodStart) = 2") == [(4_000_000,)]
    assert bill(con, "openai") == (Decimal("0.225"), Decimal("0.225"))


def test_tiers_that_the_two_reports_name_differently_are_not_estimated(tmp_path: Path) -> None:
    """The bill counts 150 as standard, the usage report 100 standard and 50 batch: the 50 are not missing."""
    used = page(hour(1, 0, use(100), use(50, batch=True)))
    con = mapped("openai", tmp_path, {"c.json": page(day(1, cost(1, quantity=150))), "u.json": used})
    assert rows(con, "ConsumedQuantity, x_CostStatus") == [(150, "Final")]


def test_a_line_without_quantity_takes_the_tokens_of_the_usage(tmp_path: Path) -> None:
    con = mapped(
        "openai",
        tmp_path,
        {"c.json": page(day(1, cost("0.5"))), "u.json": page(hour(1, 4, use(10)), hour(1, 5, use(10)))},
    )
    assert rows(con, "BilledCost, ConsumedQuantity, ConsumedUnit") == [(Decimal("0.25"), 10, "Tokens")] * 2


def test_a_bill_without_keys_is_split_over_them(tmp_path: Path) -> None:
    used = page(hour(1, 0, use(1), use(3, api_key_id="l")))
    con = mapped(
        "openai", tmp_path, {"c.json": page(day(1, cost(4, quantity=4, api_key_id=None))), "u.json": used}
    )
    assert rows(con, "ResourceId, BilledCost") == [("k", 1), ("l", 3)]


def test_unknown_units_keep_their_own_words(tmp_path: Path) -> None:
    lines = [
        cost(1, "Sessions", 3, quantity_unit="sessions"),
        cost(2, "Images", 3, quantity_unit="images"),
        cost(3, "Odd", 3, quantity_unit=None),
    ]
    con = mapped("openai", tmp_path, {"c.json": page(day(1, *lines))})
    assert rows(con, "ConsumedQuantity, ConsumedUnit") == [(3, "Images"), (3, "sessions"), (None, None)]


def test_account_and_names_that_the_answer_carries(tmp_path: Path) -> None:
    line = cost(1, organization_id="org-1", organization_name="Org", project_name="rag")
    con = mapped("openai", tmp_path, {"c.json": page(day(1, line))})
    assert rows(con, "BillingAccountId, BillingAccountName, SubAccountName") == [("org-1", "Org", "rag")]


def test_unreadable_cells_are_told_in_their_row(tmp_path: Path) -> None:
    bad = {
        "object": "page",
        "data": [{"object": "bucket", "start_time": "soon", "end_time": None, "results": [cost("a lot")]}],
    }
    con = mapped("openai", tmp_path, {"c.json": bad})
    ((issues, billed),) = rows(con, "x_DataIssues, BilledCost")
    assert billed is None
    assert "BilledCost" in issues
    assert "ChargePeriodStart" in issues


def test_downloads_that_overlap_count_once(tmp_path: Path) -> None:
    con = mapped(
        "openai",
        tmp_path,
        {"1.json": page(day(1, cost(1)), day(2, cost(2))), "2.json": page(day(2, cost(3)), day(3, cost(4)))},
    )
    assert bill(con, "openai") == (8, 8)


@pytest.mark.parametrize(
    "content",
    [
        '{"data": [{',
        '{"error": {"message": "no"}}',
        '{"data": [{"results": [{"amount": "1"}]}]}',
        "",
        "a,b\n1,2\n",
    ],
)
def test_what_is_no_page_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(SourceError):
        mapped("openai", tmp_path, {"page.json": content})


def test_requests_are_as_documented() -> None:
    """Parameters of platform.openai.com/docs/api-reference/usage; lists go in brackets, as the openai package sends them."""
    costs, completions, embeddings = openai._feeds({}, {"authorization": "Bearer key"})
    assert costs.url == "https://api.openai.com/v1/organization/costs"
    assert costs.params == (
        ("bucket_width", "1d"), ("group_by[]", "project_id"), ("group_by[]", "line_item"), ("group_by[]", "api_key_id"), ("limit", "31"),
    )  # fmt: skip
    assert [completions.url.rsplit("/", 2)[1:], embeddings.url.rsplit("/", 2)[1:]] == [
        ["usage", "completions"],
        ["usage", "embeddings"],
    ]
    assert (costs.bounds, costs.unix, dict(completions.params)["limit"]) == (
        ("start_time", "end_time"),
        True,
        "168",
    )


def test_the_example_company_ties(tmp_path: Path) -> None:
    month = Month.parse("2026-10")
    truth = Truth(month, 7)
    example.write(Setting(tmp_path / "bills", month, 7), truth)
    store = Store(str(tmp_path / "ledger"))
    tree = open_tree(str(tmp_path / "bills" / "openai"), tmp_path)
    report = ingest(store, tree, registry.source("openai"), Options(source="bill"))
    assert [(row.billing_period, row.billed_cost) for row in report.rows] == [
        ("2026-10", truth.billed()["openai"])
    ]
