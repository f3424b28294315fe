"""The same call again: request hashes repeat within the cache's life."""

from decimal import Decimal

from gpuledger.core.savings import Row, percent
from gpuledger.core.savings_needs import DUPLICATES

TITLE = "The same call again"
FORMULA = "cost × share of calls that an answer of a minute ago would have served; low: half of it"
NEEDS = (DUPLICATES,)
CONFIDENCE = Decimal("0.6")
RISK = "low"
RELEASES = False
SQL = """
WITH known AS (
    SELECT job_id, try_cast(value AS DOUBLE) AS share FROM job_fact WHERE key = 'duplicate-call-share'
)
SELECT w.label AS scope, a.atom, k.share / 2 AS low, k.share AS high, k.share
FROM known AS k
JOIN atom AS a ON a.job_id = k.job_id AND a.state = 'running'
JOIN work AS w ON w.job_id = k.job_id
WHERE k.share > 0
UNION ALL
SELECT concat_ws(' ', a.ai_model, 'by', coalesce(a.short_name, a.account)), a.atom, try_cast(f.value AS DOUBLE) / 2, try_cast(f.value AS DOUBLE), try_cast(f.value AS DOUBLE)
FROM fact AS f
JOIN atom AS a ON lower(f.name) IN (lower(a.ai_model), a.model_key, lower(a.short_name), lower(a.account), lower(a.project))
WHERE f.key = 'duplicate-call-share' AND try_cast(f.value AS DOUBLE) > 0 AND a.ai_model IS NOT NULL
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{percent(seen['share'])} of calls repeat a recent one word for word, as your gateway's request hashes say",
        "Answer repeats from a cache in the gateway (LiteLLM: cache: true with a TTL).",
    )
