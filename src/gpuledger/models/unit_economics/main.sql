-- The card model that a job paid most for: charges beside cards, such as its CPU nodes, go with it.
SELECT job_id, arg_max(gpu_model, (cost, gpu_model)) AS gpu_model
FROM (
    SELECT job_id, gpu_model, sum(effective) AS cost
    FROM unit_hour_cost
    WHERE job_id IS NOT NULL AND gpu_model IS NOT NULL
    GROUP BY ALL
)
GROUP BY job_id
