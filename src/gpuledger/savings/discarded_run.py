"""Runs whose result was thrown away: it ran and nothing came of it."""

from decimal import Decimal

from gpuledger.core.savings import Row
from gpuledger.core.savings_needs import CHECKPOINT_USE

TITLE = "Runs whose result was thrown away"
FORMULA = "cost of the run (low: only of runs marked as discarded)"
NEEDS = (CHECKPOINT_USE,)
CONFIDENCE = Decimal("0.6")
RISK = "low"
RELEASES = False
SQL = """
WITH run AS (
    SELECT
        job_id, bool_or(discarded) AS discarded, bool_or(checkpoint_used) AS used, max("end") AS finished
    FROM training
    WHERE job_id IS NOT NULL
    GROUP BY job_id
)
SELECT w.label AS scope, a.atom, CASE WHEN r.discarded THEN 1 ELSE 0 END AS low, 1 AS high, r.discarded, r.finished
FROM run AS r
JOIN work AS w ON w.job_id = r.job_id
JOIN atom AS a ON a.job_id = r.job_id AND a.state = 'running'
WHERE r.discarded OR (r.used = false AND r.finished <= {until} - INTERVAL 7 DAY AND coalesce(w.ended, r.finished) <= {until} - INTERVAL 7 DAY)
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    why = (
        "marked as discarded"
        if seen["discarded"]
        else f"no checkpoint used in the week after it ended ({seen['finished']:%Y-%m-%d})"
    )
    return (
        f"{why}: the money is spent, its like need not be",
        "Ask what it was for before the next one: smaller trials first, and a stop rule.",
    )
