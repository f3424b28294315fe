-- Volumes over time, as large as their largest claim.
SELECT
    m.cluster, m.node, m.since AS "start", m.until AS "end",
    CAST(0 AS DECIMAL(38, 14)) AS gpu_count, CAST(0 AS DECIMAL(38, 14)) AS cpu_cores, max(coalesce(u.requested, u.used)) AS memory_gib
FROM machine AS m
JOIN held_usage AS u ON u.cluster = m.cluster AND concat('volume/', u.device) = m.node AND u.resource = 'storage'
WHERE m.kind = 'volume'
GROUP BY m.cluster, m.node, m.since, m.until
