-- Tokens of jobs, on a card model that the job held in that hour: that of the pod, else the one it paid most for then.
-- `priced` says whether anything is known to have been charged to the job in that hour.
WITH held AS (
    SELECT DISTINCT job_id, hour, gpu_model FROM unit_job_hour
), main AS (
    SELECT job_id, hour, arg_max(gpu_model, (cost, gpu_model)) AS gpu_model
    FROM (SELECT job_id, hour, gpu_model, sum(effective) AS cost FROM unit_job_hour GROUP BY ALL)
    GROUP BY ALL
)
SELECT
    s.job_id,
    s.hour,
    CASE WHEN h.job_id IS NOT NULL OR m.job_id IS NULL THEN s.gpu_model ELSE m.gpu_model END AS gpu_model,
    coalesce(s.deployment, j.name) AS deployment,
    s.provider,
    s.model,
    m.job_id IS NOT NULL AS priced,
    coalesce(CAST(trunc(
        {output} * coalesce(sum(s.output_tokens), 0) + {input} * (coalesce(sum(s.input_tokens), 0) - coalesce(sum(s.cached_tokens), 0))
        + {cached} * coalesce(sum(s.cached_tokens), 0)
    ) AS HUGEINT), 0) AS weight,
    CAST(sum(s.pods) AS BIGINT) AS pods,
    {sums}
FROM unit_served AS s
LEFT JOIN jobs AS j ON j.job_id = s.job_id
LEFT JOIN held AS h ON h.job_id = s.job_id AND h.hour = s.hour AND h.gpu_model IS NOT DISTINCT FROM s.gpu_model
LEFT JOIN main AS m ON m.job_id = s.job_id AND m.hour = s.hour
WHERE s.job_id IS NOT NULL
GROUP BY ALL
