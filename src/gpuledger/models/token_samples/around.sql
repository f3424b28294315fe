-- What was gained between samples that have no place in one interval, as rows of their own. Over a gap: from the sample
-- before it. Up to a series' first sample: since its last one of an earlier span, or, where its target had been scraped
-- before and didn't have it, since 0. Of a target that is new itself, nobody knows.
WITH before AS (
    SELECT e.s, e.t, e.v, coalesce(l.t, k.t) AS pt, CASE WHEN l.t IS NOT NULL THEN l.v ELSE 0 END AS pv,
        l.t IS NULL AS fresh
    FROM edge AS e
    JOIN (SELECT DISTINCT s, target FROM series_told WHERE kind = 'counter') AS s USING (s)
    LEFT JOIN last_sample AS l USING (s)
    LEFT JOIN target_seen AS k ON k.target = s.target AND k.t < e.t
    WHERE e.s IS DISTINCT FROM e.ps
    UNION ALL
    SELECT s, t, v, pt, pv, false FROM edge WHERE s = ps AND t - pt > {gap}
)
SELECT
    s,
    CASE WHEN fresh OR t - pt <= {gap} THEN (t - 1) // {step} ELSE (pt - 1) // {step} + 1 END * {step} AS start,
    CASE WHEN fresh OR t - pt <= {gap} THEN (t - 1) // {step} + 1 ELSE (t - 1) // {step} END * {step} AS "end",
    CASE WHEN v >= pv THEN v - pv ELSE v END AS gained,
    NULL::DOUBLE AS mean
FROM before WHERE pt < t
