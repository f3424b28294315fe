"""Memory held, engines idle: memory is resident and nothing computes."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import GPU_USE, job_fact

TITLE = "Memory held, engines idle"
FORMULA = "cost × share of time below 2 % with memory resident"
NEEDS = (GPU_USE, job_fact("gpu-memory-gib", "how much memory jobs keep on their cards"))
CONFIDENCE = Decimal("0.8")
RISK = "low"
RELEASES = True
SQL = """
WITH still AS (
    SELECT job_id, day, sum(card_hours) FILTER (level < 0.02 AND run_seconds >= 3600) AS still, sum(card_hours) AS hours
    FROM card_use
    GROUP BY job_id, day
)
SELECT
    w.label AS scope, a.atom, s.still / s.hours AS touched, s.still / s.hours AS low, s.still / s.hours AS high,
    s.still * a.cost / sum(a.cost) OVER (PARTITION BY a.job_id, a.day) AS sum_hours, f.value AS memory_gib
FROM still AS s
JOIN job_fact AS f ON f.job_id = s.job_id AND f.key = 'gpu-memory-gib' AND try_cast(f.value AS DOUBLE) > 0
JOIN atom AS a ON a.job_id = s.job_id AND a.day = s.day AND a.state = 'running'
JOIN work AS w ON w.job_id = s.job_id
WHERE s.still > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{number(seen['memory_gib'], 1)} GiB resident while engines were below 2 % for {number(seen['hours'])} card-hours",
        "Unload the model or end the process: memory that is held keeps the card from everybody else.",
    )
