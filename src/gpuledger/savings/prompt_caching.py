"""Prompt caching: the start of prompts repeats, and only reading it anew is paid in full."""

from decimal import Decimal

from gpuledger.core.savings import Row, percent
from gpuledger.core.savings_needs import MODELS_ON_BILL

TITLE = "Prompt caching"
FORMULA = "input cost × cacheable share × (1 − (write price ÷ k + read price × (k − 1) ÷ k) ÷ input price), k = calls per cache life"
NEEDS = (MODELS_ON_BILL,)
CONFIDENCE = Decimal("0.3")
RISK = "low"
RELEASES = False
SQL = """
WITH told AS (
    SELECT
        provider, ai_model, coalesce(short_name, account, 'unknown caller') AS caller,
        coalesce(sum(quantity) FILTER (token_type = 'input'), 0) AS input,
        coalesce(sum(quantity) FILTER (token_type = 'cache_read'), 0) AS read,
        coalesce(sum(quantity) FILTER (token_type = 'cache_write'), 0) AS written
    FROM atom
    WHERE ai_model IS NOT NULL AND token_type IN ('input', 'cache_read', 'cache_write') AND coalesce(tier, 'standard') = 'standard'
    GROUP BY ALL
), share AS (
    SELECT *, CAST(read AS DOUBLE) / CAST(input + read + written AS DOUBLE) AS cached, CAST(input AS DOUBLE) / CAST(input + read + written AS DOUBLE) AS open FROM told WHERE input > 0
), peer AS (
    SELECT provider, max(cached) AS cached, arg_max(caller, cached) AS who, arg_max(CASE WHEN written > 0 THEN CAST(read AS DOUBLE) / CAST(written AS DOUBLE) + 1 END, cached) AS calls
    FROM share GROUP BY provider
), price AS (
    SELECT
        model, CAST(max(price) FILTER (kind = 'cache_read') AS DOUBLE) / CAST(max(price) FILTER (kind = 'input') AS DOUBLE) AS read,
        coalesce(CAST(max(price) FILTER (kind = 'cache_write') AS DOUBLE) / CAST(max(price) FILTER (kind = 'input') AS DOUBLE), 1) AS written
    FROM token_price GROUP BY model
), gain AS (
    SELECT
        s.provider, s.ai_model, s.caller, s.cached, try_cast(f.value AS DOUBLE) AS told, p.who, coalesce(try_cast(f.value AS DOUBLE), p.cached) AS reach,
        greatest(0, coalesce(try_cast(f.value AS DOUBLE), p.cached) - s.cached) / s.open AS part,
        1 - (c.written / k.calls + c.read * (k.calls - 1) / k.calls) AS discount
    FROM share AS s
    JOIN peer AS p ON p.provider = s.provider
    JOIN price AS c ON c.model = s.ai_model
    LEFT JOIN fact AS f ON lower(f.name) = lower(s.caller) AND f.key = 'prefix-share'
    CROSS JOIN LATERAL (SELECT greatest(2, coalesce(p.calls, 10)) AS calls) AS k
    WHERE c.read IS NOT NULL
)
SELECT
    concat_ws(' ', g.ai_model, 'by', g.caller) AS scope, a.atom, least(1, g.part) AS touched,
    CASE WHEN g.told IS NULL THEN 0 ELSE least(1, g.part) * g.discount / 2 END AS low, least(1, g.part) * g.discount AS high,
    g.cached, g.reach, g.who, g.told, CASE WHEN g.told IS NULL THEN 0.3 ELSE 0.6 END AS confidence
FROM gain AS g
JOIN atom AS a ON a.provider = g.provider AND a.ai_model = g.ai_model AND coalesce(a.short_name, a.account, 'unknown caller') = g.caller
    AND a.token_type = 'input' AND coalesce(a.tier, 'standard') = 'standard'
WHERE g.discount > 0 AND (g.told IS NOT NULL OR g.cached < g.reach / 2) AND g.part > 0.05
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    basis = (
        "as you say"
        if seen["told"] is not None
        else f"as {seen['who']} at the same provider shows; whether these prompts repeat isn't known"
    )
    return (
        f"{percent(seen['cached'])} of input came from the cache, {percent(seen['reach'])} could ({basis})",
        "Put what repeats first in the prompt and mark it for caching (Anthropic, Bedrock: cache_control); keep it byte for byte the same.",
    )
