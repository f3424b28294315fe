-- What commitments covered and left idle by hour, from the charges: a charge of several hours counts in equal parts.
WITH told AS (
    SELECT
        CommitmentDiscountId AS commitment_id,
        CommitmentDiscountStatus AS status,
        ServiceProviderName AS provider,
        lower(RegionId) AS region,
        x_InstanceType AS instance_type,
        ChargePeriodStart AS first,
        greatest(1, CAST(ceil((epoch(ChargePeriodEnd) - epoch(ChargePeriodStart)) / 3600.0) AS BIGINT)) AS hours,
        CAST(EffectiveCost AS DOUBLE) AS cost,
        CAST(coalesce(ContractedCost, ListCost) AS DOUBLE) AS on_demand
    FROM window_whole
    WHERE CommitmentDiscountId IS NOT NULL AND CommitmentDiscountStatus IN ('Used', 'Unused') AND ChargeCategory = 'Usage'
)
SELECT
    commitment_id, status, provider, region, instance_type, date_trunc('hour', first) + INTERVAL 1 HOUR * step AS hour,
    sum(cost / hours) AS cost,
    sum(on_demand / hours) AS on_demand
FROM (SELECT *, unnest(range(hours)) AS step FROM told)
GROUP BY ALL
