-- The rows of `allocated` by resource: what each part cost, what was claimed of it, and why.
WITH summed AS (
    SELECT
        charge_no,
        holder_no,
        resource{sums}
    FROM alloc_share
    GROUP BY charge_no, holder_no, resource
), amount AS (
    SELECT charge_no, holder_no, resource{amounts} FROM summed
), claim AS (
    SELECT charge_no, holder_no, resource, nano_hours, requested, used FROM alloc_claim
    UNION ALL
    SELECT r.charge_no, t.remainder_no, t.resource, t.nano_hours, NULL, NULL
    FROM alloc_total AS t
    JOIN alloc_run AS r ON r.leader_no = t.charge_no
    WHERE t.remainder IS NOT NULL
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
    alloc_signed(c.BilledCost, {billed}) AS BilledCost,
    alloc_signed(c.EffectiveCost, {effective}) AS EffectiveCost,
    alloc_signed(c.ListCost, {list}) AS ListCost,
    alloc_signed(c.ContractedCost, {contracted}) AS ContractedCost,
    alloc_nano(k.nano_hours) AS claimed_hours,
    alloc_nano(CAST((k.requested + 180000000000000) // 360000000000000 AS BIGINT)) AS requested_hours,
    alloc_nano(alloc_used_hours(k.used)) AS used_hours
FROM amount AS a
JOIN alloc_run AS n ON n.leader_no = a.charge_no
JOIN alloc_charge AS c ON c.charge_no = n.charge_no
LEFT JOIN claim AS k ON k.charge_no = n.charge_no AND k.holder_no = a.holder_no AND k.resource = a.resource
LEFT JOIN alloc_who AS h ON h.holder_no = a.holder_no
