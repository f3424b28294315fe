-- One row per commitment, charge period, status and place. `quantity` is what the provider counts the commitment in:
-- money for spend-based ones, hours or normalised hours for usage-based ones, instance hours for capacity, unit hours for
-- throughput. `on_demand` is what used hours would have cost without the commitment, at the negotiated price, else at
-- the list price; null where the bill has neither. `fee` is what a capacity's own purchase rows cost.
-- Each kind is a scan of its own: most files hold no charge of it at all, and say so.
WITH bearing AS (
    SELECT *, {'id': CommitmentDiscountId, 'kind': 'discount', 'status': CommitmentDiscountStatus} AS bears
    FROM window_charge
    WHERE CommitmentDiscountId IS NOT NULL AND CommitmentDiscountStatus IN ('Used', 'Unused')
    UNION ALL
    SELECT
        *,
        {'id': CapacityReservationId, 'kind': 'capacity', 'status': CASE ChargeCategory WHEN 'Purchase' THEN 'Fee' ELSE CapacityReservationStatus END}
    FROM window_charge
    WHERE CapacityReservationId IS NOT NULL
        AND (ChargeCategory = 'Purchase' OR ChargeCategory = 'Usage' AND CapacityReservationStatus IN ('Used', 'Unused'))
    UNION ALL
    SELECT *, {'id': concat_ws('#', coalesce(ResourceId, SubAccountId), SkuMeter), 'kind': 'throughput', 'status': 'Deployed'}
    FROM window_charge
    WHERE x_ServiceTier = 'provisioned' AND ChargeCategory = 'Usage' AND contains(lower(PricingUnit), 'hour')
        AND CommitmentDiscountStatus IS DISTINCT FROM 'Unused'
)
SELECT
    bears.id AS commitment_id,
    bears.kind AS kind,
    bears.status AS status,
    coalesce(ServiceProviderName, ProviderName, HostProviderName) AS provider,
    BillingCurrency AS currency,
    CASE bears.kind WHEN 'discount' THEN CommitmentDiscountType WHEN 'capacity' THEN 'Capacity Reservation' ELSE 'Provisioned Throughput' END AS type,
    CASE bears.kind WHEN 'discount' THEN CommitmentDiscountCategory ELSE 'Usage' END AS category,
    CASE bears.kind WHEN 'discount' THEN CommitmentDiscountName ELSE ResourceName END AS name,
    CASE bears.kind WHEN 'discount' THEN CommitmentDiscountUnit ELSE PricingUnit END AS unit,
    coalesce(x_Native['savings_plan_offering_type'], x_Native['ProductOrderName']) AS offering,
    BillingAccountId AS payer,
    SubAccountId AS account,
    RegionId AS region,
    AvailabilityZone AS zone,
    x_InstanceType AS instance_type,
    x_GpuModel AS gpu_model,
    SkuMeter AS meter,
    SkuPriceDetails ->> '$.x_Tenancy' AS tenancy,
    SkuPriceDetails ->> '$.OperatingSystem' AS platform,
    ChargePeriodStart AS start,
    greatest(ChargePeriodEnd, ChargePeriodStart + INTERVAL 1 SECOND) AS "end",
    sum(CASE bears.kind WHEN 'discount' THEN CommitmentDiscountQuantity ELSE PricingQuantity END) AS quantity,
    bool_or(CASE bears.kind WHEN 'discount' THEN CommitmentDiscountQuantity ELSE PricingQuantity END IS NULL) AS uncounted,
    sum(EffectiveCost) FILTER (bears.status <> 'Fee') AS cost,
    sum(EffectiveCost) FILTER (bears.status = 'Fee') AS fee,
    CASE WHEN bool_and(coalesce(nullif(ContractedCost, 0), nullif(ListCost, 0)) IS NOT NULL)
        THEN sum(coalesce(nullif(ContractedCost, 0), ListCost)) END AS on_demand,
    bool_or(ContractedCost <> 0) AS contracted,
    sum(PricingQuantity) FILTER (bears.status = 'Used') AS hours,
    sum(x_GpuHours) FILTER (bears.status = 'Used') AS gpu_hours
FROM bearing
GROUP BY ALL
