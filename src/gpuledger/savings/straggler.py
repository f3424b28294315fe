"""A rank holds up the others: every step takes as long as the slowest rank's."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import RANKS

TITLE = "A rank holds up the others"
FORMULA = "cost × (1 − median step ÷ slowest rank's step); low: only down to the second slowest"
NEEDS = (RANKS,)
CONFIDENCE = Decimal("0.6")
RISK = "low"
RELEASES = False
SQL = """
WITH rank AS (
    SELECT job_id, regexp_extract(run_id, 'rank[-_=]?([0-9]+)$', 1) AS rank, CAST(sum(step_seconds_sum) AS DOUBLE) / CAST(sum(steps) AS DOUBLE) AS step
    FROM training
    WHERE job_id IS NOT NULL AND steps > 0 AND step_seconds_sum IS NOT NULL AND regexp_matches(run_id, 'rank[-_=]?[0-9]+$')
    GROUP BY ALL
), spread AS (
    SELECT job_id, median(step) AS middle, max(step) AS slowest, arg_max(rank, step) AS who, max(step, 2)[2] AS next, count(*) AS ranks
    FROM rank
    GROUP BY job_id
    HAVING count(*) >= 3
)
SELECT
    w.label AS scope, a.atom, 1 - s.next / s.slowest AS low, 1 - s.middle / s.slowest AS high, s.middle, s.slowest, s.who, s.ranks
FROM spread AS s
JOIN atom AS a ON a.job_id = s.job_id AND a.state = 'running'
JOIN work AS w ON w.job_id = s.job_id
WHERE s.slowest > s.middle * 1.05
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"rank {seen['who']} of {number(seen['ranks'])} takes {number(seen['slowest'], 3)} s a step, the median {number(seen['middle'], 3)} s: all wait for it",
        "Drain its machine and check clocks, links and thermals (dcgmi diag -r 3); restart without it.",
    )
