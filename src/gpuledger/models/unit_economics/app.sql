-- A job's cost by hour, given to what it {kind}: by weight in that hour, else by weight over all, else evenly.
WITH made AS (
    SELECT job_id, {keys}, sum({weight}) AS total FROM {made} WHERE job_id IS NOT NULL GROUP BY ALL
), now AS (
    SELECT job_id, hour, gpu_model, {keys}, sum({weight}) AS weight FROM {placed} WHERE job_id IS NOT NULL GROUP BY ALL
), candidate AS (
    SELECT h.*, {m_keys}, coalesce(n.weight, 0) AS now, m.total
    FROM unit_job_hour AS h
    JOIN made AS m ON m.job_id = h.job_id
    LEFT JOIN now AS n ON n.job_id = h.job_id AND n.hour = h.hour AND n.gpu_model IS NOT DISTINCT FROM h.gpu_model AND {n_keys}
), weighed AS (
    SELECT
        * EXCLUDE (now, total),
        CAST(CASE WHEN sum(now) OVER whole > 0 THEN now WHEN sum(total) OVER whole > 0 THEN total ELSE 1 END AS HUGEINT) AS weight
    FROM candidate
    WINDOW whole AS (PARTITION BY job_id, cluster, gpu_model, hour, billing_period, currency)
), run AS (
    SELECT
        *,
        CAST(sum(weight) OVER (whole ORDER BY {keys} ROWS UNBOUNDED PRECEDING) AS HUGEINT) AS until,
        CAST(sum(weight) OVER whole AS HUGEINT) AS total
    FROM weighed
    WINDOW whole AS (PARTITION BY job_id, cluster, gpu_model, hour, billing_period, currency)
)
SELECT
    job_id, cluster, gpu_model, hour, billing_period, currency, {keys},
    unit_share18(effective, until - weight, until, total) AS effective,
    unit_share18(list_cost, until - weight, until, total) AS list_cost,
    unit_share18(idle, until - weight, until, total) AS idle,
    unit_share18(stranded, until - weight, until, total) AS stranded,
    unit_share14(gpu_hours, until - weight, until, total) AS gpu_hours,
    unit_share14(measured, until - weight, until, total) AS measured,
    unit_share14(used, until - weight, until, total) AS used
FROM run
