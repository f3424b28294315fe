-- What each pod held over time: the larger of what it has of named devices and what it asked for without one.
WITH step AS (
    SELECT cluster, node, job_id, pod, namespace, at_us, sum(named_units) AS named_units, sum(other_units) AS other_units
    FROM (
        SELECT *, from_us AS at_us, CASE WHEN named THEN units ELSE 0 END AS named_units, CASE WHEN named THEN 0 ELSE units END AS other_units FROM lens_gpu_claim
        UNION ALL
        SELECT *, to_us, CASE WHEN named THEN -units ELSE 0 END, CASE WHEN named THEN 0 ELSE -units END FROM lens_gpu_claim
    )
    GROUP BY ALL
), pod_time AS (
    SELECT
        cluster, node, namespace, at_us AS from_us,
        lead(at_us) OVER pod AS to_us,
        greatest(sum(named_units) OVER pod, sum(other_units) OVER pod) AS units
    FROM step
    WINDOW pod AS (PARTITION BY cluster, node, job_id, pod, namespace ORDER BY at_us)
)
SELECT * FROM pod_time WHERE units > 0 AND to_us IS NOT NULL
