-- Volumes over the window, in nano-GiB times microseconds: as large as their largest claim for as long as their cluster
-- was watched; claimed and used by namespace.
WITH claim AS (
    SELECT
        cluster, device, namespace,
        CAST(trunc(requested * 1000000000) AS HUGEINT) AS requested,
        CAST(trunc(used * 1000000000) AS HUGEINT) AS used,
        least(epoch_us("end"), {until}) - greatest(epoch_us("start"), {since}) AS span_us
    FROM held_usage
    WHERE resource = 'storage' AND device IS NOT NULL
        AND "start" < make_timestamptz({until}) AND "end" > make_timestamptz({since}) AND "start" < "end"
), watched AS (
    SELECT cluster, least(max(epoch_us("end")), {until}) - greatest(min(epoch_us("start")), {since}) AS span_us
    FROM (
        SELECT cluster, "start", "end" FROM seen_node
        UNION ALL SELECT cluster, "start", "end" FROM held_usage WHERE resource = 'storage'
    )
    WHERE "start" < make_timestamptz({until}) AND "end" > make_timestamptz({since})
    GROUP BY cluster
), volume AS (
    SELECT c.cluster, c.device, CAST(max(coalesce(c.requested, c.used)) * any_value(w.span_us) AS HUGEINT) AS provisioned
    FROM claim AS c
    JOIN watched AS w USING (cluster)
    GROUP BY ALL
)
SELECT
    cluster, device, namespace, CAST(NULL AS HUGEINT) AS provisioned,
    CAST(sum(requested * span_us) AS HUGEINT) AS claimed,
    CAST(sum(used * span_us) AS HUGEINT) AS used,
    CAST(sum(requested * span_us) FILTER (used IS NOT NULL) AS HUGEINT) AS measured
FROM claim
GROUP BY cluster, device, namespace
UNION ALL BY NAME
SELECT cluster, device, NULL AS namespace, provisioned FROM volume
