-- Google Cloud billing export to FOCUS 1.3. One native row becomes up to four kinds of rows: the usage, the part of it
-- that a commitment covers, a commitment's fee (and what of it was unused), and credits that pay. gcp.py has `lines`,
-- `shares` and what they rest on: native rows with their credits read, and commitment fees per hour with what they cover.
WITH service_names(major, minor, names) AS (VALUES
    ('AI and Machine Learning', 'Generative AI', ['gemini api', 'generative language api', 'vertex ai search']),
    ('AI and Machine Learning', 'AI Platforms', ['vertex ai', 'agent platform', 'cloud ai platform', 'document ai', 'cloud document ai api']),
    ('AI and Machine Learning', 'Machine Learning', ['cloud machine learning engine', 'cloud vision api', 'cloud tpu']),
    ('AI and Machine Learning', 'Natural Language Processing', ['cloud natural language', 'cloud natural language api', 'cloud speech api', 'cloud text-to-speech api', 'translate']),
    ('Analytics', 'Analytics Platforms', ['bigquery', 'bigquery reservation api', 'bigquery storage api', 'bigquery bi engine']),
    ('Analytics', 'Business Intelligence', ['looker', 'looker studio']),
    ('Analytics', 'Data Processing', ['cloud dataflow', 'cloud dataproc', 'managed service for apache spark']),
    ('Compute', 'Containers', ['kubernetes engine', 'artifact registry', 'container registry vulnerability scanning', 'anthos']),
    ('Compute', 'Serverless Compute', ['cloud run', 'cloud functions', 'cloud run functions', 'app engine']),
    ('Compute', 'Virtual Machines', ['compute engine', 'vmware engine', 'vm manager']),
    ('Databases', 'Caching', ['cloud memorystore for redis', 'memorystore for redis']),
    ('Databases', 'NoSQL Databases', ['cloud firestore', 'cloud bigtable', 'cloud datastore']),
    ('Databases', 'Relational Databases', ['cloud sql', 'cloud spanner', 'alloydb']),
    ('Developer Tools', 'Continuous Integration and Deployment', ['cloud build', 'cloud deploy']),
    ('Integration', 'API Management', ['apigee', 'api gateway', 'maps api']),
    ('Integration', 'Messaging', ['cloud pub/sub', 'cloud tasks']),
    ('Integration', 'Workflow Orchestration', ['cloud composer', 'workflows', 'cloud scheduler']),
    ('Management and Governance', 'Observability', ['cloud logging', 'cloud monitoring', 'stackdriver']),
    ('Management and Governance', 'Support', ['support']),
    ('Networking', 'Network Infrastructure', ['networking', 'cloud dns', 'network intelligence center']),
    ('Security', 'Secret Management', ['secret manager', 'cloud key management service (kms)']),
    ('Security', 'Security Posture Management', ['security command center']),
    ('Storage', 'Backup Storage', ['backup and dr service', 'backup for gke']),
    ('Storage', 'File Storage', ['cloud filestore', 'netapp volumes', 'google cloud managed lustre']),
    ('Storage', 'Object Storage', ['cloud storage'])
), services AS (
    SELECT unnest(names) AS key, major, minor FROM service_names
), places(id, name) AS (VALUES
    ('africa-south1', 'Johannesburg'), ('asia-east1', 'Taiwan'), ('asia-east2', 'Hong Kong'), ('asia-northeast1', 'Tokyo'),
    ('asia-northeast2', 'Osaka'), ('asia-northeast3', 'Seoul'), ('asia-south1', 'Mumbai'), ('asia-south2', 'Delhi'),
    ('asia-southeast1', 'Singapore'), ('asia-southeast2', 'Jakarta'), ('australia-southeast1', 'Sydney'),
    ('australia-southeast2', 'Melbourne'), ('europe-central2', 'Warsaw'), ('europe-north1', 'Finland'),
    ('europe-north2', 'Stockholm'), ('europe-southwest1', 'Madrid'), ('europe-west1', 'Belgium'), ('europe-west2', 'London'),
    ('europe-west3', 'Frankfurt'), ('europe-west4', 'Netherlands'), ('europe-west6', 'Zurich'), ('europe-west8', 'Milan'),
    ('europe-west9', 'Paris'), ('europe-west10', 'Berlin'), ('europe-west12', 'Turin'), ('me-central1', 'Doha'),
    ('me-central2', 'Dammam'), ('me-west1', 'Tel Aviv'), ('northamerica-northeast1', 'Montreal'),
    ('northamerica-northeast2', 'Toronto'), ('northamerica-south1', 'Mexico'), ('southamerica-east1', 'Sao Paulo'),
    ('southamerica-west1', 'Santiago'), ('us-central1', 'Iowa'), ('us-east1', 'South Carolina'),
    ('us-east4', 'Northern Virginia'), ('us-east5', 'Columbus'), ('us-south1', 'Dallas'), ('us-west1', 'Oregon'),
    ('us-west2', 'Los Angeles'), ('us-west3', 'Salt Lake City'), ('us-west4', 'Las Vegas')
), linked AS (
    SELECT
        l.*, s.id AS pool_id, s.class AS pool_class, s.fee AS pool_fee, s.base AS pool_base, s.committed AS pool_committed,
        s.covered AS pool_covered, s.remainder AS pool_remainder,
        coalesce(s.taker.file = l._file AND s.taker.row = l._row, false) AS takes_remainder,
        CASE WHEN l.covered = cost THEN 1 ELSE part_of(CAST(1 AS DECIMAL(32, 18)), l.covered, cost) END AS ratio,
        coalesce(own_cost, cost) AS contracted
    FROM keyed AS l LEFT JOIN shares AS s USING (account, period_start, pool_key, bucket)
), shared AS (
    -- Of each number the share that a commitment covers; the rest of the row gets what is left.
    SELECT
        *,
        CASE WHEN ratio = 1 THEN priced_amount ELSE CAST(round(CAST(ratio AS DOUBLE) * CAST(priced_amount AS DOUBLE), 9) AS DECIMAL(38, 14)) END AS covered_amount,
        CASE WHEN ratio = 1 THEN used_amount ELSE CAST(round(CAST(ratio AS DOUBLE) * CAST(used_amount AS DOUBLE), 9) AS DECIMAL(38, 14)) END AS covered_used,
        CASE WHEN ratio = 1 THEN list_cost ELSE times(list_cost, CAST(ratio AS DECIMAL(38, 14))) END AS covered_list,
        CASE WHEN ratio = 1 THEN contracted ELSE times(contracted, CAST(ratio AS DECIMAL(38, 14))) END AS covered_contracted,
        CASE WHEN pooled THEN CASE WHEN takes_remainder THEN pool_remainder END WHEN is_fee THEN cost + discounts + fee_offset END AS unused
    FROM linked
), parted AS (
    SELECT
        *,
        unnest(list_concat(
            CASE WHEN NOT is_fee AND (covered IS NULL OR covered <> cost OR discounts <> 0) THEN
                [{'part': 'rest', 'credit': NULL::STRUCT("name" VARCHAR, amount VARCHAR, full_name VARCHAR, id VARCHAR, "type" VARCHAR)}]
            END,
            CASE WHEN covered IS NOT NULL THEN [{'part': 'covered', 'credit': NULL}] END,
            CASE WHEN is_fee THEN [{'part': 'fee', 'credit': NULL}] END,
            CASE WHEN unused <> 0 THEN [{'part': 'unused', 'credit': NULL}] END,
            list_transform(payments, lambda c: {'part': 'credit', 'credit': c})
        ), recursive := false) AS piece
    FROM shared
), costed AS (
    SELECT
        *,
        piece.part AS part,
        money(piece.credit.amount) AS paid,
        nullif(piece.credit.type, '') AS credit_type,
        credit_type IS NOT DISTINCT FROM 'FEE_UTILIZATION_OFFSET' AS offsets_fee,
        direct AND part = 'rest' AS used_directly,
        CASE part
            WHEN 'rest' THEN cost - coalesce(covered, 0) + discounts + CASE WHEN covered IS NULL THEN commitment_credit ELSE 0 END
            WHEN 'covered' THEN covered + commitment_credit
            WHEN 'fee' THEN cost + discounts
            WHEN 'unused' THEN 0
            WHEN 'credit' THEN paid
        END AS billed,
        -- A commitment's fee is used up in its own hour: its share goes to the usage that it covers, the rest is unused.
        CASE part
            WHEN 'covered' THEN billed + coalesce(part_of(pool_fee, covers, pool_base), 0) + CASE WHEN takes_remainder THEN pool_remainder ELSE 0 END
            WHEN 'fee' THEN 0
            WHEN 'unused' THEN unused
            ELSE CASE WHEN offsets_fee THEN 0 ELSE billed END
        END AS effective,
        CASE
            WHEN part = 'credit' OR good_will THEN 'Credit' WHEN part = 'fee' THEN 'Purchase'
            WHEN cost_type = 'tax' THEN 'Tax' WHEN cost_type = 'regular' THEN 'Usage' ELSE 'Adjustment'
        END AS category,
        CASE
            WHEN part = 'covered' THEN coalesce(pool_id, subscription_instance_id, pool_key)
            WHEN part IN ('fee', 'unused') OR offsets_fee THEN coalesce(pool_id, subscription_instance_id, 'fee-sku/' || sku_id)
            WHEN used_directly THEN coalesce(subscription_instance_id, 'consumption-model/' || consumption_model_id)
        END AS commitment,
        CASE WHEN part = 'covered' OR pooled THEN coalesce(pool_class, commitment_class) ELSE 'Spend' END AS class,
        part = 'covered' OR used_directly AS used
    FROM parted
), final AS (
    SELECT
        *,
        category IN ('Usage', 'Purchase') AS priced,
        CASE
            WHEN commitment IS NULL OR category NOT IN ('Usage', 'Purchase') THEN NULL
            WHEN class = 'Spend' THEN CAST(CASE part WHEN 'fee' THEN billed ELSE effective END AS DECIMAL(38, 14))
            WHEN part = 'unused' THEN CAST(pool_committed - coalesce(pool_covered, 0) AS DECIMAL(38, 14))
            WHEN part = 'fee' THEN priced_amount
            ELSE CAST(covers AS DECIMAL(38, 14))
        END AS commitment_quantity,
        CASE WHEN class = 'Spend' THEN currency ELSE pricing_unit END AS commitment_unit,
        CASE part
            WHEN 'rest' THEN priced_amount - coalesce(covered_amount, 0)
            WHEN 'covered' THEN covered_amount
            WHEN 'fee' THEN priced_amount
            WHEN 'unused' THEN commitment_quantity
        END AS part_amount,
        CASE part WHEN 'rest' THEN used_amount - coalesce(covered_used, 0) WHEN 'covered' THEN covered_used END AS part_used,
        CASE
            WHEN NOT priced AND part <> 'credit' THEN cost
            WHEN part = 'rest' THEN list_cost - coalesce(covered_list, 0)
            WHEN part = 'covered' THEN covered_list
            WHEN part = 'fee' THEN list_cost
            WHEN part = 'credit' THEN paid
        END AS part_list,
        CASE
            WHEN NOT priced AND part <> 'credit' THEN cost
            WHEN part = 'rest' THEN contracted - coalesce(covered_contracted, 0)
            WHEN part = 'covered' THEN covered_contracted
            WHEN part = 'fee' THEN cost
            WHEN part = 'unused' AND class = 'Spend' THEN effective
            WHEN part = 'credit' THEN paid
        END AS part_contracted,
        -- Google rounds costs; prices per 1000 units, of another tier or currency multiply to something else, and are left out.
        part IN ('rest', 'covered', 'fee') AND priced AS has_price,
        CASE WHEN has_price AND abs(times(own_price, priced_amount) - contracted) <= 0.00001 + abs(cost) * 0.000001 THEN own_price END AS checked_own_price,
        CASE WHEN has_price AND abs(times(list_price, priced_amount) - list_cost) <= 0.00001 + abs(list_cost) * 0.000001 THEN list_price END AS checked_list_price
    FROM costed
)
SELECT
    zone AS AvailabilityZone,
    CAST(billed AS DECIMAL(32, 18)) AS BilledCost,
    account AS BillingAccountId,
    CASE WHEN account IS NOT NULL THEN 'Billing Account' END AS BillingAccountType,
    currency AS BillingCurrency,
    period_start AS BillingPeriodStart,
    period_start + INTERVAL 1 MONTH AS BillingPeriodEnd,
    CASE WHEN reservation IS NOT NULL AND category = 'Usage' THEN reservation END AS CapacityReservationId,
    CASE WHEN reservation IS NOT NULL AND category = 'Usage' THEN CASE WHEN unused_reservation THEN 'Unused' ELSE 'Used' END END AS CapacityReservationStatus,
    category AS ChargeCategory,
    CASE WHEN correction THEN 'Correction' END AS ChargeClass,
    CASE part
        WHEN 'credit' THEN coalesce(nullif(piece.credit.full_name, ''), nullif(piece.credit.name, ''), nullif(piece.credit.id, ''), credit_type) || coalesce(' on ' || sku_description, '')
        WHEN 'unused' THEN 'Unused: ' || coalesce(sku_description, commitment)
        ELSE coalesce(sku_description, adjustment_description, service_description, cost_type)
    END AS ChargeDescription,
    CASE WHEN part = 'fee' THEN 'Recurring' WHEN category = 'Usage' OR part = 'credit' THEN 'Usage-Based' ELSE 'One-Time' END AS ChargeFrequency,
    started AS ChargePeriodStart,
    ended AS ChargePeriodEnd,
    CASE WHEN commitment IS NOT NULL THEN class END AS CommitmentDiscountCategory,
    commitment AS CommitmentDiscountId,
    CASE WHEN commitment IS NOT NULL THEN coalesce(CASE WHEN direct THEN consumption_model_description WHEN is_fee THEN sku_description END, credit_name) END AS CommitmentDiscountName,
    commitment_quantity AS CommitmentDiscountQuantity,
    CASE WHEN commitment IS NULL THEN NULL WHEN part = 'unused' THEN 'Unused' WHEN used THEN 'Used' END AS CommitmentDiscountStatus,
    CASE WHEN commitment IS NOT NULL THEN CASE class WHEN 'Spend' THEN 'Spend-based committed use discount' ELSE 'Resource-based committed use discount' END END AS CommitmentDiscountType,
    CASE WHEN commitment_quantity IS NOT NULL THEN commitment_unit END AS CommitmentDiscountUnit,
    CASE WHEN category = 'Usage' AND part <> 'unused' THEN part_used END AS ConsumedQuantity,
    CASE WHEN category = 'Usage' AND part <> 'unused' AND part_used IS NOT NULL THEN used_unit END AS ConsumedUnit,
    CAST(coalesce(times(checked_own_price, part_amount), part_contracted) AS DECIMAL(32, 18)) AS ContractedCost,
    checked_own_price AS ContractedUnitPrice,
    CAST(effective AS DECIMAL(32, 18)) AS EffectiveCost,
    'Google Cloud' AS HostProviderName,
    'Google Cloud' AS InvoiceIssuerName,
    CAST(coalesce(times(checked_list_price, part_amount), part_list) AS DECIMAL(32, 18)) AS ListCost,
    checked_list_price AS ListUnitPrice,
    CASE
        WHEN NOT priced THEN NULL
        WHEN used OR part = 'unused' THEN 'Committed'
        WHEN regexp_matches(sku_description, '\b(spot|preemptible)\b', 'i') THEN 'Dynamic'
        ELSE 'Standard'
    END AS PricingCategory,
    CASE WHEN priced THEN part_amount END AS PricingQuantity,
    CASE WHEN priced AND part_amount IS NOT NULL THEN CASE WHEN part = 'unused' THEN commitment_unit ELSE pricing_unit END END AS PricingUnit,
    'Google Cloud' AS ProviderName,
    seller AS PublisherName,
    region_id AS RegionId,
    CASE WHEN region_id IS NOT NULL THEN coalesce(p.name, region_id) END AS RegionName,
    CASE WHEN part IN ('fee', 'unused') THEN commitment ELSE resource END AS ResourceId,
    CASE WHEN part IN ('fee', 'unused') THEN coalesce(resource_name, sku_description) ELSE resource_name END AS ResourceName,
    CASE
        WHEN part IN ('fee', 'unused') THEN 'Committed use discount'
        WHEN regexp_matches(resource, '^//[^/]+/.+/[^/]+/[^/]+$') THEN split_part(resource, '/', 3) || '/' || split_part(resource, '/', -2)
        WHEN starts_with(resource, '//') THEN split_part(resource, '/', 3)
    END AS ResourceType,
    coalesce(s.major, 'Other') AS ServiceCategory,
    coalesce(service_description, 'Invoice') AS ServiceName,
    seller AS ServiceProviderName,
    coalesce(s.minor, 'Other (Other)') AS ServiceSubcategory,
    CASE WHEN priced THEN sku_id END AS SkuId,
    CASE WHEN priced AND sku_id IS NOT NULL THEN sku_description END AS SkuMeter,
    CASE WHEN priced AND sku_id IS NOT NULL THEN json_merge_patch('{}', json_object(
        -- A machine is several rows, core, RAM and GPU: only the GPU's may count as the machine's GPUs.
        'InstanceType', gpu_machine, 'x_MachineSpec', CASE WHEN gpu_machine IS NULL THEN machine END, 'x_Service', service_id,
        'x_TierStart', price_tier_start_amount, 'x_ConsumptionModel', nullif(consumption_model_description, 'Default')
    )) END AS SkuPriceDetails,
    CASE WHEN priced AND sku_id IS NOT NULL THEN concat_ws('/', sku_id, nullif(price_tier_start_amount, '0'), CASE WHEN direct THEN consumption_model_id END) END AS SkuPriceId,
    project_id AS SubAccountId,
    CASE WHEN project_id IS NOT NULL THEN project_name END AS SubAccountName,
    CASE WHEN project_id IS NOT NULL THEN 'Project' END AS SubAccountType,
    map_concat(tag_map(project_labels_json), own_tags, tag_map(labels_json)) AS Tags,
    gpu_machine AS x_InstanceType,
    coalesce(credit_type, CASE WHEN part IN ('covered', 'unused') THEN 'regular (' || part || ' by a commitment)' ELSE cost_type END) AS x_ChargeType,
    map_from_entries(list_filter([
        {'key': 'cost', 'value': native_cost}, {'key': 'credits', 'value': nullif(credits_json, '[]')},
        {'key': 'export_time', 'value': export_time}, {'key': 'currency_conversion_rate', 'value': currency_conversion_rate},
        {'key': 'service.id', 'value': service_id}, {'key': 'project.number', 'value': project_number},
        {'key': 'project.ancestry_numbers', 'value': project_ancestry_numbers}, {'key': 'location.location', 'value': location_location},
        {'key': 'machine_spec', 'value': machine}, {'key': 'consumption_model.description', 'value': consumption_model_description},
        {'key': 'subscription.instance_id', 'value': native_subscription}, {'key': 'transaction_type', 'value': transaction_type},
        {'key': 'adjustment_info.type', 'value': adjustment_type}, {'key': 'adjustment_info.id', 'value': adjustment_id},
        {'key': 'resource.global_name', 'value': CASE WHEN is_fee THEN resource_global_name END},
        {'key': 'usage.amount', 'value': usage_amount}, {'key': 'usage.unit', 'value': usage_unit}
    ], lambda e: e.value IS NOT NULL)) AS x_Native,
    CASE WHEN part IN ('rest', 'covered', 'fee') THEN nullif(concat_ws('; ',
        issue('BilledCost', native_cost, cost),
        CASE WHEN native_cost IS NULL THEN 'BilledCost: the cost is empty' END,
        CASE WHEN credits_json IS NOT NULL AND credit_list IS NULL THEN 'BilledCost: "' || left(credits_json, 40) || '" can''t be read' END,
        CASE WHEN list_bool_or(list_transform(credit_list, lambda c: c.amount IS NOT NULL AND money(c.amount) IS NULL)) THEN 'BilledCost: a credit''s amount can''t be read' END,
        issue('ChargePeriodStart', usage_start_time, started),
        issue('ChargePeriodEnd', usage_end_time, ended),
        issue('PricingQuantity', usage_amount_in_pricing_units, priced_amount),
        issue('ConsumedQuantity', usage_amount, used_amount),
        issue('ListCost', cost_at_list, list_cost),
        issue('Tags', nullif(nullif(labels_json, '[]'), '{}'), tag_map(labels_json))
    ), '') END AS x_DataIssues,
    _file,
    _row
FROM final
LEFT JOIN services AS s ON s.key = lower(service_description)
LEFT JOIN places AS p ON p.id = region_id
