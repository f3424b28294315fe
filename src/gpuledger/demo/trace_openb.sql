-- A trace of pods on GPU nodes (alibaba/clusterdata, cluster-trace-gpu-v2023) as records. `pods` and `nodes` have the
-- published columns, `placement` (name, node, card) says where each scheduled pod went. A pod that was never scheduled
-- held nothing, even though the trace knows when it was deleted.
CREATE TABLE job AS
SELECT
    'openb/' || name AS job_id,
    'openb' AS cluster,
    'Pod' AS kind,
    name,
    'openb' AS namespace,
    pod_phase AS state,
    moment(creation_time) AS submitted,
    moment(scheduled_time) AS started,
    moment(deletion_time) AS ended,
    CASE WHEN scheduled_time IS NULL THEN 0 ELSE 1 END AS attempts,
    map_from_entries(list_filter([
        {'key': 'trace', 'value': 'openb'},
        {'key': 'qos', 'value': qos},
        {'key': 'num_gpu', 'value': num_gpu::VARCHAR},
        {'key': 'gpu_milli', 'value': gpu_milli::VARCHAR},
        {'key': 'gpu_spec', 'value': gpu_spec}
    ], lambda entry: entry.value IS NOT NULL)) AS labels
FROM pods
ORDER BY creation_time, name;

CREATE TABLE held AS
SELECT pods.*, node, card, moment(scheduled_time) AS start, moment(deletion_time) AS "end"
FROM pods
JOIN placement USING (name)
WHERE deletion_time > scheduled_time
ORDER BY scheduled_time, name;

CREATE TABLE usage_interval AS
WITH claim AS (
    SELECT
        *,
        CASE WHEN num_gpu = 1 AND card IS NOT NULL THEN node || '/gpu' || card END AS device,
        (num_gpu * gpu_milli)::DECIMAL(18, 3) * 0.001::DECIMAL(4, 3) AS gpus,
        gcd(gpu_milli, 1000) AS part
    FROM held
)
SELECT
    'openb' AS cluster, node, 'openb/' || name AS job_id, 1 AS attempt, 'openb' AS namespace, name AS pod, name AS pod_uid,
    'gpu' AS resource, device,
    CASE WHEN gpu_milli < 1000 THEN 'hami' ELSE 'whole' END AS sharing,
    CASE WHEN device IS NOT NULL THEN gpu_milli // part END AS share_numerator,
    CASE WHEN device IS NOT NULL THEN 1000 // part END AS share_denominator,
    gpus::DECIMAL(38, 14) AS requested, 'running' AS state, start, "end"
FROM claim
WHERE num_gpu > 0
UNION ALL BY NAME
SELECT
    'openb' AS cluster, node, 'openb/' || name AS job_id, 1 AS attempt, 'openb' AS namespace, name AS pod, name AS pod_uid,
    resource, requested, 'running' AS state, start, "end"
FROM claim, LATERAL (VALUES
    ('cpu', (cpu_milli::DECIMAL(18, 0) * 0.001::DECIMAL(4, 3))::DECIMAL(38, 14)),
    ('memory', (memory_mib::DECIMAL(18, 0) * 0.0009765625::DECIMAL(11, 10))::DECIMAL(38, 14))
) AS sizes(resource, requested);

-- A node is rented by the hour, for as long as a pod holds something of it.
CREATE TABLE machine AS
WITH used AS (
    SELECT node, scheduled_time // 3600 AS first, (deletion_time + 3599) // 3600 AS last FROM held
), marked AS (
    SELECT *, coalesce(first > max(last) OVER (PARTITION BY node ORDER BY first, last ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true) AS fresh
    FROM used
), numbered AS (
    SELECT *, count(*) FILTER (fresh) OVER (PARTITION BY node ORDER BY first, last ROWS UNBOUNDED PRECEDING) AS run FROM marked
)
SELECT
    node, moment(min(first) * 3600) AS start, moment(max(last) * 3600) AS "end",
    any_value(cpu_milli)::DECIMAL(18, 0) * 0.001::DECIMAL(4, 3) AS cores,
    any_value(memory_mib)::DECIMAL(18, 0) * 0.0009765625::DECIMAL(11, 10) AS memory,
    any_value(gpu)::DECIMAL(9, 0) AS gpus, any_value(model) AS model
FROM numbered
JOIN nodes ON nodes.sn = numbered.node
GROUP BY node, run
ORDER BY node, start;
