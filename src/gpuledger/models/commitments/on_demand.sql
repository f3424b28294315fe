-- Machine usage that no commitment covered, by what decides whether one could: cost in money as charged, `quantity` in
-- the bill's pricing unit (machine hours, or core and card hours where a machine is charged in parts).
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
FROM {charges}
WHERE ChargeCategory = 'Usage' AND CommitmentDiscountId IS NULL AND CapacityReservationStatus IS DISTINCT FROM 'Unused'
    AND (x_InstanceType IS NOT NULL OR x_ServiceTier = 'provisioned' OR ServiceSubcategory = 'Virtual Machines' AND SkuMeter LIKE '% running in %')
    AND coalesce(PricingCategory, 'Standard') IN ('Standard', 'Dynamic') AND EffectiveCost > 0
GROUP BY ALL
