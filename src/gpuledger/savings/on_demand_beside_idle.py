"""On demand beside an idle commitment: the same kind of machine is paid for twice."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import IDLE_COMMITMENTS, ON_DEMAND

TITLE = "On demand beside an idle commitment"
FORMULA = "what on-demand work costs that fits idle committed hours of its own time, as `commitments rebalance` places it"
NEEDS = (IDLE_COMMITMENTS, ON_DEMAND)
CONFIDENCE = Decimal("0.75")
RISK = "low"
RELEASES = False
SQL = """
WITH machine AS (
    SELECT DISTINCT m.commitment_id, m.holder, m.account, m.region, m.instance_type, a.resource
    FROM idle_move AS m
    JOIN atom AS a ON m.holder IN (a.job_id, a.resource) AND a.account IS NOT DISTINCT FROM m.account
        AND a.region IS NOT DISTINCT FROM lower(m.region) AND a.instance_type = m.instance_type
), paid AS (
    SELECT k.commitment_id, k.holder, k.account, k.region, k.instance_type, a.atom, a.cost
    FROM machine AS k
    JOIN atom AS a ON a.resource = k.resource AND a.account IS NOT DISTINCT FROM k.account AND a.instance_type = k.instance_type
        AND a.pricing = 'Standard' AND a.commitment_id IS NULL
), move AS (
    SELECT
        m.*,
        concat_ws(
            ' ', coalesce(nullif(concat_ws(' ', w.kind, w.stem), ''), regexp_replace(m.name, '[-_.][0-9]+$', ''), m.holder),
            'beside commitment', m.commitment_id
        ) AS scope
    FROM idle_move AS m
    LEFT JOIN work AS w ON w.job_id = m.holder
), spread AS (
    SELECT
        v.scope, p.atom, v.blocker, v.action, v.saved, count(DISTINCT v.holder) OVER (PARTITION BY v.scope) AS holders,
        CAST(v.saved AS DOUBLE) / CAST(sum(p.cost) OVER (PARTITION BY v.commitment_id, v.holder, v.account, v.region, v.instance_type) AS DOUBLE) AS part
    FROM move AS v
    JOIN paid AS p ON p.commitment_id = v.commitment_id AND p.holder = v.holder AND p.account IS NOT DISTINCT FROM v.account
        AND p.region IS NOT DISTINCT FROM v.region AND p.instance_type = v.instance_type
)
SELECT scope, atom, part AS touched, part AS low, part AS high, blocker, action, saved, holders FROM spread
UNION ALL
SELECT
    v.scope, a.atom,
    CAST(v.stranded_used AS DOUBLE) / CAST(sum(a.cost) OVER (PARTITION BY v.commitment_id, v.holder, v.account, v.region, v.instance_type) AS DOUBLE), 0, 0, v.blocker, v.action, v.saved, 1
FROM move AS v
JOIN atom AS a ON a.commitment_id = v.commitment_id AND a.commitment_status = 'Unused'
ORDER BY holders DESC, saved DESC
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    more = (
        f" There are {number(seen['holders'] - 1)} more: `gpuledger commitments rebalance`."
        if seen["holders"] > 1
        else ""
    )
    return (
        f"paid on demand in hours in which the commitment was idle; in the way: {seen['blocker']}",
        (seen["action"] or "`gpuledger commitments rebalance` says what to change.") + more,
    )
