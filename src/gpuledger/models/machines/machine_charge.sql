-- Charges to split. Time paid for: accelerator hours by accelerators, else the hours that the bill states. Credits and
-- discounts state none: they get that of the use in the same machine and period, so that they follow what they credit.
WITH matched AS (
    SELECT
        c.*,
        m.kind,
        m.cluster,
        m.node,
        CASE
            WHEN m.kind = 'volume' THEN 'memory'
            WHEN c.HostProviderName IS DISTINCT FROM 'Google Cloud' OR c.x_CostStatus = 'Estimated' THEN NULL
            WHEN regexp_matches(c.SkuMeter, '\bgpus?\b', 'i') THEN 'gpu'
            WHEN regexp_matches(c.SkuMeter, '\b(instance )?cores?\b|\bcpus?\b', 'i') THEN 'cpu'
            WHEN regexp_matches(c.SkuMeter, '\b(instance )?ram\b', 'i') THEN 'memory'
        END AS part,
        CASE WHEN m.kind = 'machine' THEN c.x_GpuCount END AS gpu_count
    FROM charge AS c
    JOIN machine AS m ON m.ResourceId = c.ResourceId
        AND m.ResourceName IS NOT DISTINCT FROM c.ResourceName
        AND m.SubAccountId IS NOT DISTINCT FROM c.SubAccountId
    WHERE c.ChargeCategory IN ('Usage', 'Credit')
        AND c.AllocatedMethodId IS NULL
        -- Traffic of a volume is nobody's claim.
        AND (m.kind = 'machine' OR c.ServiceCategory = 'Storage')
        AND c.ChargePeriodStart < m.until
        AND c.ChargePeriodEnd > m.since
), timed AS (
    SELECT
        *,
        CASE
            WHEN ChargeCategory <> 'Usage' OR kind <> 'machine' OR part IS NOT NULL THEN NULL
            WHEN x_GpuHours > 0 AND x_GpuCount > 0
                THEN CAST(trunc(x_GpuHours * 1000000) AS HUGEINT) * 3600000 // CAST(trunc(x_GpuCount * 1000) AS HUGEINT)
            WHEN ConsumedQuantity > 0 AND regexp_matches(ConsumedUnit, '^((instance|node|vm)[- ]?)?(hours?|hrs?|h)$', 'i')
                THEN CAST(trunc(ConsumedQuantity * 1000000) AS HUGEINT) * 3600
            WHEN ConsumedQuantity > 0 AND regexp_matches(ConsumedUnit, '^seconds?$', 'i')
                THEN CAST(trunc(ConsumedQuantity * 1000000) AS HUGEINT)
            WHEN PricingQuantity > 0 AND regexp_matches(PricingUnit, '^((instance|node|vm)[- ]?)?(hours?|hrs?|h)$', 'i')
                THEN CAST(trunc(PricingQuantity * 1000000) AS HUGEINT) * 3600
        END AS own_us
    FROM matched
), by_sku AS (
    -- One machine is paid for once, whatever is sold beside it.
    SELECT cluster, node, ChargePeriodStart, ChargePeriodEnd, SkuId, sum(own_us) AS paid_us
    FROM timed
    WHERE own_us > 0
    GROUP BY ALL
), paid AS (
    SELECT cluster, node, ChargePeriodStart, ChargePeriodEnd, max(paid_us) AS paid_us
    FROM by_sku
    GROUP BY ALL
), pool AS (
    SELECT cluster, node, max(len(nodes)) AS nodes FROM machine GROUP BY ALL
)
SELECT
    t.* EXCLUDE (own_us),
    CASE
        WHEN pool.nodes = 1
            THEN CAST(CAST(least(paid.paid_us, epoch_us(t.ChargePeriodEnd) - epoch_us(t.ChargePeriodStart)) AS DECIMAL(38, 0))
                * CAST(0.000001 AS DECIMAL(6, 6)) AS DECIMAL(38, 14))
    END AS machine_seconds
FROM timed AS t
JOIN pool USING (cluster, node)
LEFT JOIN paid USING (cluster, node, ChargePeriodStart, ChargePeriodEnd)
