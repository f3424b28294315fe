"""Cards held while waiting: some of a gang run, the rest can't be placed."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import HOLDERS

TITLE = "Cards held while waiting"
FORMULA = "cost of what a gang held while it could not run (low: beyond the first half hour of each wait)"
NEEDS = (HOLDERS,)
CONFIDENCE = Decimal("0.7")
RISK = "low"
RELEASES = True
SQL = """
WITH wait AS (
    SELECT job_id, day, sum(card_hours) AS hours, sum(card_hours * greatest(0, seconds - 1800) / seconds) AS long
    FROM card_use
    WHERE state = 'held'
    GROUP BY job_id, day
)
SELECT w.label AS scope, a.atom, t.long / t.hours AS low, 1 AS high, t.hours * a.cost / sum(a.cost) OVER (PARTITION BY a.job_id, a.day) AS sum_hours, w.kind
FROM wait AS t
JOIN atom AS a ON a.job_id = t.job_id AND a.day = t.day AND a.state = 'held'
JOIN work AS w ON w.job_id = t.job_id
WHERE t.hours > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{number(seen['hours'])} card-hours held while other members of the job could not be scheduled; low: beyond half an hour each",
        "Admit gangs all at once (Kueue, Volcano or Slurm), release the cards when a member is lost, and keep a spare machine.",
    )
