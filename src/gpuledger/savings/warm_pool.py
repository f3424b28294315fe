"""Warm pool too large: machines kept ready that no hour needed."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import NODES

TITLE = "Warm pool too large"
FORMULA = "cost of the machines that were free at every hour of a day (low: of the window)"
NEEDS = (NODES,)
CONFIDENCE = Decimal("0.75")
RISK = "medium"
RELEASES = True
SQL = """
WITH hourly AS (
    SELECT cluster, pool, day, hour, count(*) FILTER (held = 0) AS free, sum(cards - held) AS unheld, max(cards) AS size
    FROM node_hour
    GROUP BY ALL
), daily AS (
    SELECT cluster, pool, day, min(free) AS spare, count(*) AS hours, sum(unheld) AS unheld, max(size) AS size
    FROM hourly
    GROUP BY ALL
), pooled AS (
    SELECT *, min(spare) OVER (PARTITION BY cluster, pool) AS always, sum(hours) OVER (PARTITION BY cluster, pool) AS all_hours FROM daily
), place AS (
    SELECT DISTINCT cluster, lower(node) AS node, day, pool FROM node_hour
)
SELECT
    concat_ws(' ', 'pool', concat_ws('/', p.cluster, p.pool)) AS scope, a.atom,
    least(1, p.spare * p.size * p.hours / p.unheld) AS touched,
    least(1, p.always * p.size * p.hours / p.unheld) AS low,
    least(1, p.spare * p.size * p.hours / p.unheld) AS high,
    p.always, max(p.spare) OVER (PARTITION BY p.cluster, p.pool) AS most, p.pool
FROM pooled AS p
JOIN place AS n ON n.cluster = p.cluster AND n.pool = p.pool AND n.day = p.day
JOIN atom AS a ON a.cluster = n.cluster AND lower(a.node) = n.node AND a.day = n.day AND a.state = 'idle' AND a.job_id IS NULL
WHERE p.spare > 0 AND p.unheld > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{number(seen['always'])} machines of the pool were free in every hour, up to {number(seen['most'])} through whole days",
        f"Lower the minimum of {seen['pool'] or 'the pool'} by as many.",
    )
