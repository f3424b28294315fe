-- Each holder of the batch once.
SELECT
    holder_no,
    any_value(job_id) AS job_id,
    any_value(pod_uid) AS pod_uid,
    any_value(namespace) AS namespace,
    any_value(pod) AS pod,
    any_value(container) AS container,
    any_value(attempt) AS attempt,
    any_value(state) AS state
FROM alloc_holder
GROUP BY holder_no
