-- Jobs that a monitor knows by their owners' names, and the scheduler by the root's uid: the same pods tell that they
-- are the same. A name that stood for several jobs (deleted and created again) is none of them.
SELECT m.job_id, min(s.job_id) AS current_id
FROM (SELECT DISTINCT cluster, pod_uid, job_id FROM {usage} WHERE {monitor}) AS m
JOIN (SELECT DISTINCT cluster, pod_uid, job_id FROM {usage} WHERE pod_uid IS NOT NULL AND NOT {monitor}) AS s
    ON s.cluster = m.cluster AND s.pod_uid = m.pod_uid
WHERE m.job_id <> s.job_id
GROUP BY m.job_id
HAVING count(DISTINCT s.job_id) = 1
