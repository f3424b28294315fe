-- Owned machines of the same kind and region that began within {minutes} minutes of an incident of `un_top`, by owner.
-- Only where the bill is hourly or finer, and where it shows the beginning.
SELECT t.incident, r.team, r.cost_center, r.owner, r.project, count(DISTINCT r.thing) AS resources
FROM un_top AS t
JOIN un_own AS r
    ON r.provider = t.provider AND r.kind = t.kind AND r.region = t.region
    AND r.first_seen BETWEEN t.first_seen - INTERVAL {minutes} MINUTE AND t.first_seen + INTERVAL {minutes} MINUTE
WHERE r.shows AND r.job_id IS NULL AND NOT t.is_job AND NOT r.at_the_beginning AND NOT t.at_the_beginning
    AND r.grain <= INTERVAL 1 HOUR AND t.grain <= INTERVAL 1 HOUR
GROUP BY ALL;
