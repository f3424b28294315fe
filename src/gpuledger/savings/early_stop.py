"""Runs that had stopped learning: the loss is flat and the cards run on."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import LOSS

TITLE = "Runs that had stopped learning"
FORMULA = "cost after five evaluations without gain (low: after ten)"
NEEDS = (LOSS,)
CONFIDENCE = Decimal("0.5")
RISK = "medium"
RELEASES = False
SQL = """
WITH told AS (
    SELECT job_id, "start", "end", CAST("start" AS DATE) AS day, seconds, CAST(loss AS DOUBLE) AS loss,
        min(CAST(loss AS DOUBLE)) OVER (PARTITION BY job_id ORDER BY "start" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS best
    FROM training
    WHERE job_id IS NOT NULL AND loss IS NOT NULL
), gained AS (
    SELECT *, max("start") FILTER (best IS NULL OR loss < best * 0.999) OVER (PARTITION BY job_id) AS last_gain FROM told
), numbered AS (
    SELECT *, count(*) FILTER ("start" > last_gain) OVER (PARTITION BY job_id ORDER BY "start" ROWS UNBOUNDED PRECEDING) AS since FROM gained
), daily AS (
    SELECT
        job_id, day, sum(seconds) AS seconds, coalesce(sum(seconds) FILTER (since > 5), 0) AS after_five, coalesce(sum(seconds) FILTER (since > 10), 0) AS after_ten
    FROM numbered
    GROUP BY ALL
)
SELECT
    w.label AS scope, a.atom, d.after_five / d.seconds AS touched, d.after_ten / d.seconds AS low, d.after_five / d.seconds AS high,
    sum(d.after_five) OVER (PARTITION BY d.job_id) / 3600 AS hours
FROM daily AS d
JOIN atom AS a ON a.job_id = d.job_id AND a.day = d.day AND a.state = 'running'
JOIN work AS w ON w.job_id = d.job_id
WHERE d.after_five > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"the loss didn't fall by 0.1 % any more from the fifth evaluation on, before the run's last {number(seen['hours'], 1)} h",
        "Stop early: patience of five evaluations, and a lower learning rate before that.",
    )
