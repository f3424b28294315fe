"""Quantise weights: 16-bit weights on a card that computes in 8."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import job_fact

TITLE = "Quantise weights"
FORMULA = "cost × (1 − 1/speed-up) on cards with FP8"
NEEDS = (
    job_fact("precision", "the precision of weights"),
    job_fact("fp8-speedup", "how much faster a model was measured in FP8"),
)
CONFIDENCE = Decimal("0.5")
RISK = "high"
RELEASES = False
SQL = """
WITH known AS (
    SELECT
        job_id,
        max(lower(value)) FILTER (key = 'precision') AS precision,
        max(try_cast(value AS DOUBLE)) FILTER (key = 'fp8-speedup') AS gain,
        max(lower(value)) FILTER (key = 'quality-passed') AS passed
    FROM job_fact
    GROUP BY job_id
)
SELECT
    w.label AS scope, a.atom, CASE WHEN k.passed = 'true' THEN 1 - 1 / k.gain ELSE 0 END AS low, 1 - 1 / k.gain AS high, k.precision, k.gain, k.passed, c.gpu_model
FROM known AS k
JOIN atom AS a ON a.job_id = k.job_id AND a.state = 'running'
JOIN card AS c ON c.gpu_model = a.gpu_model AND c.fp8
JOIN work AS w ON w.job_id = k.job_id
WHERE k.precision IN ('fp16', 'bf16', 'float16', 'bfloat16', 'fp32') AND k.gain > 1
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    gate = (
        "its evaluation has passed"
        if seen["passed"] == "true"
        else "low is 0 until an evaluation passes (fact quality-passed)"
    )
    return (
        f"weights in {seen['precision']} on {seen['gpu_model']}, which has FP8: measured {number(seen['gain'], 2)} times as fast; {gate}",
        "Serve FP8 weights after a quality gate, and give back the replicas that this frees.",
    )
