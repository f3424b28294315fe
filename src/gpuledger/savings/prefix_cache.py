"""Prefix cache is off: prompts repeat their beginning and are computed anew."""

from decimal import Decimal

from gpuledger.core.savings import Row, percent
from gpuledger.core.savings_needs import CACHED, LATENCY

TITLE = "Prefix cache is off"
FORMULA = "cost × prefill share × repeated-prefix share"
NEEDS = (CACHED, LATENCY)
CONFIDENCE = Decimal("0.5")
RISK = "low"
RELEASES = False
SQL = """
WITH told AS (
    SELECT
        job_id, model, sum(cached_input_tokens) / nullif(sum(input_tokens), 0) AS cached,
        sum(ttft_seconds) / nullif(sum(ttft_seconds) + sum(tpot_seconds / tpot_count * output_tokens) FILTER (tpot_count > 0), 0) AS prefill
    FROM serving_hour
    WHERE job_id IS NOT NULL AND cached_input_tokens IS NOT NULL
    GROUP BY ALL
), share AS (
    SELECT
        t.*, try_cast(f.value AS DOUBLE) AS told,
        max(t.cached) OVER (PARTITION BY t.model) AS peer
    FROM told AS t
    LEFT JOIN job_fact AS f ON f.job_id = t.job_id AND f.key = 'prefix-share'
)
SELECT
    w.label AS scope, a.atom, CASE WHEN s.told IS NULL THEN 0 ELSE s.prefill * s.told / 2 END AS low,
    s.prefill * coalesce(s.told, s.peer) AS high, s.cached, coalesce(s.told, s.peer) AS repeated, s.told, s.prefill
FROM share AS s
JOIN atom AS a ON a.job_id = s.job_id AND a.state = 'running'
JOIN work AS w ON w.job_id = s.job_id
WHERE s.cached < 0.01 AND coalesce(s.told, s.peer) > 0.05 AND s.prefill > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    basis = "as you say" if seen["told"] is not None else "as another endpoint of the same model shows"
    return (
        f"{percent(seen['cached'])} of input came from the cache, {percent(seen['repeated'])} could ({basis}); prefill takes {percent(seen['prefill'])} of the time",
        "Turn prefix caching on (vLLM: --enable-prefix-caching) and route sessions to the same replica.",
    )
