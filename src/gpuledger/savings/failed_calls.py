"""Failed calls: requests that end without an answer and are paid all the same."""

from decimal import Decimal

from gpuledger.core.savings import Row, percent
from gpuledger.core.savings_needs import FAILED_CALLS

TITLE = "Failed calls"
FORMULA = "cost × failed requests ÷ all; low is 0: those that fail early cost little"
NEEDS = (FAILED_CALLS,)
CONFIDENCE = Decimal("0.5")
RISK = "low"
RELEASES = False
SQL = """
WITH daily AS (
    SELECT
        job_id, model_key, day, CAST(sum(failed_requests) AS DOUBLE) AS failed,
        CAST(sum(failed_requests) AS DOUBLE) / CAST(sum(failed_requests) + coalesce(sum(requests), 0) AS DOUBLE) AS part
    FROM serving_hour
    WHERE failed_requests IS NOT NULL
    GROUP BY job_id, model_key, day
    HAVING sum(failed_requests) > 0
), own AS (
    SELECT job_id, day, sum(failed) AS failed, max(part) AS part FROM daily WHERE job_id IS NOT NULL GROUP BY job_id, day
)
SELECT w.label AS scope, a.atom, 0 AS low, o.part AS high, o.part, sum(o.failed) OVER (PARTITION BY o.job_id, a.resource, a.node, a.pricing) AS failed
FROM own AS o
JOIN work AS w ON w.job_id = o.job_id
JOIN atom AS a ON a.job_id = o.job_id AND a.day = o.day AND a.state = 'running'
WHERE o.part > 0.01
UNION ALL
SELECT concat_ws(' ', a.ai_model, 'at', a.provider), a.atom, 0, d.part, d.part, d.failed
FROM daily AS d
JOIN atom AS a ON a.model_key = d.model_key AND a.day = d.day AND a.token_type IS NOT NULL
WHERE d.job_id IS NULL AND d.part > 0.01
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"up to {percent(seen['part'])} of a day's requests failed; what they cost is part of the bill",
        "Look at the gateway's status codes; retry with back-off, cut timeouts, and fix what is refused.",
    )
