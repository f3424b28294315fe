-- Job-hours with their shares of idle machines (those that allocation shares already among them) and of commitments.
SELECT
    h.* EXCLUDE (shared),
    CAST(h.shared + coalesce(s.idle, 0) AS DECIMAL(38, 18)) AS idle,
    CAST(coalesce(s.stranded, 0) AS DECIMAL(38, 18)) AS stranded
FROM unit_job_hour AS h
LEFT JOIN (
    SELECT
        job_id, cluster, gpu_model, hour, billing_period, currency,
        sum(amount) FILTER (part = 'idle') AS idle,
        sum(amount) FILTER (part = 'unused') AS stranded
    FROM unit_shared
    GROUP BY ALL
) AS s
    ON s.job_id = h.job_id AND s.hour = h.hour AND s.billing_period = h.billing_period
    AND s.cluster IS NOT DISTINCT FROM h.cluster AND s.gpu_model IS NOT DISTINCT FROM h.gpu_model
    AND s.currency IS NOT DISTINCT FROM h.currency
