-- Owned machines of the same kind and region that began within {minutes} minutes of an incident of `un_top`, by owner.
-- Only where the bill is hourly or finer, and where it shows the beginning.
SELECT t.incident, r.team, r.cost_center, r.owner, r.project, count(DISTINCT r.resource_key) AS resources
FROM un_top AS t
JOIN un_own AS r
    ON r.provider = t.provider AND r.kind = t.kind AND r.region = t.region
    AND r.first_seen BETWEEN t.first_seen - INTERVAL {minutes} MINUTE AND t.first_seen + INTERVAL {minutes} MINUTE
WHERE NOT r.at_the_beginning AND NOT t.at_the_beginning
    AND r.grain <= INTERVAL 1 HOUR AND t.grain <= INTERVAL 1 HOUR
GROUP BY ALL;
