"""Prefill and decode out of balance: one side of a split deployment is half idle."""

from decimal import Decimal

from gpuledger.core.savings import Row, number, percent
from gpuledger.core.savings_needs import ROLES

TITLE = "Prefill and decode out of balance"
FORMULA = "cost of a pool × replicas beyond its peak ÷ headroom"
NEEDS = (ROLES,)
CONFIDENCE = Decimal("0.5")
RISK = "medium"
RELEASES = True
SQL = """
WITH hourly AS (
    SELECT job_id, role, hour, count(DISTINCT pod) AS replicas, sum(running) AS running FROM serving_hour
    WHERE role IN ('prefill', 'decode') AND job_id IS NOT NULL GROUP BY ALL
), full_pod AS (
    SELECT model, role, max(most_running) AS most FROM serving_hour WHERE role IN ('prefill', 'decode') GROUP BY ALL
), model AS (
    SELECT DISTINCT job_id, role, model FROM serving_hour
), pool AS (
    SELECT h.job_id, h.role, min(h.replicas) AS replicas, max(h.running / (h.replicas * f.most)) AS busy
    FROM hourly AS h
    JOIN model AS m ON m.job_id = h.job_id AND m.role = h.role
    JOIN full_pod AS f ON f.model IS NOT DISTINCT FROM m.model AND f.role = h.role
    WHERE f.most > 0
    GROUP BY ALL
), spare AS (
    SELECT
        *, floor(replicas - greatest(1, ceil(replicas * busy / {headroom}))) AS spare,
        floor(replicas - greatest(1, ceil(replicas * busy / ({headroom} * 0.75)))) AS sure,
        sum(replicas) OVER (PARTITION BY job_id) AS together
    FROM pool
)
SELECT
    concat_ws(' ', w.label, s.role) AS scope, a.atom, s.spare / s.together AS touched, greatest(0, s.sure) / s.together AS low, s.spare / s.together AS high,
    s.role, s.replicas, s.busy, s.spare
FROM spare AS s
JOIN atom AS a ON a.job_id = s.job_id AND a.state = 'running'
JOIN work AS w ON w.job_id = s.job_id
WHERE s.busy < 0.5 AND s.spare >= 1
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{number(seen['replicas'])} replicas for {seen['role']} were at most {percent(seen['busy'])} busy, of what one was seen to take",
        f"Give back {number(seen['spare'])} of them, or turn them over to the other side.",
    )
