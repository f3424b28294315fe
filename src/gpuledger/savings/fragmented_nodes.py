"""Fragmented machines: enough free cards for whole machines, in no machine."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import NODES

TITLE = "Fragmented machines"
FORMULA = "cost of free cards on partly held machines that add up to whole machines"
NEEDS = (NODES,)
CONFIDENCE = Decimal("0.5")
RISK = "medium"
RELEASES = True
SQL = """
WITH hourly AS (
    SELECT
        cluster, pool, gpu_model, day, hour, max(cards) AS size,
        coalesce(sum(cards - held) FILTER (held > 0), 0) AS scattered, sum(cards - held) AS unheld
    FROM node_hour
    GROUP BY ALL
), daily AS (
    SELECT
        cluster, pool, gpu_model, day, sum(floor(scattered / size) * size) AS whole, min(floor(scattered / size) * size) * count(*) AS always,
        sum(unheld) AS unheld, max(floor(scattered / size)) AS most
    FROM hourly
    GROUP BY ALL
), place AS (
    SELECT DISTINCT cluster, lower(node) AS node, day, pool, gpu_model FROM node_hour
)
SELECT
    concat_ws(' ', 'pool', concat_ws('/', d.cluster, d.pool)) AS scope, a.atom,
    d.whole / d.unheld AS touched, d.always / d.unheld AS low, d.whole / d.unheld AS high,
    d.whole * a.cost / sum(a.cost) OVER (PARTITION BY d.cluster, d.pool, d.gpu_model, d.day) AS sum_hours,
    max(d.most) OVER (PARTITION BY d.cluster, d.pool) AS most
FROM daily AS d
JOIN place AS n ON n.cluster = d.cluster AND n.pool = d.pool AND n.gpu_model IS NOT DISTINCT FROM d.gpu_model AND n.day = d.day
JOIN atom AS a ON a.cluster = n.cluster AND lower(a.node) = n.node AND a.day = n.day AND a.state = 'idle' AND a.job_id IS NULL
WHERE d.whole > 0 AND d.unheld > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"free cards lay scattered over partly held machines, up to {number(seen['most'])} whole machines of them; {number(seen['hours'])} card-hours",
        "Pack jobs onto few machines (scoring MostAllocated, Slurm CR_Pack), then scale the emptied ones down.",
    )
