-- Which job held a pod on a day, and on which card model: by the charges; NULL where there were several.
SELECT
    x_Cluster AS cluster,
    coalesce(x_Namespace, '') AS space,
    x_Pod AS pod,
    unit_hour(ChargePeriodStart) // 24 AS day,
    CASE WHEN min(x_JobId) = max(x_JobId) THEN min(x_JobId) END AS job_id,
    CASE WHEN min(x_GpuModel) = max(x_GpuModel) THEN min(x_GpuModel) END AS gpu_model
FROM allocated
WHERE x_AllocationState IN ('running', 'held') AND x_JobId IS NOT NULL AND x_Pod IS NOT NULL
GROUP BY ALL
