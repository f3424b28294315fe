"""OpenAI: costs and usage of an organisation, as JSON pages of its Admin API.

Documented at platform.openai.com/docs/api-reference/usage (`/v1/organization/costs`, `/v1/organization/usage/…`) and by
the types of the openai package (admin.organization.usage). The costs are the bill: `amount.value` in dollars, a JSON
number or a text, read from the text exactly. A line item names model, token type and tier ("priority | gpt-5.6-sol,
output, long context"); that form is seen, not documented: what can't be read that way keeps its own words. Quantities
are the bill's own; where it states none, the usage report's.

A cost line is a day. Where the usage report has the same tokens, to the last one, it is split over hours in proportion
to them, exactly. Usage beyond the newest bill becomes rows with x_CostStatus 'Estimated' at list price (genai-prices):
all of it after the newest day, and on that day the latest tokens, beyond those that its lines count. `input_tokens` of
the usage report includes cached and cache-write tokens; here each is its own row.

Known to be missing: the day's newest costs (the API settles them later); list prices of long contexts, priority tier,
audio and images; usage that is on no line of a day that has its model; usage reports of images, audio, searches and
sessions, whose quantities the costs have; the organisation's id, unless the settings give it; no invoice ids.
"""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from gpuledger.core import pages, paging
from gpuledger.core.contracts import Delivery, PollContext, Tree
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError
from gpuledger.prices.tokens import CATALOGUE, known, token_prices

TYPE = "openai"
TITLE = "OpenAI usage and costs"
PROVIDER = "OpenAI"
VERSION = "OpenAI organization costs"
API_KEY_VARIABLE = "OPENAI_ADMIN_KEY"
_KEY = "an Admin API key (sk-admin-…) that may read usage; project keys can't"

_IN_LINE_ITEM = re.compile(r"(?:[^|,]* \| )?([A-Za-z0-9][^ ,]*)[^,]*, ")
_DIMENSIONS = (
    "project_id", "api_key_id", "user_id", "model", "service_tier", "modality", "token_type", "long_context", "line_item",
)  # fmt: skip
COLUMNS: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("kind", "starting_at", "ending_at", "amount", "currency", "quantity", "quantity_unit", "price", "priced_by",
     "account_id", "account_name", "project_name", "labels", *_DIMENSIONS), ()
)  # fmt: skip
REQUIRED = ("amount|quantity",)
ESTIMATES = True  # usage that the bill doesn't have yet
BLOCKING = True  # the SELECT joins usage to costs
TOTAL = "sum(money(amount)) FILTER (kind = 'cost')"


def discover(tree: Tree) -> list[Delivery]:
    """One delivery per month folder of a poller; pages elsewhere are one delivery."""
    return pages.by_month(
        tree, has_rows=lambda content: b'"organization.costs.result"' in content or b"_tokens" in content
    )


def read(paths: list[str]) -> str:
    """SQL for the canonical columns: kind 'cost' for lines of the bill, 'usage' for one token type of a usage result."""
    files = [pages.parse(path, Path(path).read_bytes()) for path in paths]
    kinds = {str(result.get("object")) for file in files for page in file.pages for result in _results(page)}
    found = any(True for file in files for _ in file.pages)
    if not found or (kinds and not any(kind.startswith("organization.") for kind in kinds)):
        raise SourceError(
            f"not pages of {TITLE}: no results of the kind organization.…",
            where=paths[0],
            hint="Keep answers as the API sends them, one page a file.",
        )
    models = {
        name for file in files for page in file.pages for result in _results(page) if (name := _model(result))
    }
    return _SQL.format(
        results=pages.relation(files, ("start_time", "end_time"), ("value", "quantity")),
        prices=pages.values(_prices(models), ("priced_model", "priced_type", "since", "price", "priced_by")),
        names=", ".join(_DIMENSIONS),
    )


def _results(page: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for bucket in page["data"]:
        if isinstance(bucket, Mapping) and isinstance(bucket.get("results"), list):
            yield from (result for result in bucket["results"] if isinstance(result, Mapping))


def _model(result: Mapping[str, Any]) -> str:
    """Model of a usage result, or the word that names it in a line item."""
    found = _IN_LINE_ITEM.match(str(result.get("line_item") or ""))
    return str(result.get("model") or (found[1] if found else ""))


def _prices(models: set[str]) -> Iterator[tuple[str | None, ...]]:
    """Price per token by model, type and day; the usage report doesn't tell long contexts, so theirs are left out."""
    for row in token_prices("openai", models):
        if not row.above:
            since = row.since.isoformat() if row.since else "1970-01-01"
            yield row.model, row.kind, since, format(row.price, "f"), CATALOGUE


def poll(context: PollContext) -> Iterator[Diagnostic]:
    """Fetch costs and usage. Settings: usage_bucket, recent_days, base_url, organization_id, names, tags."""
    paging.check(context.settings)
    key = paging.key_of(context.settings, os.environ, API_KEY_VARIABLE, "Admin API key of OpenAI")
    settle = timedelta(days=paging.whole(context.settings, "recent_days", 3))
    headers = {"authorization": f"Bearer {key}"}
    feeds = _feeds(context.settings, headers)
    try:
        for feed in feeds:
            paging.update(context, feed, settle)
        paging.prune(context, feeds)
        yield from _label(context, headers)
    except paging.RefusedError as error:
        if error.status in {401, 403}:
            raise paging.key_refused(error, API_KEY_VARIABLE, _KEY) from error
        raise
    yield from _unpriced(context)


def _base(settings: Mapping[str, Any]) -> str:
    return str(settings.get("base_url", "https://api.openai.com/v1")).rstrip("/") + "/organization"


def _feeds(settings: Mapping[str, Any], headers: Mapping[str, str]) -> list[paging.Feed]:
    width = cast("paging.Width", paging.one_of(settings, "usage_bucket", ("1h", "1m", "1d")))

    def feed(name: str, path: str, width: paging.Width, groups: tuple[str, ...]) -> paging.Feed:
        limit = {"1d": 31, "1h": 168, "1m": 1440}[width]
        params = (
            ("bucket_width", width),
            *(("group_by[]", group) for group in groups),
            ("limit", str(limit)),
        )
        return paging.Feed(
            name, f"{_base(settings)}/{path}", width, params, headers, ("start_time", "end_time"), unix=True
        )

    return [
        feed("costs", "costs", "1d", ("project_id", "line_item", "api_key_id")),
        feed(
            "usage-completions",
            "usage/completions",
            width,
            ("project_id", "api_key_id", "model", "batch", "service_tier"),
        ),
        feed("usage-embeddings", "usage/embeddings", width, ("project_id", "api_key_id", "model")),
    ]


def _label(context: PollContext, headers: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Keep the names of projects, and what the settings say of account, names and tags, beside the pages."""
    told: list[Diagnostic] = []
    found = paging.remembered(context, lambda: _names(context, headers, told))
    yield from told
    settings = context.settings
    account = {name: settings.get(f"organization_{name}") for name in ("id", "name")}
    names = {**found["names"], **paging.table(settings, "names")}
    paging.label(context, {"account": account, "names": names, "tags": paging.table(settings, "tags")})


def _names(context: PollContext, headers: Mapping[str, str], told: list[Diagnostic]) -> dict[str, Any]:
    url, params = f"{_base(context.settings)}/projects", (("include_archived", "true"), ("limit", "100"))
    try:
        return {"names": paging.names_of(context, url, params, headers, "after")}
    except paging.RefusedError as error:
        told.append(
            Diagnostic(
                "no-names", "info", url, f"names of projects can't be read ({error.status})",
                "Give them in the source's settings, as names, or let the key read projects.",
            )
        )  # fmt: skip
        return {"names": {}}


def _unpriced(context: PollContext) -> Iterator[Diagnostic]:
    """List the models in the polled months that no price is known for: their usage has no estimate."""
    models = paging.models_in(context, "usage-")
    for model in sorted(models - known("openai", models)):
        yield Diagnostic(
            "unknown-model", "warning", model, f"no list price is known for {model}: its newest usage has no estimate",
            "The cost comes with the bill. A newer genai-prices may know the model.",
        )  # fmt: skip


# Line items seen: "gpt-5.5-2026-04-23, cached input", "priority | gpt-5.6-sol, output, long context",
# "flex | gpt-5-mini, input", "gpt-audio-mini-2025-12-15 audio, input", "gpt-6-astra, input_tokens", "web search tool calls".
_SQL = r"""
WITH found AS ({results}),
flat AS (
    SELECT _file, _row, result AS r, labels, result ->> '$.object' AS form,
        coalesce(to_timestamp(TRY_CAST(start_time AS BIGINT))::VARCHAR, start_time) AS starting_at,
        coalesce(to_timestamp(TRY_CAST(end_time AS BIGINT))::VARCHAR, end_time) AS ending_at,
        result ->> '$.project_id' AS project_id, result ->> '$.api_key_id' AS api_key_id,
        result ->> '$.user_id' AS user_id, result ->> '$.project_name' AS project_name,
        result ->> '$.organization_id' AS account_id, result ->> '$.organization_name' AS account_name
    FROM found
),
cost AS (
    SELECT * EXCLUDE (r), r ->> '$.line_item' AS line_item, r ->> '$.amount.value' AS amount,
        upper(r ->> '$.amount.currency') AS currency, r ->> '$.quantity' AS quantity, r ->> '$.quantity_unit' AS quantity_unit,
        nullif(regexp_extract(line_item, '^([A-Za-z][A-Za-z _-]*) \| ', 1), '') AS tier,
        regexp_replace(line_item, '^[A-Za-z][A-Za-z _-]* \| ', '') AS item,
        regexp_extract(item, '^([A-Za-z0-9][^ ,]*)( (text|audio|image|video))?, .*$', 1) AS head,
        regexp_extract(item, '^[^ ,]+ (text|audio|image|video), ', 1) AS kind_of_token,
        lower(regexp_extract(item, ', (.*)$', 1)) AS words
    FROM flat WHERE form = 'organization.costs.result'
),
lines AS (
    SELECT * EXCLUDE (tier, item, head, kind_of_token, words), nullif(head, '') AS model,
        CASE WHEN coalesce(head, '') = '' THEN NULL ELSE coalesce(lower(tier), if(words LIKE '%batch%', 'batch', 'standard')) END AS service_tier,
        CASE WHEN coalesce(head, '') = '' THEN NULL WHEN kind_of_token NOT IN ('', 'text') THEN kind_of_token
             WHEN words LIKE '%audio%' THEN 'audio' WHEN words LIKE '%image%' THEN 'image' ELSE 'text' END AS modality,
        CASE WHEN coalesce(head, '') = '' THEN NULL WHEN words LIKE '%cache%write%' THEN 'cache_write' WHEN words LIKE '%cache%' THEN 'cache_read'
             WHEN words LIKE '%output%' THEN 'output' WHEN words LIKE '%input%' THEN 'input' END AS token_type,
        if(words LIKE '%long context%', 'long', NULL) AS long_context
    FROM cost
),
reported AS (
    SELECT *, r ->> '$.model' AS model,
        CASE WHEN r ->> '$.batch' = 'true' THEN 'batch' ELSE coalesce(nullif(r ->> '$.service_tier', 'default'), 'standard') END AS service_tier,
        coalesce(TRY_CAST(r ->> '$.input_cached_tokens' AS BIGINT), 0) AS cached, coalesce(TRY_CAST(r ->> '$.input_cache_write_tokens' AS BIGINT), 0) AS written,
        coalesce(TRY_CAST(r ->> '$.input_uncached_tokens' AS BIGINT),
            TRY_CAST(r ->> '$.input_tokens' AS BIGINT) - cached - written) AS fresh,
        coalesce(TRY_CAST(r ->> '$.output_tokens' AS BIGINT), 0) AS output,
        coalesce(TRY_CAST(r ->> '$.input_audio_tokens' AS BIGINT), 0) AS audio_in, coalesce(TRY_CAST(r ->> '$.input_image_tokens' AS BIGINT), 0) AS image_in,
        coalesce(TRY_CAST(r ->> '$.input_cached_audio_tokens' AS BIGINT), 0) AS audio_cached,
        coalesce(TRY_CAST(r ->> '$.input_cached_image_tokens' AS BIGINT), 0) AS image_cached,
        coalesce(TRY_CAST(r ->> '$.output_audio_tokens' AS BIGINT), 0) AS audio_out, coalesce(TRY_CAST(r ->> '$.output_image_tokens' AS BIGINT), 0) AS image_out
    FROM flat WHERE form IN ('organization.usage.completions.result', 'organization.usage.embeddings.result')
    -- One width of buckets a day: the finer one.
    QUALIFY epoch(instant(ending_at) - instant(starting_at))
        = min(epoch(instant(ending_at) - instant(starting_at))) OVER (PARTITION BY form, left(starting_at, 10))
),
usage AS (
    SELECT * EXCLUDE (r, token, cached, written, fresh, output, audio_in, image_in, audio_cached, image_cached, audio_out, image_out),
        token.type AS token_type, token.modality AS modality, token.count::VARCHAR AS quantity
    FROM (SELECT *, unnest([
            {{'type': 'input', 'modality': 'text', 'count': fresh - audio_in - image_in}},
            {{'type': 'input', 'modality': 'audio', 'count': audio_in}},
            {{'type': 'input', 'modality': 'image', 'count': image_in}},
            {{'type': 'cache_read', 'modality': 'text', 'count': cached - audio_cached - image_cached}},
            {{'type': 'cache_read', 'modality': 'audio', 'count': audio_cached}},
            {{'type': 'cache_read', 'modality': 'image', 'count': image_cached}},
            {{'type': 'cache_write', 'modality': 'text', 'count': written}},
            {{'type': 'output', 'modality': 'text', 'count': output - audio_out - image_out}},
            {{'type': 'output', 'modality': 'audio', 'count': audio_out}},
            {{'type': 'output', 'modality': 'image', 'count': image_out}}]) AS token FROM reported)
    WHERE token.count <> 0
),
price AS (
    SELECT *, coalesce(lead(since) OVER (PARTITION BY priced_model, priced_type ORDER BY since), '9999') AS until FROM {prices}
),
every_line AS (
    SELECT every.*, price.price, priced_by
    FROM (SELECT 'cost' AS kind, * FROM lines UNION ALL BY NAME SELECT 'usage' AS kind, * FROM usage) AS every
    LEFT JOIN price ON model = priced_model AND token_type = priced_type AND modality = 'text'
        AND left(starting_at, 10) >= since AND left(starting_at, 10) < until
)
SELECT kind, starting_at, ending_at, {names}, amount, currency, quantity, quantity_unit, price, priced_by, account_id,
    account_name, project_name, labels, _file, _row
FROM every_line
-- The same bucket and group in two files: downloads that overlap. The last file counts.
QUALIFY rank() OVER (PARTITION BY kind, starting_at, ending_at, {names} ORDER BY _file DESC) = 1
"""
