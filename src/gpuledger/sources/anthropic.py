"""Anthropic: usage and cost reports of the Admin API, and of the Usage and Cost Analytics API, as JSON pages.

Documented at platform.claude.com/docs/en/manage-claude/usage-cost-api (`/v1/organizations/usage_report/messages`,
`/v1/organizations/cost_report`) and …/usage-cost-analytics-api (`/v1/organizations/analytics/usage` and `…/cost`, beta
`analytics-usage-cost-2026-08-24`; `…/analytics/cost_report` is their predecessor). Pages are told apart by their form.
The cost report is the bill: amounts are decimal texts in cents. The usage report has the tokens, by key and hour.

A cost line states one price (workspace, model, token type, tier, context window), so it is split over the keys and
hours that used it in proportion to their tokens, exactly. Usage that is newer than the newest cost line becomes rows
with x_CostStatus 'Estimated' at list price; other usage without a cost line keeps its tokens and has no cost, with the
reason in x_Native. List prices are the API's own where it states them (analytics), else those of genai-prices.

Known to be missing: Priority Tier is billed by contract and in no cost report; the default workspace is null in the
Admin API; usage in the Workbench has no key; cost lines without usage (code execution, session time) have no quantity;
no list price for those, for fast mode and for inference in one country; no invoice ids; requests are not counted.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from gpuledger.core import pages, paging
from gpuledger.core.contracts import Delivery, PollContext, Tree
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError
from gpuledger.prices.tokens import CATALOGUE, known, token_prices

TYPE = "anthropic"
TITLE = "Anthropic usage and cost report"
PROVIDER = "Anthropic"
VERSION = "Anthropic Admin API"
API_KEY_VARIABLE = "ANTHROPIC_ADMIN_API_KEY"
_KEY = "an Admin API key (sk-ant-admin…); keys of workspaces can't read reports"
_BETA = {"anthropic-beta": "analytics-usage-cost-2026-08-24"}
_USAGE_GROUPS = ("workspace_id", "api_key_id", "model", "service_tier", "context_window")

_LONG = 200_000  # input tokens; where the window of the reports ends

_DIMENSIONS = (
    "workspace_id", "api_key_id", "model", "service_tier", "context_window", "inference_geo", "speed", "product",
    "cost_type", "token_type", "description",
)  # fmt: skip
COLUMNS: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("kind", "form", "starting_at", "ending_at", "amount", "list_amount", "currency", "quantity", "price", "priced_by",
     "labels", *_DIMENSIONS), ()
)  # fmt: skip
REQUIRED = ("amount|quantity",)
ESTIMATES = True  # usage that the bill doesn't have yet
BLOCKING = True  # the SELECT joins usage to costs
TOTAL = "sum(CAST(money(amount) * 0.01 AS DECIMAL(32, 18))) FILTER (kind = 'cost')"

# Forms by rank: where several report the same day, the first is read. Legacy reports stand behind their successors.
_FORMS = ("analytics_cost", "analytics_cost_report", "cost_report", "analytics_usage", "usage_report")
_TOKENS = (
    ("uncached_input_tokens", "$.uncached_input_tokens", "input"),
    ("output_tokens", "$.output_tokens", "output"),
    ("cache_read_input_tokens", "$.cache_read_input_tokens", "cache_read"),
    ("cache_creation.ephemeral_5m_input_tokens", "$.cache_creation.ephemeral_5m_input_tokens", "cache_write"),
    (
        "cache_creation.ephemeral_1h_input_tokens",
        "$.cache_creation.ephemeral_1h_input_tokens",
        "cache_write_1h",
    ),
    ("web_search", "$.server_tool_use.web_search_requests", "web_search"),
)


def discover(tree: Tree) -> list[Delivery]:
    """One delivery per month folder of a poller; pages elsewhere are one delivery."""
    return pages.by_month(tree, has_rows=lambda content: b'"amount"' in content or b"_tokens" in content)


def read(paths: list[str]) -> str:
    """SQL for the canonical columns: kind 'cost' for lines of the bill, 'usage' for one token type of a usage result."""
    files = [pages.parse(path, Path(path).read_bytes()) for path in paths]
    forms = {_form(result) for file in files for page in file.pages for result in _results(page)}
    if not any(True for file in files for _ in file.pages) or forms == {None}:
        raise SourceError(
            f"not pages of the {TITLE}: no results with an amount or with tokens",
            where=paths[0],
            hint="Keep answers as the API sends them, one page a file.",
        )
    models = {
        str(model)
        for file in files
        for page in file.pages
        for result in _results(page)
        if (model := _model(result))
    }
    return _SQL.format(
        results=pages.relation(files, ("starting_at", "ending_at"), ("amount", "list_amount")),
        prices=pages.values(
            _prices(models), ("priced_model", "priced_type", "context", "since", "price", "priced_by")
        ),
        **_SNIPPETS,
    )


def _results(page: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for bucket in page["data"]:
        if isinstance(bucket, Mapping):
            yield from bucket["results"] if isinstance(bucket.get("results"), list) else (bucket,)


def _form(result: Mapping[str, Any]) -> str | None:
    if isinstance(result.get("cost"), Mapping):
        return "analytics_cost"
    if isinstance(result.get("usage"), Mapping):
        return "analytics_usage"
    if "amount" in result:
        return "analytics_cost_report" if "list_amount" in result else "cost_report"
    return "usage_report" if "uncached_input_tokens" in result else None


def _model(result: Mapping[str, Any]) -> object:
    group = result.get("group")
    return (group if isinstance(group, Mapping) else result).get("model")


def _prices(models: set[str]) -> Iterator[tuple[str | None, ...]]:
    """Price per unit by model, type, context window and day. The usage report tells contexts above 200k tokens apart.

    Other thresholds it doesn't tell: the price below them stands.
    """
    native = {kind: name for name, _, kind in _TOKENS}
    by_day: dict[tuple[str, str, str], dict[int, str]] = {}
    for row in token_prices("anthropic", models):
        since = row.since.isoformat() if row.since else "1970-01-01"
        by_day.setdefault((row.model, row.kind, since), {})[row.above] = format(row.price, "f")
    for (model, kind, since), prices in by_day.items():
        for window, above in (("0-200k", 0), ("200k-1M", _LONG)):
            yield model, native[kind], window, since, prices.get(above, prices[0]), CATALOGUE


def poll(context: PollContext) -> Iterator[Diagnostic]:
    """Fetch usage and cost. Settings: api, usage_bucket, cost_bucket, recent_days, base_url, names, tags."""
    paging.check(context.settings, ("api", "cost_bucket"))
    key = paging.key_of(context.settings, os.environ, API_KEY_VARIABLE, "Admin API key of Anthropic")
    api = paging.one_of(context.settings, "api", ("auto", "analytics", "admin", "analytics-report"))
    settle = timedelta(days=paging.whole(context.settings, "recent_days", 3))
    tried = ("analytics", "admin") if api == "auto" else (api,)
    try:
        for number, kind in enumerate(tried):
            feeds = _feeds(context.settings, kind, key)
            try:
                for feed in feeds:
                    paging.update(context, feed, settle)
            except paging.RefusedError as error:
                if error.status not in {400, 403, 404} or number + 1 == len(tried):
                    raise
                yield Diagnostic(
                    "api-not-available", "info", error.where or TITLE,
                    f"the Usage and Cost Analytics API is not open to this key ({error.status}); read the Admin API instead",
                    'Costs then come by workspace and day. Set api = "admin" to stop asking.',
                )  # fmt: skip
                continue
            paging.prune(context, feeds)
            break
        yield from _label(context, key)
    except paging.RefusedError as error:
        if error.status in {401, 403}:
            raise paging.key_refused(error, API_KEY_VARIABLE, _KEY) from error
        raise
    yield from _unpriced(context)


def _base(settings: Mapping[str, Any]) -> str:
    return str(settings.get("base_url", "https://api.anthropic.com")).rstrip("/") + "/v1/organizations"


def _headers(key: str) -> dict[str, str]:
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}


def _feeds(settings: Mapping[str, Any], api: str, key: str) -> list[paging.Feed]:
    base, headers = _base(settings), _headers(key)
    usage = cast("paging.Width", paging.one_of(settings, "usage_bucket", ("1h", "1m", "1d")))
    cost = cast("paging.Width", paging.one_of(settings, "cost_bucket", ("1d", "1h", "1m")))

    def feed(
        name: str,
        path: str,
        width: paging.Width,
        groups: Sequence[str],
        *,
        limit: int = 0,
        beta: bool = False,
    ) -> paging.Feed:
        bucket = "time_bucket_width" if beta else "bucket_width"
        limit = limit or {"1d": 31, "1h": 168, "1m": 1440}[width]
        params = ((bucket, width), *(("group_by[]", group) for group in groups), ("limit", str(limit)))
        if beta:
            params = (*params, ("order_by", "time"), ("order", "asc"))
        return paging.Feed(name, f"{base}/{path}", width, params, headers | (_BETA if beta else {}))

    if api == "admin":
        return [
            feed("cost", "cost_report", "1d", ("workspace_id", "description")),
            feed("usage", "usage_report/messages", usage, (*_USAGE_GROUPS, "inference_geo")),
        ]
    if api == "analytics":
        groups = (*_USAGE_GROUPS, "cost_type", "token_type")  # five, and the two that don't count
        return [
            feed("analytics-cost", "analytics/cost", cost, groups, limit=1000, beta=True),
            feed("analytics-usage", "analytics/usage", usage, _USAGE_GROUPS, limit=1000, beta=True),
        ]
    dimensions = ("product", "model", "context_window", "speed", "inference_geo")
    pages_of = {"1d": 31, "1h": 168, "1m": 256}[cost]
    return [
        feed(
            "cost-report",
            "analytics/cost_report",
            cost,
            (*dimensions, "cost_type", "token_type"),
            limit=pages_of,
        ),
        feed(
            "cost-total", "analytics/cost_report", cost, (), limit=pages_of
        ),  # groups beyond 100 are in this one only
        feed("usage-report", "analytics/usage_report", usage, dimensions, limit={"1m": 256}.get(usage, 0)),
    ]


def _label(context: PollContext, key: str) -> Iterator[Diagnostic]:
    """Keep the organisation, names of workspaces and keys, and the settings' names and tags, beside the pages."""
    told: list[Diagnostic] = []
    found = paging.remembered(context, lambda: _names(context, key, told))
    yield from told
    settings = context.settings
    account = {
        name: settings.get(f"organization_{name}") or found["account"].get(name) for name in ("id", "name")
    }
    names = {**found["names"], **paging.table(settings, "names")}
    paging.label(context, {"account": account, "names": names, "tags": paging.table(settings, "tags")})


def _names(context: PollContext, key: str, told: list[Diagnostic]) -> dict[str, Any]:
    base, headers = _base(context.settings), _headers(key)
    found: dict[str, Any] = {"account": {}, "names": {}}
    try:
        reply = context.send(f"{base}/me", (), headers)
        if reply.status == 200:  # noqa: PLR2004 - HTTP OK
            found["account"] = paging.account_of(reply.body)
        for path, params in (("workspaces", (("include_archived", "true"),)), ("api_keys", ())):
            found["names"] |= paging.names_of(
                context, f"{base}/{path}", (*params, ("limit", "1000")), headers, "after_id"
            )
    except paging.RefusedError as error:
        told.append(
            Diagnostic(
                "no-names", "info", error.where or TITLE, f"names of workspaces and keys can't be read ({error.status})",
                "Give them in the source's settings, as names.",
            )
        )  # fmt: skip
    return found


def _unpriced(context: PollContext) -> Iterator[Diagnostic]:
    """List the models in the polled months that no price is known for: their usage has no estimate."""
    models = paging.models_in(context, "usage") | paging.models_in(context, "analytics-usage")
    for model in sorted(models - known("anthropic", models)):
        yield Diagnostic(
            "unknown-model", "warning", model, f"no list price is known for {model}: its newest usage has no estimate",
            "The cost comes with the next cost report. A newer genai-prices may know the model.",
        )  # fmt: skip


_PLAIN = tuple(name for name in _DIMENSIONS if name not in {"cost_type", "token_type"})
_SNIPPETS = {
    "names": ", ".join(_DIMENSIONS),
    "plain_names": ", ".join(_PLAIN),
    "dimensions": ", ".join(f"g ->> '$.{name}' AS {name}" for name in _DIMENSIONS if name != "inference_geo"),
    "some_dimension": " OR ".join(f"{name} IS NOT NULL" for name in _DIMENSIONS),
    "rank": f"list_position([{', '.join(repr(form) for form in _FORMS)}], form)",
    "counts": ", ".join(f"v ->> '{path}' AS count_{kind}" for _, path, kind in _TOKENS),
    "count_names": ", ".join(f"count_{kind}" for _, _, kind in _TOKENS),
    "tokens": ", ".join(f"{{'type': '{name}', 'quantity': count_{kind}}}" for name, _, kind in _TOKENS),
}
_SQL = """
WITH found AS ({results}),
formed AS (
    SELECT *,
        coalesce(result -> '$.group', result) AS g,
        coalesce(result -> '$.cost', result -> '$.usage', result) AS v,
        CASE WHEN json_type(result, '$.cost') = 'OBJECT' THEN 'analytics_cost'
             WHEN json_type(result, '$.usage') = 'OBJECT' THEN 'analytics_usage'
             WHEN json_exists(result, '$.list_amount') THEN 'analytics_cost_report'
             WHEN json_exists(result, '$.amount') THEN 'cost_report'
             WHEN json_exists(result, '$.uncached_input_tokens') THEN 'usage_report' END AS form
    FROM found
),
flat AS (
    SELECT _file, _row, form, {rank} AS rank, labels, starting_at, ending_at,
        {dimensions}, nullif(g ->> '$.inference_geo', 'not_available') AS inference_geo,
        v ->> '$.amount' AS amount, v ->> '$.list_amount' AS list_amount, v ->> '$.currency' AS currency,
        form NOT LIKE '%usage%' AS is_cost, {counts}
    FROM formed WHERE form IS NOT NULL
),
-- The same bucket and group in two files: downloads that overlap. The last file counts.
once AS (
    SELECT *, left(starting_at, 10) AS day, epoch(instant(ending_at) - instant(starting_at)) AS width FROM flat
    QUALIFY rank() OVER (PARTITION BY form, starting_at, ending_at, {names} ORDER BY _file DESC) = 1
),
-- A day is read from one report of costs and from one of usage; from the finer buckets, if usage comes in two widths.
best AS (
    SELECT * FROM once QUALIFY rank = min(rank) OVER (PARTITION BY is_cost, day)
),
cost AS (
    SELECT *, bool_or({some_dimension}) OVER (PARTITION BY _file) AS grouped FROM best WHERE is_cost
),
-- Totals without groups, where there are groups too: what the groups leave over becomes a line of its own.
totalled AS (
    SELECT *, NOT grouped AND bool_or(grouped) OVER bucket AS is_total,
        coalesce(sum(money(amount)) FILTER (grouped) OVER bucket, 0) AS listed,
        coalesce(sum(money(list_amount)) FILTER (grouped) OVER bucket, 0) AS listed_list
    FROM cost WINDOW bucket AS (PARTITION BY form, starting_at, ending_at)
),
usage AS (
    SELECT * EXCLUDE ({count_names}, token), token.quantity AS quantity, token.type AS native_type
    FROM (
        SELECT *, unnest([{tokens}]) AS token
        FROM (SELECT * FROM best WHERE NOT is_cost QUALIFY width = min(width) OVER (PARTITION BY day))
    )
    WHERE quantity(token.quantity) <> 0
),
price AS (
    SELECT *, coalesce(lead(since) OVER (PARTITION BY priced_model, priced_type, context ORDER BY since), '9999') AS until
    FROM {prices}
)
SELECT 'cost' AS kind, form, starting_at, ending_at, {plain_names}, token_type,
    if(is_total, 'unlisted', cost_type) AS cost_type,
    if(is_total, CAST(money(amount) - listed AS VARCHAR), amount) AS amount,
    if(is_total, CAST(money(list_amount) - listed_list AS VARCHAR), list_amount) AS list_amount,
    upper(currency) AS currency, NULL::VARCHAR AS quantity, NULL::VARCHAR AS price, NULL::VARCHAR AS priced_by,
    labels, _file, _row
FROM totalled WHERE NOT is_total OR money(amount) <> listed OR money(list_amount) <> listed_list
UNION ALL BY NAME
SELECT 'usage' AS kind, form, starting_at, ending_at, {plain_names},
    nullif(native_type, 'web_search') AS token_type,
    if(native_type = 'web_search', 'web_search', 'tokens') AS cost_type,
    NULL::VARCHAR AS amount, NULL::VARCHAR AS list_amount, NULL::VARCHAR AS currency,
    quantity, price.price, priced_by, labels, _file, _row
FROM usage LEFT JOIN price ON model = priced_model AND native_type = priced_type
    AND context = coalesce(context_window, '0-200k') AND day >= since AND day < until
"""
