-- What each job cost by day, attempt and state: the parts of charges that it held, and what was shared to it (state
-- 'idle' or 'overhead'). Of its cards, x_IdleGpuCost pays for hours that were measured and not used.
SELECT
    x_JobId,
    x_Cluster,
    x_Namespace,
    x_BillingPeriod,
    CAST(date_trunc('day', ChargePeriodStart) AS DATE) AS ChargeDay,
    x_Attempt,
    x_AllocationState,
    x_CostStatus,
    BillingCurrency,
    count(*) AS Charges,
    sum(BilledCost) AS BilledCost,
    sum(EffectiveCost) AS EffectiveCost,
    sum(ListCost) AS ListCost,
    sum(ContractedCost) AS ContractedCost,
    sum(x_GpuCost) AS x_GpuCost,
    sum(x_CpuCost) AS x_CpuCost,
    sum(x_MemoryCost) AS x_MemoryCost,
    sum(CASE
        WHEN x_MeasuredGpuHours > 0
            THEN part_of(x_GpuCost, greatest(x_MeasuredGpuHours - coalesce(x_UsedGpuHours, 0), 0), x_HeldGpuHours)
    END) AS x_IdleGpuCost
FROM allocated
WHERE x_JobId IS NOT NULL
GROUP BY ALL
