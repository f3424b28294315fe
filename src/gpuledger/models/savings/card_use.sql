-- What was held of cards and how busy it was: one row per interval, of the window {since} to {until}. A *run* is
-- unbroken idleness (less than a twentieth in use) of one holder's card: its length counts over midnight.
WITH told AS (
    SELECT
        job_id, cluster, node, coalesce(pod, '') AS pod, coalesce(device, '') AS device, state,
        greatest("start", {since}) AS "start",
        least("end", {until}) AS "end",
        used,
        CASE
            WHEN device IS NOT NULL AND share_denominator > 0 THEN CAST(share_numerator AS DOUBLE) / share_denominator
            WHEN device IS NOT NULL THEN 1.0
            ELSE CAST(requested AS DOUBLE)
        END AS cards
    FROM held_usage
    WHERE resource = 'gpu' AND "start" < {until} AND "end" > {since} AND "start" < "end"
), busy AS (
    SELECT
        *,
        CAST("start" AS DATE) AS day,
        epoch("end") - epoch("start") AS seconds,
        CASE WHEN used IS NOT NULL AND cards > 0 THEN used / cards END AS level
    FROM told
    WHERE cards > 0
), marked AS (
    SELECT
        *,
        level < 0.05 AS idle,
        CASE WHEN (level < 0.05) IS DISTINCT FROM lag(level < 0.05) OVER w OR epoch("start") - epoch(lag("end") OVER w) > 300
            THEN 1 ELSE 0 END AS breaks
    FROM busy
    WINDOW w AS (PARTITION BY job_id, cluster, node, pod, device ORDER BY "start")
), numbered AS (
    SELECT *, sum(breaks) OVER (PARTITION BY job_id, cluster, node, pod, device ORDER BY "start" ROWS UNBOUNDED PRECEDING) AS run
    FROM marked
)
SELECT
    * EXCLUDE (breaks, run),
    seconds * cards / 3600 AS card_hours,
    sum(seconds) OVER (PARTITION BY job_id, cluster, node, pod, device, run) AS run_seconds
FROM numbered
