-- Training by job, run and hour: an interval is spread over the hours that it covers, by its time in each.
WITH named AS (
    SELECT t.run_id, min(j.job_id) AS job_id
    FROM (SELECT DISTINCT run_id, name, cluster FROM training_interval WHERE job_id IS NULL) AS t
    JOIN jobs AS j ON j.name IN (t.run_id, t.name) AND coalesce(j.cluster = t.cluster, true)
    GROUP BY t.run_id
    HAVING count(DISTINCT j.job_id) = 1
), placed AS (
    SELECT
        t.* REPLACE (coalesce(t.job_id, n.job_id) AS job_id),
        epoch_us("start") AS since_us,
        epoch_us("end") - epoch_us("start") AS whole,
        unnest(range(unit_hours("start", "end"))) AS k
    FROM training_interval AS t
    LEFT JOIN named AS n ON t.job_id IS NULL AND n.run_id = t.run_id
    WHERE "start" < "end"
), piece AS (
    SELECT
        *,
        unit_hour("start") + k AS hour,
        CAST(greatest((unit_hour("start") + k) * 3600000000 - since_us, 0) AS HUGEINT) AS since,
        CAST(least((unit_hour("start") + k + 1) * 3600000000 - since_us, whole) AS HUGEINT) AS until
    FROM placed
), summed AS (
    SELECT
        x_Source AS source, job_id, run_id, hour,
        min(cluster) AS cluster,
        CAST(sum(until - since) AS HUGEINT) AS run_us,
        sum(unit_share14(tokens, since, until, CAST(whole AS HUGEINT))) AS trained_tokens,
        sum(unit_share14(steps, since, until, CAST(whole AS HUGEINT))) AS steps,
        sum(unit_share14(useful_seconds, since, until, CAST(whole AS HUGEINT))) AS useful_seconds,
        {lost}
    FROM piece
    GROUP BY ALL
), seen AS (
    SELECT *, sum(coalesce(trained_tokens, 0)) OVER (PARTITION BY coalesce(job_id, run_id), hour, source) AS seen FROM summed
), chosen AS (
    SELECT * EXCLUDE (seen)
    FROM seen
    -- Of two sources that tell of the same job's hour, such as a log and a tracker, the one that saw more.
    QUALIFY source = first_value(source) OVER (PARTITION BY coalesce(job_id, run_id), hour ORDER BY seen DESC, source)
)
SELECT c.*, r.name, r.model, r.discarded, r.checkpoint_used
FROM chosen AS c
LEFT JOIN (
    SELECT run_id, arg_max(name, said) AS name, arg_max(model, said) AS model, arg_max(discarded, said) AS discarded,
        bool_or(checkpoint_used) AS checkpoint_used
    FROM (SELECT *, "end" AS said FROM training_interval)
    GROUP BY run_id
) AS r USING (run_id)
