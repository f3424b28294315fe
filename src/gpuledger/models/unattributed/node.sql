-- Resources of the incidents in `un_top` that telemetry knows as machines, by cluster, and the jobs that held them.
SELECT p.incident, n.cluster, count(DISTINCT p.resource_key) AS resources
FROM un_part AS p
JOIN (SELECT DISTINCT cluster, lower(regexp_extract(provider_id, '[^/]+$')) AS id FROM node_interval WHERE provider_id IS NOT NULL) AS n
    ON n.id = lower(regexp_extract(p.resource_id, '[^/]+$'))
WHERE p.incident IN (SELECT incident FROM un_top)
GROUP BY ALL;
