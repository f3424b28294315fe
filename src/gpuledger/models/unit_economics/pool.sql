-- Idle machines by cluster, card model and day, and unused commitments by day.
SELECT
    row_number() OVER () AS pool_no,
    part,
    cluster,
    gpu_model,
    commitment,
    hour // 24 AS day,
    billing_period,
    currency,
    sum(effective) AS amount
FROM unit_hour_cost
WHERE part IN ('idle', 'unused')
GROUP BY part, cluster, gpu_model, commitment, hour // 24, billing_period, currency
HAVING sum(effective) <> 0
