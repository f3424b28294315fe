-- What the cards of each machine cost, by who had them. Of what was held, `used_cost` pays for measured use. Of what was
-- idle, `fragmented_cost` pays for the part of a charge's free card-hours that were fragmented.
WITH idle AS (
    SELECT
        x_Cluster AS cluster, x_Node AS node, ChargePeriodStart, ChargePeriodEnd, sum(x_GpuCost) AS cost,
        epoch_us(ChargePeriodStart) AS from_us, epoch_us(ChargePeriodEnd) AS to_us
    FROM window_charge
    WHERE x_AllocationState = 'idle' AND x_Node IS NOT NULL AND x_GpuCost <> 0
    GROUP BY ALL
), placed AS (
    SELECT
        i.cluster, i.node, i.cost,
        b.free_before + b.free * least(i.to_us - b.at_us, coalesce(b.span_us, 0))
            - coalesce(a.free_before + a.free * least(i.from_us - a.at_us, coalesce(a.span_us, 0)), 0) AS free,
        b.fragmented_before + b.fragmented * least(i.to_us - b.at_us, coalesce(b.span_us, 0))
            - coalesce(a.fragmented_before + a.fragmented * least(i.from_us - a.at_us, coalesce(a.span_us, 0)), 0) AS fragmented
    FROM idle AS i
    ASOF LEFT JOIN lens_gpu_moment AS a ON a.cluster = i.cluster AND a.node = i.node AND i.from_us >= a.at_us
    ASOF LEFT JOIN lens_gpu_moment AS b ON b.cluster = i.cluster AND b.node = i.node AND i.to_us >= b.at_us
)
SELECT
    x_Cluster AS cluster,
    x_Node AS node,
    x_Namespace AS namespace,
    sum(x_GpuCost) FILTER (x_AllocationState IN ('running', 'held')) AS allocated_cost,
    sum(CASE WHEN x_MeasuredGpuHours > 0 THEN part_of(x_GpuCost, least(coalesce(x_UsedGpuHours, 0), x_HeldGpuHours), x_HeldGpuHours) END) AS used_cost,
    sum(x_GpuCost) FILTER (x_AllocationState = 'idle') AS idle_cost,
    CAST(NULL AS DECIMAL(38, 18)) AS fragmented_cost,
    sum(EffectiveCost - coalesce(x_CpuCost, 0) - coalesce(x_MemoryCost, 0)) FILTER (x_AllocationState = 'unknown') AS unknown_cost
FROM window_charge
WHERE x_Node IS NOT NULL
    AND (x_Cluster, x_Node) NOT IN (SELECT (cluster, node) FROM lens_no_gpu)
GROUP BY ALL
UNION ALL BY NAME
SELECT
    cluster, node,
    sum(CASE
        WHEN fragmented = 0 THEN 0 * cost
        ELSE part_of(cost, CAST(fragmented // 63000000000000 AS DECIMAL(27, 0)), CAST(free // 63000000000000 AS DECIMAL(27, 0)))
    END) AS fragmented_cost
FROM placed
GROUP BY ALL
