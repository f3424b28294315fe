"""Checkpoint interval: Young (1974): neither so often that saving costs, nor so seldom that failures do."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import CHECKPOINTS, GOODPUT

TITLE = "Checkpoint interval"
FORMULA = "cost × (waste(τ) − waste(√(2 δ MTBF))), waste(τ) = δ/τ + τ/(2 MTBF)"
NEEDS = (CHECKPOINTS, GOODPUT)
CONFIDENCE = Decimal("0.5")
RISK = "low"
RELEASES = False
SQL = """
WITH run AS (
    SELECT
        t.job_id, sum(t.seconds) AS elapsed, sum(t.checkpoints) AS saved, CAST(sum(t.lost_seconds['checkpoint_save']) AS DOUBLE) AS saving,
        greatest(any_value(w.attempts) - 1, 0) AS failures
    FROM training AS t
    JOIN work AS w ON w.job_id = t.job_id
    WHERE t.job_id IS NOT NULL
    GROUP BY t.job_id
), young AS (
    SELECT
        *, elapsed / CAST(saved AS DOUBLE) AS every, saving / CAST(saved AS DOUBLE) AS pause,
        unnest([elapsed / failures, elapsed / failures / 2, elapsed / failures * 2]) AS mtbf,
        unnest([0, 1, 2]) AS guess
    FROM run
    WHERE saved > 0 AND saving > 0 AND failures > 0
), gain AS (
    SELECT *, pause / every + every / (2 * mtbf) - sqrt(2 * pause / mtbf) AS gain, sqrt(2 * pause * mtbf) AS best FROM young
), said AS (
    SELECT
        job_id, any_value(every) AS every, any_value(pause) AS pause, any_value(failures) AS failures,
        max(best) FILTER (guess = 0) AS best, max(gain) FILTER (guess = 0) AS high, greatest(0, min(gain)) AS low
    FROM gain
    GROUP BY job_id
)
SELECT w.label AS scope, a.atom, s.low, s.high, s.every, s.pause, s.failures, s.best
FROM said AS s
JOIN atom AS a ON a.job_id = s.job_id AND a.state = 'running'
JOIN work AS w ON w.job_id = s.job_id
WHERE s.high > 0.001
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"a checkpoint every {number(seen['every'] / 60)} min, each {number(seen['pause'])} s, {number(seen['failures'])} failures; low: if failures were half or twice as many",
        f"Save every {number(seen['best'] / 60)} min (Young's interval), or save asynchronously.",
    )
