-- What each new series means: the column that it fills, the replica that it is of, and which series say the same.
-- A name that several engines have is of the first of them.
CREATE OR REPLACE TEMP TABLE series_fresh AS
WITH fresh AS (SELECT n.* FROM ({series}) AS n ANTI JOIN series_seen AS o USING (s)),
meant AS (
    SELECT f.s, f.labels, r.*
    FROM fresh AS f JOIN series_rule AS r USING (name)
    WHERE r.engine = (SELECT min(engine) FROM series_rule AS a WHERE a.name = f.name)
        AND (r.only_label IS NULL OR list_contains(r.only_values, coalesce(f.labels[r.only_label], '')))
        AND (r.unless_label IS NULL OR NOT list_contains(r.unless_values, coalesce(f.labels[r.unless_label], '')))
)
SELECT s, labels, "column", part, kind, grp, rank, scale, bound, repeating, {identity} FROM meant
;
INSERT INTO series_told
SELECT
    s, replica, hash(replica, labels['instance']) AS target, "column", part,
    CASE WHEN part = 'bucket' THEN
        CASE WHEN bound = 1 OR labels['le'] = '+Inf' THEN labels['le'] ELSE CAST(CAST(labels['le'] AS DOUBLE) * bound AS VARCHAR) END
    END AS le,
    kind, grp, rank, scale,
    CASE WHEN len(repeating) > 0
        THEN hash(list_sort(list_filter(map_entries(labels), lambda e: NOT list_contains(repeating, e.key)))::VARCHAR)
        ELSE s END AS work
FROM (SELECT *, hash(provider, "cluster", namespace, deployment, pod, model, role, team, "owner") AS replica FROM series_fresh)
;
INSERT INTO replica_told
SELECT DISTINCT hash(provider, "cluster", namespace, deployment, pod, model, role, team, "owner") AS replica,
    provider, "cluster", namespace, deployment, pod, model, role, team, "owner"
FROM series_fresh
WHERE replica NOT IN (SELECT replica FROM replica_told)
;
INSERT INTO series_seen SELECT DISTINCT s FROM ({series}) WHERE s NOT IN (SELECT s FROM series_seen)
