"""Cheaper region or provider: the same is sold for less elsewhere."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import PRICED_BY_PLACE

TITLE = "Cheaper region or provider"
FORMULA = "cost × (1 − price there ÷ price here); low is 0: moving data and egress are not in it"
NEEDS = (PRICED_BY_PLACE,)
CONFIDENCE = Decimal("0.35")
RISK = "high"
RELEASES = False
SQL = """
WITH own AS (
    SELECT
        provider, region, instance_type, gpu_model, gpu_memory_gib,
        CAST(sum(cost) AS DOUBLE) / CAST(sum(quantity) AS DOUBLE) AS hourly,
        CASE WHEN sum(gpu_hours) > 0 THEN CAST(sum(cost) AS DOUBLE) / CAST(sum(gpu_hours) AS DOUBLE) END AS per_card
    FROM (
        SELECT ServiceProviderName AS provider, lower(RegionId) AS region, x_InstanceType AS instance_type, x_GpuModel AS gpu_model,
            x_GpuMemoryGiB AS gpu_memory_gib, EffectiveCost AS cost, PricingQuantity AS quantity, x_GpuHours AS gpu_hours
        FROM savings_whole
        WHERE x_InstanceType IS NOT NULL AND ChargeCategory = 'Usage' AND PricingCategory = 'Standard' AND CommitmentDiscountId IS NULL
            AND EffectiveCost > 0
    )
    GROUP BY ALL
    HAVING sum(quantity) > 0
), listed AS (
    SELECT
        CASE cloud WHEN 'aws' THEN 'AWS' WHEN 'azure' THEN 'Microsoft' WHEN 'gcp' THEN 'Google Cloud' END AS provider,
        region, instance_type, CAST(on_demand AS DOUBLE) AS hourly
    FROM machine_price
    WHERE on_demand > 0 AND region <> '*'
), place AS (
    SELECT o.provider, o.region, o.instance_type, o.hourly, x.provider AS there_provider, x.region AS there, x.hourly AS price, 1 - x.hourly / o.hourly AS share, 'region' AS sort, 0.35 AS confidence
    FROM own AS o
    JOIN own AS x ON x.provider = o.provider AND x.instance_type = o.instance_type AND x.region <> o.region
    UNION ALL
    SELECT o.provider, o.region, o.instance_type, o.hourly, o.provider, x.region, x.hourly, 1 - x.hourly / o.hourly, 'list price of the region', 0.3
    FROM own AS o
    JOIN listed AS x ON x.provider = o.provider AND x.instance_type = lower(o.instance_type) AND x.region <> o.region
    UNION ALL
    SELECT o.provider, o.region, o.instance_type, o.per_card, x.provider, x.region, x.per_card, 1 - x.per_card / o.per_card, 'card-hour', 0.25
    FROM own AS o
    JOIN own AS x ON x.provider <> o.provider AND x.gpu_model = o.gpu_model AND coalesce(x.gpu_memory_gib, 0) >= coalesce(o.gpu_memory_gib, 0)
    WHERE o.per_card > 0 AND x.per_card > 0
), best AS (
    SELECT * FROM place WHERE share > 0.02
    QUALIFY row_number() OVER (PARTITION BY provider, region, instance_type ORDER BY share DESC) = 1
)
SELECT
    concat_ws(' ', b.instance_type, 'in', b.provider, b.region) AS scope, a.atom, 0 AS low, b.share AS high, b.hourly, b.price, b.there_provider, b.there, b.sort, b.confidence
FROM best AS b
JOIN atom AS a ON a.provider = b.provider AND a.region IS NOT DISTINCT FROM b.region AND a.instance_type = b.instance_type
    AND a.pricing = 'Standard' AND a.commitment_id IS NULL
UNION ALL
SELECT
    concat_ws(' ', m.ai_model, m.token_type, 'in', m.provider, m.region), a.atom, 0, 1 - x.price / m.price, m.price, x.price, x.provider, x.region, 'tokens', 0.5
FROM model_price AS m
JOIN model_price AS x ON x.provider = m.provider AND x.ai_model = m.ai_model AND x.token_type = m.token_type
    AND x.tier IS NOT DISTINCT FROM m.tier AND x.unit = m.unit AND x.region <> m.region AND x.price < m.price * 0.98
JOIN atom AS a ON a.provider = m.provider AND a.ai_model = m.ai_model AND a.token_type = m.token_type AND a.tier IS NOT DISTINCT FROM m.tier
    AND a.unit = m.unit AND a.region = m.region AND a.meter IS NOT DISTINCT FROM m.meter
QUALIFY row_number() OVER (PARTITION BY a.atom ORDER BY x.price) = 1
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    what = {"tokens": "a unit of tokens", "card-hour": "a card-hour of the same model"}.get(
        seen["sort"], "an hour"
    )
    basis = "its list price" if seen["sort"].startswith("list") else "you pay it there already"
    return (
        f"{what} costs {number(seen['hourly'], 6)} here and {number(seen['price'], 6)} at {seen['there_provider']} {seen['there'] or ''} ({basis})",
        "Place new work there where data and residency allow; weigh egress and migration first.",
    )
