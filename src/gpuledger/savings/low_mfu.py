"""Low model FLOP/s utilisation: fewer useful operations from the same cards than another run has."""

from decimal import Decimal

from gpuledger.core.savings import Row, percent
from gpuledger.core.savings_needs import FLOPS

TITLE = "Low model FLOP/s utilisation"
FORMULA = "cost × (1 − MFU ÷ MFU of the best run on the same card, or your target)"
NEEDS = (FLOPS,)
CONFIDENCE = Decimal("0.4")
RISK = "medium"
RELEASES = False
SQL = """
WITH run AS (
    SELECT job_id, any_value(model) AS model, sum(CAST(tokens AS DOUBLE) * CAST(flops_per_token AS DOUBLE)) AS flop, sum(seconds) AS seconds
    FROM training
    WHERE job_id IS NOT NULL AND tokens > 0 AND flops_per_token > 0
    GROUP BY job_id
), held AS (
    SELECT job_id, arg_max(gpu_model, cost) AS gpu_model, CAST(sum(held_gpu_hours) AS DOUBLE) AS gpu_hours
    FROM atom WHERE job_id IS NOT NULL AND state = 'running' GROUP BY job_id
), mfu AS (
    SELECT r.*, h.gpu_model, r.flop / (h.gpu_hours * 3600 * c.tflops * 1e12) AS mfu
    FROM run AS r
    JOIN held AS h ON h.job_id = r.job_id AND h.gpu_hours > 0
    JOIN card AS c ON c.gpu_model = h.gpu_model
), peer AS (
    SELECT m.*, try_cast(f.value AS DOUBLE) AS target, max(m.mfu) OVER (PARTITION BY m.gpu_model) AS best, max(m.mfu) OVER (PARTITION BY m.gpu_model, m.model) AS same
    FROM mfu AS m
    LEFT JOIN job_fact AS f ON f.job_id = m.job_id AND f.key = 'mfu-target'
)
SELECT
    w.label AS scope, a.atom, CASE WHEN p.target IS NULL THEN 1 - p.mfu / p.same ELSE (1 - p.mfu / p.target) / 2 END AS low,
    1 - p.mfu / coalesce(p.target, p.best) AS high, p.mfu, coalesce(p.target, p.best) AS peer, p.target, p.gpu_model
FROM peer AS p
JOIN atom AS a ON a.job_id = p.job_id AND a.state = 'running'
JOIN work AS w ON w.job_id = p.job_id
WHERE p.mfu < coalesce(p.target, p.best) * 0.95
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    basis = "your target" if seen["target"] is not None else "your best run on that card"
    return (
        f"MFU {percent(seen['mfu'])} on {seen['gpu_model']}, {basis} has {percent(seen['peer'])}",
        "Profile a step: batch size, kernels, communication that isn't overlapped, input.",
    )
