-- Cards held by hour and cluster, as telemetry saw it: of what a pod held of named devices and what it asked for without
-- one, the larger. Numbers to plan with, not money.
WITH told AS (
    SELECT
        cluster, job_id, pod, pod_uid, attempt, device IS NOT NULL AS named, "start", "end",
        CASE
            WHEN device IS NOT NULL THEN coalesce(share_numerator::DOUBLE / nullif(share_denominator, 0), CASE WHEN coalesce(sharing, 'whole') = 'whole' THEN 1.0 END)
            ELSE requested::DOUBLE
        END AS cards
    FROM held_usage
    WHERE resource = 'gpu' AND "start" < "end"
), cut AS (
    SELECT *, unnest(range(date_trunc('hour', "start"), "end", INTERVAL 1 HOUR)) AS hour FROM told WHERE cards > 0
), holder AS (
    SELECT
        cluster, hour, job_id, pod, pod_uid, attempt, named,
        sum(cards * (least(epoch_us("end"), epoch_us(hour) + 3600000000) - greatest(epoch_us("start"), epoch_us(hour))) / 3600000000.0) AS cards
    FROM cut GROUP BY ALL
), pod AS (
    SELECT cluster, hour, max(cards) AS cards FROM holder GROUP BY cluster, hour, job_id, pod, pod_uid, attempt
)
SELECT cluster, CAST(epoch(hour) AS BIGINT) // 3600 AS hour, sum(cards) AS cards FROM pod GROUP BY ALL
