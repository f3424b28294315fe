-- What usage rows of the batch say apart from times and measurements, each combination once. `sameness` stands for it
-- in the sums; exact columns beside it make two combinations with one hash show.
SELECT
    {sameness} AS sameness,
    any_value(cluster) AS cluster,
    any_value(node) AS node,
    job_id,
    pod_uid,
    device,
    any_value(namespace) AS namespace,
    any_value(pod) AS pod,
    any_value({container}) AS container,
    any_value(attempt) AS attempt,
    any_value(state) AS state,
    any_value(resource) AS resource,
    any_value(sharing) AS sharing,
    any_value(share_numerator) AS share_numerator,
    any_value(share_denominator) AS share_denominator,
    any_value(requested) AS requested,
    bool_or(epoch_us("start") // {grid} <> (epoch_us("end") - 1) // {grid}) AS spans
FROM {usage}
WHERE {during} AND resource IN ('gpu', 'cpu', 'memory')
GROUP BY sameness, job_id, pod_uid, device
