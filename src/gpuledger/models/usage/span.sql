-- The time of each pod that a scheduler (Kubernetes) tells of, cut where what it says changes, from the beginning of time
-- to its end: `known` where it tells of the pod. Few rows: the scheduler's, not the monitor's.
WITH told AS NOT MATERIALIZED (
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
), said AS (
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
), changed AS (
    SELECT
        *,
        row(known, attempt, state) IS DISTINCT FROM lag(row(known, attempt, state)) OVER (
            PARTITION BY cluster, pod_uid ORDER BY from_time
        ) AS changes
    FROM said
), counted AS (
    SELECT *, sum(CAST(changes AS INTEGER)) OVER (PARTITION BY cluster, pod_uid ORDER BY from_time) AS part
    FROM changed
), known AS (
    -- Spans that say the same are one, such as the days of a long run: the monitor's rows have few to be matched with.
    SELECT cluster, pod_uid, known, attempt, state, min(from_time) AS from_time, max(to_time) AS to_time
    FROM counted
    GROUP BY cluster, pod_uid, known, attempt, state, part
), pod AS (
    SELECT cluster, pod_uid, arg_max(job_id, "start") AS job_id FROM scheduler GROUP BY cluster, pod_uid
), carded AS (
    SELECT DISTINCT cluster, pod_uid
    FROM told
    WHERE pod_uid IS NOT NULL AND NOT _monitor AND resource = 'gpu' AND device IS NOT NULL
)
SELECT k.*, pod.job_id, c.pod_uid IS NOT NULL AS carded
FROM known AS k
JOIN pod ON pod.cluster = k.cluster AND pod.pod_uid = k.pod_uid
LEFT JOIN carded AS c ON c.cluster = k.cluster AND c.pod_uid = k.pod_uid
