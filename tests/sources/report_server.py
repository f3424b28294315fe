"""A local server that speaks the documented JSON of both usage and cost APIs, from a ledger of its own.

Specification-conformant messages, not a real account. What it charges is known exactly, so a test can compare the
ledger with it to the last digit. It pages, limits rates, fails, cuts bodies and drops connections on request.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "sk-admin-synthetic-secret-0123456789"
KINDS = ("input", "output", "cache_read")
# Dollars per token: digits enough that a float would show.
PRICES = {
    "claude-sonnet-4-5-20250929": (
        Decimal("0.0000030000000117"),
        Decimal("0.0000150000000123"),
        Decimal("0.0000003"),
    ),
    "claude-haiku-4-5-20251001": (
        Decimal("0.0000010000000019"),
        Decimal("0.000005"),
        Decimal("0.0000001000000003"),
    ),
    "gpt-4o-mini-2024-07-18": (Decimal("0.0000001500000007"), Decimal("0.0000006"), Decimal("0.000000075")),
    "gpt-5-2025-08-07": (Decimal("0.0000012500000131"), Decimal("0.00001"), Decimal("0.0000001250000001")),
}
_FOREVER = datetime.max.replace(tzinfo=UTC)
_NATIVE = {
    "input": "uncached_input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
}
_WIDTHS = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1), "1d": timedelta(days=1)}
Fault = Callable[["Handler"], None]


@dataclass(frozen=True)
class Use:
    """Tokens of one key in one minute."""

    when: datetime
    group: str  # workspace or project
    key: str
    model: str
    tokens: tuple[int, int, int]
    tier: str = "standard"


@dataclass
class Api:
    """The account: what was used, up to when it is charged, and how the server misbehaves."""

    uses: list[Use] = field(default_factory=list)
    charged_until: datetime = _FOREVER
    discount: Decimal = Decimal("0.9")  # of the analytics reports' amount on its list_amount
    per_page: int = 2
    analytics: bool = True
    group_cap: int = 2  # of analytics/cost_report; 100 at Anthropic
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    url: str = ""

    def amounts(self, group: str | None = None) -> list[Decimal]:
        """Dollars charged so far, use by use."""
        return [
            tokens * price
            for use in self.uses
            if use.when < self.charged_until and (group is None or use.group == group)
            for tokens, price in zip(use.tokens, PRICES[use.model], strict=True)
        ]

    def cost(self, group: str | None = None) -> Decimal:
        """Dollars charged so far."""
        return sum(self.amounts(group), Decimal(0))

    def tokens(self) -> int:
        """Tokens of all kinds used so far."""
        return sum(sum(use.tokens) for use in self.uses)

    def paths(self) -> list[str]:
        """Paths asked for, in order."""
        return [path for path, _ in self.requests]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    api: Api
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait for each other

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay quiet."""

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        self.api.requests.append((parts.path, query))
        if self.api.faults:
            self.api.faults.pop(0)(self)
            return
        self.normal(parts.path, query)

    def normal(self, path: str, query: dict[str, list[str]]) -> None:
        given = self.headers.get("x-api-key") or self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given != KEY:
            error = {
                "error": {"type": "authentication_error", "message": f"Incorrect API key provided: {given}."}
            }
            self.answer(401, json.dumps(error).encode())
            return
        if path.startswith("/v1/organizations/analytics") and not self.api.analytics:
            self.answer(404, b'{"error": {"type": "not_found_error", "message": "Not found"}}')
            return
        found = _answer(self.api, path, query)
        if found is None:
            self.answer(404, b'{"error": {"message": "no such path"}}')
        else:
            self.answer(200, found.encode())


def _answer(api: Api, path: str, query: dict[str, list[str]]) -> str | None:
    if path == "/v1/organizations/me":
        return '{"id": "org-synthetic", "type": "organization", "name": "Synthetic Org"}'
    if path == "/v1/organizations/api_keys":
        return '{"data": [{"id": "key_1", "name": "ci"}], "has_more": false, "first_id": "key_1", "last_id": "key_1"}'
    if path in {"/v1/organization/projects", "/v1/organizations/workspaces"}:
        projects = [
            {"id": group, "name": f"name of {group}"} for group in sorted({use.group for use in api.uses})
        ]
        return json.dumps({"object": "list", "data": projects, "has_more": False, "last_id": None})
    reports: dict[str, Callable[[Api, dict[str, list[str]]], str]] = {
        "/v1/organizations/usage_report/messages": _anthropic_usage,
        "/v1/organizations/cost_report": _anthropic_cost,
        "/v1/organizations/analytics/usage": _analytics_usage,
        "/v1/organizations/analytics/cost": _analytics_cost,
        "/v1/organizations/analytics/cost_report": _analytics_cost_report,
        "/v1/organizations/analytics/usage_report": _analytics_usage_report,
        "/v1/organization/usage/completions": _openai_usage,
        "/v1/organization/usage/embeddings": _openai_nothing,
        "/v1/organization/costs": _openai_costs,
    }
    return reports[path](api, query) if path in reports else None


def _buckets(start: datetime, end: datetime, width: timedelta) -> list[tuple[datetime, datetime]]:
    found = []
    while start < end:
        found.append((start, start + width))
        start += width
    return found


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _span(
    query: dict[str, list[str]], bucket: str = "bucket_width"
) -> tuple[list[tuple[datetime, datetime]], int, str]:
    width = query[bucket][0]
    if "start_time" in query:
        start, end = (datetime.fromtimestamp(int(query[name][0]), UTC) for name in ("start_time", "end_time"))
    else:
        start, end = (datetime.fromisoformat(query[name][0]) for name in ("starting_at", "ending_at"))
    return (
        _buckets(start, end, _WIDTHS[width]),
        int(query.get("page", ["page_0"])[0].removeprefix("page_")),
        width,
    )


def _sums(
    api: Api, start: datetime, end: datetime, *names: str, charged: bool = False
) -> Iterator[tuple[dict[str, str], list[int]]]:
    sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for use in api.uses:
        if start <= use.when < end and not (charged and use.when >= api.charged_until):
            held = sums[tuple(getattr(use, name) for name in names)]
            for place, count in enumerate(use.tokens):
                held[place] += count
    for key, tokens in sorted(sums.items()):
        yield dict(zip(names, key, strict=True)), tokens


def _page(data: list[str], api: Api, offset: int, width: str) -> str:
    end = offset + api.per_page * {"1d": 1, "1h": 20, "1m": 300}[width]
    more = end < len(data)
    cursor = f'"page_{end}"' if more else "null"
    listed = ", ".join(data[offset:end])
    return f'{{"object": "page",\n "data": [{listed}],\n "has_more": {str(more).lower()}, "next_page": {cursor}}}'


def _anthropic_usage(api: Api, query: dict[str, list[str]]) -> str:
    buckets, offset, width = _span(query)
    data = []
    for start, end in buckets:
        results = [
            {"workspace_id": key["group"], "api_key_id": key["key"], "model": key["model"], "service_tier": key["tier"],
             "context_window": "0-200k", "inference_geo": "not_available", **_tokens(tokens)}
            for key, tokens in _sums(api, start, end, "group", "key", "model", "tier")
        ]  # fmt: skip
        data.append(json.dumps({"starting_at": _iso(start), "ending_at": _iso(end), "results": results}))
    return _page(data, api, offset, width)


def _tokens(tokens: list[int]) -> dict[str, Any]:
    return {
        "uncached_input_tokens": tokens[0], "output_tokens": tokens[1], "cache_read_input_tokens": tokens[2],
        "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
        "server_tool_use": {"web_search_requests": 0},
    }  # fmt: skip


def _anthropic_cost(api: Api, query: dict[str, list[str]]) -> str:
    buckets, offset, width = _span(query)
    data = []
    for start, end in buckets:
        results = [
            {"amount": _cents(count * price), "currency": "USD", "cost_type": "tokens", "token_type": _NATIVE[kind],
             "model": key["model"], "workspace_id": key["group"], "service_tier": key["tier"], "context_window": "0-200k",
             "inference_geo": None, "description": f"{key['model']} Usage - {kind}"}
            for key, tokens in _sums(api, start, end, "group", "model", "tier", charged=True)
            for kind, count, price in zip(KINDS, tokens, PRICES[key["model"]], strict=True)
            if count
        ]  # fmt: skip
        data.append(json.dumps({"starting_at": _iso(start), "ending_at": _iso(end), "results": results}))
    return _page(data, api, offset, width)


def _cents(dollars: Decimal) -> str:
    return format((dollars * 100).normalize(), "f")


def _analytics_rows(
    api: Api, query: dict[str, list[str]], *, charged: bool
) -> Iterator[tuple[dict[str, Any], dict[str, str], list[int]]]:
    for start, end in _span(query, "time_bucket_width")[0]:
        for key, tokens in _sums(api, start, end, "group", "key", "model", "tier", charged=charged):
            group = {"workspace_id": key["group"], "api_key_id": key["key"], "model": key["model"],
                     "service_tier": key["tier"], "context_window": "0-200k"}  # fmt: skip
            yield {"starting_at": _iso(start), "ending_at": _iso(end), "group": group}, key, tokens


def _analytics_usage(api: Api, query: dict[str, list[str]]) -> str:
    rows = [
        json.dumps({**row, "usage": _tokens(tokens)})
        for row, _, tokens in _analytics_rows(api, query, charged=False)
    ]
    return _page(rows, api, *_span(query, "time_bucket_width")[1:])


def _analytics_cost(api: Api, query: dict[str, list[str]]) -> str:
    rows = []
    for row, key, tokens in _analytics_rows(api, query, charged=True):
        for kind, count, price in zip(KINDS, tokens, PRICES[key["model"]], strict=True):
            group = row["group"] | {"cost_type": "tokens", "token_type": _NATIVE[kind]}
            cost = {
                "amount": _cents(count * price * api.discount),
                "list_amount": _cents(count * price),
                "currency": "USD",
            }
            rows += [json.dumps({**row, "group": group, "cost": cost})] if count else []
    return _page(rows, api, *_span(query, "time_bucket_width")[1:])


def _analytics_cost_report(api: Api, query: dict[str, list[str]]) -> str:
    """Only the largest groups of a bucket, without a remainder; without grouping, the total."""
    buckets, offset, width = _span(query)
    empty = dict.fromkeys(
        ("product", "model", "context_window", "inference_geo", "speed", "cost_type", "token_type")
    )
    data = []
    for start, end in buckets:
        costs = [
            (
                empty | {"model": key["model"], "cost_type": "tokens", "token_type": _NATIVE[kind]},
                count * price,
            )
            for key, tokens in _sums(api, start, end, "model", charged=True)
            for kind, count, price in zip(KINDS, tokens, PRICES[key["model"]], strict=True)
            if count
        ]
        if "group_by[]" in query:
            costs = sorted(costs, key=lambda pair: -pair[1])[: api.group_cap]
        elif costs:
            costs = [(empty, sum((cost for _, cost in costs), Decimal(0)))]
        results = [
            {**group, "amount": _cents(cost * api.discount), "list_amount": _cents(cost), "currency": "USD"}
            for group, cost in costs
        ]
        data.append(json.dumps({"starting_at": _iso(start), "ending_at": _iso(end), "results": results}))
    return _page(data, api, offset, width)


def _analytics_usage_report(api: Api, query: dict[str, list[str]]) -> str:
    buckets, offset, width = _span(query)
    data = []
    for start, end in buckets:
        results = [
            {"model": key["model"], **_tokens(tokens)} for key, tokens in _sums(api, start, end, "model")
        ]
        data.append(json.dumps({"starting_at": _iso(start), "ending_at": _iso(end), "results": results}))
    return _page(data, api, offset, width)


def _openai_usage(api: Api, query: dict[str, list[str]]) -> str:
    buckets, offset, width = _span(query)
    data = []
    for start, end in buckets:
        results = [
            {"object": "organization.usage.completions.result", "input_tokens": tokens[0] + tokens[2],
             "input_cached_tokens": tokens[2], "output_tokens": tokens[1], "num_model_requests": 1, "project_id": key["group"],
             "api_key_id": key["key"], "model": key["model"], "batch": False, "service_tier": "default"}
            for key, tokens in _sums(api, start, end, "group", "key", "model")
        ]  # fmt: skip
        bucket = {
            "object": "bucket",
            "start_time": int(start.timestamp()),
            "end_time": int(end.timestamp()),
            "results": results,
        }
        data.append(json.dumps(bucket))
    return _page(data, api, offset, width)


def _openai_nothing(api: Api, query: dict[str, list[str]]) -> str:
    buckets, offset, width = _span(query)
    times = [(int(start.timestamp()), int(end.timestamp())) for start, end in buckets]
    data = [
        json.dumps({"object": "bucket", "start_time": start, "end_time": end, "results": []})
        for start, end in times
    ]
    return _page(data, api, offset, width)


def _openai_costs(api: Api, query: dict[str, list[str]]) -> str:
    """Amounts are JSON numbers with all their digits: more than a float holds."""
    buckets, offset, width = _span(query)
    words = {"input": "input", "output": "output", "cache_read": "cached input"}
    data = []
    for start, end in buckets:
        results = [
            f'{{"object": "organization.costs.result", "amount": {{"value": {count * price:f}, "currency": "usd"}}, '
            f'"line_item": "{key["model"]}, {words[kind]}", "project_id": "{key["group"]}", "api_key_id": "{key["key"]}", '
            f'"user_id": null, "quantity": {count}.0, "quantity_unit": "tokens"}}'
            for key, tokens in _sums(api, start, end, "group", "key", "model", charged=True)
            for kind, count, price in zip(KINDS, tokens, PRICES[key["model"]], strict=True)
            if count
        ]
        times = f'"start_time": {int(start.timestamp())}, "end_time": {int(end.timestamp())}'
        data.append(f'{{"object": "bucket", {times}, "results": [{", ".join(results)}]}}')
    return _page(data, api, offset, width)


@contextmanager
def serve(api: Api) -> Iterator[Api]:
    """Run the server on a free port of this machine."""

    class Own(Handler):
        pass

    Own.api = api
    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()


def status(code: int, **headers: str) -> Fault:
    """Answer once with this status."""
    return lambda handler: handler.answer(code, b'{"error": {"message": "synthetic trouble"}}', **headers)


def cut(handler: Handler) -> None:
    """Answer once with a body that ends early, and say that it is whole."""
    handler.answer(200, b'{"object": "page", "data": [{"start')


def cut_length(handler: Handler) -> None:
    """Answer once with fewer bytes than announced."""
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"data": [')
    handler.close_connection = True


def drop(handler: Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def usual(handler: Handler) -> None:
    """No fault: a place in the order of faults."""
    parts = urlsplit(handler.path)
    handler.normal(parts.path, parse_qs(parts.query))
