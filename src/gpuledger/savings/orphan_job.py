"""Orphans: work without a parent, machines without an owner."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import CARDS_ON_BILL

TITLE = "Orphans"
FORMULA = "cost of what runs on after its job ended; of machines with cards that nobody claims and no scheduler knows"
NEEDS = (CARDS_ON_BILL,)
CONFIDENCE = Decimal("0.4")
RISK = "medium"
RELEASES = True
SQL = """
WITH late AS (
    SELECT u.job_id, u.day, sum(u.card_hours) FILTER (u."start" >= j.ended + INTERVAL 10 MINUTE) AS late, sum(u.card_hours) AS hours
    FROM card_use AS u
    JOIN jobs AS j ON j.job_id = u.job_id
    WHERE j.ended IS NOT NULL
    GROUP BY u.job_id, u.day
)
SELECT
    w.label AS scope, a.atom, l.late / l.hours AS touched, l.late / l.hours AS low, l.late / l.hours AS high,
    l.late * a.cost / sum(a.cost) OVER (PARTITION BY a.job_id, a.day) AS sum_hours, 0.85 AS confidence, w.ended, NULL AS machines
FROM late AS l
JOIN atom AS a ON a.job_id = l.job_id AND a.day = l.day AND a.state = 'running'
JOIN work AS w ON w.job_id = l.job_id
WHERE l.late > 0
UNION ALL
SELECT
    concat_ws(' ', 'unclaimed', instance_type, 'in', provider, account), atom, 1, 0, 1, gpu_hours, 0.4, NULL,
    count(DISTINCT resource) OVER (PARTITION BY provider, account, instance_type)
FROM atom
WHERE gpu_model IS NOT NULL AND job_id IS NULL AND state IS NULL AND coalesce(owner, team, cost_center, project) IS NULL
    AND coalesce(commitment_status, 'Used') = 'Used'
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    if seen["ended"] is not None:
        return (
            f"held cards for {number(seen['hours'])} card-hours after its job had ended",
            "Kill what is left of it on the machine; `gpuledger zombies` shows the processes.",
        )
    return (
        f"{number(seen['machines'])} machines, {number(seen['hours'])} card-hours: no owner on the bill, in no scheduler; whether it was of use, nobody can tell",
        "Ask whom `gpuledger unattributed` names, stop what still runs, and require an owner at launch.",
    )
