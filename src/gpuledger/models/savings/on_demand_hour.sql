-- Machines paid on demand by hour and kind: cost of charges that no commitment covers, in equal parts over their hours.
WITH told AS (
    SELECT
        ServiceProviderName AS provider,
        lower(RegionId) AS region,
        x_InstanceType AS instance_type,
        ChargePeriodStart AS first,
        greatest(1, CAST(ceil((epoch(ChargePeriodEnd) - epoch(ChargePeriodStart)) / 3600.0) AS BIGINT)) AS hours,
        CAST(EffectiveCost AS DOUBLE) AS cost
    FROM savings_whole
    WHERE x_InstanceType IS NOT NULL AND ChargeCategory = 'Usage' AND PricingCategory = 'Standard'
        AND CommitmentDiscountId IS NULL AND EffectiveCost > 0
)
SELECT provider, region, instance_type, date_trunc('hour', first) + INTERVAL 1 HOUR * step AS hour, sum(cost / hours) AS cost
FROM (SELECT *, unnest(range(hours)) AS step FROM told)
GROUP BY ALL
