"""Too many replicas: the peak needs fewer."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import RATES

TITLE = "Too many replicas"
FORMULA = "cost × (n − ⌈peak ÷ (headroom × capacity)⌉) ÷ n"
NEEDS = (RATES,)
CONFIDENCE = Decimal("0.6")
RISK = "medium"
RELEASES = True
SQL = """
WITH daily AS (
    SELECT e.job_id, e.model, e.gpu_model, e.day, min(e.replicas) AS replicas, max(e.rate) AS peak, max(e.waiting) AS waiting, any_value(c.rate) AS capacity, bool_or(c.told) AS told
    FROM endpoint_hour AS e
    JOIN capacity AS c ON c.model IS NOT DISTINCT FROM e.model AND c.gpu_model IS NOT DISTINCT FROM e.gpu_model
    WHERE e.role = 'both'
    GROUP BY ALL
), sized AS (
    SELECT
        *,
        greatest(1, ceil(peak / ({headroom} * capacity))) AS needed,
        greatest(1, ceil(max(peak) OVER (PARTITION BY job_id) / ({headroom} * capacity))) AS always
    FROM daily
)
SELECT
    w.label AS scope, a.atom, (s.replicas - s.needed) / s.replicas AS touched,
    greatest(0, s.replicas - s.always) / s.replicas AS low, (s.replicas - s.needed) / s.replicas AS high,
    s.replicas, s.always AS needed, s.peak, s.capacity, s.told, w.kind, w.name, w.namespace
FROM sized AS s
JOIN atom AS a ON a.job_id = s.job_id AND a.day = s.day AND a.state = 'running'
JOIN work AS w ON w.job_id = s.job_id
WHERE s.replicas > s.needed AND coalesce(s.waiting, 0) < 1
ORDER BY s.peak DESC
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    basis = "as configured" if seen["told"] else "the best that one was seen to give"
    where = f"-n {seen['namespace']} " if seen["namespace"] else ""
    return (
        (
            f"{number(seen['replicas'])} replicas for a peak of {number(seen['peak'], 1)} tokens/s; one gives "
            f"{number(seen['capacity'], 1)} ({basis}); low: replicas that no day of the window needed"
        ),
        f"kubectl {where}scale {str(seen['kind'] or '').lower()}/{seen['name']} --replicas={number(seen['needed'])}, or let an autoscaler follow the load.",
    )
