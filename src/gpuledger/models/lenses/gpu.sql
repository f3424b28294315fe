-- Cards of each machine over the window, in 63e9 units a card times microseconds: there, held by namespace, used, free, and
-- free beside something held.
WITH measured AS (
    SELECT
        cluster, node, coalesce(namespace, '') AS space,
        sum(CAST(trunc(used * 1000000000) AS HUGEINT) * 63 * (to_us - from_us)) AS used,
        sum(units * (to_us - from_us)) FILTER (used IS NOT NULL) AS measured
    FROM lens_gpu_claim
    GROUP BY ALL
), hold AS (
    SELECT cluster, node, namespace, sum(units * (to_us - from_us)) AS held
    FROM lens_gpu_pod
    GROUP BY ALL
), room AS (
    SELECT
        cluster, node,
        sum(there * span_us) AS there,
        sum(free * span_us) AS free,
        sum(fragmented * span_us) AS fragmented
    FROM lens_gpu_moment
    WHERE span_us > 0
    GROUP BY ALL
)
SELECT
    h.cluster, h.node, h.namespace,
    CAST(NULL AS HUGEINT) AS there, CAST(h.held AS HUGEINT) AS held, CAST(m.used AS HUGEINT) AS used,
    CAST(m.measured AS HUGEINT) AS measured, CAST(NULL AS HUGEINT) AS free, CAST(NULL AS HUGEINT) AS fragmented
FROM hold AS h
LEFT JOIN measured AS m ON m.cluster = h.cluster AND m.node = h.node AND m.space = coalesce(h.namespace, '')
UNION ALL BY NAME
SELECT
    cluster, node, CAST(there AS HUGEINT) AS there, CAST(free AS HUGEINT) AS free, CAST(fragmented AS HUGEINT) AS fragmented
FROM room
UNION ALL BY NAME
-- Machines whose cards nobody could count.
SELECT DISTINCT cluster, node FROM seen_node
WHERE (cluster, node) NOT IN (SELECT (cluster, node) FROM room UNION ALL SELECT (cluster, node) FROM lens_no_gpu)
