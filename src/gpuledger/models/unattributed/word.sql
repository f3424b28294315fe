-- Owned resources whose names have a word of `un_word` (incident, word), by owner.
SELECT w.incident, w.word, r.team, r.cost_center, r.owner, r.project, count(DISTINCT r.thing) AS resources
FROM un_word AS w
JOIN (
    SELECT team, cost_center, owner, project, thing, unnest(list_distinct(regexp_extract_all(name, '[a-z][a-z0-9]{2,}'))) AS word
    FROM un_own
    WHERE name IS NOT NULL AND shows
) AS r USING (word)
GROUP BY ALL;
