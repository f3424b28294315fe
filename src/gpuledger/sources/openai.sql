-- Lines of the bill; where the usage report has the same tokens, split over the hours and keys that used them. Usage
-- beyond what the newest bill counts is estimated.
WITH shape AS (
    SELECT coalesce(bool_or(project_id IS NOT NULL), false) AS by_project,
        coalesce(bool_or(api_key_id IS NOT NULL), false) AS by_key
    FROM native WHERE kind = 'cost'
),
line AS (
    SELECT native.*, instant(starting_at) AS s, instant(ending_at) AS e, date_trunc('day', s) AS day,
        -- What the bill tells its lines apart by; the rest doesn't matter for the match.
        if(by_project, coalesce(project_id, '-'), '*') AS p, if(by_key, coalesce(api_key_id, '-'), '*') AS k
    FROM native CROSS JOIN shape
),
cost AS (
    SELECT *, row_number() OVER (ORDER BY _file, _row) AS cost_id, money(amount) AS billed,
        CASE quantity_unit WHEN 'tokens' THEN quantity(quantity)
            WHEN '1000_tokens' THEN quantity(quantity) * 1000 END AS billed_tokens
    FROM line WHERE kind = 'cost'
),
-- Minutes are folded to hours.
usage AS (
    SELECT * RENAME (first_moment AS s, last_moment AS e), row_number() OVER () AS id
    FROM (
        SELECT project_id, api_key_id, user_id, model, service_tier, token_type, modality,
            if(e - s < INTERVAL 1 HOUR, date_trunc('hour', s), s) AS first_moment,
            if(e - s < INTERVAL 1 HOUR, date_trunc('hour', s) + INTERVAL 1 HOUR, e) AS last_moment,
            sum(quantity(quantity)) AS tokens, any_value(day) AS day, any_value(p) AS p, any_value(k) AS k,
            any_value(price) AS price, any_value(priced_by) AS priced_by, any_value(labels) AS labels,
            any_value(account_id) AS account_id, any_value(account_name) AS account_name,
            any_value(project_name) AS project_name, min(_file) AS _file, arg_min(_row, (_file, _row)) AS _row
        FROM line WHERE kind = 'usage'
        GROUP BY project_id, api_key_id, user_id, model, service_tier, token_type, modality, first_moment, last_moment
    )
),
bill AS (
    SELECT day, p, k, model, service_tier, token_type, modality, count(*) AS lines, sum(billed_tokens) AS billed_tokens,
        bool_and(billed_tokens IS NOT NULL) AS counted, min(cost_id) AS cost_id
    FROM cost WHERE token_type IS NOT NULL
    GROUP BY ALL
),
metered AS (
    SELECT id, day, p, k, usage.model, service_tier, token_type, modality, tokens, lines, billed_tokens, counted, cost_id,
        sum(tokens) OVER (one ORDER BY s, _file, _row ROWS UNBOUNDED PRECEDING) AS until_here,
        sum(tokens) OVER one AS used
    FROM usage LEFT JOIN bill USING (day, p, k, model, service_tier, token_type, modality)
    WINDOW one AS (PARTITION BY day, p, k, usage.model, service_tier, token_type, modality)
),
-- Parts of a line add up to it to the last digit: each is the difference of two running totals, rounded down. Whole
-- numbers of 10^-18 dollars; a million dollars a day for 10^13 tokens leaves room for ten times as much.
part AS (
    SELECT id, cost_id, CAST(until_here AS HUGEINT) AS upto, CAST(until_here - tokens AS HUGEINT) AS before,
        CAST(used AS HUGEINT) AS whole, CAST(replace(billed::VARCHAR, '.', '') AS HUGEINT) AS units
    FROM metered JOIN cost USING (cost_id)
    WHERE lines = 1 AND (NOT counted OR metered.billed_tokens = used)
),
share AS (
    SELECT id, cost_id, upto - before < whole AS split,
        sign(units) * (abs(units) * upto // whole - abs(units) * before // whole) AS own
    FROM part
),
newest AS (
    SELECT max(day) AS newest_day FROM cost
),
-- Where a line counts more than the report has, tiers are named differently in the two: nothing is estimated there.
agreed AS (
    SELECT day, p, k, model, token_type, modality
    FROM (SELECT DISTINCT day, p, k, model, service_tier, token_type, modality, used FROM metered)
    FULL JOIN bill USING (day, p, k, model, service_tier, token_type, modality)
    GROUP BY ALL
    HAVING bool_and(coalesce(billed_tokens, 0) <= coalesce(used, 0) AND coalesce(counted, true))
),
-- The bill counts the earliest tokens of its newest day; what the report has beyond them is still to come.
fresh AS (
    SELECT id, greatest(0, least(tokens, until_here - coalesce(billed_tokens, 0))) AS rest
    FROM metered CROSS JOIN newest JOIN agreed USING (day, p, k, model, token_type, modality)
    WHERE newest_day IS NULL OR metered.day >= newest_day
),
left_out AS (
    SELECT id FROM metered CROSS JOIN newest
    WHERE metered.day < newest_day AND lines IS NULL
        AND NOT EXISTS (FROM bill WHERE bill.day = metered.day AND bill.p = metered.p AND bill.model = metered.model)
),
charge AS (
    SELECT 'Final' AS status, usage.* EXCLUDE (_file, _row), cost._file, cost._row, cost.long_context, cost.line_item,
        cost.currency, cost.amount, usage.tokens AS used, 'Tokens' AS unit, split,
        CAST(CAST(own AS DECIMAL(38, 0)) * 0.000000000000000001 AS DECIMAL(32, 18)) AS billed
    FROM share JOIN usage USING (id) JOIN cost USING (cost_id)
    UNION ALL BY NAME
    SELECT 'Final' AS status, *, false AS split,
        coalesce(billed_tokens, quantity(if(quantity_unit IS NULL, NULL, quantity))) AS used,
        CASE WHEN billed_tokens IS NOT NULL THEN 'Tokens' WHEN used IS NULL THEN NULL ELSE
            CASE quantity_unit WHEN 'duration_seconds' THEN 'Seconds' WHEN 'duration_minutes' THEN 'Minutes'
                WHEN 'duration_hours' THEN 'Hours' WHEN 'gibibyte_hours' THEN 'GiB-Hours' WHEN 'images' THEN 'Images'
                WHEN 'characters' THEN 'Characters' ELSE quantity_unit END END AS unit
    FROM cost WHERE cost_id NOT IN (SELECT cost_id FROM share)
    UNION ALL BY NAME
    SELECT 'Estimated' AS status, usage.*, 'USD' AS currency, rest AS used, 'Tokens' AS unit, false AS split, true AS is_new
    FROM fresh JOIN usage USING (id) WHERE rest > 0
    UNION ALL BY NAME
    SELECT 'Estimated' AS status, usage.*, 'USD' AS currency, tokens AS used, 'Tokens' AS unit, false AS split, false AS is_new
    FROM left_out JOIN usage USING (id)
),
-- A list price holds for the standard tier and, halved, for batch and flex; long contexts have another. What the bill
-- has left out may be in another of its lines, so it has no list cost either.
priced AS (
    SELECT *,
        CASE WHEN long_context IS NOT NULL OR unit IS DISTINCT FROM 'Tokens' OR NOT is_new THEN NULL
             WHEN service_tier = 'standard' THEN money(price)
             WHEN service_tier IN ('batch', 'flex') THEN CAST(money(price) * 0.5 AS DECIMAL(32, 18)) END AS unit_price,
        CAST(CAST(used AS DECIMAL(18, 0)) * CAST(unit_price AS DECIMAL(20, 18)) AS DECIMAL(32, 18)) AS at_list
    FROM charge
),
-- A bill well above the list price is at another price: then the list price isn't known.
named AS (
    SELECT * REPLACE (if(is_new, at_list, billed) AS billed),
        if(billed > at_list * 1.01, NULL, at_list) AS listed,
        CASE WHEN is_new AND unit_price IS NULL THEN 'no list price is known for this model, tier and kind of token'
             WHEN NOT is_new THEN 'no line of the costs is about this usage' END AS reason,
        CASE token_type WHEN 'input' THEN 'Input Tokens' WHEN 'output' THEN 'Output Tokens'
            WHEN 'cache_read' THEN 'Cached Input Tokens' WHEN 'cache_write' THEN 'Cache Write Tokens' END
            || if(modality = 'text', '', ' (' || modality || ')') AS token_meter,
        coalesce(token_meter, nullif(regexp_extract(line_item, ', (.*)$', 1), ''), line_item) AS meter
    FROM priced
)
SELECT
    coalesce(json_extract_string(labels, '$.account.id'), account_id)     AS BillingAccountId,
    coalesce(json_extract_string(labels, '$.account.name'), account_name) AS BillingAccountName,
    if(BillingAccountId IS NULL, NULL, 'Organization')              AS BillingAccountType,
    currency                                                        AS BillingCurrency,
    date_trunc('month', s)                                          AS BillingPeriodStart,
    date_trunc('month', s) + INTERVAL 1 MONTH                       AS BillingPeriodEnd,
    s                                                               AS ChargePeriodStart,
    e                                                               AS ChargePeriodEnd,
    'Usage'                                                         AS ChargeCategory,
    'Usage-Based'                                                   AS ChargeFrequency,
    coalesce(line_item, nullif(concat_ws(' ', model, meter), ''), 'OpenAI API') AS ChargeDescription,
    billed                                                          AS BilledCost,
    billed                                                          AS EffectiveCost,
    billed                                                          AS ContractedCost,
    listed                                                          AS ListCost,
    if(abs(billed - at_list) <= 0.000000000000001, unit_price, NULL) AS ContractedUnitPrice,
    if(listed IS NULL, NULL, unit_price)                            AS ListUnitPrice,
    'Standard'                                                      AS PricingCategory,
    used                                                            AS PricingQuantity,
    unit                                                            AS PricingUnit,
    used                                                            AS ConsumedQuantity,
    unit                                                            AS ConsumedUnit,
    'OpenAI'                                                        AS InvoiceIssuerName,
    'OpenAI'                                                        AS ServiceProviderName,
    'OpenAI'                                                        AS HostProviderName,
    'OpenAI'                                                        AS ProviderName,
    'OpenAI'                                                        AS PublisherName,
    'AI and Machine Learning'                                       AS ServiceCategory,
    'Generative AI'                                                 AS ServiceSubcategory,
    'OpenAI API'                                                    AS ServiceName,
    project_id                                                      AS SubAccountId,
    coalesce(project_name, json_extract_string(labels, '$.names."' || project_id || '"')) AS SubAccountName,
    if(project_id IS NULL, NULL, 'Project')                         AS SubAccountType,
    api_key_id                                                      AS ResourceId,
    json_extract_string(labels, '$.names."' || api_key_id || '"')   AS ResourceName,
    if(api_key_id IS NULL, NULL, 'API Key')                         AS ResourceType,
    if(model IS NULL, line_item, concat_ws('/', model, coalesce(token_type, meter), nullif(modality, 'text'))) AS SkuId,
    if(model IS NULL, line_item, concat_ws('/', SkuId, service_tier, long_context)) AS SkuPriceId,
    meter                                                           AS SkuMeter,
    nullif(to_json(map_from_entries(list_filter([
        {'key': 'x_Model', 'value': model}, {'key': 'x_TokenType', 'value': token_type},
        {'key': 'x_Modality', 'value': modality}, {'key': 'x_ServiceTier', 'value': service_tier},
        {'key': 'x_ContextWindow', 'value': long_context}], lambda entry: entry.value IS NOT NULL)))::VARCHAR, '{}') AS SkuPriceDetails,
    nullif(map_concat(
        coalesce(tag_map(json_extract(labels, '$.tags."' || project_id || '"')::VARCHAR), MAP {}),
        coalesce(tag_map(json_extract(labels, '$.tags."' || api_key_id || '"')::VARCHAR), MAP {})), MAP {}) AS Tags,
    status                                                          AS x_CostStatus,
    if(status = 'Final', 'OpenAI organization costs', 'OpenAI organization usage') AS x_SourceVersion,
    coalesce(if(token_type IS NULL, NULL, 'tokens'), line_item)     AS x_ChargeType,
    model                                                           AS x_AiModel,
    token_type                                                      AS x_TokenType,
    service_tier                                                    AS x_ServiceTier,
    if(split, _file || ':' || _row, NULL)                           AS x_OriginChargeId,
    nullif(map_from_entries(list_filter([
        {'key': 'user_id', 'value': user_id}, {'key': 'list_price_from', 'value': if(listed IS NULL, NULL, priced_by)},
        {'key': 'without_cost', 'value': reason}], lambda entry: entry.value IS NOT NULL)), MAP {}) AS x_Native,
    nullif(concat_ws('; ', issue('BilledCost', amount, money(amount)),
        issue('ChargePeriodStart', starting_at, s)), '') AS x_DataIssues,
    _file, _row
FROM named
