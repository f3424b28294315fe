-- What is known of each machine, as intervals that don't overlap. Two sources may describe the same hour, and one may
-- know what the other doesn't: where intervals overlap, the larger known figure counts.
WITH told AS (
    SELECT
        cluster,
        node,
        epoch_us("start") AS from_us,
        epoch_us("end") AS to_us,
        alloc_int14(gpu_count) AS gpu14,
        alloc_int14(cpu_cores) AS cpu14,
        alloc_int14(memory_gib) AS memory14,
        gpu_model,
        instance_type,
        region
    FROM {nodes}
    WHERE {during}
        AND (cluster, node) IN (SELECT (cluster, node) FROM alloc_charge)
), marked AS (
    SELECT
        *,
        coalesce(max(to_us) OVER (machine ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) > from_us, false)
        OR coalesce(lead(from_us) OVER machine < to_us, false) AS clashes
    FROM told
    WINDOW machine AS (PARTITION BY cluster, node ORDER BY from_us, to_us)
), edge AS (
    SELECT cluster, node, from_us AS at_us FROM marked WHERE clashes
    UNION
    SELECT cluster, node, to_us FROM marked WHERE clashes
), span AS (
    SELECT cluster, node, at_us, lead(at_us) OVER (PARTITION BY cluster, node ORDER BY at_us) AS next_us FROM edge
)
SELECT * EXCLUDE (clashes) FROM marked WHERE NOT clashes
UNION ALL BY NAME
SELECT
    cluster,
    node,
    span.at_us AS from_us,
    span.next_us AS to_us,
    max(gpu14) AS gpu14,
    max(cpu14) AS cpu14,
    max(memory14) AS memory14,
    min(gpu_model) AS gpu_model,
    min(instance_type) AS instance_type,
    min(region) AS region
FROM span
JOIN marked USING (cluster, node)
WHERE marked.clashes AND marked.from_us <= span.at_us AND marked.to_us >= span.next_us
GROUP BY cluster, node, span.at_us, span.next_us
