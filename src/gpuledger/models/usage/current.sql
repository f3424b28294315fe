-- What each pod held, once, where a scheduler (Kubernetes) and a monitor (Prometheus) both tell of it. The monitor's rows
-- stream past the spans of what the scheduler says; a pod that it doesn't know has none.
WITH told AS NOT MATERIALIZED (
    SELECT *, {monitor} AS _monitor FROM {usage}
), piece AS NOT MATERIALIZED (
    SELECT
        m.*,
        coalesce(s.job_id, a.current_id, m.job_id) AS _job_id,
        coalesce(s.known, false) AS _known,
        s.attempt AS _attempt,
        s.state AS _state,
        CASE WHEN s.from_time > m."start" THEN s.from_time ELSE m."start" END AS _start,
        CASE WHEN s.to_time < m."end" THEN s.to_time ELSE m."end" END AS _end,
        coalesce(s.carded, false) AS _carded
    FROM told AS m
    LEFT JOIN {span} AS s ON s.cluster = m.cluster AND s.pod_uid = m.pod_uid
        AND s.from_time < m."end" AND s.to_time > m."start"
    LEFT JOIN {alias} AS a ON a.job_id = m.job_id
    WHERE m._monitor
)
SELECT * EXCLUDE (_monitor) FROM told WHERE _monitor IS NOT TRUE
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
