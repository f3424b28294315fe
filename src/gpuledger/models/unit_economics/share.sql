-- Pools that have takers at this level ({keys}), given to job-hours by their effective cost: one row per taker.
WITH wanted AS (
    SELECT {keys}, billing_period, currency, part, sum(amount) AS amount
    FROM unit_pool
    WHERE part = '{part}'
    GROUP BY ALL
), taker AS (
    SELECT {keys}, billing_period, currency, job_id, cluster AS taker_cluster, gpu_model AS taker_card, hour, sum(weight) AS weight
    FROM {takers}
    GROUP BY ALL
), run AS (
    SELECT
        t.*,
        w.amount,
        sum(t.weight) OVER (whole ORDER BY t.job_id, t.hour, t.taker_card, t.taker_cluster ROWS UNBOUNDED PRECEDING) AS until,
        sum(t.weight) OVER whole AS total
    FROM taker AS t
    JOIN wanted AS w ON {match}
        AND w.billing_period = t.billing_period AND w.currency IS NOT DISTINCT FROM t.currency
    WHERE t.weight > 0
    WINDOW whole AS (PARTITION BY {places}, t.billing_period, t.currency)
)
SELECT
    '{part}' AS part, {keys}, billing_period, currency, job_id, taker_cluster, taker_card, hour,
    unit_share18(amount, CAST(until - weight AS HUGEINT), CAST(until AS HUGEINT), CAST(total AS HUGEINT)) AS amount
FROM run
