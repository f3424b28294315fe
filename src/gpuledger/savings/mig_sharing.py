"""Whole cards, a part would do: load and memory fit into a slice of the card."""

from decimal import Decimal

from gpuledger.core.savings import Row, number, percent
from gpuledger.core.savings_needs import GPU_USE, job_fact

TITLE = "Whole cards, a part would do"
FORMULA = "cost × (1 − 1/k), where 95 % of the time load and memory fit into 1/k; low: of the job's own cards packed"
NEEDS = (GPU_USE, job_fact("gpu-memory-gib", "how much memory jobs keep on their cards"))
CONFIDENCE = Decimal("0.6")
RISK = "medium"
RELEASES = True
SQL = """
WITH load AS (
    SELECT u.job_id, quantile_cont(u.level, 0.95) AS level, max(u.cards) AS cards
    FROM card_use AS u
    WHERE u.level IS NOT NULL AND u.state = 'running'
    GROUP BY u.job_id
    HAVING min(u.cards) >= 1
), fitted AS (
    SELECT
        l.*, f.value AS memory_gib, c.gpu_model,
        least(CASE WHEN c.mig THEN 7 ELSE 4 END, floor(0.9 / greatest(l.level, 0.01)), floor(c.memory_gib / try_cast(f.value AS DOUBLE))) AS k
    FROM load AS l
    JOIN job_fact AS f ON f.job_id = l.job_id AND f.key = 'gpu-memory-gib' AND try_cast(f.value AS DOUBLE) > 0
    JOIN (SELECT job_id, arg_max(gpu_model, cost) AS gpu_model FROM atom WHERE gpu_model IS NOT NULL GROUP BY job_id) AS m ON m.job_id = l.job_id
    JOIN card AS c ON c.gpu_model = m.gpu_model
)
SELECT
    w.label AS scope, a.atom, 1 - 1 / f.k AS touched, (f.cards - ceil(f.cards / f.k)) / f.cards AS low, 1 - 1 / f.k AS high,
    f.k, f.level, f.memory_gib, f.gpu_model
FROM fitted AS f
JOIN atom AS a ON a.job_id = f.job_id AND a.state = 'running'
JOIN work AS w ON w.job_id = f.job_id
WHERE f.k >= 2
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"95 % of the time a card was at most {percent(seen['level'])} busy with {number(seen['memory_gib'], 1)} GiB of memory: 1/{number(seen['k'])} of {seen['gpu_model']} is enough",
        "Give it a MIG slice, or share the card by time-slicing where jobs trust each other.",
    )
