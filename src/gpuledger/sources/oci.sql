-- The month that a report is about: corrections of an earlier month are billed with it.
WITH reports AS (
    SELECT _file, max(date_trunc('month', instant(usage_start))) AS report_month FROM native GROUP BY _file
), lines AS (
    SELECT
        native.*,
        lower(is_correction) = 'true' AS corrected,
        date_trunc('month', instant(usage_start)) AS usage_month,
        CASE WHEN lower(is_correction) = 'true' THEN report_month ELSE usage_month END AS billing_month
    FROM native LEFT JOIN reports USING (_file)
), classed AS (
    SELECT
        *,
        CASE
            WHEN upper(service) IN ('COMPUTE', 'FUNCTIONS', 'CONTAINER_ENGINE', 'CONTAINER_INSTANCES', 'VMWARE')
                THEN 'Compute'
            WHEN upper(service) IN (
                'BLOCK_STORAGE', 'OBJECTSTORE', 'OBJECT_STORAGE', 'FILE_STORAGE', 'ARCHIVE_STORAGE', 'LUSTRE'
            ) THEN 'Storage'
            WHEN upper(service) IN ('NETWORK', 'FAST_CONNECT', 'FASTCONNECT', 'ORALB', 'LOAD_BALANCER', 'DNS', 'VPN')
                THEN 'Networking'
            WHEN upper(service) IN ('DATABASE', 'MYSQL', 'NOSQL', 'POSTGRESQL', 'AUTONOMOUS_DATABASE') THEN 'Databases'
            WHEN upper(service) IN ('DATASCIENCE', 'DATA_SCIENCE', 'GENERATIVE_AI', 'AI_SERVICES')
                THEN 'AI and Machine Learning'
            WHEN upper(service) IN ('KMS', 'VAULT', 'WAF', 'CLOUD_GUARD', 'NETWORK_FIREWALL') THEN 'Security'
            WHEN upper(service) IN ('TELEMETRY', 'MONITORING', 'LOGGING', 'NOTIFICATIONS', 'APM')
                THEN 'Management and Governance'
            ELSE 'Other'
        END AS category,
        CASE
            WHEN upper(service) = 'COMPUTE' THEN 'Virtual Machines'
            WHEN upper(service) IN ('CONTAINER_ENGINE', 'CONTAINER_INSTANCES') THEN 'Containers'
            WHEN upper(service) = 'FUNCTIONS' THEN 'Serverless Compute'
            WHEN upper(service) = 'BLOCK_STORAGE' THEN 'Block Storage'
            WHEN upper(service) IN ('OBJECTSTORE', 'OBJECT_STORAGE') THEN 'Object Storage'
            WHEN upper(service) IN ('FILE_STORAGE', 'LUSTRE') THEN 'File Storage'
            WHEN upper(service) = 'GENERATIVE_AI' THEN 'Generative AI'
            WHEN upper(service) IN ('DATASCIENCE', 'DATA_SCIENCE') THEN 'Machine Learning'
        END AS subcategory
    FROM lines
)
SELECT
    reference_no AS x_OriginChargeId,
    'Oracle' AS ServiceProviderName,
    'Oracle' AS HostProviderName,
    'Oracle' AS InvoiceIssuerName,
    'Oracle' AS ProviderName,
    'Oracle' AS PublisherName,

    -- Oracle bills a subscription; pay-as-you-go tenancies may have none in the report.
    coalesce(subscription_id, tenant_id) AS BillingAccountId,
    CASE WHEN subscription_id IS NOT NULL THEN 'Subscription' WHEN tenant_id IS NOT NULL THEN 'Tenancy' END
        AS BillingAccountType,
    currency AS BillingCurrency,
    billing_month AS BillingPeriodStart,
    billing_month + INTERVAL 1 MONTH AS BillingPeriodEnd,
    tenant_id AS SubAccountId,
    CASE WHEN tenant_id IS NOT NULL THEN 'Tenancy' END AS SubAccountType,

    'Usage' AS ChargeCategory,
    CASE WHEN corrected AND usage_month < billing_month THEN 'Correction' END AS ChargeClass,
    coalesce(description, product_sku, resource) AS ChargeDescription,
    'Usage-Based' AS ChargeFrequency,
    instant(usage_start) AS ChargePeriodStart,
    instant(usage_end) AS ChargePeriodEnd,
    CASE WHEN corrected THEN 'Correction' ELSE 'Usage' END AS x_ChargeType,

    money(my_cost) AS BilledCost,
    money(my_cost) AS EffectiveCost,
    money(my_cost) AS ContractedCost,
    money(unit_price) AS ContractedUnitPrice,
    'Standard' AS PricingCategory,
    quantity(billed_quantity) AS PricingQuantity,
    CASE WHEN quantity(billed_quantity) IS NOT NULL THEN coalesce(sku_unit, billing_unit) END AS PricingUnit,
    quantity(billed_quantity) AS ConsumedQuantity,
    CASE WHEN quantity(billed_quantity) IS NOT NULL THEN coalesce(sku_unit, billing_unit) END AS ConsumedUnit,

    service AS ServiceName,
    category AS ServiceCategory,
    coalesce(subcategory, 'Other (' || category || ')') AS ServiceSubcategory,
    product_sku AS SkuId,
    -- A part number has one price per currency and contract.
    product_sku AS SkuPriceId,
    description AS SkuMeter,
    CASE
        WHEN product_sku IS NOT NULL THEN json_object('x_PartNumber', product_sku, 'x_Unit', coalesce(sku_unit, billing_unit))
    END::VARCHAR AS SkuPriceDetails,
    -- The shape, where a text names it: BM.GPU.H100.8, VM.GPU.A10.1.
    nullif(regexp_extract(concat_ws(' ', resource, description), '\b(?:BM|VM)\.[A-Z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)+'), '')
        AS x_InstanceType,
    region AS RegionId,
    region AS RegionName,
    availability_domain AS AvailabilityZone,
    resource_id AS ResourceId,
    -- ocid1.instance.oc1.phx.… names the kind of resource in its second part.
    CASE WHEN starts_with(resource_id, 'ocid') THEN nullif(split_part(resource_id, '.', 2), '') END AS ResourceType,
    tags AS Tags,
    map_from_entries(list_filter(
        [
            {'key': 'product/compartmentId', 'value': compartment_id},
            {'key': 'product/compartmentName', 'value': compartment_name},
            {'key': 'cost/myCostOverage', 'value': my_cost_overage},
            {'key': 'usage/billedQuantityOverage', 'value': billed_quantity_overage},
            {'key': 'cost/overageFlag', 'value': overage_flag},
            {'key': 'lineItem/backreferenceNo', 'value': corrects},
            {'key': 'cost/attributedCost', 'value': attributed_cost},
            {'key': 'usage/attributedUsage', 'value': attributed_usage}
        ],
        lambda pair: pair.value IS NOT NULL
    )) AS x_Native,
    nullif(concat_ws(
        '; ',
        issue('BilledCost', my_cost, money(my_cost)),
        issue('ContractedUnitPrice', unit_price, money(unit_price)),
        issue('PricingQuantity', billed_quantity, quantity(billed_quantity)),
        issue('ChargePeriodStart', usage_start, instant(usage_start)),
        issue('ChargePeriodEnd', usage_end, instant(usage_end))
    ), '') AS x_DataIssues,
    _file,
    _row
FROM classed
