-- What was held: of nodes, of machines that are several nodes (their devices told apart), and of volumes.
SELECT * FROM held_usage WHERE resource IN ('gpu', 'cpu', 'memory')
UNION ALL
SELECT u.* REPLACE (m.node AS node, u.node || '/' || u.device AS device)
FROM held_usage AS u
JOIN (SELECT DISTINCT cluster, node, unnest(nodes) AS part FROM machine WHERE len(nodes) > 1) AS m
    ON m.cluster = u.cluster AND m.part = u.node
WHERE u.resource IN ('gpu', 'cpu', 'memory')
UNION ALL
SELECT u.* REPLACE (m.node AS node, 'memory' AS resource, NULL AS device)
FROM held_usage AS u
JOIN (SELECT DISTINCT cluster, node FROM machine WHERE kind = 'volume') AS m
    ON m.cluster = u.cluster AND m.node = concat('volume/', u.device)
WHERE u.resource = 'storage'
