-- What served tokens, by hour and replica, with the job that it was: the one told, or the only one of that name.
WITH named AS (
    SELECT cluster, coalesce(namespace, '') AS namespace, name, any_value(job_id) AS job_id
    FROM jobs
    WHERE name IS NOT NULL
    GROUP BY ALL
    HAVING count(*) = 1
), card AS (
    SELECT job_id, arg_max(gpu_model, cost) FILTER (gpu_model IS NOT NULL) AS gpu_model FROM atom WHERE job_id IS NOT NULL GROUP BY job_id
), told AS (
    SELECT
        t.* EXCLUDE (job_id),
        coalesce(t.job_id, n.job_id) AS job_id,
        epoch(t."end") - epoch(t."start") AS seconds
    FROM tokens AS t
    LEFT JOIN named AS n ON t.job_id IS NULL AND n.cluster = t.cluster AND n.namespace = coalesce(t.namespace, '') AND n.name = t.deployment
    WHERE t."start" < {until} AND t."end" > {since} AND t."start" < t."end"
)
SELECT
    date_trunc('hour', "start") AS hour,
    CAST("start" AS DATE) AS day,
    told.job_id,
    coalesce(deployment, told.job_id, model) AS deployment,
    coalesce(pod, '') AS pod,
    provider,
    model,
    lower(regexp_replace(model, '-([0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2})$', '')) AS model_key,
    coalesce(role, 'both') AS role,
    any_value(card.gpu_model) AS gpu_model,
    any_value(team) AS team,
    sum(seconds) AS seconds,
    sum(input_tokens) AS input_tokens,
    sum(cached_input_tokens) AS cached_input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(reasoning_tokens) AS reasoning_tokens,
    sum(requests) AS requests,
    sum(failed_requests) AS failed_requests,
    sum(good_requests) AS good_requests,
    sum(running * seconds) / nullif(sum(seconds) FILTER (running IS NOT NULL), 0) AS running,
    max(running) AS most_running,
    max(waiting) AS most_waiting,
    max(kv_cache_usage) AS most_kv,
    sum(preemptions) AS preemptions,
    sum(ttft_seconds_sum) AS ttft_seconds,
    sum(tpot_seconds_sum) AS tpot_seconds,
    sum(tpot_seconds_count) AS tpot_count,
    max(output_tokens / seconds) AS most_rate,
    sum(spend) AS spend
FROM told
LEFT JOIN card ON card.job_id = told.job_id
GROUP BY ALL
