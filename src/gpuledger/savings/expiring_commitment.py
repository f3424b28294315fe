"""Commitment about to end: when it ends, its hours cost the on-demand price."""

from decimal import Decimal

from gpuledger.core.savings import Row
from gpuledger.core.savings_needs import COMMITMENTS

TITLE = "Commitment about to end"
FORMULA = "what its used hours save against on demand, less what is unused, in a window like this"
NEEDS = (COMMITMENTS,)
CONFIDENCE = Decimal("0.7")
RISK = "medium"
RELEASES = False
SQL = """
WITH term AS (
    SELECT ContractCommitmentId AS commitment_id, max(ContractCommitmentPeriodEnd) AS ends
    FROM contract_commitment
    WHERE ContractCommitmentPeriodEnd IS NOT NULL
    GROUP BY ALL
), benefit AS (
    SELECT commitment_id, sum(contracted_cost) FILTER (commitment_status = 'Used') - sum(cost) AS benefit
    FROM atom
    WHERE commitment_id IS NOT NULL AND commitment_status IN ('Used', 'Unused')
    GROUP BY commitment_id
)
SELECT concat_ws(' ', 'commitment', a.commitment_id) AS scope, a.atom, t.ends, 0 AS low_total, b.benefit AS high_total
FROM term AS t
JOIN benefit AS b ON b.commitment_id = t.commitment_id AND b.benefit > 0
JOIN atom AS a ON a.commitment_id = t.commitment_id AND a.commitment_status = 'Used'
WHERE t.ends >= {until} AND t.ends < {until} + INTERVAL 1 DAY * {expiry_days}
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"ends on {seen['ends']:%Y-%m-%d}; from then on the same use costs as much more",
        "Decide before: renew what `gpuledger commitments plan` still recommends, let the rest lapse.",
    )
