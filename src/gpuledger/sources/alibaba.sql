WITH whole_months AS (
    SELECT list(DISTINCT regexp_extract(_file, 'Detail_([0-9]{6})([^0-9]|$)', 1)) AS months
    FROM native
    WHERE regexp_matches(_file, 'Detail_[0-9]{6}([^0-9]|$)')
), dated AS (
    SELECT
        * EXCLUDE (months),
        left(replace(billing_cycle, '-', ''), 6) AS cycle,
        -- Dates come as 20261001, 2026-10-01 or with a time; all are Beijing time.
        coalesce(TRY_CAST(usage_start AS TIMESTAMP), TRY_STRPTIME(usage_start, '%Y%m%d%H%M%S')::TIMESTAMP) AS started,
        coalesce(TRY_CAST(usage_end AS TIMESTAMP), TRY_STRPTIME(usage_end, '%Y%m%d%H%M%S')::TIMESTAMP) AS ended,
        coalesce(
            TRY_STRPTIME(coalesce(split_date, billing_date), ['%Y%m%d', '%Y-%m-%d'])::TIMESTAMP,
            TRY_CAST(coalesce(split_date, billing_date) AS TIMESTAMP)
        ) AS billing_day,
        lower(coalesce(fee_type, '')) AS fee,
        lower(coalesce(subscription_type, '')) AS paid
    FROM native LEFT JOIN whole_months ON true
    -- Late lines of a month whose whole file is here.
    WHERE NOT coalesce(
        regexp_matches(_file, 'Detail_[0-9]{8}([^0-9]|$)') AND list_contains(months, left(replace(billing_cycle, '-', ''), 6)),
        false
    )
), lines AS (
    SELECT
        *,
        TRY_STRPTIME(cycle || '01', '%Y%m%d')::TIMESTAMP AS month,
        CASE
            WHEN fee LIKE '%refund%' OR fee LIKE '%unsubscri%' OR fee LIKE '%退%' THEN 'refund'
            WHEN fee LIKE '%adjust%' OR fee LIKE '%round%' OR fee LIKE '%commission%' OR fee LIKE '%minimum%'
                OR fee LIKE '%调账%' OR fee LIKE '%抹零%' OR fee LIKE '%佣金%' OR fee LIKE '%保底%' THEN 'adjustment'
            WHEN fee LIKE '%coverage%' OR fee LIKE '%覆盖%' THEN 'covered'
            WHEN fee LIKE '%subscription pay-as-you-go%' OR fee LIKE '%订阅后付%' THEN 'instalment'
            WHEN fee LIKE '%payasyougo%' OR fee LIKE '%pay-as-you-go%' OR fee LIKE '%按量%' THEN 'usage'
            WHEN fee LIKE '%subscription%' OR fee LIKE '%订阅预付%' OR paid LIKE 'subscription%' OR paid LIKE '%预付%'
                OR paid LIKE '%包年包月%' THEN 'purchase'
            ELSE 'usage'
        END AS role,
        money(payable) AS billed,
        money(gross) AS at_list,
        lower(coalesce(product_code, '')) AS code,
        lower(concat_ws(' ', product_code, commodity_code, product_name, product_detail)) AS product_words,
        lower(usage_unit) AS unit_word,
        CASE
            WHEN lower(usage_unit) IN ('千tokens', '千token', 'ktokens', '1k tokens', '1,000 tokens', 'thousand tokens') THEN 1000
            WHEN lower(usage_unit) IN ('tokens', 'token') THEN 1
        END AS tokens_each,
        list_filter(
            map_entries(deduction), lambda e: regexp_matches(e.key, '(?i)instance.*id|实例.*id') AND e.value IS NOT NULL
        )[1].value AS covering_id,
        list_transform(
            list_filter(string_split(tag, ';'), lambda p: trim(p) <> ''),
            lambda p: CASE
                WHEN starts_with(trim(p), 'key:') THEN {
                    'key': trim(split_part(substr(trim(p), 5), ' value:', 1)),
                    'value': trim(split_part(substr(trim(p), 5), ' value:', 2))
                }
                ELSE {'key': trim(split_part(p, ':', 1)), 'value': trim(p[strpos(p, ':') + 1:])}
            END
        ) AS tag_pairs
    FROM dated
), typed AS (
    SELECT
        *,
        TRY(map_from_entries(tag_pairs)) AS tags,
        CASE
            WHEN product_words LIKE '%savingplan%' OR product_words LIKE '%savings plan%' OR product_words LIKE '%节省计划%'
                THEN 'Spend'
            WHEN regexp_matches(product_words, '\becsri\b|reserved instance|预留实例') THEN 'Usage'
        END AS commitment,
        CASE
            WHEN role = 'purchase' OR role = 'instalment' THEN 'Purchase'
            WHEN role = 'adjustment' THEN 'Adjustment'
            WHEN role = 'refund' AND (paid LIKE 'subscription%' OR paid LIKE '%预付%' OR paid LIKE '%包年包月%' OR fee LIKE '%订阅%'
                OR fee LIKE '%subscri%') THEN 'Purchase'
            ELSE 'Usage'
        END AS category,
        coalesce(role = 'covered' OR (money(covered_gross) > 0 AND money(covered_gross) = at_list), false) AS covered,
        timezone('Asia/Shanghai', coalesce(started, billing_day, month)) AS begins,
        timezone('Asia/Shanghai', CASE
            WHEN second(ended) = 59 THEN ended + INTERVAL 1 SECOND
            WHEN ended IS NOT NULL THEN ended
            WHEN billing_day IS NOT NULL THEN billing_day + INTERVAL 1 DAY
            ELSE month + INTERVAL 1 MONTH
        END) AS ends
    FROM lines
), parts AS (
    -- Tax that is stated apart is a charge of its own.
    SELECT *, unnest(CASE WHEN tax IS NOT NULL AND money(tax) IS DISTINCT FROM 0 THEN [false, true] ELSE [false] END) AS is_tax
    FROM typed
), charges AS (
    SELECT
        * EXCLUDE (billed, at_list, category),
        CASE WHEN is_tax THEN money(tax) ELSE billed END AS billed,
        CASE WHEN is_tax THEN money(tax) ELSE at_list END AS at_list,
        CASE WHEN is_tax THEN 'Tax' ELSE category END AS category,
        CASE
            WHEN commitment IS NOT NULL AND category = 'Purchase' THEN 'Compute'
            WHEN code IN ('ecs', 'eci', 'fc', 'swas', 'ebs_gpu') OR code LIKE 'ecs%' OR code IN ('ack', 'csk', 'acs') THEN 'Compute'
            WHEN code IN ('pai', 'learn', 'sfm', 'bailian', 'dashscope', 'modelstudio') OR code LIKE 'pai%'
                THEN 'AI and Machine Learning'
            WHEN code IN ('oss', 'nas', 'yundisk', 'snapshot', 'disk', 'cpfs', 'hbr') THEN 'Storage'
            WHEN code IN ('rds', 'polardb', 'redisa', 'kvstore', 'dds', 'gpdb', 'hbase', 'lindorm', 'ads') THEN 'Databases'
            WHEN code IN ('slb', 'alb', 'nlb', 'eip', 'cbwp', 'cdn', 'nat_gw', 'nat', 'vpc', 'vpn', 'cen', 'ga', 'dcdn')
                THEN 'Networking'
            WHEN code IN ('odps', 'emr', 'dide', 'flink', 'hologram', 'opensearch', 'elasticsearch') THEN 'Analytics'
            WHEN code IN ('sls', 'arms', 'cms', 'actiontrail') THEN 'Management and Governance'
            WHEN code IN ('waf', 'ddos', 'sas', 'kms', 'cas', 'cfw') THEN 'Security'
            ELSE 'Other'
        END AS class,
        CASE
            WHEN code IN ('sfm', 'bailian', 'dashscope', 'modelstudio') THEN 'Generative AI'
            WHEN code IN ('pai', 'learn') OR code LIKE 'pai%' THEN 'Machine Learning'
            WHEN code = 'ecs' THEN 'Virtual Machines'
            WHEN code IN ('ack', 'csk', 'acs', 'eci') THEN 'Containers'
            WHEN code = 'fc' THEN 'Serverless Compute'
            WHEN code = 'oss' THEN 'Object Storage'
            WHEN code IN ('nas', 'cpfs') THEN 'File Storage'
            WHEN code IN ('yundisk', 'disk', 'snapshot') THEN 'Block Storage'
        END AS subclass,
        -- What a resource plan covered has no price: usage is all, the price multiplies the rest.
        quantity(usage_amount) - coalesce(quantity(package_quantity), 0) AS priced_amount
    FROM parts
)
SELECT
    record_id AS x_OriginChargeId,
    'Alibaba Cloud' AS ServiceProviderName,
    'Alibaba Cloud' AS HostProviderName,
    'Alibaba Cloud' AS InvoiceIssuerName,
    'Alibaba Cloud' AS ProviderName,
    'Alibaba Cloud' AS PublisherName,
    account_id AS BillingAccountId,
    account_name AS BillingAccountName,
    currency AS BillingCurrency,
    timezone('UTC', month) AS BillingPeriodStart,
    timezone('UTC', month + INTERVAL 1 MONTH) AS BillingPeriodEnd,
    coalesce(owner_id, account_id) AS SubAccountId,
    coalesce(owner_name, account_name) AS SubAccountName,
    CASE WHEN coalesce(owner_id, account_id) IS NOT NULL THEN 'Account' END AS SubAccountType,
    begins AS ChargePeriodStart,
    ends AS ChargePeriodEnd,
    coalesce(fee_type, subscription_type) AS x_ChargeType,

    billed AS BilledCost,
    billed AS EffectiveCost,
    -- Adjustments and rounding have no price behind them, nor has tax: all four views are the amount itself.
    CASE
        WHEN is_tax OR (gross IS NULL AND role = 'adjustment') THEN billed
        WHEN at_list IS NOT NULL THEN at_list - coalesce(money(discount), 0)
    END AS ContractedCost,
    CASE WHEN gross IS NULL AND role = 'adjustment' THEN billed ELSE at_list END AS ListCost,
    CASE WHEN NOT is_tax THEN money(list_price) END AS ListUnitPrice,
    category AS ChargeCategory,
    CASE WHEN role = 'refund' AND date_trunc('month', started) < month THEN 'Correction' END AS ChargeClass,
    CASE
        WHEN category = 'Usage' THEN 'Usage-Based'
        WHEN category = 'Purchase' AND role = 'instalment' THEN 'Recurring'
        ELSE 'One-Time'
    END AS ChargeFrequency,
    concat_ws(
        ' ', CASE WHEN is_tax THEN 'Tax on' END, coalesce(product_detail, product_name, product_code), billing_item
    ) AS ChargeDescription,
    CASE WHEN category = 'Usage' AND covered THEN 'Committed' WHEN category IN ('Usage', 'Purchase') THEN 'Standard' END
        AS PricingCategory,
    CASE WHEN NOT is_tax THEN priced_amount END AS PricingQuantity,
    CASE
        WHEN is_tax OR quantity(usage_amount) IS NULL THEN NULL
        WHEN unit_word IN ('小时', 'hour', 'hours', 'hour(s)') THEN 'Hours'
        WHEN unit_word IN ('秒', 'second', 'seconds', 'second(s)') THEN 'Seconds'
        WHEN tokens_each = 1000 THEN '1000 Tokens'
        ELSE usage_unit
    END AS PricingUnit,
    CASE WHEN category = 'Usage' THEN TRY(CAST(quantity(usage_amount) * coalesce(tokens_each, 1) AS DECIMAL(38, 14))) END
        AS ConsumedQuantity,
    CASE
        WHEN category <> 'Usage' OR quantity(usage_amount) IS NULL THEN NULL
        WHEN tokens_each IS NOT NULL THEN 'Tokens'
        WHEN unit_word IN ('小时', 'hour', 'hours', 'hour(s)') THEN 'Hours'
        WHEN unit_word IN ('秒', 'second', 'seconds', 'second(s)') THEN 'Seconds'
        ELSE usage_unit
    END AS ConsumedUnit,
    CASE
        WHEN category = 'Usage' AND covered THEN covering_id
        WHEN category = 'Purchase' AND commitment IS NOT NULL THEN instance_id
    END AS CommitmentDiscountId,
    CASE
        WHEN category = 'Usage' AND covered AND covering_id IS NOT NULL THEN 'Spend'
        WHEN category = 'Purchase' THEN commitment
    END AS CommitmentDiscountCategory,
    CASE
        WHEN category = 'Usage' AND covered AND covering_id IS NOT NULL THEN 'Subscription'
        WHEN category = 'Purchase' AND commitment IS NOT NULL THEN product_name
    END AS CommitmentDiscountType,
    CASE WHEN category = 'Usage' AND covered AND covering_id IS NOT NULL THEN 'Used' END AS CommitmentDiscountStatus,
    CASE WHEN NOT is_tax THEN coalesce(billing_item_code, commodity_code, product_code) END AS SkuId,
    CASE
        WHEN NOT is_tax
            THEN concat_ws('/', coalesce(billing_item_code, commodity_code, product_code), instance_spec, coalesce(region_code, region))
    END AS SkuPriceId,
    CASE WHEN NOT is_tax THEN coalesce(billing_item, product_detail, product_name) END AS SkuMeter,
    CASE
        WHEN NOT is_tax AND coalesce(instance_spec, instance_config) IS NOT NULL
            THEN json_object('x_InstanceSpec', instance_spec, 'x_InstanceConfig', instance_config)
    END::VARCHAR AS SkuPriceDetails,
    CASE
        WHEN NOT is_tax THEN nullif(
            regexp_extract(lower(concat_ws(' ', instance_spec, instance_config)), '\becs\.[a-z0-9-]+\.[a-z0-9-]+'), ''
        )
    END AS x_InstanceType,
    CASE
        WHEN is_tax OR tokens_each IS NULL THEN NULL
        WHEN regexp_matches(concat_ws(' ', billing_item_code, billing_item), '(?i)input|输入') THEN 'input'
        WHEN regexp_matches(concat_ws(' ', billing_item_code, billing_item), '(?i)output|输出') THEN 'output'
    END AS x_TokenType,
    coalesce(product_name, product_code) AS ServiceName,
    class AS ServiceCategory,
    coalesce(subclass, 'Other (' || class || ')') AS ServiceSubcategory,
    coalesce(region_code, region) AS RegionId,
    coalesce(region, region_code) AS RegionName,
    zone AS AvailabilityZone,
    coalesce(native_resource_id, instance_id) AS ResourceId,
    nick_name AS ResourceName,
    CASE WHEN coalesce(native_resource_id, instance_id) IS NOT NULL THEN coalesce(product_detail, product_name) END AS ResourceType,
    CASE WHEN cardinality(tags) > 0 THEN tags END AS Tags,
    -- A split item is a share of its parent's charge; which method Alibaba splits by, the file doesn't say.
    CASE WHEN split_item_id IS NOT NULL THEN 'alibaba-split-bill' END AS AllocatedMethodId,
    split_item_id AS AllocatedResourceId,
    CASE WHEN split_item_id IS NOT NULL THEN split_item_name END AS AllocatedResourceName,
    map_from_entries(list_filter(
        [
            {'key': 'CostUnit', 'value': cost_unit},
            {'key': 'ResourceGroup', 'value': resource_group},
            {'key': 'OrderId', 'value': order_id},
            {'key': 'TransactionType', 'value': coalesce(transaction_type, billing_type)},
            {'key': 'DeductedByCoupons', 'value': coupons},
            {'key': 'DeductedByResourcePackage', 'value': package_quantity},
            {'key': 'ListPriceUnit', 'value': list_price_unit},
            {'key': 'SubscriptionDeduction', 'value': CASE WHEN cardinality(deduction) > 0 THEN to_json(deduction)::VARCHAR END}
        ],
        lambda pair: pair.value IS NOT NULL
    )) AS x_Native,
    CASE
        WHEN is_tax THEN issue('BilledCost', tax, billed)
        ELSE nullif(concat_ws(
            '; ',
            issue('BilledCost', payable, billed),
            issue('ListCost', gross, at_list),
            issue('ContractedCost', discount, money(discount)),
            issue('PricingQuantity', usage_amount, quantity(usage_amount)),
            issue('ListUnitPrice', list_price, money(list_price)),
            issue('ChargePeriodStart', usage_start, started),
            issue('BillingPeriodStart', billing_cycle, month),
            CASE WHEN tags IS NULL AND len(tag_pairs) > 0 THEN 'Tags: "' || left(tag, 40) || '" can''t be read' END
        ), '')
    END AS x_DataIssues,
    _file,
    _row
FROM charges
