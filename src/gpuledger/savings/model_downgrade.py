"""A cheaper model passes: tasks that a cheaper model does as well."""

from decimal import Decimal

from gpuledger.core.savings import Row
from gpuledger.core.savings_needs import MODELS_ON_BILL, fact

TITLE = "A cheaper model passes"
FORMULA = "cost × (1 − its price ÷ the price now), by kind of token; low is 0 until the evaluation has passed"
NEEDS = (
    MODELS_ON_BILL,
    fact("cheaper-model", "which cheaper model passes the evaluation of a task", "the model that is called"),
)
CONFIDENCE = Decimal("0.5")
RISK = "high"
RELEASES = False
SQL = """
WITH choice AS (
    SELECT f.name, f.value AS cheaper, coalesce(bool_or(lower(q.value) = 'true'), false) AS passed
    FROM fact AS f
    LEFT JOIN fact AS q ON q.name = f.name AND q.key = 'quality-passed'
    WHERE f.key = 'cheaper-model'
    GROUP BY ALL
)
SELECT
    concat_ws(' ', a.ai_model, 'by', coalesce(a.short_name, a.account)) AS scope, a.atom,
    CASE WHEN c.passed THEN 1 - CAST(x.price AS DOUBLE) / CAST(n.price AS DOUBLE) ELSE 0 END AS low,
    1 - CAST(x.price AS DOUBLE) / CAST(n.price AS DOUBLE) AS high, c.cheaper, c.passed, a.ai_model
FROM choice AS c
JOIN atom AS a ON lower(c.name) IN (lower(a.ai_model), a.model_key)
JOIN token_price AS n ON n.model = a.ai_model AND n.kind = a.token_type
JOIN token_price AS x ON x.model = c.cheaper AND x.kind = a.token_type
WHERE x.price < n.price
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    gate = (
        "its evaluation has passed"
        if seen["passed"]
        else "low is 0 until its evaluation passes (fact quality-passed)"
    )
    return (
        f"{seen['cheaper']} costs less per token at list price; {gate}",
        f"Route the tasks that it passes from {seen['ai_model']} to {seen['cheaper']}, and keep the evaluation running.",
    )
