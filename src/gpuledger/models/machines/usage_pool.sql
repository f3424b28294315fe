-- What was held of machines that are several nodes, their devices told apart.
SELECT u.* REPLACE (m.node AS node, u.node || '/' || u.device AS device)
FROM held_usage AS u
JOIN (SELECT DISTINCT cluster, node, unnest(nodes) AS part FROM machine WHERE len(nodes) > 1) AS m
    ON m.cluster = u.cluster AND m.part = u.node
WHERE u.resource IN ('gpu', 'cpu', 'memory')
