-- Jobs in the words that findings use, and what sort of work they are.
SELECT
    job_id,
    concat_ws(' ', coalesce(kind, 'job'), concat_ws('/', cluster, namespace, name)) AS label,
    concat_ws('/', cluster, namespace, regexp_replace(name, '[-_.][0-9]+$', '')) AS stem,
    name,
    kind,
    cluster,
    namespace,
    coalesce(workload_type, '') AS workload_type,
    coalesce(workload_type = 'notebook', false) OR kind = 'Notebook' AS notebook,
    coalesce(workload_type IN ('training', 'fine-tuning'), false) AS training,
    lower(coalesce(state, '')) IN ('failed', 'error', 'node_fail', 'out_of_memory', 'boot_fail', 'oomkilled', 'evicted') AS failed,
    started,
    ended,
    attempts
FROM jobs
