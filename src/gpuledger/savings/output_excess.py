"""Answers longer than usual: hours in which answers or reasoning ran long."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import OUTPUTS

TITLE = "Answers longer than usual"
FORMULA = "cost of output beyond the 95th percentile of hourly means of the same deployment"
NEEDS = (OUTPUTS,)
CONFIDENCE = Decimal("0.3")
RISK = "medium"
RELEASES = False
SQL = """
WITH hourly AS (
    SELECT job_id, deployment, model_key, day, hour, sum(CAST(output_tokens AS DOUBLE)) AS output, sum(CAST(input_tokens AS DOUBLE)) AS input, sum(CAST(requests AS DOUBLE)) AS requests
    FROM serving_hour
    WHERE requests > 0 AND output_tokens IS NOT NULL
    GROUP BY ALL
), class AS (
    SELECT *, quantile_cont(output / requests, 0.95) OVER (PARTITION BY deployment, model_key) AS usual, count(*) OVER (PARTITION BY deployment, model_key) AS hours
    FROM hourly
), daily AS (
    SELECT
        job_id, model_key, day, sum(greatest(0, output - requests * usual)) / sum(output) AS part, sum(output) / sum(output + coalesce(input, 0)) AS written,
        max(output / requests) AS longest, any_value(usual) AS usual
    FROM class
    WHERE hours >= 20
    GROUP BY job_id, model_key, day
    HAVING sum(output) > 0
)
SELECT w.label AS scope, a.atom, 0 AS low, d.part * d.written AS high, max(d.longest) OVER (PARTITION BY d.job_id) AS longest, d.usual
FROM daily AS d
JOIN work AS w ON w.job_id = d.job_id
JOIN atom AS a ON a.job_id = d.job_id AND a.day = d.day AND a.state = 'running'
WHERE d.part > 0.01
UNION ALL
SELECT concat_ws(' ', a.ai_model, 'output'), a.atom, 0, d.part, max(d.longest) OVER (PARTITION BY d.model_key), d.usual
FROM daily AS d
JOIN atom AS a ON a.model_key = d.model_key AND a.day = d.day AND a.token_type = 'output'
WHERE d.job_id IS NULL AND d.part > 0.01
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"up to {number(seen['longest'])} output tokens a request in an hour, {number(seen['usual'])} in 95 of 100 hours; low is 0: the long ones may have been right",
        "Cap output and reasoning effort for that kind of task (max_tokens), and ask for the short form.",
    )
