-- Parts of machines' charges and unused commitments, by whom they belong to and when. `part`: held by a job, shared to
-- it (idle or not, as allocation is configured), idle, of holders that nobody knows, or unused (a commitment).
SELECT
    CASE
        WHEN x_JobId IS NOT NULL AND x_AllocationState = 'idle' THEN 'shared'
        WHEN x_JobId IS NOT NULL THEN 'held'
        WHEN x_AllocationState = 'idle' THEN 'idle'
        ELSE 'unknown'
    END AS part,
    x_JobId AS job_id,
    x_Cluster AS cluster,
    x_GpuModel AS gpu_model,
    CommitmentDiscountId AS commitment,
    x_BillingPeriod AS billing_period,
    BillingCurrency AS currency,
    unit_hour(ChargePeriodStart) AS hour,
    unit_hours(ChargePeriodStart, ChargePeriodEnd) AS hours,
    sum(EffectiveCost) AS effective,
    sum(ListCost) AS list_cost,
    coalesce(bool_or(ListCost IS NULL AND EffectiveCost <> 0), false) AS unlisted,
    sum(x_GpuHours) AS gpu_hours,
    -- These two repeat on every charge of the same machine and time: they go with the charge that pays for its cards.
    sum(x_MeasuredGpuHours) FILTER (x_GpuHours IS NOT NULL) AS measured,
    sum(x_UsedGpuHours) FILTER (x_GpuHours IS NOT NULL) AS used
FROM allocated
WHERE x_AllocationState IS NOT NULL
GROUP BY ALL
UNION ALL
SELECT
    'unused' AS part,
    NULL AS job_id,
    NULL AS cluster,
    NULL AS gpu_model,
    coalesce(CommitmentDiscountId, CapacityReservationId) AS commitment,
    x_BillingPeriod AS billing_period,
    BillingCurrency AS currency,
    unit_hour(ChargePeriodStart) AS hour,
    unit_hours(ChargePeriodStart, ChargePeriodEnd) AS hours,
    sum(EffectiveCost) AS effective,
    NULL AS list_cost,
    false AS unlisted,
    NULL AS gpu_hours,
    NULL AS measured,
    NULL AS used
FROM allocated
WHERE (CommitmentDiscountStatus = 'Unused' OR CapacityReservationStatus = 'Unused')
    AND x_AllocationState IS NULL AND x_AiModel IS NULL
GROUP BY ALL
