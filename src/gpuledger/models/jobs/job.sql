-- One row per job that lived, held or cost something between {since} and {until} (microseconds).
WITH held AS (
    SELECT * FROM hold
), model AS (
    SELECT job_id, string_agg(DISTINCT n.gpu_model, ', ' ORDER BY n.gpu_model) AS gpu_model
    FROM (SELECT job_id, unnest(machines) AS place FROM held)
    JOIN (SELECT DISTINCT cluster, node, gpu_model FROM seen_node WHERE gpu_model IS NOT NULL) AS n
        ON n.cluster = place.cluster AND n.node = place.node
    GROUP BY job_id
), alive AS (
    SELECT *
    FROM jobs
    WHERE coalesce(submitted, started, make_timestamptz({since})) < make_timestamptz({until})
        AND job_id NOT IN (SELECT job_id FROM job_alias)
        -- One that nobody tells of any more is over, even if nobody saw its end.
        AND coalesce(ended, CAST(CAST(x_BillingPeriod AS DATE) + 1 AS TIMESTAMPTZ)) > make_timestamptz({since})
), last AS (
    SELECT job_id, max(attempt) AS attempt
    FROM (SELECT x_JobId AS job_id, x_Attempt AS attempt FROM job_charge UNION ALL SELECT job_id, attempt FROM held
        UNION ALL SELECT job_id, attempts FROM jobs)
    GROUP BY job_id
), cost AS (
    SELECT
        c.x_JobId AS job_id,
        any_value(c.x_Cluster) AS cluster,
        min(c.x_Namespace) AS namespace,
        sum(c.EffectiveCost) AS cost,
        sum(c.EffectiveCost) FILTER (c.x_AllocationState IN ('idle', 'overhead')) AS shared_cost,
        sum(c.EffectiveCost) FILTER (c.x_AllocationState = 'held') AS waiting_cost,
        sum(c.x_IdleGpuCost) AS idle_cost,
        sum(c.EffectiveCost) FILTER (c.x_Attempt < l.attempt) AS retried,
        sum(c.EffectiveCost) FILTER (c.x_Attempt = l.attempt) AS final_attempt,
        CASE WHEN bool_or(c.x_CostStatus = 'Estimated') THEN 'Estimated' ELSE 'Final' END AS cost_status
    FROM job_charge AS c
    JOIN last AS l ON l.job_id = c.x_JobId
    GROUP BY c.x_JobId
), listed AS (
    SELECT job_id FROM alive UNION SELECT job_id FROM cost UNION SELECT job_id FROM held
)
SELECT
    job_id,
    j.kind,
    j.name,
    coalesce(j.cluster, c.cluster, h.cluster) AS cluster,
    coalesce(j.namespace, c.namespace, h.namespace) AS namespace,
    j.cost_center, j.team, j.owner, j.workload_type, j.model,
    j.experiment, j.project, j.environment, j.budget,
    coalesce(j.started, CASE WHEN j.job_id IS NULL THEN h.held_from END) AS "start",
    j.ended AS "end",
    j.state,
    CASE
        WHEN h.job_id IS NULL AND j.started IS NULL THEN CAST(0 AS DECIMAL(38, 9))
        WHEN h.job_id IS NOT NULL
            THEN CAST(CAST((h.units + 113400000000) // 226800000000 AS DECIMAL(38, 0)) * CAST(0.000000001 AS DECIMAL(9, 9)) AS DECIMAL(38, 9))
    END AS gpu_hours,
    CAST(CAST((h.waiting + 113400000000) // 226800000000 AS DECIMAL(38, 0)) * CAST(0.000000001 AS DECIMAL(9, 9)) AS DECIMAL(38, 9)) AS waiting_gpu_hours,
    CAST(CAST((h.used + 113400000000) // 226800000000 AS DECIMAL(38, 0)) * CAST(0.000000001 AS DECIMAL(9, 9)) AS DECIMAL(38, 9)) AS used_gpu_hours,
    m.gpu_model,
    -- Never scheduled: it cost nothing. Held something that no charge is known for: its cost isn't known.
    CASE
        WHEN c.job_id IS NOT NULL THEN c.cost
        WHEN h.job_id IS NULL AND j.started IS NULL THEN CAST(0 AS DECIMAL(38, 18))
    END AS cost,
    c.idle_cost,
    c.shared_cost,
    c.waiting_cost,
    CASE
        WHEN j.attempts IS NULL OR j.kind IN ({services}) THEN NULL
        ELSE coalesce(c.retried, 0) + CASE WHEN lower(j.state) IN ({failed}) THEN coalesce(c.final_attempt, 0) ELSE 0 END
    END AS waste,
    c.cost_status,
    j.attempts,
    j.evidence AS attribution_evidence
FROM listed
LEFT JOIN jobs AS j USING (job_id)
LEFT JOIN held AS h USING (job_id)
LEFT JOIN cost AS c USING (job_id)
LEFT JOIN model AS m USING (job_id)
