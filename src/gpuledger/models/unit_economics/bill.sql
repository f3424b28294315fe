-- Charges of models behind an API by hour, with their tokens where the bill counts them.
WITH listed AS (
    SELECT
        ServiceProviderName AS provider,
        x_AiModel AS model,
        coalesce(ResourceName, SubAccountName, SubAccountId, x_AiModel) AS deployment,
        SubAccountId AS account,
        SubAccountName AS account_name,
        x_Team AS team,
        x_Owner AS owner,
        x_TokenType AS token_type,
        x_BillingPeriod AS billing_period,
        BillingCurrency AS currency,
        unit_hour(ChargePeriodStart) AS first,
        unit_hours(ChargePeriodStart, ChargePeriodEnd) AS hours,
        sum(EffectiveCost) AS effective,
        sum(ListCost) AS list_cost,
        coalesce(bool_or(ListCost IS NULL AND EffectiveCost <> 0), false) AS unlisted,
        sum(ConsumedQuantity) FILTER (lower(ConsumedUnit) = 'tokens' AND ChargeCategory = 'Usage') AS tokens,
        coalesce(bool_or(lower(ConsumedUnit) IS DISTINCT FROM 'tokens' AND ChargeCategory = 'Usage'), false) AS uncounted
    FROM allocated
    WHERE x_AiModel IS NOT NULL AND x_AllocationState IS NULL
    GROUP BY ALL
), spread AS (
    SELECT
        * REPLACE (unit_cut18(effective, k, hours) AS effective, unit_cut18(list_cost, k, hours) AS list_cost, unit_cut14(tokens, k, hours) AS tokens),
        first + k AS hour
    FROM (SELECT *, unnest(range(hours)) AS k FROM listed)
)
SELECT
    provider, model, deployment, account, account_name, team, owner, billing_period, currency, hour,
    sum(effective) AS effective,
    CASE WHEN NOT bool_or(unlisted) THEN sum(list_cost) END AS list_cost,
    -- A part that the bill doesn't count makes the whole unknown.
    CASE WHEN NOT bool_or(uncounted) THEN coalesce(sum(tokens) FILTER (token_type IN ('input', 'cache_read', 'cache_write')), 0) END AS input_tokens,
    CASE WHEN NOT bool_or(uncounted) THEN coalesce(sum(tokens) FILTER (token_type = 'cache_read'), 0) END AS cached_tokens,
    CASE WHEN NOT bool_or(uncounted) THEN coalesce(sum(tokens) FILTER (token_type = 'cache_write'), 0) END AS cache_write_tokens,
    CASE WHEN NOT bool_or(uncounted) THEN coalesce(sum(tokens) FILTER (token_type = 'output'), 0) END AS output_tokens,
    sum(effective) FILTER (token_type = 'input') AS fresh_cost,
    sum(effective) FILTER (token_type = 'cache_read') AS cached_cost,
    sum(effective) FILTER (token_type = 'output') AS output_cost
FROM spread
GROUP BY ALL
