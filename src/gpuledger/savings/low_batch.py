"""Small endpoints of one model: each has its own replicas, none is full."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import RATES

TITLE = "Small endpoints of one model"
FORMULA = (
    "cost × (1 − ⌈common peak ÷ (headroom × capacity)⌉ ÷ replicas), over endpoints of one model and card"
)
NEEDS = (RATES,)
CONFIDENCE = Decimal("0.5")
RISK = "medium"
RELEASES = True
SQL = """
WITH hourly AS (
    SELECT model, gpu_model, hour, sum(replicas) AS replicas, sum(rate) AS rate, count(DISTINCT job_id) AS endpoints
    FROM endpoint_hour
    WHERE role = 'both' AND gpu_model IS NOT NULL
    GROUP BY ALL
), own AS (
    SELECT model, gpu_model, sum(peak) AS peaks
    FROM (SELECT model, gpu_model, job_id, max(rate) AS peak FROM endpoint_hour GROUP BY ALL)
    GROUP BY ALL
), sized AS (
    SELECT
        h.model, h.gpu_model, min(h.replicas) AS replicas, max(h.endpoints) AS endpoints, any_value(c.rate) AS capacity, max(h.rate) AS peak,
        greatest(1, ceil(max(h.rate) / ({headroom} * any_value(c.rate)))) AS needed,
        greatest(1, ceil(any_value(o.peaks) / ({headroom} * any_value(c.rate)))) AS apart
    FROM hourly AS h
    JOIN capacity AS c ON c.model IS NOT DISTINCT FROM h.model AND c.gpu_model = h.gpu_model
    JOIN own AS o ON o.model IS NOT DISTINCT FROM h.model AND o.gpu_model = h.gpu_model
    GROUP BY ALL
)
SELECT
    concat_ws(' ', 'model', s.model, 'on', s.gpu_model) AS scope, a.atom, (s.replicas - s.needed) / s.replicas AS touched,
    greatest(0, s.replicas - s.apart) / s.replicas AS low, (s.replicas - s.needed) / s.replicas AS high,
    s.endpoints, s.replicas, s.needed, s.peak, s.capacity
FROM sized AS s
JOIN (SELECT DISTINCT job_id, model, gpu_model FROM endpoint_hour WHERE role = 'both') AS e
    ON e.model IS NOT DISTINCT FROM s.model AND e.gpu_model = s.gpu_model
JOIN atom AS a ON a.job_id = e.job_id AND a.state = 'running'
WHERE s.endpoints >= 2 AND s.replicas > s.needed
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        (
            f"{number(seen['endpoints'])} endpoints with {number(seen['replicas'])} replicas serve the same model; together they peak at "
            f"{number(seen['peak'], 1)} tokens/s, which {number(seen['needed'])} replicas of {number(seen['capacity'], 1)} would take"
        ),
        "Serve them from one endpoint behind a gateway: fuller batches, fewer replicas.",
    )
