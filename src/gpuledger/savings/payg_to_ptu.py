"""Steady tokens pay-as-you-go: a base load that never goes away would be cheaper provisioned."""

from decimal import Decimal

from gpuledger.core.savings import Row, money, number
from gpuledger.core.savings_needs import API_TOKENS, MODELS_ON_BILL, UNIT_RATE

TITLE = "Steady tokens pay-as-you-go"
FORMULA = "tokens of nine in ten hours × price − whole units × their price"
NEEDS = (MODELS_ON_BILL, API_TOKENS, UNIT_RATE)
CONFIDENCE = Decimal("0.5")
RISK = "high"
RELEASES = False
SQL = """
WITH paid AS (
    SELECT provider, ai_model, model_key, CAST(sum(cost) AS DOUBLE) AS cost
    FROM atom WHERE ai_model IS NOT NULL AND coalesce(tier, 'standard') = 'standard' GROUP BY ALL
), span AS (
    SELECT count(*) AS hours FROM (SELECT unnest(generate_series({since}, {until} - INTERVAL 1 HOUR, INTERVAL 1 HOUR)))
), hourly AS (
    SELECT model_key, hour, sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) AS tokens
    FROM serving_hour WHERE job_id IS NULL GROUP BY ALL
), level AS (
    SELECT
        h.model_key, sum(CAST(h.tokens AS DOUBLE)) AS tokens, s.hours,
        coalesce(list_sort(list(CAST(h.tokens AS DOUBLE)), 'DESC')[CAST(ceil(s.hours * 0.9) AS BIGINT)], 0) AS base
    FROM hourly AS h CROSS JOIN span AS s
    GROUP BY h.model_key, s.hours
), own AS (
    SELECT provider, CAST(sum(cost) AS DOUBLE) / CAST(sum(quantity) AS DOUBLE) AS price
    FROM atom WHERE tier = 'provisioned' AND quantity > 0 GROUP BY provider
), known AS (
    SELECT
        name,
        max(try_cast(value AS DOUBLE)) FILTER (key = 'tokens-per-minute-per-unit') AS rate,
        max(try_cast(value AS DOUBLE)) FILTER (key = 'unit-hour-price') AS price,
        max(try_cast(value AS DOUBLE)) FILTER (key = 'minimum-units') AS least
    FROM fact GROUP BY name
), sized AS (
    SELECT
        p.*, l.base, l.hours, l.tokens, k.rate, coalesce(k.price, o.price) AS price,
        floor(l.base / 60 / k.rate) AS units, coalesce(k.least, 1) AS least
    FROM paid AS p
    JOIN level AS l ON l.model_key = p.model_key AND l.tokens > 0
    JOIN known AS k ON lower(k.name) IN (p.ai_model, p.model_key) AND k.rate > 0
    LEFT JOIN own AS o ON o.provider = p.provider
), worth AS (
    SELECT *, least(base, units * rate * 60) / tokens * hours * cost - units * price * hours AS saving
    FROM sized
    WHERE units >= least AND price > 0
)
SELECT
    concat_ws(' ', w.ai_model, 'at', w.provider) AS scope, a.atom, w.units, w.base, w.price,
    CAST(round(w.saving / 2, 9) AS DECIMAL(32, 9)) AS low_total, CAST(round(w.saving, 9) AS DECIMAL(32, 9)) AS high_total
FROM worth AS w
JOIN atom AS a ON a.provider = w.provider AND a.ai_model = w.ai_model AND coalesce(a.tier, 'standard') = 'standard'
WHERE w.saving > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"at least {number(seen['base'])} tokens an hour in nine of ten hours: {number(seen['units'])} units at {money(seen['price'])} an hour would carry them; low: half of it",
        "Provision that base load and let peaks spill over to pay-as-you-go.",
    )
