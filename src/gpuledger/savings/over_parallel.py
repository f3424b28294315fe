"""Split over more cards than needed: tensor parallelism beyond what memory and latency ask for."""

from decimal import Decimal

from gpuledger.core.savings import Row, number, percent
from gpuledger.core.savings_needs import KV_USE, LATENCY, job_fact

TITLE = "Split over more cards than needed"
FORMULA = "cost × ½, where weights and cache fit half the cards within the service level"
NEEDS = (
    KV_USE,
    LATENCY,
    job_fact("tensor-parallel", "over how many cards models are split"),
    job_fact("model-memory-gib", "how much memory models' weights take"),
    job_fact("slo-tpot-seconds", "which time per output token is acceptable"),
)
CONFIDENCE = Decimal("0.5")
RISK = "medium"
RELEASES = True
SQL = """
WITH told AS (
    SELECT job_id, any_value(gpu_model) AS gpu_model, max(most_kv) AS kv, sum(tpot_seconds) / sum(tpot_count) AS tpot
    FROM serving_hour
    WHERE job_id IS NOT NULL AND tpot_count > 0
    GROUP BY job_id
), known AS (
    SELECT
        job_id,
        max(try_cast(value AS DOUBLE)) FILTER (key = 'tensor-parallel') AS cards,
        max(try_cast(value AS DOUBLE)) FILTER (key = 'model-memory-gib') AS weights,
        max(try_cast(value AS DOUBLE)) FILTER (key = 'slo-tpot-seconds') AS slo
    FROM job_fact
    GROUP BY job_id
)
SELECT
    w.label AS scope, a.atom, 0.5 AS touched, CASE WHEN t.tpot * 2.5 <= k.slo THEN 0.5 ELSE 0 END AS low, 0.5 AS high, k.cards, t.kv, t.tpot, k.slo
FROM told AS t
JOIN known AS k ON k.job_id = t.job_id
JOIN card AS c ON c.gpu_model = t.gpu_model
JOIN atom AS a ON a.job_id = t.job_id AND a.state = 'running'
JOIN work AS w ON w.job_id = t.job_id
WHERE k.cards >= 2 AND t.tpot * 2 <= k.slo
    AND k.weights + t.kv * (k.cards * c.memory_gib * 0.9 - k.weights) <= k.cards / 2 * c.memory_gib * 0.9
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{number(seen['cards'])} cards; the cache was at most {percent(seen['kv'])} full, {number(seen['tpot'], 3)} s per token of {number(seen['slo'], 3)} s allowed",
        f"Serve it over {number(seen['cards'] / 2)} cards (--tensor-parallel-size) and compare latency under load.",
    )
