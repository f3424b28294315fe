"""Idle endpoint: it runs and nobody calls it."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import REQUESTS

TITLE = "Idle endpoint"
FORMULA = "cost × share of hours without a request, in stretches of a day or more, or of all hours of an endpoint that nobody called"
NEEDS = (REQUESTS,)
CONFIDENCE = Decimal("0.85")
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
        *, count(*) OVER (PARTITION BY job_id, deployment, run) AS length,
        max(requests) OVER (PARTITION BY job_id, deployment) = 0 AND count(*) OVER (PARTITION BY job_id, deployment) >= 24 AS never
    FROM run
), daily AS (
    SELECT job_id, day, count(*) FILTER (requests = 0 AND (length >= 24 OR never)) AS idle, count(*) AS hours FROM long GROUP BY job_id, day
)
SELECT
    w.label AS scope, a.atom, d.idle / d.hours AS touched, d.idle / d.hours AS low, d.idle / d.hours AS high,
    d.idle * a.cost / sum(a.cost) OVER (PARTITION BY a.job_id, a.day) AS sum_hours, w.kind, w.name, w.namespace
FROM daily AS d
JOIN atom AS a ON a.job_id = d.job_id AND a.day = d.day AND a.state = 'running'
JOIN work AS w ON w.job_id = d.job_id
WHERE d.idle > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    where = f"-n {seen['namespace']} " if seen["namespace"] else ""
    return (
        f"no request in {number(seen['hours'])} hours, in stretches of a day or more or ever",
        f"Delete it or scale it to zero: kubectl {where}scale {str(seen['kind'] or '').lower()}/{seen['name']} --replicas=0",
    )
