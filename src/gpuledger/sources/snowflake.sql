WITH lines AS (
    SELECT
        *,
        upper(coalesce(service_type, usage_type)) AS service,
        lower(rating_type) AS rating,
        lower(coalesce(billing_type, 'consumption')) AS billing,
        CASE
            WHEN lower(billing_type) IN ('rebate', 'support_credit') THEN 'Credit'
            WHEN lower(billing_type) IN ('priority support', 'priority_support', 'vps_deployment_fee') THEN 'Purchase'
            WHEN lower(is_adjustment) IN ('true', '1', 'yes') THEN 'Adjustment'
            ELSE 'Usage'
        END AS category,
        -- Credits for compute, terabytes for the rest; what `other` counts, the view doesn't say.
        CASE lower(rating_type) WHEN 'compute' THEN 'Credits' WHEN 'storage' THEN 'TB' WHEN 'data_transfer' THEN 'TB' END
            AS unit,
        money(usage_in_currency) AS cost
    FROM native
), classed AS (
    SELECT
        *,
        CASE
            WHEN service LIKE '%CORTEX%' OR service LIKE 'AI\_%' ESCAPE '\' OR service LIKE '%INTELLIGENCE%'
                THEN 'AI and Machine Learning'
            WHEN service LIKE 'SNOWPARK_CONTAINER%' THEN 'Compute'
            WHEN service LIKE '%STORAGE%' THEN 'Storage'
            WHEN service LIKE '%TRANSFER%' OR service LIKE '%PRIVATELINK%' OR service LIKE 'EGRESS%' THEN 'Networking'
            WHEN service LIKE 'SNOWPIPE%' OR service IN ('COPY_FILES', 'REPLICATION', 'OPENFLOW_COMPUTE_SNOWFLAKE')
                THEN 'Integration'
            WHEN service IN ('LOGGING', 'SERVERLESS_ALERTS', 'PRIORITY SUPPORT') THEN 'Management and Governance'
            WHEN service IN ('SENSITIVE_DATA_CLASSIFICATION', 'TRUST_CENTER') THEN 'Security'
            WHEN rating = 'storage' THEN 'Storage'
            WHEN rating = 'data_transfer' THEN 'Networking'
            WHEN rating = 'compute' OR service LIKE '%COMPUTE%' THEN 'Databases'
            ELSE 'Other'
        END AS class,
        CASE
            WHEN service LIKE '%CORTEX%' OR service LIKE 'AI\_%' ESCAPE '\' OR service LIKE '%INTELLIGENCE%'
                THEN 'Generative AI'
            WHEN service LIKE 'SNOWPARK_CONTAINER%' THEN 'Containers'
            WHEN service IN ('WAREHOUSE_METERING', 'WAREHOUSE_METERING_READER', 'QUERY_ACCELERATION', 'CLOUD_SERVICES')
                THEN 'Data Warehouses'
        END AS subclass
    FROM lines
)
SELECT
    'Snowflake' AS ServiceProviderName,
    -- AWS_US_WEST_2, AZURE_WESTEUROPE, GCP_US_CENTRAL1; older names don't say whose cloud it is.
    CASE split_part(upper(region), '_', 1)
        WHEN 'AWS' THEN 'AWS' WHEN 'AZURE' THEN 'Microsoft' WHEN 'GCP' THEN 'Google Cloud'
    END AS HostProviderName,
    'Snowflake' AS InvoiceIssuerName,
    'Snowflake' AS ProviderName,
    'Snowflake' AS PublisherName,

    organization_name AS BillingAccountId,
    coalesce(customer_name, organization_name) AS BillingAccountName,
    CASE WHEN organization_name IS NOT NULL THEN 'Organization' END AS BillingAccountType,
    currency AS BillingCurrency,
    date_trunc('month', instant(usage_date)) AS BillingPeriodStart,
    date_trunc('month', instant(usage_date)) + INTERVAL 1 MONTH AS BillingPeriodEnd,
    coalesce(account_locator, account_name) AS SubAccountId,
    account_name AS SubAccountName,
    CASE WHEN coalesce(account_locator, account_name) IS NOT NULL THEN 'Account' END AS SubAccountType,

    category AS ChargeCategory,
    concat_ws(
        ' ',
        'Snowflake', lower(replace(service, '_', ' ')),
        CASE WHEN billing NOT IN ('consumption', lower(service)) THEN '(' || replace(billing, '_', ' ') || ')' END,
        CASE WHEN category = 'Adjustment' THEN '(adjustment)' END
    ) AS ChargeDescription,
    CASE category WHEN 'Usage' THEN 'Usage-Based' WHEN 'Purchase' THEN 'Recurring' ELSE 'One-Time' END AS ChargeFrequency,
    instant(usage_date) AS ChargePeriodStart,
    instant(usage_date) + INTERVAL 1 DAY AS ChargePeriodEnd,
    concat_ws('/', billing, CASE WHEN category = 'Adjustment' THEN 'adjustment' END) AS x_ChargeType,

    cost AS BilledCost,
    cost AS EffectiveCost,
    cost AS ContractedCost,
    CASE WHEN category IN ('Usage', 'Purchase') THEN 'Standard' END AS PricingCategory,
    quantity(usage_amount) AS PricingQuantity,
    CASE WHEN quantity(usage_amount) IS NOT NULL THEN unit END AS PricingUnit,
    CASE WHEN category = 'Usage' THEN quantity(usage_amount) END AS ConsumedQuantity,
    CASE WHEN category = 'Usage' AND quantity(usage_amount) IS NOT NULL THEN unit END AS ConsumedUnit,
    CASE
        WHEN lower(balance_source) IN ('capacity', 'rollover') AND contract_number IS NOT NULL AND cost IS NOT NULL
            -- Built as text: the engine's JSON would make the amount a binary number.
            THEN '{"Elements":[{"ContractId":' || to_json(contract_number)::VARCHAR || ',"ContractCommitmentId":'
                || to_json(contract_number)::VARCHAR || ',"ContractCommitmentAppliedCost":'
                || rtrim(rtrim(cost::VARCHAR, '0'), '.') || '}]}'
    END AS ContractApplied,

    service AS ServiceName,
    class AS ServiceCategory,
    coalesce(subclass, 'Other (' || class || ')') AS ServiceSubcategory,
    service AS SkuId,
    -- Prices depend on region and edition.
    concat_ws('/', service, region, service_level) AS SkuPriceId,
    coalesce(rating_type, usage_type) AS SkuMeter,
    json_object('x_ServiceLevel', service_level, 'x_RatingType', rating_type)::VARCHAR AS SkuPriceDetails,
    region AS RegionId,
    region AS RegionName,
    map_from_entries(list_filter(
        [
            {'key': 'BALANCE_SOURCE', 'value': balance_source},
            {'key': 'USAGE_TYPE', 'value': usage_type},
            {'key': 'CONTRACT_NUMBER', 'value': contract_number}
        ],
        lambda pair: pair.value IS NOT NULL
    )) AS x_Native,
    nullif(concat_ws(
        '; ',
        issue('BilledCost', usage_in_currency, cost),
        issue('PricingQuantity', usage_amount, quantity(usage_amount)),
        issue('ChargePeriodStart', usage_date, instant(usage_date))
    ), '') AS x_DataIssues,
    _file,
    _row
FROM classed
