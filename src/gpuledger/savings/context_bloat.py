"""Context that nobody used: input that is paid and not used."""

from decimal import Decimal

from gpuledger.core.savings import Row, percent
from gpuledger.core.savings_needs import UNUSED_CONTEXT

TITLE = "Context that nobody used"
FORMULA = "input cost × share of retrieved or past tokens that answers don't rest on; low: half of it"
NEEDS = (UNUSED_CONTEXT,)
CONFIDENCE = Decimal("0.5")
RISK = "medium"
RELEASES = False
SQL = """
WITH known AS (
    SELECT job_id, try_cast(value AS DOUBLE) AS share FROM job_fact WHERE key = 'unused-context-share'
), served AS (
    SELECT
        job_id, sum(ttft_seconds) / nullif(sum(ttft_seconds) + sum(tpot_seconds / tpot_count * output_tokens) FILTER (tpot_count > 0), 0) AS prefill
    FROM serving_hour WHERE job_id IS NOT NULL GROUP BY job_id
)
SELECT w.label AS scope, a.atom, k.share * s.prefill / 2 AS low, k.share * s.prefill AS high, k.share
FROM known AS k
JOIN served AS s ON s.job_id = k.job_id AND s.prefill > 0
JOIN atom AS a ON a.job_id = k.job_id AND a.state = 'running'
JOIN work AS w ON w.job_id = k.job_id
WHERE k.share > 0
UNION ALL
SELECT concat_ws(' ', a.ai_model, 'by', coalesce(a.short_name, a.account)), a.atom, try_cast(f.value AS DOUBLE) / 2, try_cast(f.value AS DOUBLE), try_cast(f.value AS DOUBLE)
FROM fact AS f
JOIN atom AS a ON lower(f.name) IN (lower(a.ai_model), a.model_key, lower(a.short_name), lower(a.account), lower(a.project))
    AND a.token_type = 'input'
WHERE f.key = 'unused-context-share' AND try_cast(f.value AS DOUBLE) > 0 AND a.ai_model IS NOT NULL
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{percent(seen['share'])} of input was retrieved or history that the answers didn't use, as you measured; low: half of it",
        "Retrieve fewer and better passages, summarise history, and drop tools that aren't called.",
    )
