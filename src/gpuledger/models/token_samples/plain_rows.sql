-- What replicas did, where no series repeats another: they add up.
WITH cell AS (
    SELECT t.replica, p.start, p."end", t."column", t.part, t.le,
        t.scale * CASE WHEN t.kind = 'gauge' THEN p.mean ELSE p.gained END AS value,
        p.mean AS average
    FROM timed AS p JOIN series_told AS t USING (s)
    WHERE t.kind = 'gauge' OR p.gained IS NOT NULL
),
