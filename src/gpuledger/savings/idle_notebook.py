"""Idle notebook: somebody left and the cards stayed."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import GPU_USE

TITLE = "Idle notebook"
FORMULA = "cost × share of time at most 1 % busy, in stretches of an hour or more"
NEEDS = (GPU_USE,)
CONFIDENCE = Decimal("0.9")
RISK = "low"
RELEASES = True
SQL = """
WITH still AS (
    SELECT job_id, day, sum(card_hours) FILTER (level <= 0.01 AND run_seconds >= 3600) AS still, sum(card_hours) AS hours
    FROM card_use
    GROUP BY job_id, day
)
SELECT
    w.label AS scope, a.atom, s.still / s.hours AS touched, s.still / s.hours AS low, s.still / s.hours AS high,
    s.still * a.cost / sum(a.cost) OVER (PARTITION BY a.job_id, a.day) AS sum_hours, w.kind, w.name, w.namespace
FROM still AS s
JOIN work AS w ON w.job_id = s.job_id AND w.notebook
JOIN atom AS a ON a.job_id = s.job_id AND a.day = s.day AND a.state = 'running'
WHERE s.still > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    where = f"-n {seen['namespace']} " if seen["namespace"] else ""
    return (
        f"a notebook's cards were at most 1 % busy for {number(seen['hours'])} card-hours",
        f"Ask its owner, then stop it: kubectl {where}scale {str(seen['kind'] or '').lower()}/{seen['name']} --replicas=0. Cull notebooks after an hour of idleness.",
    )
