-- The allocated charges of a batch: one row per charge and holder, and what nobody holds, with the origin's amounts
-- apportioned. Joined with the origin's row they are FOCUS 1.3 rows. Usage is each charge's own.
WITH usage AS (
    SELECT
        charge_no,
        holder_no,
        CASE
            WHEN units_measured = units THEN nano_hours
            ELSE alloc_nano_hours(units_measured, units_measured // lot, lot)
        END AS measured,
        alloc_used_hours(used) AS used
    FROM alloc_claim
    WHERE resource = 1
)
SELECT
    c.charge_id AS x_OriginChargeId,
    c.cluster AS x_Cluster,
    c.node AS x_Node,
    '{method}' AS AllocatedMethodId,
    r.AllocatedMethodDetails,
    r.AllocatedResourceId,
    r.AllocatedResourceName,
    CASE
        WHEN cardinality(r.tags) > 0
            THEN map_from_entries(list_filter(
                map_entries(r.tags), lambda tag: c.Tags[tag.key] IS DISTINCT FROM tag.value
            ))
    END AS AllocatedTags,
    r.* EXCLUDE (
        charge_no, holder_no, AllocatedMethodDetails, AllocatedResourceId, AllocatedResourceName, tags, x_HeldGpuHours,
        x_OverCapacity
    ),
    r.x_HeldGpuHours,
    alloc_nano(u.measured) AS x_MeasuredGpuHours,
    alloc_nano(u.used) AS x_UsedGpuHours,
    r.x_OverCapacity
FROM alloc_row AS r
JOIN alloc_run AS n ON n.leader_no = r.charge_no
JOIN alloc_charge AS c ON c.charge_no = n.charge_no
LEFT JOIN usage AS u ON u.charge_no = n.charge_no AND u.holder_no = r.holder_no
