-- A trace of inference services (alibaba/clusterdata, cluster-trace-gpu-v2025) as records. `instances` has the published
-- columns. An instance without a start was there before the trace, one without an end after it: 31 days are 2,678,400
-- seconds. The trace names no machines, so that each instance is one of its own, rented for as long as it lives.
CREATE TABLE held AS
SELECT
    *,
    coalesce(scheduled_time, creation_time, 0) AS first,
    coalesce(deletion_time, 2678400) AS last,
    moment(coalesce(scheduled_time, creation_time, 0)) AS start,
    moment(coalesce(deletion_time, 2678400)) AS "end"
FROM instances
WHERE coalesce(deletion_time, 2678400) > coalesce(scheduled_time, creation_time, 0)
ORDER BY first, instance_sn;

CREATE TABLE job AS
SELECT
    'dlrm/' || app_name AS job_id,
    'dlrm' AS cluster,
    'Deployment' AS kind,
    app_name AS name,
    'dlrm' AS namespace,
    'Running' AS state,
    min(start) AS submitted,
    min(start) AS started,
    CASE WHEN max(last) < 2678400 THEN max("end") END AS ended,
    NULL::BIGINT AS attempts,
    'inference' AS workload_type,
    app_name AS project,
    '{"workload_type": {"source": "what the trace is of", "rank": 8, "inferred": true}, "project": {"source": "app_name of the trace", "rank": 1, "inferred": false}}' AS evidence,
    MAP {'trace': 'dlrm'} AS labels
FROM held
GROUP BY app_name
ORDER BY app_name;

CREATE TABLE usage_interval AS
SELECT
    'dlrm' AS cluster, instance_sn AS node, 'dlrm/' || app_name AS job_id, 1 AS attempt, 'dlrm' AS namespace,
    instance_sn AS pod, instance_sn AS pod_uid, role AS container, resource,
    CASE WHEN resource = 'gpu' THEN 'whole' END AS sharing, requested::DECIMAL(38, 14) AS requested,
    'running' AS state, start, "end"
FROM held, LATERAL (VALUES
    ('gpu', gpu_request::DECIMAL(38, 14)), ('cpu', cpu_request::DECIMAL(38, 14)), ('memory', memory_request::DECIMAL(38, 14))
) AS sizes(resource, requested)
WHERE requested > 0;

CREATE TABLE machine AS
SELECT
    instance_sn AS node, start, "end", cpu_request::DECIMAL(18, 3) AS cores, memory_request::DECIMAL(28, 10) AS memory,
    gpu_request::DECIMAL(9, 0) AS gpus, NULL::VARCHAR AS model
FROM held;
