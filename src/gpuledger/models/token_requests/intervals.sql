-- Requests by caller, model and interval. A request counts in the interval in which it ended: that is when it is known
-- what it took. Latencies are those of requests that succeeded and tell them.
WITH request AS ({requests}),
timed AS (
    SELECT *,
        (epoch_us("end") - 1) // {step} AS b,
        CASE WHEN ok AND first_token > start AND first_token <= "end" THEN (epoch_us(first_token) - epoch_us(start)) / 1000000 END AS ttft,
        CASE WHEN ok AND first_token > start AND first_token < "end" AND output_tokens > 1
            THEN (epoch_us("end") - epoch_us(first_token)) / 1000000 / (CAST(output_tokens AS DOUBLE) - 1) END AS tpot
    FROM request
)
SELECT
    provider, model, deployment, team, "owner",
    make_timestamptz(b * {step}) AS start, make_timestamptz((b + 1) * {step}) AS "end",
    sum(input_tokens) AS input_tokens, sum(cached_input_tokens) AS cached_input_tokens,
    sum(cache_write_tokens) AS cache_write_tokens, sum(output_tokens) AS output_tokens,
    sum(reasoning_tokens) AS reasoning_tokens,
    count(*) FILTER (ok) AS requests, count(*) FILTER (NOT ok) AS failed_requests,
    sum(ttft) AS ttft_seconds_sum, nullif(count(ttft), 0) AS ttft_seconds_count,
    sum(tpot) AS tpot_seconds_sum, nullif(count(tpot), 0) AS tpot_seconds_count,
    CASE WHEN count(ttft) > 0 THEN MAP {ttft} END AS ttft_buckets,
    CASE WHEN count(tpot) > 0 THEN MAP {tpot} END AS tpot_buckets,
    sum(spend) AS spend, any_value(currency) FILTER (spend IS NOT NULL) AS spend_currency
FROM timed
WHERE b IS NOT NULL
GROUP BY provider, model, deployment, team, "owner", b, currency
