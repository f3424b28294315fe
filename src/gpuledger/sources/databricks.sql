WITH priced AS (
    SELECT
        sku_name,
        cloud,
        coalesce(usage_unit, '') AS unit,
        regexp_matches(_file, 'account_?prices', 'i') AS own,
        list(DISTINCT {
            'account': account_id,
            'since': instant(price_start_time),
            'until': instant(price_end_time),
            'currency': currency_code,
            'list': TRY_CAST(coalesce(price_default, pricing ->> '$.default') AS DECIMAL(38, 12)),
            'paid': TRY_CAST(
                coalesce(pricing ->> '$.effective_list.default', price_default, pricing ->> '$.default') AS DECIMAL(38, 12)
            )
        }) AS prices
    FROM native
    WHERE price_start_time IS NOT NULL
    GROUP BY ALL
), usage_lines AS (
    SELECT
        u.*,
        instant(usage_start_time) AS began,
        quantity(usage_quantity) AS amount,
        upper(coalesce(record_type, 'ORIGINAL')) AS kind,
        date_trunc('month', instant(coalesce(usage_date, usage_start_time))) AS usage_month,
        CASE WHEN upper(record_type) IN ('RETRACTION', 'RESTATEMENT') THEN date_trunc('month', instant(ingestion_date)) END
            AS recorded_month,
        upper(billing_origin_product) AS product,
        -- One pass over each JSON text; invalid text gives NULL, and an issue below.
        TRY(json_extract_string(usage_metadata, [
            '$.job_id', '$.job_name', '$.warehouse_id', '$.dlt_pipeline_id', '$.endpoint_id', '$.endpoint_name',
            '$.ai_gateway.endpoint_id', '$.ai_gateway.endpoint_name', '$.ai_gateway.destination_model', '$.app_id',
            '$.app_name', '$.database_instance_id', '$.ai_runtime_workload_id', '$.run_name', '$.cluster_id',
            '$.notebook_id', '$.node_type'
        ])) AS meta,
        TRY(json_extract_string(product_features, [
            '$.is_serverless', '$.is_photon', '$.serving_type', '$.model_serving.offering_type', '$.jobs_tier', '$.sql_tier'
        ])) AS features,
        TRY(identity_metadata ->> '$.run_as') AS run_as,
        list_filter(l.prices, lambda p: began >= p.since AND (p.until IS NULL OR began < p.until))[1] AS at_list,
        list_filter(
            a.prices,
            lambda p: began >= p.since AND (p.until IS NULL OR began < p.until) AND (p.account IS NULL OR p.account = account_id)
        )[1] AS own
    FROM native AS u
    LEFT JOIN priced AS l
        ON NOT l.own AND l.sku_name = u.sku_name AND l.cloud = u.cloud AND l.unit = coalesce(u.usage_unit, '')
    LEFT JOIN priced AS a
        ON a.own AND a.sku_name = u.sku_name AND a.cloud = u.cloud AND a.unit = coalesce(u.usage_unit, '')
    WHERE u.price_start_time IS NULL
), named AS (
    SELECT
        *,
        meta[1] AS job_id, meta[2] AS job_name, meta[3] AS warehouse_id, meta[4] AS pipeline_id,
        coalesce(meta[5], meta[7], meta[6], meta[8]) AS endpoint_id, coalesce(meta[6], meta[8]) AS endpoint_name,
        meta[9] AS destination_model, meta[10] AS app_id, meta[11] AS app_name, meta[12] AS database_id,
        meta[13] AS workload_id, meta[14] AS run_name, meta[15] AS cluster_id, meta[16] AS notebook_id,
        meta[17] AS node_type,
        features[1] AS is_serverless, features[2] AS is_photon, features[3] AS serving_type,
        features[4] AS offering_type, features[5] AS jobs_tier, features[6] AS sql_tier
    FROM usage_lines
), costs AS (
    SELECT
        *,
        coalesce(own.paid, at_list.paid) AS price,
        TRY(CAST(amount * coalesce(own.paid, at_list.paid) AS DECIMAL(32, 18))) AS cost,
        TRY(CAST(amount * at_list.list AS DECIMAL(32, 18))) AS list_cost,
        greatest(usage_month, recorded_month) AS billing_month,
        -- The object that the usage is of; which id that is depends on the product.
        CASE
            WHEN product = 'JOBS' THEN {'type': 'Job', 'id': job_id, 'name': job_name}
            WHEN product = 'SQL' THEN {'type': 'SQL Warehouse', 'id': warehouse_id, 'name': NULL}
            WHEN product IN ('DLT', 'LAKEFLOW_CONNECT', 'ONLINE_TABLES')
                THEN {'type': 'Pipeline', 'id': pipeline_id, 'name': NULL}
            WHEN product IN ('MODEL_SERVING', 'VECTOR_SEARCH', 'AI_FUNCTIONS', 'AI_GATEWAY')
                THEN {'type': 'Endpoint', 'id': endpoint_id, 'name': endpoint_name}
            WHEN product = 'APPS' THEN {'type': 'App', 'id': app_id, 'name': app_name}
            WHEN product = 'DATABASE' THEN {'type': 'Database Instance', 'id': database_id, 'name': NULL}
            WHEN product = 'AI_RUNTIME' THEN {'type': 'AI Runtime Workload', 'id': workload_id, 'name': NULL}
            WHEN product = 'FOUNDATION_MODEL_TRAINING'
                THEN {'type': 'Training Run', 'id': run_name, 'name': run_name}
        END AS object,
        CASE
            WHEN product IN ('ALL_PURPOSE', 'INTERACTIVE', 'NOTEBOOKS', 'SHARED_SERVERLESS_COMPUTE') THEN 'Compute'
            WHEN product IN ('JOBS', 'DLT') THEN 'Analytics'
            WHEN product IN (
                'MODEL_SERVING', 'VECTOR_SEARCH', 'FOUNDATION_MODEL_TRAINING', 'AGENT_EVALUATION', 'AGENT_BRICKS',
                'AI_GATEWAY', 'AI_FUNCTIONS', 'AI_RUNTIME', 'GENIE'
            ) THEN 'AI and Machine Learning'
            WHEN product = 'DEFAULT_STORAGE' THEN 'Storage'
            WHEN product IN ('SQL', 'DATABASE', 'ONLINE_TABLES') THEN 'Databases'
            WHEN product = 'NETWORKING' THEN 'Networking'
            WHEN product = 'LAKEFLOW_CONNECT' THEN 'Integration'
            WHEN product IN ('FINE_GRAINED_ACCESS_CONTROL', 'DATA_CLASSIFICATION') THEN 'Security'
            WHEN product IN (
                'LAKEHOUSE_MONITORING', 'DATA_QUALITY_MONITORING', 'PREDICTIVE_OPTIMIZATION', 'CLEAN_ROOM', 'DATA_SHARING'
            ) THEN 'Management and Governance'
            WHEN product = 'APPS' THEN 'Web'
            ELSE 'Other'
        END AS class,
        CASE
            WHEN product IN ('MODEL_SERVING', 'AI_GATEWAY', 'AI_FUNCTIONS', 'AGENT_BRICKS', 'GENIE') THEN 'Generative AI'
            WHEN product IN ('FOUNDATION_MODEL_TRAINING', 'AI_RUNTIME', 'AGENT_EVALUATION') THEN 'Machine Learning'
            WHEN product IN ('JOBS', 'DLT') THEN 'Data Processing'
            WHEN product = 'SQL' THEN 'Data Warehouses'
            WHEN product = 'APPS' THEN 'Application Platforms'
        END AS subclass
    FROM named
)
SELECT
    record_id AS x_OriginChargeId,
    'Databricks' AS ServiceProviderName,
    CASE upper(cloud) WHEN 'AWS' THEN 'AWS' WHEN 'AZURE' THEN 'Microsoft' WHEN 'GCP' THEN 'Google Cloud' ELSE cloud END
        AS HostProviderName,
    'Databricks' AS InvoiceIssuerName,
    'Databricks' AS ProviderName,
    'Databricks' AS PublisherName,
    account_id AS BillingAccountId,
    -- Databricks publishes prices in dollars, also where it doesn't publish this one.
    coalesce(own.currency, at_list.currency, 'USD') AS BillingCurrency,
    billing_month AS BillingPeriodStart,
    billing_month + INTERVAL 1 MONTH AS BillingPeriodEnd,
    workspace_id AS SubAccountId,
    CASE WHEN workspace_id IS NOT NULL THEN 'Workspace' END AS SubAccountType,

    'Usage' AS ChargeCategory,
    CASE WHEN recorded_month > usage_month THEN 'Correction' END AS ChargeClass,
    concat_ws(' ', sku_name, CASE WHEN kind <> 'ORIGINAL' THEN '(' || lower(kind) || ')' END) AS ChargeDescription,
    'Usage-Based' AS ChargeFrequency,
    began AS ChargePeriodStart,
    instant(usage_end_time) AS ChargePeriodEnd,
    kind AS x_ChargeType,
    CASE WHEN own IS NULL THEN 'Estimated' ELSE 'Final' END AS x_CostStatus,

    cost AS BilledCost,
    cost AS EffectiveCost,
    cost AS ContractedCost,
    list_cost AS ListCost,
    CAST(price AS DECIMAL(32, 18)) AS ContractedUnitPrice,
    CAST(at_list.list AS DECIMAL(32, 18)) AS ListUnitPrice,
    'Standard' AS PricingCategory,
    amount AS PricingQuantity,
    CASE WHEN amount IS NOT NULL THEN usage_unit END AS PricingUnit,
    amount AS ConsumedQuantity,
    CASE WHEN amount IS NOT NULL THEN usage_unit END AS ConsumedUnit,

    coalesce(product, 'Databricks') AS ServiceName,
    class AS ServiceCategory,
    coalesce(subclass, 'Other (' || class || ')') AS ServiceSubcategory,
    sku_name AS SkuId,
    usage_type AS SkuMeter,
    -- A price point is a SKU, a cloud and the day that the price began.
    concat_ws('/', sku_name, cloud, strftime(coalesce(own.since, at_list.since), '%Y-%m-%d')) AS SkuPriceId,
    CASE WHEN features IS NOT NULL THEN json_object(
        'x_IsServerless', TRY_CAST(is_serverless AS BOOLEAN),
        'x_IsPhoton', TRY_CAST(is_photon AS BOOLEAN),
        'x_ServingType', serving_type,
        'x_OfferingType', offering_type,
        'x_JobsTier', jobs_tier,
        'x_SqlTier', sql_tier
    ) END::VARCHAR AS SkuPriceDetails,
    node_type AS x_InstanceType,
    -- Databricks' own pay-per-token endpoints are called after their model.
    CASE
        WHEN usage_type = 'TOKEN'
            THEN coalesce(destination_model, nullif(regexp_extract(endpoint_name, '^databricks-(.+)$', 1), ''))
    END AS x_AiModel,
    CASE WHEN offering_type ILIKE '%BATCH%' THEN 'batch' WHEN offering_type ILIKE '%PROVISIONED%' THEN 'provisioned' END
        AS x_ServiceTier,
    coalesce(object.id, cluster_id, notebook_id, warehouse_id, job_id) AS ResourceId,
    object.name AS ResourceName,
    CASE
        WHEN object.id IS NOT NULL THEN object.type
        WHEN cluster_id IS NOT NULL THEN 'Cluster'
        WHEN notebook_id IS NOT NULL THEN 'Notebook'
        WHEN warehouse_id IS NOT NULL THEN 'SQL Warehouse'
        WHEN job_id IS NOT NULL THEN 'Job'
    END AS ResourceType,
    CASE WHEN run_as IS NOT NULL THEN map_concat(tag_map(custom_tags), MAP {'x_run_as': run_as}) ELSE tag_map(custom_tags) END
        AS Tags,
    map_from_entries(list_filter(
        [
            {'key': 'usage_metadata', 'value': usage_metadata},
            {'key': 'ingestion_date', 'value': ingestion_date}
        ],
        lambda pair: pair.value IS NOT NULL
    )) AS x_Native,
    nullif(concat_ws(
        '; ',
        CASE
            WHEN price IS NULL THEN 'BilledCost: no price for ' || sku_name
            WHEN amount IS NOT NULL AND cost IS NULL THEN 'BilledCost: the result is too large'
        END,
        issue('PricingQuantity', usage_quantity, amount),
        issue('ChargePeriodStart', usage_start_time, began),
        issue('ChargePeriodEnd', usage_end_time, instant(usage_end_time)),
        CASE WHEN custom_tags NOT IN ('{}', '[]') AND tag_map(custom_tags) IS NULL THEN 'Tags: not JSON' END,
        CASE WHEN usage_metadata IS NOT NULL AND meta IS NULL THEN 'usage_metadata: not JSON' END
    ), '') AS x_DataIssues,
    _file,
    _row
FROM costs
