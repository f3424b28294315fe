-- Points of the GenAI metrics, of services whose calls aren't told by spans.
WITH metric AS (
    SELECT attribute(resource, 'service.name') AS service, attribute(resource, 'service.instance.id') AS instance, one.name AS name,
        coalesce(one.histogram, one.exponentialHistogram, one.sum) AS data
    FROM (SELECT resource, unnest(metrics) AS one FROM (
        SELECT r.resource.attributes AS resource, unnest(r.scopeMetrics).metrics AS metrics
        FROM (SELECT unnest(resourceMetrics) AS r FROM otlp)
    ))
    WHERE one.name IN ('gen_ai.client.token.usage', 'gen_ai.server.time_to_first_token', 'gen_ai.server.time_per_output_token')
)
SELECT
    service, instance, name, point.attributes::VARCHAR AS labels,
    coalesce(attribute(point.attributes, 'gen_ai.provider.name'), attribute(point.attributes, 'gen_ai.system'), 'unknown') AS provider,
    coalesce(attribute(point.attributes, 'gen_ai.response.model'), attribute(point.attributes, 'gen_ai.request.model')) AS model,
    attribute(point.attributes, 'gen_ai.token.type') AS token_type,
    TRY_CAST(point.startTimeUnixNano AS BIGINT) // 1000 AS since,
    TRY_CAST(point.timeUnixNano AS BIGINT) // 1000 AS t,
    coalesce(point.sum, TRY_CAST(point.asInt AS DOUBLE), point.asDouble) AS total,
    TRY_CAST(point.count AS DOUBLE) AS calls,
    temporality IN ('1', 'AGGREGATION_TEMPORALITY_DELTA') AS is_delta
FROM (SELECT * EXCLUDE (data), data.aggregationTemporality AS temporality, unnest(data.dataPoints) AS point FROM metric)
WHERE service IS NULL OR service NOT IN (SELECT deployment FROM genai_call WHERE deployment IS NOT NULL)
