-- What each point adds: a delta itself; a cumulative one the difference to the point before, or, after a new start, itself.
SELECT
    provider, model, service AS deployment,
    make_timestamptz(b * {step}) AS start, make_timestamptz((b + 1) * {step}) AS "end",
    quantity(sum(gain) FILTER (name = 'gen_ai.client.token.usage' AND token_type = 'input')::VARCHAR) AS input_tokens,
    quantity(sum(gain) FILTER (name = 'gen_ai.client.token.usage' AND token_type IN ('output', 'completion'))::VARCHAR) AS output_tokens,
    quantity(sum(more) FILTER (name = 'gen_ai.client.token.usage' AND token_type = 'input')::VARCHAR) AS requests,
    quantity(sum(gain) FILTER (name = 'gen_ai.server.time_to_first_token')::VARCHAR) AS ttft_seconds_sum,
    quantity(sum(more) FILTER (name = 'gen_ai.server.time_to_first_token')::VARCHAR) AS ttft_seconds_count,
    quantity(sum(gain) FILTER (name = 'gen_ai.server.time_per_output_token')::VARCHAR) AS tpot_seconds_sum,
    quantity(sum(more) FILTER (name = 'gen_ai.server.time_per_output_token')::VARCHAR) AS tpot_seconds_count
FROM (
    SELECT *, (t - 1) // {step} AS b,
        CASE WHEN is_delta OR before IS NULL OR new_start THEN total ELSE total - before END AS gain,
        CASE WHEN is_delta OR before IS NULL OR new_start THEN calls ELSE calls - calls_before END AS more
    FROM (
        SELECT *, lag(total) OVER w AS before, lag(calls) OVER w AS calls_before,
            since IS DISTINCT FROM lag(since) OVER w OR total < lag(total) OVER w AS new_start
        FROM (SELECT DISTINCT * FROM genai_point)
        WINDOW w AS (PARTITION BY service, instance, name, labels ORDER BY t)
    )
    WHERE is_delta OR before IS NOT NULL OR since IS NOT NULL
)
GROUP BY provider, model, service, b
