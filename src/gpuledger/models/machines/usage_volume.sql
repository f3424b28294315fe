-- What was held of volumes: a claim holds GiB of a machine that has nothing else.
SELECT u.* REPLACE (m.node AS node, 'memory' AS resource, NULL AS device)
FROM held_usage AS u
JOIN (SELECT DISTINCT cluster, node FROM machine WHERE kind = 'volume') AS m
    ON m.cluster = u.cluster AND m.node = concat('volume/', u.device)
WHERE u.resource = 'storage'
