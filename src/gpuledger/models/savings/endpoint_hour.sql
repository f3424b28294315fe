-- Endpoints of our own by hour: replicas that told of themselves, and the output that they gave together.
SELECT
    hour, day, job_id, deployment, model, gpu_model, role,
    count(DISTINCT pod) AS replicas,
    sum(output_tokens) / 3600 AS rate,
    sum(output_tokens) AS output_tokens,
    sum(requests) AS requests,
    max(most_waiting) AS waiting
FROM serving_hour
WHERE job_id IS NOT NULL
GROUP BY ALL
