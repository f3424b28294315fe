-- Machines and volumes that telemetry knows, each under every name that a bill may use for it.
WITH node AS (
    SELECT cluster, node, provider_id, min("start") AS since, max("end") AS until
    FROM seen_node
    WHERE "start" < "end"
    GROUP BY ALL
), volume AS (
    SELECT cluster, device, min("start") AS since, max("end") AS until
    FROM held_usage
    WHERE resource = 'storage' AND device IS NOT NULL AND "start" < "end"
    GROUP BY ALL
)
SELECT
    'machine' AS kind, cluster, node, since, until,
    CASE WHEN starts_with(provider_id, 'gce://') THEN lower(split_part(provider_id, '/', 3)) END AS project,
    CASE WHEN starts_with(provider_id, 'gce://') THEN lower(split_part(provider_id, '/', 4)) END AS zone,
    unnest(CASE WHEN provider_id IS NULL THEN [lower(concat(cluster, '/', node))] ELSE {keys provider_id} END) AS key
FROM node
UNION ALL
SELECT
    'volume', v.cluster, concat('volume/', v.device),
    -- Nobody claiming it is known for as long as the cluster was watched.
    least(v.since, min(n.since)), greatest(v.until, max(n.until)),
    NULL, NULL, unnest({keys device})
FROM volume AS v
LEFT JOIN node AS n ON n.cluster = v.cluster
GROUP BY v.cluster, v.device, v.since, v.until
