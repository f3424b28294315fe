-- What bills say of instance types per day: costs, and hours of whole machines or their cards. Groups whose quantity
-- doesn't count hours of the machine (`counted` false) are parts of it: memory, cores, or something that only names it.
-- {final} is a relation of ledger columns; $since and $until bound the day in which a charge ends.
WITH usage AS (
    SELECT
        lower(coalesce(
            x_InstanceType, SkuPriceDetails ->> '$.InstanceType', SkuPriceDetails ->> '$.x_InstanceType'
        )) AS instance_type,
        lower(RegionId) AS region,
        PricingCategory IS NOT DISTINCT FROM 'Dynamic' AS spot,
        CAST(ChargePeriodEnd - INTERVAL 1 MICROSECOND AS DATE) AS day,
        BillingCurrency AS currency,
        CASE WHEN x_GpuHours IS NOT NULL THEN x_GpuCount END AS gpu_count,
        BillingAccountId AS account_id,
        BillingAccountName AS account_name,
        x_GpuHours AS gpu_hours,
        -- An instance without accelerators: its hours, unless the row names it and bills something else.
        CASE
            WHEN x_GpuHours IS NOT NULL OR x_GpuCount IS NOT NULL
                OR regexp_matches(
                    concat_ws(' ', SkuMeter, ChargeDescription),
                    '(?i)unused|software|licen[cs]e|ebs[ -]?optimi|\b(?:o?cpus?|vcpus?|cores?|ram|memory)\b'
                ) THEN NULL
            WHEN lower(ConsumedUnit) IN ({hours}) THEN ConsumedQuantity
            WHEN lower(PricingUnit) IN ({hours}) THEN PricingQuantity
        END AS hours,
        ResourceId, EffectiveCost, BilledCost, ContractedCost, ListCost
    FROM {final}
    WHERE ChargeCategory = 'Usage'
        AND ChargeClass IS NULL
        AND AllocatedMethodId IS NULL
        AND x_CostStatus IS DISTINCT FROM 'Estimated'
        AND CommitmentDiscountStatus IS DISTINCT FROM 'Unused'
        AND CapacityReservationStatus IS DISTINCT FROM 'Unused'
        AND coalesce(ServiceCategory, 'Compute') = 'Compute'
        AND BillingCurrency IS NOT NULL
        AND ChargePeriodEnd > $since
        AND ChargePeriodEnd <= $until
), typed AS (
    -- Rows of a machine's memory and cores needn't name its type, those of its cards do.
    SELECT ResourceId, min(instance_type) AS known_type FROM usage
    WHERE instance_type IS NOT NULL AND gpu_hours IS NOT NULL AND ResourceId IS NOT NULL
    GROUP BY ResourceId
), named AS (
    SELECT usage.* REPLACE (coalesce(instance_type, known_type) AS instance_type)
    FROM usage LEFT JOIN typed ON usage.instance_type IS NULL AND typed.ResourceId = usage.ResourceId
)
SELECT
    instance_type, region, spot, gpu_hours IS NOT NULL OR hours IS NOT NULL AS counted, day, currency,
    CASE WHEN count(EffectiveCost) = count(*) THEN sum(EffectiveCost) END,
    CASE WHEN count(BilledCost) = count(*) THEN sum(BilledCost) END,
    CASE WHEN count(ContractedCost) = count(*) THEN sum(ContractedCost) END,
    CASE WHEN count(ListCost) = count(*) THEN sum(ListCost) END,
    sum(hours), sum(gpu_hours), gpu_count, account_id, account_name
FROM named
WHERE instance_type IS NOT NULL
GROUP BY ALL
