-- What replicas did, where series repeat each other: of those of several ranks the largest counts, of several spellings
-- of a metric the newest.
WITH gain AS (
    SELECT t.replica, t."column", t.part, t.le, t.grp, t.rank, t.work, t.scale, p.start, p."end", p.s,
        sum(CASE WHEN t.kind = 'counter' THEN p.gained END) AS gained,
        sum(CASE WHEN t.kind = 'gauge' THEN p.mean END) AS mean
    FROM timed AS p JOIN series_told AS t USING (s)
    WHERE t.kind = 'gauge' OR p.gained IS NOT NULL
    GROUP BY ALL
),
once AS (
    SELECT replica, "column", part, le, grp, rank, start, "end", any_value(scale) AS scale, max(gained) AS gained, max(mean) AS mean
    FROM gain GROUP BY replica, "column", part, le, grp, rank, work, start, "end"
),
summed AS (
    SELECT replica, "column", part, le, grp, start, "end",
        scale * CASE WHEN "column" IN ({averaged}) THEN avg(mean) ELSE coalesce(sum(gained), sum(mean)) END AS value
    FROM once
    GROUP BY replica, "column", part, le, grp, rank, start, "end", scale
    QUALIFY rank = min(rank) OVER (PARTITION BY replica, grp, start, "end")
),
cell AS (
    SELECT replica, start, "end", "column", part, le, value, value AS average FROM summed
),
