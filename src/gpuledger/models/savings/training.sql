-- Training runs in the window, each interval with the job that ran it: the one told, or the only one of the run's name.
WITH named AS (
    SELECT cluster, name, any_value(job_id) AS job_id FROM jobs WHERE name IS NOT NULL GROUP BY ALL HAVING count(*) = 1
)
SELECT
    t.* EXCLUDE (job_id),
    coalesce(t.job_id, n.job_id) AS job_id,
    epoch(t."end") - epoch(t."start") AS seconds
FROM training_interval AS t
LEFT JOIN named AS n ON t.job_id IS NULL AND n.name = coalesce(t.name, t.run_id) AND (t.cluster IS NULL OR n.cluster = t.cluster)
WHERE t."start" < {until} AND t."end" > {since} AND t."start" < t."end"
