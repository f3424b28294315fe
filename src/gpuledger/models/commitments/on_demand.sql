-- Machine usage that no commitment covered, by what decides whether one could: cost in money as charged, `quantity` in
-- the bill's pricing unit (machine hours, or core and card hours where a machine is charged in parts). Machines with
-- a type, provisioned throughput, and parts of machines are scans of their own: most files have none of them.
WITH machine AS (
    SELECT * FROM {charges} WHERE x_InstanceType IS NOT NULL
    UNION ALL
    SELECT * FROM {charges} WHERE x_ServiceTier = 'provisioned' AND x_InstanceType IS NULL
    UNION ALL
    SELECT * FROM {charges}
    WHERE ServiceSubcategory = 'Virtual Machines' AND x_InstanceType IS NULL AND x_ServiceTier IS DISTINCT FROM 'provisioned'
        AND SkuMeter LIKE '% running in %'
)
SELECT
    {keys}coalesce(ServiceProviderName, ProviderName, HostProviderName) AS provider,
    BillingCurrency AS currency,
    BillingAccountId AS payer,
    SubAccountId AS account,
    RegionId AS region,
    AvailabilityZone AS zone,
    x_InstanceType AS instance_type,
    x_GpuModel AS gpu_model,
    SkuMeter AS meter,
    SkuPriceDetails ->> '$.x_Tenancy' AS tenancy,
    SkuPriceDetails ->> '$.OperatingSystem' AS platform,
    PricingCategory IS NOT DISTINCT FROM 'Dynamic' AS spot,
    CapacityReservationId IS NOT NULL AS reserved,
    sum(EffectiveCost) AS cost,
    sum(PricingQuantity) AS quantity,
    sum(x_GpuHours) AS gpu_hours,
    count(*) AS charges
FROM machine
WHERE ChargeCategory = 'Usage' AND CommitmentDiscountId IS NULL AND CapacityReservationStatus IS DISTINCT FROM 'Unused'
    AND coalesce(PricingCategory, 'Standard') IN ('Standard', 'Dynamic') AND EffectiveCost > 0
GROUP BY ALL
