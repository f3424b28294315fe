"""Cards that do nothing: a job holds them and their engines are idle, or nobody holds the machine."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import GPU_USE

TITLE = "Cards that do nothing"
FORMULA = "cost × idle share, of cards less than 5 % busy for an hour or more; machines that nobody holds"
NEEDS = (GPU_USE,)
CONFIDENCE = Decimal("0.85")
RISK = "low"
RELEASES = True
SQL = """
WITH idle AS (
    SELECT job_id, day, sum(card_hours) FILTER (idle AND run_seconds >= 3600) AS idle_hours, sum(card_hours) AS hours
    FROM card_use
    WHERE state = 'running'
    GROUP BY job_id, day
), served AS (
    SELECT DISTINCT job_id, day FROM serving_hour WHERE requests > 0
), free AS (
    SELECT
        cluster, node, any_value(pool) AS pool, day,
        coalesce(sum(cards) FILTER (held = 0), 0) AS free,
        sum(cards - held) AS unheld,
        count(*) FILTER (held = 0) = 24 AS all_day
    FROM node_hour
    GROUP BY cluster, node, day
)
SELECT
    w.label AS scope, a.atom, i.idle_hours / i.hours AS touched, i.idle_hours / i.hours AS low, i.idle_hours / i.hours AS high,
    i.idle_hours * a.cost / sum(a.cost) OVER (PARTITION BY a.job_id, a.day) AS sum_hours, true AS held, w.kind, w.name, w.namespace
FROM idle AS i
JOIN atom AS a ON a.job_id = i.job_id AND a.day = i.day AND a.state = 'running'
JOIN work AS w ON w.job_id = i.job_id
LEFT JOIN served AS s ON s.job_id = i.job_id AND s.day = i.day
WHERE i.idle_hours > 0 AND s.job_id IS NULL AND NOT w.notebook
UNION ALL
SELECT
    concat_ws(' ', 'machines nobody holds,', concat_ws('/', f.cluster, f.pool)), a.atom,
    f.free / f.unheld, CASE WHEN f.all_day THEN f.free / f.unheld ELSE 0 END, f.free / f.unheld,
    f.free * a.cost / sum(a.cost) OVER (PARTITION BY a.cluster, a.node, a.day), false, NULL, f.pool, NULL
FROM free AS f
JOIN atom AS a ON a.cluster = f.cluster AND lower(a.node) = lower(f.node) AND a.day = f.day AND a.state = 'idle' AND a.job_id IS NULL
WHERE f.free > 0 AND f.unheld > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    if not seen["held"]:
        return (
            f"{number(seen['hours'])} card-hours of machines on which no job held a card; low: those free for whole days",
            f"Let the autoscaler of {seen['name'] or 'the pool'} scale down, or lower its minimum.",
        )
    return (
        f"{number(seen['hours'])} card-hours below 5 % in stretches of an hour or more, no request served",
        "Look at it live with `gpuledger zombies`, then stop or shrink it; it prints the command.",
    )
