-- What each pod held, once, where a scheduler (Kubernetes) and a monitor (Prometheus) both tell of it. The pod's time
-- is cut at the edges of what the scheduler says. Only its own few rows are cut up and sorted; the monitor's stream.
WITH told AS (
    SELECT *, {monitor} AS _monitor FROM {usage}
), scheduler AS (
    SELECT DISTINCT cluster, pod_uid, job_id, attempt, state, "start", "end"
    FROM told
    WHERE pod_uid IS NOT NULL AND NOT _monitor
), edge AS (
    SELECT cluster, pod_uid, "start" AS from_time FROM scheduler
    UNION
    SELECT cluster, pod_uid, "end" FROM scheduler
    UNION
    SELECT cluster, pod_uid, TIMESTAMPTZ '-infinity' FROM scheduler
), span AS (
    SELECT
        *,
        lead(from_time, 1, TIMESTAMPTZ 'infinity') OVER (PARTITION BY cluster, pod_uid ORDER BY from_time) AS to_time
    FROM edge
), known AS (
    SELECT
        s.cluster,
        s.pod_uid,
        s.from_time,
        s.to_time,
        count(k.job_id) > 0 AS known,
        arg_max(k.attempt, k."start") AS attempt,
        arg_max(k.state, k."start") AS state
    FROM span AS s
    LEFT JOIN scheduler AS k ON k.cluster = s.cluster AND k.pod_uid = s.pod_uid
        AND k."start" <= s.from_time AND k."end" >= s.to_time
    GROUP BY s.cluster, s.pod_uid, s.from_time, s.to_time
), pod AS (
    SELECT cluster, pod_uid, arg_max(job_id, "start") AS job_id FROM scheduler GROUP BY cluster, pod_uid
), carded AS (
    SELECT DISTINCT cluster, pod_uid, true AS carded
    FROM told
    WHERE pod_uid IS NOT NULL AND NOT _monitor AND resource = 'gpu' AND device IS NOT NULL
), alias AS (
    {aliases}
), piece AS (
    SELECT
        m.*,
        pod.job_id AS _job_id,
        s.known AS _known,
        s.attempt AS _attempt,
        s.state AS _state,
        greatest(m."start", s.from_time) AS _start,
        least(m."end", s.to_time) AS _end,
        coalesce(c.carded, false) AS _carded
    FROM told AS m
    JOIN known AS s ON s.cluster = m.cluster AND s.pod_uid = m.pod_uid
        AND m."start" < s.to_time AND m."end" > s.from_time
    JOIN pod ON pod.cluster = m.cluster AND pod.pod_uid = m.pod_uid
    LEFT JOIN carded AS c ON c.cluster = m.cluster AND c.pod_uid = m.pod_uid
    WHERE m._monitor
)
SELECT * EXCLUDE (_monitor) FROM told WHERE _monitor IS NOT TRUE
UNION ALL
SELECT m.* EXCLUDE (_monitor) REPLACE (coalesce(a.current_id, m.job_id) AS job_id)
FROM (
    SELECT * FROM told AS t
    WHERE t._monitor AND NOT EXISTS (FROM pod WHERE pod.cluster = t.cluster AND pod.pod_uid = t.pod_uid)
) AS m
LEFT JOIN (SELECT job_id AS told_id, current_id FROM alias) AS a ON a.told_id = m.job_id
UNION ALL
SELECT * EXCLUDE (_monitor, _job_id, _known, _attempt, _state, _start, _end, _carded) REPLACE (
    _job_id AS job_id,
    _start AS "start",
    _end AS "end",
    CASE WHEN _known THEN _attempt ELSE attempt END AS attempt,
    CASE WHEN _known THEN _state ELSE state END AS state,
    CASE WHEN _known AND resource IN ('cpu', 'memory') THEN NULL ELSE container END AS container,
    CASE WHEN _known AND resource IN ('cpu', 'memory', 'gpu') THEN NULL ELSE requested END AS requested
)
FROM piece
WHERE NOT _known OR CASE
    WHEN resource IN ('cpu', 'memory') THEN used IS NOT NULL
    WHEN resource = 'gpu' THEN device IS NOT NULL AND NOT _carded
    ELSE true
END
