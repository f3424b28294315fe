-- One row per hour and deployment, run, API model, other job, and what nobody can be charged with. Σ effective + idle +
-- stranded = the charges of machines with telemetry, unused commitments and models behind APIs, exactly.
WITH served AS (
    SELECT
        a.*, p.* EXCLUDE (job_id, hour, gpu_model, deployment, provider, model, priced, weight),
        CASE WHEN t.job_id IS NULL THEN a.effective END AS untold_cost
    FROM (
        SELECT
            *,
            row_number() OVER (PARTITION BY job_id, hour, gpu_model, deployment, provider, model ORDER BY effective DESC, billing_period, cluster, currency) AS turn
        FROM unit_app_served
    ) AS a
    LEFT JOIN unit_placed AS p
        ON p.priced AND a.turn = 1 AND p.job_id = a.job_id AND p.hour = a.hour AND p.gpu_model IS NOT DISTINCT FROM a.gpu_model
        AND p.deployment IS NOT DISTINCT FROM a.deployment AND p.provider IS NOT DISTINCT FROM a.provider AND p.model IS NOT DISTINCT FROM a.model
    LEFT JOIN (SELECT DISTINCT job_id, hour FROM unit_placed) AS t ON t.job_id = a.job_id AND t.hour = a.hour
), trained AS (
    SELECT a.*, r.* EXCLUDE (source, job_id, run_id, hour, cluster, name, model)
    FROM (
        SELECT *, row_number() OVER (PARTITION BY job_id, hour, run_id ORDER BY effective DESC, billing_period, cluster, gpu_model, currency) AS turn
        FROM unit_app_trained
    ) AS a
    LEFT JOIN unit_run_hour AS r ON a.turn = 1 AND r.job_id = a.job_id AND r.hour = a.hour AND r.run_id = a.run_id
), called AS (
    SELECT
        c.at_provider, c.model, c.at_deployment, c.at_team, c.at_account, s.hour, {sums}
    FROM unit_served AS s
    JOIN unit_call AS c ON c.provider IS NOT DISTINCT FROM s.provider AND c.model = s.model
        AND c.deployment IS NOT DISTINCT FROM s.deployment AND c.team IS NOT DISTINCT FROM s.team
    WHERE s.job_id IS NULL
    GROUP BY ALL
), billed AS (
    SELECT b.*, c.* EXCLUDE (at_provider, model, at_deployment, at_team, at_account, hour)
        RENAME (input_tokens AS told_input, cached_tokens AS told_cached, cache_write_tokens AS told_write, output_tokens AS told_output)
    FROM (
        SELECT *, row_number() OVER (PARTITION BY provider, model, deployment, account, team, hour ORDER BY effective DESC, billing_period, currency, owner) AS turn
        FROM unit_bill
    ) AS b
    LEFT JOIN called AS c ON b.turn = 1 AND c.at_provider IS NOT DISTINCT FROM b.provider AND lower(c.model) = lower(b.model)
        AND c.at_deployment = b.deployment AND c.at_team IS NOT DISTINCT FROM b.team
        AND c.at_account IS NOT DISTINCT FROM b.account AND c.hour = b.hour
), whole AS (
    SELECT 'serving' AS kind, s.* EXCLUDE (turn), j.team, j.owner, j.cost_center, j.namespace
    FROM served AS s LEFT JOIN jobs AS j USING (job_id)
    UNION ALL BY NAME
    SELECT 'training' AS kind, t.* EXCLUDE (turn), coalesce(t.name, j.name, t.run_id) AS deployment, j.team, j.owner, j.cost_center, j.namespace
    FROM trained AS t LEFT JOIN jobs AS j USING (job_id)
    UNION ALL BY NAME
    SELECT
        'api' AS kind,
        * EXCLUDE (turn, account, account_name, told_input, told_cached, told_write, told_output)
            REPLACE (
                CASE WHEN output_tokens IS NULL THEN told_input ELSE input_tokens END AS input_tokens,
                CASE WHEN output_tokens IS NULL THEN told_cached ELSE cached_tokens END AS cached_tokens,
                CASE WHEN output_tokens IS NULL THEN told_write ELSE cache_write_tokens END AS cache_write_tokens,
                coalesce(output_tokens, told_output) AS output_tokens
            ),
        told_output, output_tokens AS billed_output
    FROM billed
    UNION ALL BY NAME
    -- What was served and isn't priced (yet): tokens without a cost.
    SELECT 'unpriced' AS kind, p.* EXCLUDE (priced, weight), j.team, j.owner, j.cost_center, j.namespace, j.cluster
    FROM unit_placed AS p LEFT JOIN jobs AS j USING (job_id)
    WHERE NOT p.priced
    UNION ALL BY NAME
    SELECT 'unpriced' AS kind, s.* EXCLUDE (source, engine)
    FROM unit_served AS s
    ANTI JOIN unit_call AS c ON c.provider IS NOT DISTINCT FROM s.provider AND c.model = s.model
        AND c.deployment IS NOT DISTINCT FROM s.deployment AND c.team IS NOT DISTINCT FROM s.team
    WHERE s.job_id IS NULL
    UNION ALL BY NAME
    SELECT 'unpriced' AS kind, r.* EXCLUDE (source), r.name AS deployment
    FROM unit_run_hour AS r
    ANTI JOIN unit_app_trained AS a ON a.job_id = r.job_id AND a.hour = r.hour AND a.run_id = r.run_id
    UNION ALL BY NAME
    SELECT 'other' AS kind, h.*, j.name AS deployment, j.model, j.team, j.owner, j.cost_center, j.namespace
    FROM unit_job_hour AS h LEFT JOIN jobs AS j USING (job_id)
    WHERE job_id NOT IN (SELECT job_id FROM unit_app_served) AND job_id NOT IN (SELECT job_id FROM unit_app_trained)
    UNION ALL BY NAME
    -- Idle machines and unused commitments that nobody could take, and what nobody knows who held.
    SELECT
        'nobody' AS kind, cluster, gpu_model, day * 24 AS hour, billing_period, currency,
        CASE WHEN part = 'idle' THEN amount END AS idle, CASE WHEN part = 'unused' THEN amount END AS stranded
    FROM unit_pool
    UNION ALL BY NAME
    SELECT 'nobody' AS kind, cluster, gpu_model, hour, billing_period, currency, sum(effective) AS effective, sum(gpu_hours) AS gpu_hours
    FROM unit_hour_cost WHERE part = 'unknown' GROUP BY ALL
)
SELECT
    w.* EXCLUDE (hour, billing_period)
        REPLACE (CAST(pods AS BIGINT) AS pods),
    make_timestamptz(hour * 3600000000) AS hour,
    coalesce(billing_period, strftime(make_timestamptz(hour * 3600000000), '%Y-%m')) AS billing_period
FROM whole AS w
ORDER BY hour, kind, deployment
