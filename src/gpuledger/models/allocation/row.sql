-- The rows of the leaders of runs: what each holder, idle and unknown have of each amount, in the charge's sign.
WITH summed AS (
    SELECT
        charge_no,
        holder_no,
        sum(amount) FILTER (amount_no = 0) AS a0,
        max(amount) FILTER (amount_no = 1 AND resource = 1) AS ratio_gpu,
        max(amount) FILTER (amount_no = 1 AND resource = 2) AS ratio_cpu,
        max(amount) FILTER (amount_no = 1 AND resource = 3) AS ratio_memory,
        max(amount) FILTER (amount_no = 1 AND resource = 4) AS ratio_unseen{sums}
    FROM alloc_share
    GROUP BY charge_no, holder_no
), amount AS (
    SELECT
        charge_no, holder_no, ratio_gpu, ratio_cpu, ratio_memory, ratio_unseen,
        alloc_dec14(coalesce(a0, 0)) AS d0{amounts}
    FROM summed
), claim AS (
    SELECT
        charge_no,
        holder_no,
        max(nano_hours) FILTER (resource = 1) AS gpu,
        max(nano_hours) FILTER (resource = 2) AS cpu,
        max(nano_hours) FILTER (resource = 3) AS memory
    FROM (
        SELECT k.charge_no, k.holder_no, k.resource, k.nano_hours
        FROM alloc_claim AS k
        JOIN alloc_run AS r USING (charge_no)
        WHERE r.leader_no = r.charge_no
        UNION ALL
        SELECT charge_no, remainder_no, resource, nano_hours FROM alloc_total WHERE remainder IS NOT NULL
    )
    GROUP BY charge_no, holder_no
), crowded AS (
    SELECT DISTINCT charge_no FROM alloc_total WHERE crowded
)
SELECT
    a.charge_no,
    a.holder_no,
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
    j.tags,
    alloc_signed(c.BilledCost, {billed}) AS BilledCost,
    alloc_signed(c.EffectiveCost, {effective}) AS EffectiveCost,
    alloc_signed(c.ListCost, {list}) AS ListCost,
    alloc_signed(c.ContractedCost, {contracted}) AS ContractedCost,
    alloc_signed(c.PricingCurrencyEffectiveCost, {pricing_currency}) AS PricingCurrencyEffectiveCost,
    alloc_signed(c.ConsumedQuantity, {consumed}) AS ConsumedQuantity,
    alloc_signed(c.PricingQuantity, {pricing}) AS PricingQuantity,
    alloc_signed(c.CommitmentDiscountQuantity, {commitment}) AS CommitmentDiscountQuantity,
    alloc_signed(c.x_GpuHours, a.d0) AS x_GpuHours,
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
    o.charge_no IS NOT NULL AS x_OverCapacity{by_resource}
FROM amount AS a
JOIN alloc_charge AS c USING (charge_no)
LEFT JOIN claim AS k USING (charge_no, holder_no)
LEFT JOIN crowded AS o USING (charge_no)
LEFT JOIN alloc_who AS h USING (holder_no)
LEFT JOIN {jobs} AS j ON j.job_id = h.job_id
