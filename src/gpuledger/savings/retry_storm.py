"""Failed work: jobs fail, are tried again, and fail."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import HOLDERS

TITLE = "Failed work"
FORMULA = (
    "cost of failed jobs and of attempts that were repeated; low: of failed jobs, from the second attempt on"
)
NEEDS = (HOLDERS,)
CONFIDENCE = Decimal("0.7")
RISK = "low"
RELEASES = False
SQL = """
WITH last AS (
    SELECT a.job_id, greatest(max(a.attempt), coalesce(any_value(w.attempts), 0)) AS last FROM atom AS a JOIN work AS w ON w.job_id = a.job_id GROUP BY a.job_id
)
SELECT
    concat_ws(' ', w.kind, w.stem) AS scope, a.atom,
    CASE WHEN w.failed AND a.attempt > 1 THEN 1 ELSE 0 END AS low, 1 AS high,
    count(DISTINCT a.job_id) OVER (PARTITION BY w.kind, w.stem) AS jobs, l.last
FROM atom AS a
JOIN work AS w ON w.job_id = a.job_id
JOIN last AS l ON l.job_id = a.job_id
WHERE a.state = 'running' AND w.attempts IS NOT NULL AND (a.attempt < l.last OR w.failed)
    AND w.kind NOT IN ('Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet', 'RayService', 'InferenceService', 'LeaderWorkerSet', 'Rollout')
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{number(seen['jobs'])} job(s) of that name that failed or were tried again; low: failed jobs only, without their first attempt",
        "Limit retries (backoffLimit, Slurm --no-requeue), test on one card first, and resume from checkpoints.",
    )
