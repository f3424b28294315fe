-- Calls: spans with usage that have no span with usage within them.
WITH span AS (
    SELECT one.*, attribute(resource, 'service.name') AS service
    FROM (SELECT resource, unnest(spans) AS one FROM (
        SELECT r.resource.attributes AS resource, unnest(r.scopeSpans).spans AS spans
        FROM (SELECT unnest(resourceSpans) AS r FROM otlp)
    ))
),
told AS (
    SELECT *,
        quantity(coalesce(attribute(attributes, 'gen_ai.usage.input_tokens'), attribute(attributes, 'gen_ai.usage.prompt_tokens'))) AS input_tokens,
        quantity(coalesce(attribute(attributes, 'gen_ai.usage.output_tokens'), attribute(attributes, 'gen_ai.usage.completion_tokens'))) AS output_tokens
    FROM span
),
used AS (FROM told WHERE input_tokens IS NOT NULL OR output_tokens IS NOT NULL)
SELECT
    coalesce(attribute(attributes, 'gen_ai.provider.name'), attribute(attributes, 'gen_ai.system'), 'unknown') AS provider,
    coalesce(attribute(attributes, 'gen_ai.response.model'), attribute(attributes, 'gen_ai.request.model')) AS model,
    service AS deployment, NULL::VARCHAR AS team,
    coalesce(attribute(attributes, 'user.id'), attribute(attributes, 'enduser.id')) AS "owner",
    make_timestamptz(TRY_CAST(startTimeUnixNano AS BIGINT) // 1000) AS start,
    NULL::TIMESTAMPTZ AS first_token,
    make_timestamptz(TRY_CAST(endTimeUnixNano AS BIGINT) // 1000) AS "end",
    input_tokens,
    quantity(coalesce(
        attribute(attributes, 'gen_ai.usage.cache_read.input_tokens'), attribute(attributes, 'gen_ai.usage.cache_read_input_tokens')
    )) AS cached_input_tokens,
    quantity(coalesce(
        attribute(attributes, 'gen_ai.usage.cache_creation.input_tokens'), attribute(attributes, 'gen_ai.usage.cache_creation_input_tokens')
    )) AS cache_write_tokens,
    output_tokens,
    quantity(attribute(attributes, 'gen_ai.usage.reasoning.output_tokens')) AS reasoning_tokens,
    coalesce(status.code, '0') NOT IN ('2', 'STATUS_CODE_ERROR') AND attribute(attributes, 'error.type') IS NULL AS ok,
    NULL::DECIMAL(32, 18) AS spend, NULL::VARCHAR AS currency
FROM used
WHERE spanId IS NULL OR spanId NOT IN (SELECT parentSpanId FROM used WHERE parentSpanId IS NOT NULL)
