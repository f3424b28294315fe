"""Provisioned throughput beside its use: its tokens would cost less as they are used."""

from decimal import Decimal

from gpuledger.core.savings import Row, money
from gpuledger.core.savings_needs import PROVISIONED, PTU_TOKENS

TITLE = "Provisioned throughput beside its use"
FORMULA = "cost of provisioned units − Σ tokens × list price, where that is less"
NEEDS = (PROVISIONED, PTU_TOKENS)
CONFIDENCE = Decimal("0.6")
RISK = "medium"
RELEASES = False
SQL = """
WITH unit AS (
    SELECT atom, short_name, cost FROM atom WHERE tier = 'provisioned'
), metered AS (
    SELECT
        u.*,
        times(i.price, CAST(u.input AS DECIMAL(38, 14))) + times(coalesce(c.price, i.price), CAST(u.cached AS DECIMAL(38, 14)))
            + times(o.price, CAST(u.output AS DECIMAL(38, 14))) AS payg
    FROM provisioned_use AS u
    JOIN token_price AS i ON i.model = u.model AND i.kind = 'input'
    JOIN token_price AS o ON o.model = u.model AND o.kind = 'output'
    LEFT JOIN token_price AS c ON c.model = u.model AND c.kind = 'cache_read'
), total AS (
    SELECT short_name, sum(cost) AS cost FROM unit GROUP BY short_name
)
SELECT
    concat_ws(' ', 'provisioned throughput', u.short_name) AS scope, u.atom, m.model, m.payg, t.cost AS paid,
    greatest(0, t.cost - m.payg * 2) AS low_total, t.cost - m.payg AS high_total
FROM unit AS u
JOIN metered AS m ON m.short_name = u.short_name
JOIN total AS t ON t.short_name = u.short_name
WHERE m.payg < t.cost
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{money(seen['paid'])} for provisioned units; the tokens of {seen['model']} that they served cost {money(seen['payg'])} at list price; low: at twice the tokens",
        "Go back to pay-as-you-go, or shrink the deployment to its base load and let the rest spill over.",
    )
