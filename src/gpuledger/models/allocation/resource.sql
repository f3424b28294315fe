-- The rows of `allocated` by resource: what each part cost, what was claimed of it, and why.
WITH amount AS (
    SELECT
        charge_no,
        holder_no,
        resource{sums}
    FROM alloc_share
    GROUP BY charge_no, holder_no, resource
), claim AS (
    SELECT charge_no, holder_no, resource, nano_hours, requested, used FROM alloc_claim
    UNION ALL
    SELECT charge_no, remainder_no, resource, nano_hours, NULL, NULL FROM alloc_total WHERE remainder IS NOT NULL
)
SELECT
    c.charge_id AS x_OriginChargeId,
    CASE
        WHEN h.holder_no IS NOT NULL
            THEN alloc_resource_id(c.cluster, h.job_id, h.pod_uid, h.namespace, h.pod, h.container, h.attempt)
    END AS AllocatedResourceId,
    h.job_id AS x_JobId,
    CASE
        WHEN h.holder_no IS NOT NULL THEN h.state
        WHEN a.holder_no = 2147483646 THEN 'idle'
        ELSE 'unknown'
    END AS x_AllocationState,
    ['gpu', 'cpu', 'memory'][a.resource] AS resource,
    alloc_dec18(alloc_signed(c.BilledCost, {billed})) AS BilledCost,
    alloc_dec18(alloc_signed(c.EffectiveCost, {effective})) AS EffectiveCost,
    alloc_dec18(alloc_signed(c.ListCost, {list})) AS ListCost,
    alloc_dec18(alloc_signed(c.ContractedCost, {contracted})) AS ContractedCost,
    alloc_nano(k.nano_hours) AS claimed_hours,
    alloc_nano(CAST((k.requested + 180000000000000) // 360000000000000 AS BIGINT)) AS requested_hours,
    alloc_nano(alloc_used_hours(k.used)) AS used_hours
FROM amount AS a
JOIN alloc_charge AS c USING (charge_no)
LEFT JOIN claim AS k USING (charge_no, holder_no, resource)
LEFT JOIN alloc_who AS h USING (holder_no)
