"""Scale to zero off-hours: an endpoint that is called by day runs by night too."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import REQUESTS

TITLE = "Scale to zero off-hours"
FORMULA = "cost × share of hours without a request, less a cold start for each stretch"
NEEDS = (REQUESTS,)
CONFIDENCE = Decimal("0.7")
RISK = "medium"
RELEASES = True
SQL = """
WITH hourly AS (
    SELECT job_id, deployment, hour, day, sum(requests) AS requests FROM endpoint_hour GROUP BY ALL HAVING count(requests) > 0
), marked AS (
    SELECT *, CASE WHEN (requests = 0) IS DISTINCT FROM lag(requests = 0) OVER w OR hour - lag(hour) OVER w > INTERVAL 1 HOUR THEN 1 ELSE 0 END AS breaks
    FROM hourly
    WINDOW w AS (PARTITION BY job_id, deployment ORDER BY hour)
), run AS (
    SELECT *, sum(breaks) OVER (PARTITION BY job_id, deployment ORDER BY hour ROWS UNBOUNDED PRECEDING) AS run FROM marked
), long AS (
    SELECT
        *,
        count(*) OVER (PARTITION BY job_id, deployment, run) AS length,
        max(requests) OVER (PARTITION BY job_id, deployment, hour(hour), isodow(hour) > 5) = 0 AS never,
        max(requests) OVER (PARTITION BY job_id, deployment) > 0 AS called
    FROM run
), daily AS (
    SELECT
        job_id, day, count(*) AS hours, count(*) FILTER (requests = 0 AND length < 24 AND called) AS idle,
        sum(greatest(0, 1 - {cold_start} / 3600.0 / length)) FILTER (requests = 0 AND length < 24 AND called) AS saved,
        sum(greatest(0, 1 - {cold_start} / 3600.0 / length)) FILTER (requests = 0 AND length < 24 AND called AND never) AS sure
    FROM long
    GROUP BY job_id, day
)
SELECT
    w.label AS scope, a.atom, d.idle / d.hours AS touched, coalesce(d.sure, 0) / d.hours AS low, d.saved / d.hours AS high,
    d.idle * a.cost / sum(a.cost) OVER (PARTITION BY a.job_id, a.day) AS sum_hours, w.kind, w.name, w.namespace
FROM daily AS d
JOIN atom AS a ON a.job_id = d.job_id AND a.day = d.day AND a.state = 'running'
JOIN work AS w ON w.job_id = d.job_id
WHERE d.idle > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"no request in {number(seen['hours'])} hours between busy ones; low: hours of the day that never had any",
        f"Scale {seen['name']} to zero when idle (KEDA ScaledObject with minReplicaCount: 0, or a CronJob that scales it).",
    )
