"""On demand beside an idle commitment: the same kind of machine is paid for twice."""

from decimal import Decimal

from gpuledger.core.savings import Row
from gpuledger.core.savings_needs import IDLE_COMMITMENTS, ON_DEMAND

TITLE = "On demand beside an idle commitment"
FORMULA = "Σ by hour of min(on-demand cost of eligible machines, idle committed capacity at on-demand price)"
NEEDS = (IDLE_COMMITMENTS, ON_DEMAND)
CONFIDENCE = Decimal("0.75")
RISK = "low"
RELEASES = False
SQL = """
WITH covers AS (
    SELECT DISTINCT commitment_id, provider, region, regexp_extract(instance_type, '^[^.]+') AS family
    FROM commitment_hour
    WHERE status = 'Used' AND instance_type IS NOT NULL
), idle AS (
    SELECT h.commitment_id, h.hour, sum(h.cost) AS idle, any_value(d.ratio) AS ratio
    FROM commitment_hour AS h
    JOIN discount AS d ON d.commitment_id = h.commitment_id
    WHERE h.status = 'Unused' AND h.cost > 0
    GROUP BY ALL
), beside AS (
    SELECT c.commitment_id, c.provider, c.region, c.family, o.hour, sum(o.cost) AS cost
    FROM covers AS c
    JOIN on_demand_hour AS o ON o.provider = c.provider AND o.region IS NOT DISTINCT FROM c.region
        AND regexp_extract(o.instance_type, '^[^.]+') = c.family
    GROUP BY ALL
), filled AS (
    SELECT
        b.*, i.ratio, i.idle,
        b.cost / sum(b.cost) OVER (PARTITION BY b.commitment_id, b.hour) * least(sum(b.cost) OVER (PARTITION BY b.commitment_id, b.hour), i.idle / i.ratio) AS fill
    FROM beside AS b
    JOIN idle AS i ON i.commitment_id = b.commitment_id AND i.hour = b.hour
), saved AS (
    SELECT commitment_id, provider, region, family, CAST(hour AS DATE) AS day, sum(fill) AS fill, sum(fill * ratio) AS takes FROM filled GROUP BY ALL
), paid AS (
    SELECT provider, region, regexp_extract(instance_type, '^[^.]+') AS family, CAST(hour AS DATE) AS day, sum(cost) AS cost FROM on_demand_hour GROUP BY ALL
), unused AS (
    SELECT commitment_id, CAST(hour AS DATE) AS day, sum(idle) AS idle FROM idle GROUP BY ALL
)
SELECT
    concat_ws(' ', 'commitment', s.commitment_id) AS scope, a.atom, s.fill / p.cost AS touched, s.fill / p.cost AS low, s.fill / p.cost AS high, s.family, s.region
FROM saved AS s
JOIN paid AS p ON p.provider = s.provider AND p.region IS NOT DISTINCT FROM s.region AND p.family = s.family AND p.day = s.day
JOIN atom AS a ON a.provider = s.provider AND a.region IS NOT DISTINCT FROM s.region AND a.family = s.family AND a.day = s.day
    AND a.pricing = 'Standard' AND a.commitment_id IS NULL
UNION ALL
SELECT concat_ws(' ', 'commitment', s.commitment_id), a.atom, sum(s.takes) / any_value(u.idle), 0, 0, any_value(s.family), any_value(s.region)
FROM saved AS s
JOIN unused AS u ON u.commitment_id = s.commitment_id AND u.day = s.day
JOIN atom AS a ON a.commitment_id = s.commitment_id AND a.commitment_status = 'Unused' AND a.day = s.day
GROUP BY s.commitment_id, a.atom
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{seen['family']} machines in {seen['region'] or 'its region'} were paid on demand in hours in which the commitment was idle",
        "Find what blocks it (account sharing, zone, scope, platform): `gpuledger commitments rebalance` names jobs and blockers.",
    )
