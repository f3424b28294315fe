-- What is known of a job beyond telemetry: its labels `gpuledger.io/…`, and [savings.facts] of its name, id or model.
WITH label AS (
    SELECT job_id, unnest(map_entries(labels)) AS entry FROM jobs WHERE labels IS NOT NULL
)
SELECT job_id, substr(entry.key, 14) AS key, any_value(entry.value) AS value, 1 AS rank
FROM label
WHERE starts_with(entry.key, 'gpuledger.io/') AND NOT EXISTS (
    SELECT 1 FROM fact AS f JOIN jobs AS j ON f.name IN (j.name, j.job_id, j.model)
    WHERE j.job_id = label.job_id AND f.key = substr(entry.key, 14)
)
GROUP BY ALL
UNION ALL
SELECT j.job_id, f.key, arg_min(f.value, CASE f.name WHEN j.job_id THEN 0 WHEN j.name THEN 1 ELSE 2 END), 0
FROM fact AS f
JOIN jobs AS j ON f.name IN (j.name, j.job_id, j.model)
GROUP BY ALL
