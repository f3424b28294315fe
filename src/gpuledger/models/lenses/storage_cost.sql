-- What volumes cost: claimed by namespace, or idle while nobody claimed them.
WITH named AS (
    SELECT device, unnest({keys device}) AS key
    FROM (SELECT DISTINCT device FROM held_usage WHERE resource = 'storage' AND device IS NOT NULL)
), charge AS (
    SELECT
        ResourceId,
        x_Cluster AS cluster,
        x_Namespace AS namespace,
        sum(EffectiveCost) FILTER (x_AllocationState IN ('running', 'held')) AS claimed_cost,
        sum(EffectiveCost) FILTER (x_AllocationState = 'idle') AS unclaimed_cost,
        sum(EffectiveCost) FILTER (x_AllocationState = 'unknown') AS unknown_cost
    FROM window_charge
    WHERE AllocatedMethodId IN ({methods})
    GROUP BY ALL
), billed AS (
    SELECT DISTINCT c.ResourceId, n.device
    FROM (SELECT ResourceId, unnest({keys ResourceId}) AS key FROM (SELECT DISTINCT ResourceId FROM charge)) AS c
    JOIN named AS n USING (key)
)
SELECT c.cluster, b.device, c.namespace, c.claimed_cost, c.unclaimed_cost, c.unknown_cost
FROM charge AS c
LEFT JOIN billed AS b USING (ResourceId)
