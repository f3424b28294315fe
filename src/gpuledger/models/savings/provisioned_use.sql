-- Tokens that provisioned throughput served: of the deployment that is called like the billed resource, or as you say
-- (facts deployment and model of the resource).
WITH known AS (
    SELECT u.short_name, coalesce(f.value, u.short_name) AS deployment, m.value AS model
    FROM (SELECT DISTINCT short_name FROM atom WHERE tier = 'provisioned') AS u
    LEFT JOIN fact AS f ON lower(f.name) = lower(u.short_name) AND f.key = 'deployment'
    LEFT JOIN fact AS m ON lower(m.name) = lower(u.short_name) AND m.key = 'model'
)
SELECT
    k.short_name, any_value(coalesce(k.model, s.model)) AS model,
    sum(s.input_tokens) - coalesce(sum(s.cached_input_tokens), 0) AS input,
    coalesce(sum(s.cached_input_tokens), 0) AS cached,
    sum(s.output_tokens) AS output
FROM known AS k
JOIN serving_hour AS s ON s.job_id IS NULL AND lower(s.deployment) = lower(k.deployment)
GROUP BY k.short_name
