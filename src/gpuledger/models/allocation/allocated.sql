-- The allocated charges of a batch: one row per charge and holder, and what nobody holds, with the origin's amounts
-- apportioned. Joined with the origin's row they are FOCUS 1.3 rows.
WITH amount AS (
    SELECT
        charge_no,
        holder_no,
        sum(amount) FILTER (amount_no = 0) AS gpu_hours,
        max(amount) FILTER (amount_no = 1 AND resource = 1) AS ratio_gpu,
        max(amount) FILTER (amount_no = 1 AND resource = 2) AS ratio_cpu,
        max(amount) FILTER (amount_no = 1 AND resource = 3) AS ratio_memory,
        max(amount) FILTER (amount_no = 1 AND resource = 4) AS ratio_unseen{sums}
    FROM alloc_share
    GROUP BY charge_no, holder_no
), claim AS (
    SELECT
        charge_no,
        holder_no,
        max(nano_hours) FILTER (resource = 1) AS gpu,
        max(nano_hours) FILTER (resource = 2) AS cpu,
        max(nano_hours) FILTER (resource = 3) AS memory,
        max(used) FILTER (resource = 1) AS used,
        max(measured) FILTER (resource = 1) AS measured
    FROM (
        SELECT
            charge_no, holder_no, resource, nano_hours, used,
            CASE
                WHEN units_measured = units THEN nano_hours
                ELSE alloc_nano_hours(units_measured, units_measured // lot, lot)
            END AS measured
        FROM alloc_claim
        UNION ALL
        SELECT charge_no, remainder_no, resource, nano_hours, NULL, NULL FROM alloc_total WHERE remainder IS NOT NULL
    )
    GROUP BY charge_no, holder_no
), crowded AS (
    SELECT DISTINCT charge_no FROM alloc_total WHERE crowded
)
SELECT
    c.charge_id AS x_OriginChargeId,
    c.cluster AS x_Cluster,
    c.node AS x_Node,
    '{method}' AS AllocatedMethodId,
    '{"Elements":[' || coalesce(nullif(concat_ws(
        ',',
        alloc_element(a.ratio_gpu, ',"UsageUnit":"GPU-Hours","UsageQuantity":', k.gpu),
        alloc_element(a.ratio_cpu, ',"UsageUnit":"Core-Hours","UsageQuantity":', k.cpu),
        alloc_element(a.ratio_memory, ',"UsageUnit":"GiB-Hours","UsageQuantity":', k.memory),
        '{"AllocatedRatio":' || alloc_ratio_text(CAST(a.ratio_unseen AS BIGINT)) || '}'
    ), ''), '{"AllocatedRatio":0}') || ']}' AS AllocatedMethodDetails,
    CASE
        WHEN h.holder_no IS NOT NULL
            THEN alloc_resource_id(c.cluster, h.job_id, h.pod_uid, h.namespace, h.pod, h.container, h.attempt)
    END AS AllocatedResourceId,
    CASE
        WHEN h.holder_no IS NULL THEN NULL
        WHEN h.pod IS NOT NULL THEN concat(h.namespace || '/', h.pod)
        ELSE coalesce(j.name, h.pod_uid, h.job_id, 'unnamed')
    END || coalesce('/' || h.container, '') AS AllocatedResourceName,
    CASE WHEN cardinality(j.tags) > 0 THEN map_from_entries(list_filter(
        map_entries(j.tags), lambda tag: c.Tags[tag.key] IS DISTINCT FROM tag.value
    )) END AS AllocatedTags,
    alloc_dec18(alloc_signed(c.BilledCost, {billed})) AS BilledCost,
    alloc_dec18(alloc_signed(c.EffectiveCost, {effective})) AS EffectiveCost,
    alloc_dec18(alloc_signed(c.ListCost, {list})) AS ListCost,
    alloc_dec18(alloc_signed(c.ContractedCost, {contracted})) AS ContractedCost,
    alloc_dec18(alloc_signed(c.PricingCurrencyEffectiveCost, {pricing_currency})) AS PricingCurrencyEffectiveCost,
    alloc_dec14(alloc_signed(c.ConsumedQuantity, {consumed})) AS ConsumedQuantity,
    alloc_dec14(alloc_signed(c.PricingQuantity, {pricing})) AS PricingQuantity,
    alloc_dec14(alloc_signed(c.CommitmentDiscountQuantity, {commitment})) AS CommitmentDiscountQuantity,
    alloc_dec14(alloc_signed(c.x_GpuHours, {gpu_hours})) AS x_GpuHours,
    h.job_id AS x_JobId,
    CASE
        WHEN h.holder_no IS NOT NULL THEN h.state
        WHEN a.holder_no = 2147483646 THEN 'idle'
        ELSE 'unknown'
    END AS x_AllocationState,
    h.attempt AS x_Attempt,
    h.namespace AS x_Namespace,
    h.pod AS x_Pod,
    h.container AS x_Container,
    CASE WHEN h.holder_no IS NOT NULL THEN alloc_nano(k.gpu) END AS x_HeldGpuHours,
    alloc_nano(k.measured) AS x_MeasuredGpuHours,
    alloc_nano(alloc_used_hours(k.used)) AS x_UsedGpuHours,
    o.charge_no IS NOT NULL AS x_OverCapacity
FROM amount AS a
JOIN alloc_charge AS c USING (charge_no)
LEFT JOIN claim AS k USING (charge_no, holder_no)
LEFT JOIN crowded AS o USING (charge_no)
LEFT JOIN alloc_who AS h USING (holder_no)
LEFT JOIN {jobs} AS j ON j.job_id = h.job_id
