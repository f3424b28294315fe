"""Training on demand that could be interrupted: it saves checkpoints and pays for never being stopped."""

from decimal import Decimal

from gpuledger.core.savings import Row, number, percent
from gpuledger.core.savings_needs import CHECKPOINTS, ON_DEMAND, SPOT_PRICES

TITLE = "Training on demand that could be interrupted"
FORMULA = "cost × (1 − spot price ÷ price × (1 + interruptions × (½ checkpoint interval + restart)))"
NEEDS = (CHECKPOINTS, ON_DEMAND, SPOT_PRICES)
CONFIDENCE = Decimal("0.5")
RISK = "medium"
RELEASES = False
SQL = """
WITH run AS (
    SELECT
        job_id, sum(seconds) / 3600 / sum(checkpoints) AS every,
        (coalesce(sum(lost_seconds['startup']), 0) + coalesce(sum(lost_seconds['checkpoint_restore']), 0)) / 3600 AS starting
    FROM training
    WHERE job_id IS NOT NULL
    GROUP BY job_id
    HAVING sum(checkpoints) > 0
), priced AS (
    SELECT
        a.atom, a.job_id, r.every, greatest(r.starting, {cold_start} / 3600.0) AS restart, a.instance_type, t.ratio,
        try_cast(i.value AS DOUBLE) AS told
    FROM atom AS a
    JOIN run AS r ON r.job_id = a.job_id
    JOIN spot_ratio AS t ON t.provider = a.provider AND t.region IS NOT DISTINCT FROM a.region AND t.instance_type = a.instance_type
    LEFT JOIN fact AS i ON i.name = a.instance_type AND i.key = 'interruptions-per-hour'
    WHERE a.pricing = 'Standard' AND a.commitment_id IS NULL AND a.state = 'running'
)
SELECT
    w.label AS scope, p.atom,
    1 - p.ratio * (1 + coalesce(p.told, 0.1) * (p.every / 2 + p.restart)) AS low,
    1 - p.ratio * (1 + coalesce(p.told, 0.01) * (p.every / 2 + p.restart)) AS high,
    p.ratio, p.every, p.told, p.instance_type
FROM priced AS p
JOIN work AS w ON w.job_id = p.job_id
WHERE p.ratio < 1
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    told = seen["told"]
    assumed = (
        f"{number(told, 3)} interruptions an hour, as you say"
        if told is not None
        else "assuming one interruption in 100 hours (low: in 10)"
    )
    return (
        f"on demand, with a checkpoint every {number(seen['every'], 1)} h; spot {seen['instance_type']} costs {percent(seen['ratio'])} of it; {assumed}",
        "Run it on spot capacity with automatic restart from the last checkpoint.",
    )
