"""Stranded commitment: paid for and not used."""

from decimal import Decimal

from gpuledger.core.savings import Row, percent
from gpuledger.core.savings_needs import IDLE_COMMITMENTS

TITLE = "Stranded commitment"
FORMULA = "EffectiveCost of unused committed hours; low is 0: what is bought is bought, until it is filled, exchanged or resold"
NEEDS = (IDLE_COMMITMENTS,)
CONFIDENCE = Decimal("0.9")
RISK = "low"
RELEASES = False
SQL = """
WITH used AS (
    SELECT commitment_id, sum(cost) FILTER (commitment_status = 'Used') AS used, sum(cost) AS committed
    FROM atom WHERE commitment_id IS NOT NULL AND commitment_status IS NOT NULL GROUP BY commitment_id
)
SELECT
    concat_ws(' ', 'commitment', a.commitment_id) AS scope, a.atom, 0 AS low, 1 AS high,
    coalesce(CAST(u.used AS DOUBLE), 0) / CAST(u.committed AS DOUBLE) AS used, a.commitment_type, d.ratio
FROM atom AS a
JOIN used AS u ON u.commitment_id = a.commitment_id
LEFT JOIN discount AS d ON d.commitment_id = a.commitment_id
WHERE a.commitment_status = 'Unused'
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    even = f", it pays off from {percent(seen['ratio'])}" if seen["ratio"] is not None else ""
    return (
        f"{percent(seen['used'])} of the {seen['commitment_type'] or 'commitment'} was used{even}",
        "Move on-demand jobs under it (`gpuledger commitments rebalance`), widen its scope, exchange or resell it, and don't renew it at that size.",
    )
