-- Cards of each machine over time: there, free, and free beside something held. Two sources may tell of one machine: the
-- larger figure counts, as in allocation.
WITH node AS (
    SELECT
        cluster, node, pool, gpu_model,
        CAST(trunc(gpu_count * 1000000000) AS HUGEINT) * 63 AS units,
        greatest(epoch_us("start"), {since}) AS from_us,
        least(epoch_us("end"), {until}) AS to_us
    FROM seen_node
    WHERE "start" < make_timestamptz({until}) AND "end" > make_timestamptz({since}) AND "start" < "end"
        AND (cluster, node) NOT IN (SELECT (cluster, node) FROM lens_no_gpu)
), node_step AS (
    SELECT cluster, node, from_us AS at_us FROM node
    UNION
    SELECT cluster, node, to_us FROM node
), node_span AS (
    SELECT cluster, node, at_us AS from_us, lead(at_us) OVER (PARTITION BY cluster, node ORDER BY at_us) AS to_us
    FROM node_step
), capacity AS (
    SELECT s.cluster, s.node, s.from_us, s.to_us, max(n.units) AS units
    FROM node_span AS s
    JOIN node AS n ON n.cluster = s.cluster AND n.node = s.node AND n.from_us < s.to_us AND n.to_us > s.from_us
    GROUP BY ALL
), change AS (
    SELECT cluster, node, at_us, sum(there) AS there, sum(held) AS held
    FROM (
        SELECT cluster, node, from_us AS at_us, units AS there, 0 AS held FROM capacity
        UNION ALL SELECT cluster, node, to_us, -units, 0 FROM capacity
        UNION ALL SELECT cluster, node, from_us, 0, units FROM lens_gpu_pod
        UNION ALL SELECT cluster, node, to_us, 0, -units FROM lens_gpu_pod
    )
    GROUP BY ALL
), moment AS (
    SELECT
        cluster, node, at_us,
        lead(at_us) OVER machine - at_us AS span_us,
        sum(there) OVER machine AS there,
        sum(held) OVER machine AS held
    FROM change
    WINDOW machine AS (PARTITION BY cluster, node ORDER BY at_us)
), room AS (
    -- Of cards that nobody counted, nobody knows how many are free.
    SELECT
        *,
        CASE WHEN there IS NOT NULL THEN greatest(there - held, 0) END AS free,
        CASE WHEN there IS NULL THEN NULL WHEN held > 0 THEN greatest(there - held, 0) ELSE 0 END AS fragmented
    FROM moment
)
SELECT
    *,
    -- Free and fragmented before this moment: what lies between any two moments is a difference.
    coalesce(sum(free * span_us) OVER before, 0) AS free_before,
    coalesce(sum(fragmented * span_us) OVER before, 0) AS fragmented_before
FROM room
WINDOW before AS (PARTITION BY cluster, node ORDER BY at_us ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
