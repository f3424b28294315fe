-- What each job cost an hour, by card model.
SELECT
    h.job_id,
    h.cluster,
    coalesce(h.gpu_model, m.gpu_model) AS gpu_model,
    h.hour,
    h.billing_period,
    h.currency,
    coalesce(sum(h.effective) FILTER (h.part = 'held'), 0) AS effective,
    CASE WHEN NOT bool_or(h.unlisted AND h.part = 'held') THEN coalesce(sum(h.list_cost) FILTER (h.part = 'held'), 0) END AS list_cost,
    coalesce(sum(h.effective) FILTER (h.part = 'shared'), 0) AS shared,
    sum(h.gpu_hours) FILTER (h.part = 'held') AS gpu_hours,
    sum(h.measured) FILTER (h.part = 'held') AS measured,
    sum(h.used) FILTER (h.part = 'held') AS used
FROM unit_hour_cost AS h
LEFT JOIN unit_main AS m USING (job_id)
WHERE h.job_id IS NOT NULL
GROUP BY ALL
