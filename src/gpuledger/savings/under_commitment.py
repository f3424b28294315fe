"""Steady use on demand: what runs in nearly every hour would be cheaper committed."""

from decimal import Decimal

from gpuledger.core.savings import Row, money, number, percent
from gpuledger.core.savings_needs import COMMITMENT_RATE, ON_DEMAND

TITLE = "Steady use on demand"
FORMULA = "Σ by hour of min(demand, Q) − ratio × Q; low: Q is the demand of 9 in 10 hours at the dearest ratio of your commitments, high: the best Q (quantile 1 − ratio) at their cheapest"
NEEDS = (ON_DEMAND, COMMITMENT_RATE)
CONFIDENCE = Decimal("0.5")
RISK = "high"
RELEASES = False
SQL = """
WITH span AS (
    SELECT count(*) AS hours FROM (SELECT unnest(generate_series({since}, {until} - INTERVAL 1 HOUR, INTERVAL 1 HOUR)))
), demand AS (
    SELECT provider, region, regexp_extract(instance_type, '^[^.]+') AS family, hour, sum(cost) AS cost
    FROM on_demand_hour GROUP BY ALL
), idle AS (
    -- Nobody buys more of what lies idle.
    SELECT DISTINCT u.provider, u.family
    FROM atom AS u
    WHERE u.commitment_status = 'Used' AND u.family IS NOT NULL
        AND u.commitment_id IN (SELECT commitment_id FROM atom WHERE commitment_status = 'Unused')
), level AS (
    -- Hours without any are hours with demand 0: the quantiles are of all hours of the window.
    SELECT
        d.provider, d.region, d.family, any_value(r.ratio) AS ratio, any_value(r.lowest) AS lowest, any_value(s.hours) AS hours, count(*) AS busy,
        list_sort(list(d.cost), 'DESC') AS demand
    FROM demand AS d
    JOIN commitment_rate AS r ON r.provider = d.provider AND r.ratio < 1
    CROSS JOIN span AS s
    WHERE d.hour >= {since} AND d.hour < {until} AND (d.provider, d.family) NOT IN (SELECT (provider, family) FROM idle)
    GROUP BY ALL
), chosen AS (
    SELECT
        *,
        coalesce(demand[CAST(ceil(hours * 0.9) AS BIGINT)], 0) AS safe,
        coalesce(demand[CAST(ceil(hours * lowest) AS BIGINT)], 0) AS best
    FROM level
), worth AS (
    SELECT
        *,
        list_sum(list_transform(demand, lambda x: least(x, safe))) - ratio * safe * hours AS at_safe,
        list_sum(list_transform(demand, lambda x: least(x, best))) - lowest * best * hours AS at_best
    FROM chosen
)
SELECT
    concat_ws(' ', 'on-demand', w.family, 'in', w.provider, w.region) AS scope, a.atom, w.ratio, w.lowest, w.safe, w.best, w.hours, w.busy,
    CAST(round(greatest(0, w.at_safe), 9) AS DECIMAL(32, 9)) AS low_total,
    CAST(round(greatest(w.at_safe, w.at_best), 9) AS DECIMAL(32, 9)) AS high_total
FROM worth AS w
JOIN atom AS a ON a.provider = w.provider AND a.region IS NOT DISTINCT FROM w.region AND a.family = w.family
    AND a.pricing = 'Standard' AND a.commitment_id IS NULL
WHERE greatest(w.at_safe, w.at_best) > 0 AND w.hours >= 24 * 14
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    rates = " to ".join(dict.fromkeys((percent(seen["lowest"]), percent(seen["ratio"]))))
    return (
        (
            f"on demand in {number(seen['busy'])} of {number(seen['hours'])} hours, at least {money(seen['safe'])} an hour in nine of ten; "
            f"your commitments there cost {rates} of on demand"
        ),
        "Clean up first, then commit to what is left: `gpuledger commitments plan` backtests levels and terms.",
    )
