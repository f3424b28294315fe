"""Rules of Anthropic's reports that the golden rows don't show: what counts once, what is divided, what is refused."""

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
from gpuledger.demo import anthropic as example
from gpuledger.demo.company import Month
from gpuledger.demo.files import Setting
from gpuledger.demo.truth import Truth
from gpuledger.errors import SourceError
from gpuledger.pipeline.ingest import Options, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store
from gpuledger.sources import anthropic

SONNET, HAIKU = "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"
TOKENS = ("uncached_input_tokens", "output_tokens")


def cost(amount: object, **given: object) -> dict[str, Any]:
    return {
        "amount": amount, "currency": "USD", "cost_type": "tokens", "token_type": TOKENS[0], "model": SONNET,
        "workspace_id": "w", "service_tier": "standard", "context_window": "0-200k", "inference_geo": None,
        "description": "Claude Sonnet 4.5 Usage - Input Tokens", **given,
    }  # fmt: skip


def use(tokens: int, key: str | None = "k", **given: object) -> dict[str, Any]:
    return {
        "uncached_input_tokens": tokens, "output_tokens": 0, "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
        "server_tool_use": {"web_search_requests": 0}, "api_key_id": key, "workspace_id": "w", "model": SONNET,
        "service_tier": "standard", "context_window": "0-200k", "inference_geo": "not_available", **given,
    }  # fmt: skip


def page(*buckets: tuple[str, str, list[dict[str, Any]]]) -> dict[str, Any]:
    data = [{"starting_at": start, "ending_at": end, "results": results} for start, end, results in buckets]
    return {"data": data, "has_more": False, "next_page": None}


def day(number: int, *results: dict[str, Any]) -> tuple[str, str, list[dict[str, Any]]]:
    return f"2026-10-{number:02d}T00:00:00Z", f"2026-10-{number + 1:02d}T00:00:00Z", list(results)


def hour(number: int, at: int, *results: dict[str, Any]) -> tuple[str, str, list[dict[str, Any]]]:
    return f"2026-10-{number:02d}T{at:02d}:00:00Z", f"2026-10-{number:02d}T{at + 1:02d}:00:00Z", list(results)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    amount=st.decimals("-100000000", "100000000", places=16),
    tokens=st.lists(st.integers(1, 10**10), min_size=1, max_size=12),
)
def test_parts_of_a_line_add_up_to_it_and_follow_the_tokens(
    tmp_path: Path, amount: Decimal, tokens: list[int]
) -> None:
    used = [hour(1, number, use(count)) for number, count in enumerate(tokens)]
    con = mapped("anthropic", tmp_path, {"c.json": page(day(1, cost(f"{amount:f}"))), "u.json": page(*used)})
    found = rows(con, "BilledCost, ConsumedQuantity")
    assert sum(part for part, _ in found) == (amount / 100).quantize(Decimal("1e-18"))
    assert sorted(quantity for _, quantity in found) == sorted(tokens)
    for part, quantity in found:
        assert abs(part - amount * quantity / sum(tokens) / 100) <= Decimal("2e-18")


def test_amounts_keep_their_digits_as_text_or_as_number(tmp_path: Path) -> None:
    digits = "12345.6789012345678901"
    text = json.dumps(
        page(day(1, cost(digits), cost("@", token_type=TOKENS[1], description='with "amount": 5, in it')))
    )
    con = mapped("anthropic", tmp_path, {"c.json": text.replace('"@"', digits)})
    assert rows(con, "BilledCost") == [(Decimal("123.456789012345678901"),)] * 2
    assert rows(con, "ChargeDescription", "x_TokenType = 'output'") == [('with "amount": 5, in it',)]


def test_digits_below_the_stored_ones_are_told(tmp_path: Path) -> None:
    con = mapped("anthropic", tmp_path, {"c.json": page(day(1, cost("1.12345678901234567")))})
    assert "more decimals" in rows(con, "x_DataIssues")[0][0]
    assert bill(con, "anthropic")[0] == bill(con, "anthropic")[1]


def test_downloads_that_overlap_count_once(tmp_path: Path) -> None:
    files = {
        "1.json": page(day(1, cost("100")), day(2, cost("200"))),
        "2.json": page(day(2, cost("250")), day(3, cost("300"))),
        "u1.json": page(hour(1, 0, use(5)), hour(2, 0, use(7))),
        "u2.json": page(hour(2, 0, use(7)), hour(3, 0, use(9))),
    }
    con = mapped("anthropic", tmp_path, files)
    assert bill(con, "anthropic") == (Decimal("6.5"), Decimal("6.5"))
    assert rows(con, "sum(ConsumedQuantity)") == [(21,)]


def test_a_day_is_read_from_one_report(tmp_path: Path) -> None:
    group = {
        "workspace_id": "w",
        "api_key_id": "k",
        "model": SONNET,
        "cost_type": "tokens",
        "token_type": TOKENS[0],
    }
    row = {"starting_at": "2026-10-02T00:00:00Z", "ending_at": "2026-10-03T00:00:00Z", "group": group}
    analytics = {
        "data": [{**row, "cost": {"amount": "90", "list_amount": "100", "currency": "USD"}}],
        "has_more": False,
    }
    files = {"a.json": analytics, "c.json": page(day(1, cost("40")), day(2, cost("95")))}
    con = mapped("anthropic", tmp_path, files)
    assert bill(con, "anthropic") == (Decimal("1.3"), Decimal("1.3"))
    assert rows(con, "sum(ListCost)") == [(Decimal(1),)]


def test_usage_in_two_widths_counts_once(tmp_path: Path) -> None:
    con = mapped(
        "anthropic",
        tmp_path,
        {"d.json": page(day(1, use(12))), "h.json": page(hour(1, 3, use(5)), hour(1, 4, use(7)))},
    )
    assert rows(con, "ConsumedQuantity") == [(5,), (7,)]


def test_minutes_become_hours(tmp_path: Path) -> None:
    minutes = [
        (f"2026-10-01T03:{m:02d}:00Z", f"2026-10-01T03:{m + 1:02d}:00Z", [use(m + 1)]) for m in range(50)
    ]
    con = mapped("anthropic", tmp_path, {"m.json": page(*minutes), "c.json": page(day(1, cost("9")))})
    assert rows(con, "ConsumedQuantity, ChargePeriodStart, BilledCost") == [
        (1275, datetime(2026, 10, 1, 3, tzinfo=UTC), Decimal("0.09"))
    ]


def test_two_lines_of_one_key_share_no_tokens(tmp_path: Path) -> None:
    """Fast mode is told in the description only."""
    lines = [cost("10"), cost("60", description="Claude Sonnet 4.5 Usage - Input Tokens, Fast")]
    con = mapped("anthropic", tmp_path, {"c.json": page(day(1, *lines)), "u.json": page(hour(1, 0, use(70)))})
    assert rows(con, "BilledCost, ConsumedQuantity") == [(Decimal("0.1"), None), (Decimal("0.6"), 70)]


def test_a_line_without_tiers_is_not_divided_since_it_has_several_prices(tmp_path: Path) -> None:
    used = page(hour(1, 0, use(10)), hour(1, 1, use(10, service_tier="batch")))
    con = mapped(
        "anthropic", tmp_path, {"c.json": page(day(1, cost("15", service_tier=None))), "u.json": used}
    )
    assert rows(con, "BilledCost, ConsumedQuantity, ResourceId") == [(Decimal("0.15"), 20, None)]


def test_a_bill_without_workspaces_covers_the_usage_of_all(tmp_path: Path) -> None:
    used = page(hour(1, 0, use(30), use(10, "l", workspace_id="v")))
    con = mapped(
        "anthropic", tmp_path, {"c.json": page(day(1, cost("4", workspace_id=None))), "u.json": used}
    )
    assert rows(con, "BilledCost, SubAccountId") == [(Decimal("0.01"), "v"), (Decimal("0.03"), "w")]


def test_other_prices_are_other_lines(tmp_path: Path) -> None:
    """Model, tier, window and workspace must fit: usage without a line keeps its tokens and has no cost."""
    others = [
        use(1, model=HAIKU),
        use(2, service_tier="batch"),
        use(3, context_window="200k-1M"),
        use(4, workspace_id=None),
    ]
    files = {
        "c.json": page(day(1, cost("7")), day(2, cost("1"))),
        "u.json": page(hour(1, 0, use(70), *others)),
    }
    con = mapped("anthropic", tmp_path, files)
    assert rows(con, "ConsumedQuantity", "BilledCost IS NULL") == [(1,), (2,), (3,), (4,)]
    assert rows(con, "x_Native['without_cost']", "BilledCost IS NULL")[0] == (
        "no line of the cost report is about this usage",
    )
    assert rows(con, "BilledCost, ConsumedQuantity", "ConsumedQuantity = 70") == [(Decimal("0.07"), 70)]


def test_on_the_newest_day_only_a_model_that_is_not_billed_yet_is_estimated(tmp_path: Path) -> None:
    used = page(hour(2, 0, use(1_000_000, model=HAIKU), use(5, service_tier="batch"), use(9)))
    con = mapped("anthropic", tmp_path, {"c.json": page(day(2, cost("3"))), "u.json": used})
    assert rows(con, "BilledCost, ConsumedQuantity, x_CostStatus") == [
        (Decimal("0.03"), 9, "Final"), (Decimal(1), 1_000_000, "Estimated"), (None, 5, "Estimated"),
    ]  # fmt: skip


def test_a_price_change_is_dated(tmp_path: Path) -> None:
    """The long context of Opus 4.6 lost its surcharge on 13 March 2026, as the price list says."""
    window = {"model": "claude-opus-4-6", "context_window": "200k-1M"}
    used = page(*(
        (f"2026-03-{number}T00:00:00Z", f"2026-03-{number}T01:00:00Z", [use(1_000_000, **window)]) for number in (12, 13)
    ))  # fmt: skip
    con = mapped("anthropic", tmp_path, {"u.json": used})
    assert rows(con, "ChargePeriodStart, BilledCost") == [
        (datetime(2026, 3, 12, tzinfo=UTC), Decimal(10)), (datetime(2026, 3, 13, tzinfo=UTC), Decimal(5)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        '{"data": [{"starting_at": "2026-10-01T00:00:00Z", "resul',
        '{"data": []}\n{"data": [',
        '{"type": "error", "error": {"message": "Not found"}}',
        '{"data": [{"starting_at": "x", "ending_at": "y", "results": [{"something": 1}]}]}',
        '{"data": [{"object": "bucket", "results": [{"object": "organization.costs.result"}]}]}',
        "BilledCost,ChargePeriodStart\n1,2026-10-01\n",
        "",
        "\x1f\x8b",
    ],
)
def test_what_is_no_page_is_refused_and_the_ledger_stays(tmp_path: Path, content: str) -> None:
    with pytest.raises(SourceError):
        mapped("anthropic", tmp_path / "direct", {"page.json": content})
    good, store = tmp_path / "good", Store(str(tmp_path / "ledger"))
    good.mkdir()
    (good / "page.json").write_text(json.dumps(page(day(1, cost("100")))))
    connector = registry.source("anthropic")
    ingest(store, open_tree(str(good), tmp_path), connector, Options(source="bill"))
    before = store.files("cost_and_usage")
    (good / "page.json").write_text(content)
    report = ingest(store, open_tree(str(good), tmp_path), connector, Options(source="bill"))
    assert [row.action for row in report.rows] == ["rejected"]
    assert store.files("cost_and_usage") == before


def test_requests_are_as_documented() -> None:
    """Parameters and limits of platform.claude.com/docs: 31 days, 168 hours, 1440 minutes (256 in the older analytics)."""
    feeds = {
        api: anthropic._feeds({"usage_bucket": "1m"}, api, "key")
        for api in ("admin", "analytics", "analytics-report")
    }
    paths = {
        api: [feed.url.removeprefix("https://api.anthropic.com/v1/organizations/") for feed in found]
        for api, found in feeds.items()
    }
    assert paths == {
        "admin": ["cost_report", "usage_report/messages"],
        "analytics": ["analytics/cost", "analytics/usage"],
        "analytics-report": ["analytics/cost_report", "analytics/cost_report", "analytics/usage_report"],
    }
    assert feeds["admin"][0].params == (
        ("bucket_width", "1d"), ("group_by[]", "workspace_id"), ("group_by[]", "description"), ("limit", "31"),
    )  # fmt: skip
    assert dict(feeds["admin"][1].params)["limit"] == "1440"
    groups = [value for name, value in feeds["analytics"][0].params if name == "group_by[]"]
    assert len([group for group in groups if group not in {"cost_type", "token_type"}]) == 5, (
        "the documented maximum"
    )
    assert feeds["analytics"][0].headers["anthropic-beta"] == "analytics-usage-cost-2026-08-24"
    assert dict(feeds["analytics-report"][2].params)["limit"] == "256"


def test_the_example_company_ties(tmp_path: Path) -> None:
    month = Month.parse("2026-10")
    truth = Truth(month, 7)
    example.write(Setting(tmp_path / "bills", month, 7), truth)
    store = Store(str(tmp_path / "ledger"))
    tree = open_tree(str(tmp_path / "bills" / "anthropic"), tmp_path)
    report = ingest(store, tree, registry.source("anthropic"), Options(source="bill"))
    assert [(row.billing_period, row.billed_cost) for row in report.rows] == [
        ("2026-10", truth.billed()["anthropic"])
    ]
