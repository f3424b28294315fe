-- One day's tokens by job and hour (job NULL: a model behind an API, or a deployment that no job is known for). Where a
-- gateway and an engine tell of the same job's hour, the engine counts; of two sources of a kind, the one that saw more.
WITH place AS (
    SELECT DISTINCT t.cluster, t.namespace, t.deployment
    FROM unit_told AS t
    WHERE t.job_id IS NULL AND t.deployment IS NOT NULL
), named AS (
    SELECT p.cluster, p.namespace, p.deployment, min(j.job_id) AS job_id
    FROM place AS p
    JOIN jobs AS j ON j.name = p.deployment AND coalesce(j.cluster = p.cluster, true) AND coalesce(j.namespace = p.namespace, true)
    WHERE j.job_id IN (SELECT job_id FROM unit_job_hour)
    GROUP BY ALL
    HAVING count(DISTINCT j.job_id) = 1
), known AS (
    SELECT t.*, coalesce(t.job_id, p.job_id, n.job_id) AS job, p.gpu_model
    FROM unit_told AS t
    LEFT JOIN unit_pod_day AS p
        ON p.cluster = t.cluster AND p.space = coalesce(t.namespace, '') AND p.pod = t.pod AND p.day = t.hour // 24
    LEFT JOIN named AS n
        ON n.deployment = t.deployment AND n.cluster IS NOT DISTINCT FROM t.cluster AND n.namespace IS NOT DISTINCT FROM t.namespace
), summed AS (
    SELECT
        source, hour, job, gpu_model, deployment, provider, model, pod IS NOT NULL AS engine,
        CASE WHEN job IS NULL THEN cluster END AS cluster,
        CASE WHEN job IS NULL THEN namespace END AS namespace,
        CASE WHEN job IS NULL THEN team END AS team,
        CASE WHEN job IS NULL THEN owner END AS owner,
        count(DISTINCT pod) AS pods,
        {sums}
    FROM known
    GROUP BY ALL
), seen AS (
    SELECT *, sum(coalesce(output_tokens, 0)) OVER (PARTITION BY job, hour, engine, source) AS seen FROM summed
)
SELECT * EXCLUDE (job, seen), job AS job_id
FROM seen
QUALIFY job IS NULL OR (engine, source) = first_value((engine, source)) OVER (
    PARTITION BY job, hour ORDER BY engine DESC, seen DESC, source
)
