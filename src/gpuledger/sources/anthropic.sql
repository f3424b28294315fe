-- Lines of the bill, split over the keys and hours that used them; usage that no line covers; lines without usage.
WITH dated AS (
    SELECT *, instant(starting_at) AS s, instant(ending_at) AS e, date_trunc('day', s) AS day FROM native
),
-- What the bill of a day tells its lines apart by.
shape AS (
    SELECT day, bool_or(workspace_id IS NOT NULL) AS by_workspace, bool_or(api_key_id IS NOT NULL) AS by_key,
        bool_or(service_tier IS NOT NULL) AS by_tier, bool_or(context_window IS NOT NULL) AS by_context,
        bool_or(inference_geo IS NOT NULL) AS by_geo, bool_or(speed IS NOT NULL) AS by_speed,
        bool_or(product IS NOT NULL) AS by_product
    FROM dated WHERE kind = 'cost' GROUP BY day
),
cost AS (
    SELECT *, row_number() OVER (ORDER BY _file, _row) AS cost_id,
        CAST(money(amount) * 0.01 AS DECIMAL(32, 18)) AS billed,
        CAST(money(list_amount) * 0.01 AS DECIMAL(32, 18)) AS listed
    FROM dated WHERE kind = 'cost'
),
-- Minutes are folded to hours. A list price holds for the standard tier and, halved, for batches; fast mode and
-- inference in one country have others, which the catalogue doesn't have.
usage AS (
    SELECT * RENAME (first_moment AS s, last_moment AS e), row_number() OVER () AS id,
        CASE WHEN inference_geo IS NOT DISTINCT FROM 'us' OR speed IS NOT DISTINCT FROM 'fast' THEN NULL
             WHEN coalesce(service_tier, 'standard') = 'standard' THEN money(price)
             WHEN service_tier = 'batch' THEN CAST(money(price) * 0.5 AS DECIMAL(32, 18)) END AS unit_price,
        CAST(CAST(tokens AS DECIMAL(18, 0)) * CAST(unit_price AS DECIMAL(20, 18)) AS DECIMAL(32, 18)) AS at_list
    FROM (
        SELECT workspace_id, api_key_id, model, service_tier, context_window, inference_geo, speed, product, cost_type,
            token_type, if(e - s < INTERVAL 1 HOUR, date_trunc('hour', s), s) AS first_moment,
            if(e - s < INTERVAL 1 HOUR, date_trunc('hour', s) + INTERVAL 1 HOUR, e) AS last_moment,
            sum(quantity(quantity)) AS tokens, any_value(day) AS day, any_value(price) AS price,
            any_value(priced_by) AS priced_by, any_value(labels) AS labels, any_value(form) AS form, min(_file) AS _file,
            arg_min(_row, (_file, _row)) AS _row
        FROM dated WHERE kind = 'usage'
        GROUP BY workspace_id, api_key_id, model, service_tier, context_window, inference_geo, speed, product, cost_type,
            token_type, first_moment, last_moment
    )
),
-- The key of a match: the rest of the dimensions doesn't matter for it. A web search costs the same for every model.
key AS (
    SELECT cost_id, id, day, s, e, tokens, cost_type, coalesce(token_type, '-') AS k_type,
        if(cost_type = 'web_search', '*', coalesce(model, '-')) AS k_model,
        if(by_workspace, coalesce(workspace_id, '-'), '*') AS k_workspace,
        if(by_key, coalesce(api_key_id, '-'), '*') AS k_key,
        if(cost_type <> 'tokens', '*', concat_ws('/', if(by_tier, coalesce(service_tier, '-'), '*'),
            if(by_context, coalesce(context_window, '-'), '*'), if(by_geo, coalesce(inference_geo, '-'), '*'),
            if(by_speed, coalesce(speed, '-'), '*'), if(by_product, coalesce(product, '-'), '*'))) AS k_rest,
        abs(billed) AS size, _file, _row
    FROM (FROM cost UNION ALL BY NAME FROM usage) JOIN shape USING (day)
),
-- Usage and its one line. Where two lines fit (fast mode is only told in words), the larger one gets the tokens.
pair AS (
    SELECT used.id, lined.cost_id, used.tokens, used.s, used._file, used._row
    FROM (FROM key WHERE id IS NOT NULL) AS used
    JOIN (FROM key WHERE cost_id IS NOT NULL) AS lined USING (day, cost_type, k_type, k_model, k_workspace, k_key, k_rest)
    WHERE used.s >= lined.s AND used.e <= lined.e
    QUALIFY row_number() OVER (PARTITION BY used.id ORDER BY lined.size DESC, lined.cost_id) = 1
),
-- Parts of a line add up to it to the last digit: each is the difference of two running totals, rounded down. Whole
-- numbers of 10^-18 dollars; a million dollars a day for 10^13 tokens leaves room for ten times as much. Only a line
-- with one price is divided: its parts cost what their tokens cost.
part AS (
    SELECT id, cost_id, CAST(tokens AS HUGEINT) AS here,
        CAST(sum(tokens) OVER (one ORDER BY pair.s, pair._file, pair._row ROWS UNBOUNDED PRECEDING) AS HUGEINT) AS until_here,
        CAST(sum(tokens) OVER one AS HUGEINT) AS whole,
        CAST(replace(billed::VARCHAR, '.', '') AS HUGEINT) AS billed_units,
        CAST(replace(listed::VARCHAR, '.', '') AS HUGEINT) AS listed_units
    FROM pair JOIN cost USING (cost_id)
    WHERE cost_type = 'web_search' OR service_tier IS NOT NULL
    WINDOW one AS (PARTITION BY cost_id)
),
share AS (
    SELECT id, cost_id, here < whole AS split,
        sign(billed_units) * (abs(billed_units) * until_here // whole - abs(billed_units) * (until_here - here) // whole) AS b,
        sign(listed_units) * (abs(listed_units) * until_here // whole - abs(listed_units) * (until_here - here) // whole) AS l
    FROM part
),
joined AS (
    SELECT cost_id, sum(tokens) AS tokens FROM pair WHERE cost_id NOT IN (SELECT cost_id FROM share) GROUP BY cost_id
),
newest AS (
    SELECT max(s) AS newest_start, max(e) AS newest_end, arg_max(by_workspace, s) AS newest_by_workspace
    FROM cost JOIN shape USING (day)
),
-- Usage that no line covers. It is new when it lies after the newest line, or in that line's bucket with a model that
-- the bucket doesn't have yet; else the bill has left it out.
loose AS (
    SELECT usage.*,
        newest_end IS NULL OR usage.s >= newest_end OR (usage.s >= newest_start AND NOT EXISTS (
            FROM cost WHERE cost.s >= newest_start AND cost.model = usage.model
                AND (NOT newest_by_workspace OR cost.workspace_id IS NOT DISTINCT FROM usage.workspace_id))) AS is_new
    FROM usage CROSS JOIN newest
    WHERE id NOT IN (SELECT id FROM pair)
),
charge AS (
    SELECT 'Final' AS status, usage.* EXCLUDE (form, _file, _row), cost.form, cost._file, cost._row, cost.description,
        cost.currency, cost.amount, split,
        CAST(CAST(b AS DECIMAL(38, 0)) * 0.000000000000000001 AS DECIMAL(32, 18)) AS billed,
        CAST(CAST(l AS DECIMAL(38, 0)) * 0.000000000000000001 AS DECIMAL(32, 18)) AS listed
    FROM share JOIN usage USING (id) JOIN cost USING (cost_id)
    UNION ALL BY NAME
    SELECT 'Final' AS status, cost.* EXCLUDE (price, priced_by), joined.tokens, false AS split
    FROM cost LEFT JOIN joined USING (cost_id)
    WHERE cost_id NOT IN (SELECT cost_id FROM share)
    UNION ALL BY NAME
    -- What the bill has left out may be in another of its lines, so it has no list cost either.
    SELECT 'Estimated' AS status, * REPLACE (if(is_new, at_list, NULL) AS at_list), false AS split, 'USD' AS currency,
        if(is_new, at_list, NULL) AS billed,
        CASE WHEN service_tier = 'priority' THEN 'Priority Tier is billed by contract, not by this report'
             WHEN NOT is_new THEN 'no line of the cost report is about this usage'
             WHEN price IS NULL THEN 'no list price is known for this model'
             WHEN unit_price IS NULL THEN 'no list price is known for this tier, region or speed' END AS reason
    FROM loose
),
-- A bill well above the list price is at another price (fast mode without its name, say): then the list price isn't known.
named AS (
    SELECT * REPLACE (coalesce(listed, if(billed > at_list * 1.01, NULL, at_list)) AS listed),
        abs(billed - at_list) <= 0.000000000000001 AS billed_at_list, listed IS NULL AND at_list IS NOT NULL AS from_catalogue,
        -- The analytics reports give the default workspace an id; in the older ones it is null.
        coalesce(workspace_id, if(form IN ('cost_report', 'usage_report'), 'default', NULL)) AS workspace_key,
        CASE token_type WHEN 'uncached_input_tokens' THEN 'Input Tokens' WHEN 'output_tokens' THEN 'Output Tokens'
            WHEN 'cache_read_input_tokens' THEN 'Cache Read Tokens'
            WHEN 'cache_creation.ephemeral_5m_input_tokens' THEN 'Cache Write Tokens (5 minutes)'
            WHEN 'cache_creation.ephemeral_1h_input_tokens' THEN 'Cache Write Tokens (1 hour)'
            ELSE coalesce(token_type, CASE cost_type WHEN 'web_search' THEN 'Web Searches'
                WHEN 'code_execution' THEN 'Code Execution' WHEN 'session_usage' THEN 'Session Time'
                WHEN 'unlisted' THEN 'Groups beyond the report''s limit' ELSE cost_type END) END AS meter
    FROM charge
)
SELECT
    json_extract_string(labels, '$.account.id')                     AS BillingAccountId,
    json_extract_string(labels, '$.account.name')                   AS BillingAccountName,
    if(BillingAccountId IS NULL, NULL, 'Organization')              AS BillingAccountType,
    currency                                                        AS BillingCurrency,
    date_trunc('month', s)                                          AS BillingPeriodStart,
    date_trunc('month', s) + INTERVAL 1 MONTH                       AS BillingPeriodEnd,
    s                                                               AS ChargePeriodStart,
    e                                                               AS ChargePeriodEnd,
    'Usage'                                                         AS ChargeCategory,
    'Usage-Based'                                                   AS ChargeFrequency,
    coalesce(description, concat_ws(' ', model, meter), 'Claude API') AS ChargeDescription,
    billed                                                          AS BilledCost,
    billed                                                          AS EffectiveCost,
    billed                                                          AS ContractedCost,
    listed                                                          AS ListCost,
    if(billed_at_list, unit_price, NULL)                            AS ContractedUnitPrice,
    if(abs(listed - at_list) <= 0.000000000000001, unit_price, NULL) AS ListUnitPrice,
    if(service_tier = 'priority', 'Committed', 'Standard')          AS PricingCategory,
    tokens                                                          AS PricingQuantity,
    CASE WHEN tokens IS NULL THEN NULL WHEN cost_type = 'web_search' THEN 'Requests' ELSE 'Tokens' END AS PricingUnit,
    tokens                                                          AS ConsumedQuantity,
    PricingUnit                                                     AS ConsumedUnit,
    'Anthropic'                                                     AS InvoiceIssuerName,
    'Anthropic'                                                     AS ServiceProviderName,
    'Anthropic'                                                     AS HostProviderName,
    'Anthropic'                                                     AS ProviderName,
    'Anthropic'                                                     AS PublisherName,
    'AI and Machine Learning'                                       AS ServiceCategory,
    'Generative AI'                                                 AS ServiceSubcategory,
    'Claude API'                                                    AS ServiceName,
    workspace_id                                                    AS SubAccountId,
    json_extract_string(labels, '$.names."' || workspace_id || '"') AS SubAccountName,
    if(workspace_id IS NULL, NULL, 'Workspace')                     AS SubAccountType,
    api_key_id                                                      AS ResourceId,
    json_extract_string(labels, '$.names."' || api_key_id || '"')   AS ResourceName,
    if(api_key_id IS NULL, NULL, 'API Key')                         AS ResourceType,
    CASE cost_type WHEN 'tokens' THEN concat_ws('/', model, token_type) WHEN 'unlisted' THEN NULL ELSE cost_type END AS SkuId,
    if(cost_type = 'tokens', concat_ws('/', SkuId, service_tier, context_window, inference_geo, speed), SkuId) AS SkuPriceId,
    if(cost_type = 'unlisted', NULL, meter)                         AS SkuMeter,
    nullif(to_json(map_from_entries(list_filter([
        {'key': 'x_Model', 'value': model}, {'key': 'x_TokenType', 'value': token_type},
        {'key': 'x_ServiceTier', 'value': service_tier}, {'key': 'x_ContextWindow', 'value': context_window},
        {'key': 'x_InferenceGeo', 'value': inference_geo}, {'key': 'x_Speed', 'value': speed},
        {'key': 'x_Product', 'value': product}], lambda entry: entry.value IS NOT NULL)))::VARCHAR, '{}') AS SkuPriceDetails,
    nullif(map_concat(
        coalesce(tag_map(json_extract(labels, '$.tags."' || workspace_key || '"')::VARCHAR), MAP {}),
        coalesce(tag_map(json_extract(labels, '$.tags."' || api_key_id || '"')::VARCHAR), MAP {})), MAP {}) AS Tags,
    status                                                          AS x_CostStatus,
    CASE form WHEN 'cost_report' THEN 'Anthropic cost_report' WHEN 'usage_report' THEN 'Anthropic usage_report'
        ELSE 'Anthropic analytics' END                              AS x_SourceVersion,
    cost_type                                                       AS x_ChargeType,
    model                                                           AS x_AiModel,
    CASE WHEN token_type LIKE 'cache_creation%' THEN 'cache_write' WHEN token_type = 'cache_read_input_tokens' THEN 'cache_read'
        WHEN token_type = 'output_tokens' THEN 'output' WHEN token_type = 'uncached_input_tokens' THEN 'input' END AS x_TokenType,
    service_tier                                                    AS x_ServiceTier,
    if(split, _file || ':' || _row, NULL)                           AS x_OriginChargeId,
    nullif(map_from_entries(list_filter([
        {'key': 'product', 'value': product}, {'key': 'workspace', 'value': if(workspace_id IS NULL, workspace_key, NULL)},
        {'key': 'list_price_from', 'value': if(from_catalogue AND listed IS NOT NULL, priced_by, NULL)},
        {'key': 'without_cost', 'value': reason}], lambda entry: entry.value IS NOT NULL)), MAP {}) AS x_Native,
    nullif(concat_ws('; ', issue('BilledCost', amount, money(amount)),
        CASE WHEN length(rtrim(split_part(amount, '.', 2), '0')) > 16 AND money(amount) IS NOT NULL
            THEN 'BilledCost: "' || left(amount, 60) || '" cents have more decimals than are stored' END,
        issue('ChargePeriodStart', starting_at, s)), '') AS x_DataIssues,
    _file, _row
FROM named
