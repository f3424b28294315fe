-- Capacity of machines that are several nodes: theirs together, moment by moment. Two sources may describe one node.
WITH told AS (
    SELECT m.cluster, m.node AS pool, n.node, n."start", n."end", n.gpu_count, n.cpu_cores, n.memory_gib, n.gpu_model,
        n.instance_type, n.region
    FROM (SELECT DISTINCT cluster, node, nodes FROM machine WHERE len(nodes) > 1) AS m
    JOIN seen_node AS n ON n.cluster = m.cluster AND list_contains(m.nodes, n.node)
    WHERE n."start" < n."end"
), edge AS (
    SELECT cluster, pool, "start" AS edge_at FROM told
    UNION
    SELECT cluster, pool, "end" FROM told
), span AS (
    SELECT cluster, pool, edge_at AS since, lead(edge_at) OVER (PARTITION BY cluster, pool ORDER BY edge_at) AS until FROM edge
), one AS (
    SELECT
        s.cluster, s.pool, t.node, s.since, s.until,
        max(t.gpu_count) AS gpu_count, max(t.cpu_cores) AS cpu_cores, max(t.memory_gib) AS memory_gib,
        min(t.gpu_model) AS gpu_model, min(t.instance_type) AS instance_type, min(t.region) AS region
    FROM span AS s
    JOIN told AS t ON t.cluster = s.cluster AND t.pool = s.pool AND t."start" < s.until AND t."end" > s.since
    GROUP BY ALL
)
SELECT
    cluster,
    pool AS node,
    since AS "start",
    until AS "end",
    CASE WHEN count(*) = count(gpu_count) THEN CAST(sum(gpu_count) AS DECIMAL(38, 14)) END AS gpu_count,
    CASE WHEN count(*) = count(cpu_cores) THEN CAST(sum(cpu_cores) AS DECIMAL(38, 14)) END AS cpu_cores,
    CASE WHEN count(*) = count(memory_gib) THEN CAST(sum(memory_gib) AS DECIMAL(38, 14)) END AS memory_gib,
    min(gpu_model) AS gpu_model,
    min(instance_type) AS instance_type,
    min(region) AS region
FROM one
GROUP BY cluster, pool, since, until
