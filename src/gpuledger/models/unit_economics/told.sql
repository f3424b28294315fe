-- One day's tokens by pod and hour: an interval counts in the hour that it starts in. A replica that only prefills tells
-- of input, one that only decodes of output and requests; the other's part would count them twice.
SELECT
    x_Source AS source,
    unit_hour("start") AS hour,
    cluster, namespace, deployment, job_id, pod, provider, model, team, owner,
    sum(input_tokens) FILTER (role IS DISTINCT FROM 'decode') AS input_tokens,
    sum(cached_input_tokens) FILTER (role IS DISTINCT FROM 'decode') AS cached_tokens,
    sum(cache_write_tokens) FILTER (role IS DISTINCT FROM 'decode') AS cache_write_tokens,
    sum(output_tokens) FILTER (role IS DISTINCT FROM 'prefill') AS output_tokens,
    sum(requests) FILTER (role IS DISTINCT FROM 'prefill') AS requests,
    sum(failed_requests) AS failed_requests,
    sum(requests) FILTER (role IS DISTINCT FROM 'prefill' AND good_requests IS NOT NULL) AS rated_requests,
    sum(good_requests) FILTER (role IS DISTINCT FROM 'prefill') AS good_requests,
    sum(output_tokens) FILTER (role IS DISTINCT FROM 'prefill' AND good_output_tokens IS NOT NULL) AS rated_output,
    sum(good_output_tokens) FILTER (role IS DISTINCT FROM 'prefill') AS good_output
FROM token_interval
WHERE x_BillingPeriod = '{day}'
GROUP BY ALL
