"""Calls that could wait: answers within a day cost half."""

from decimal import Decimal

from gpuledger.core.savings import Row
from gpuledger.core.savings_needs import MODELS_ON_BILL

TITLE = "Calls that could wait"
FORMULA = "half of their cost, the providers' batch discount; low is 0 unless you say that they may wait"
NEEDS = (MODELS_ON_BILL,)
CONFIDENCE = Decimal("0.5")
RISK = "low"
RELEASES = False
SQL = """
WITH said AS (
    SELECT lower(name) AS name, lower(value) = 'true' AS waits FROM fact WHERE key = 'latency-tolerant'
), call AS (
    SELECT
        atom, provider, ai_model, coalesce(job_tag, project, short_name, account) AS caller,
        list_transform([job_tag, project, short_name, resource_name, account, team], lambda x: lower(x)) AS names
    FROM atom
    WHERE ai_model IS NOT NULL AND coalesce(tier, 'standard') = 'standard'
        AND provider IN ('OpenAI', 'Anthropic', 'Microsoft', 'AWS', 'Google Cloud')
), judged AS (
    SELECT c.*, (SELECT bool_or(s.waits) FROM said AS s WHERE list_contains(c.names, s.name)) AS told,
        regexp_matches(array_to_string(list_filter(names, lambda x: x IS NOT NULL), ' '), '(^|[^a-z])(evals?|evaluation|batch|backfill|etl|offline|nightly|bulk|labell?ing)([^a-z]|$)') AS named
    FROM call AS c
)
SELECT concat_ws(' ', ai_model, 'by', caller) AS scope, atom, CASE WHEN told THEN 0.5 ELSE 0 END AS low, 0.5 AS high, told, caller, provider, CASE WHEN told THEN 0.85 ELSE 0.5 END AS confidence
FROM judged
WHERE coalesce(told, named)
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    why = (
        "you say that it may wait"
        if seen["told"]
        else f"the name {seen['caller']} sounds as if it could wait; low is 0 until you say so (fact latency-tolerant)"
    )
    return (
        f"standard tier at {seen['provider']}; {why}",
        "Send it through the batch API: half the price, an answer within a day.",
    )
