-- AWS line items to ledger rows; CUR 2.0 and legacy CUR alike. docs/connectors/aws.md has the rules and their sources.
--
--   lines     one row per native line, its amounts read, and its `role` in the bill
--   charges   lines that become rows, and the rows that AWS leaves to be worked out: unused commitment, negation residue
--   mapped    FOCUS columns
--   shares    AWS's split of a container host among pods and tasks; joined to the host's charge, it replaces that charge
WITH services (code, name, category, subcategory) AS (VALUES
    ('AmazonEC2', 'Amazon Elastic Compute Cloud', 'Compute', 'Virtual Machines'), ('AmazonLightsail', 'Amazon Lightsail', 'Compute', 'Virtual Machines'),
    ('AmazonECS', 'Amazon Elastic Container Service', 'Compute', 'Containers'), ('AmazonEKS', 'Amazon Elastic Container Service for Kubernetes', 'Compute', 'Containers'),
    ('AmazonECR', 'Amazon EC2 Container Registry (ECR)', 'Compute', 'Containers'),
    ('AmazonECRPublic', 'Amazon Elastic Container Registry Public', 'Compute', 'Containers'), ('AWSLambda', 'AWS Lambda', 'Compute', 'Serverless Compute'),
    ('AWSAppRunner', 'AWS App Runner', 'Compute', 'Containers'), ('AmazonWorkSpaces', 'Amazon WorkSpaces', 'Compute', 'End User Computing'),
    ('AmazonAppStream', 'Amazon AppStream', 'Compute', 'End User Computing'), ('AWSOutposts', 'AWS Outposts', 'Compute', 'Other (Compute)'),
    ('ComputeSavingsPlans', 'Savings Plans for AWS Compute usage', 'Compute', 'Other (Compute)'),
    ('DatabaseSavingsPlans', 'Savings Plans for AWS Database usage', 'Databases', 'Other (Databases)'),
    ('MachineLearningSavingsPlans', 'Savings Plans for AWS Machine Learning usage', 'AI and Machine Learning', 'Machine Learning'),
    ('AmazonBedrock', 'Amazon Bedrock', 'AI and Machine Learning', 'Generative AI'),
    ('AmazonBedrockService', 'Amazon Bedrock', 'AI and Machine Learning', 'Generative AI'),
    ('AmazonBedrockAgentCore', 'Amazon Bedrock AgentCore', 'AI and Machine Learning', 'AI Platforms'),
    ('AmazonQ', 'Amazon Q', 'AI and Machine Learning', 'Generative AI'), ('Kiro', 'Kiro', 'AI and Machine Learning', 'Generative AI'),
    ('AmazonSageMaker', 'Amazon SageMaker', 'AI and Machine Learning', 'Machine Learning'),
    ('AmazonEI', 'Amazon Elastic Inference', 'AI and Machine Learning', 'Machine Learning'),
    ('AmazonRekognition', 'Amazon Rekognition', 'AI and Machine Learning', 'Other (AI and Machine Learning)'),
    ('AmazonTextract', 'Amazon Textract', 'AI and Machine Learning', 'Other (AI and Machine Learning)'),
    ('AmazonKendra', 'Amazon Kendra', 'AI and Machine Learning', 'Other (AI and Machine Learning)'),
    ('AmazonPersonalize', 'Amazon Personalize', 'AI and Machine Learning', 'Machine Learning'), ('AmazonLex', 'Amazon Lex', 'AI and Machine Learning', 'Bots'),
    ('AmazonPolly', 'Amazon Polly', 'AI and Machine Learning', 'Natural Language Processing'),
    ('comprehend', 'Amazon Comprehend', 'AI and Machine Learning', 'Natural Language Processing'),
    ('transcribe', 'Amazon Transcribe', 'AI and Machine Learning', 'Natural Language Processing'),
    ('translate', 'Amazon Translate', 'AI and Machine Learning', 'Natural Language Processing'), ('EBS', 'Amazon Elastic Block Store', 'Storage', 'Block Storage'),
    ('AmazonS3', 'Amazon Simple Storage Service', 'Storage', 'Object Storage'),
    ('AmazonS3GlacierDeepArchive', 'Amazon S3 Glacier Deep Archive', 'Storage', 'Object Storage'), ('AmazonGlacier', 'Amazon Glacier', 'Storage', 'Object Storage'),
    ('AmazonEFS', 'Amazon Elastic File System', 'Storage', 'File Storage'), ('AmazonFSx', 'Amazon FSx', 'Storage', 'File Storage'),
    ('AWSBackup', 'AWS Backup', 'Storage', 'Backup Storage'), ('AWSStorageGateway', 'AWS Storage Gateway', 'Storage', 'Storage Platforms'),
    ('AmazonRDS', 'Amazon Relational Database Service', 'Databases', 'Relational Databases'),
    ('AmazonDocDB', 'Amazon DocumentDB (with MongoDB compatibility)', 'Databases', 'NoSQL Databases'),
    ('AmazonDynamoDB', 'Amazon DynamoDB', 'Databases', 'NoSQL Databases'), ('AmazonNeptune', 'Amazon Neptune', 'Databases', 'NoSQL Databases'),
    ('AmazonMCS', 'Amazon Keyspaces (for Apache Cassandra)', 'Databases', 'NoSQL Databases'), ('AmazonElastiCache', 'Amazon ElastiCache', 'Databases', 'Caching'),
    ('AmazonMemoryDB', 'Amazon MemoryDB', 'Databases', 'Caching'), ('AmazonRedshift', 'Amazon Redshift', 'Databases', 'Data Warehouses'),
    ('AmazonTimestream', 'Amazon Timestream', 'Databases', 'Time Series Databases'), ('AmazonAthena', 'Amazon Athena', 'Analytics', 'Data Processing'),
    ('AWSGlue', 'AWS Glue', 'Analytics', 'Data Processing'), ('ElasticMapReduce', 'Amazon Elastic MapReduce', 'Analytics', 'Data Processing'),
    ('AmazonES', 'Amazon OpenSearch Service', 'Analytics', 'Search'), ('AmazonKinesis', 'Amazon Kinesis', 'Analytics', 'Streaming Analytics'),
    ('AmazonKinesisFirehose', 'Amazon Kinesis Firehose', 'Analytics', 'Streaming Analytics'),
    ('AmazonMSK', 'Amazon Managed Streaming for Apache Kafka', 'Analytics', 'Streaming Analytics'),
    ('AmazonQuickSight', 'Amazon QuickSight', 'Analytics', 'Business Intelligence'),
    ('AmazonVPC', 'Amazon Virtual Private Cloud', 'Networking', 'Network Infrastructure'), ('AWSELB', 'Elastic Load Balancing', 'Networking', 'Application Networking'),
    ('AmazonCloudFront', 'Amazon CloudFront', 'Networking', 'Content Delivery'), ('AmazonRoute53', 'Amazon Route 53', 'Networking', 'Network Routing'),
    ('AWSDirectConnect', 'AWS Direct Connect', 'Networking', 'Network Connectivity'), ('AWSDataTransfer', 'AWS Data Transfer', 'Networking', 'Other (Networking)'),
    ('AWSGlobalAccelerator', 'AWS Global Accelerator', 'Networking', 'Network Routing'), ('AWSNetworkFirewall', 'AWS Network Firewall', 'Networking', 'Network Security'),
    ('awswaf', 'AWS WAF', 'Networking', 'Network Security'), ('AmazonApiGateway', 'Amazon API Gateway', 'Integration', 'API Management'),
    ('AmazonSNS', 'Amazon Simple Notification Service', 'Integration', 'Messaging'), ('AWSQueueService', 'Amazon Simple Queue Service', 'Integration', 'Messaging'),
    ('AmazonMQ', 'Amazon MQ', 'Integration', 'Messaging'), ('AWSEvents', 'CloudWatch Events', 'Integration', 'Messaging'),
    ('AmazonStates', 'AWS Step Functions', 'Integration', 'Workflow Orchestration'),
    ('AmazonMWAA', 'Amazon Managed Workflows for Apache Airflow', 'Integration', 'Workflow Orchestration'),
    ('AmazonCloudWatch', 'AmazonCloudWatch', 'Management and Governance', 'Observability'),
    ('AmazonPrometheus', 'Amazon Managed Service for Prometheus', 'Management and Governance', 'Observability'),
    ('AmazonGrafana', 'Amazon Managed Grafana', 'Management and Governance', 'Observability'), ('AWSXRay', 'AWS X-Ray', 'Management and Governance', 'Observability'),
    ('AWSCloudTrail', 'AWS CloudTrail', 'Management and Governance', 'Compliance'), ('AWSConfig', 'AWS Config', 'Management and Governance', 'Compliance'),
    ('AWSSystemsManager', 'AWS Systems Manager', 'Management and Governance', 'Endpoint Management'),
    ('AWSCostExplorer', 'AWS Cost Explorer', 'Management and Governance', 'Cost Management'),
    ('AWSBudgets', 'AWS Budgets', 'Management and Governance', 'Cost Management'),
    ('AWSDeveloperSupport', 'AWS Support (Developer)', 'Management and Governance', 'Support'),
    ('AWSSupportBusiness', 'AWS Support (Business)', 'Management and Governance', 'Support'),
    ('AWSSupportEnterprise', 'AWS Support (Enterprise)', 'Management and Governance', 'Support'),
    ('awskms', 'AWS Key Management Service', 'Security', 'Secret Management'), ('AWSSecretsManager', 'AWS Secrets Manager', 'Security', 'Secret Management'),
    ('AmazonGuardDuty', 'Amazon GuardDuty', 'Security', 'Threat Detection and Response'),
    ('AmazonInspectorV2', 'Amazon Inspector', 'Security', 'Security Posture Management'),
    ('AWSSecurityHub', 'AWS Security Hub', 'Security', 'Security Posture Management'), ('AmazonMacie', 'Amazon Macie', 'Security', 'Other (Security)'),
    ('AWSShield', 'AWS Shield', 'Security', 'Other (Security)'), ('AmazonCognito', 'Amazon Cognito', 'Identity', 'Identity and Access Management'),
    ('AWSDirectoryService', 'AWS Directory Service', 'Identity', 'Identity and Access Management'),
    ('CodeBuild', 'CodeBuild', 'Developer Tools', 'Continuous Integration and Deployment'),
    ('AWSCodePipeline', 'AWS CodePipeline', 'Developer Tools', 'Continuous Integration and Deployment'), ('AWSDataSync', 'AWS DataSync', 'Migration', 'Data Migration'),
    ('AWSTransfer', 'AWS Transfer Family', 'Migration', 'Data Migration'), ('AWSDatabaseMigrationSvc', 'AWS Database Migration Service', 'Migration', 'Data Migration'),
    ('AWSIoT', 'AWS IoT', 'Internet of Things', 'IoT Platforms'), ('AmazonSES', 'Amazon Simple Email Service', 'Business Applications', 'Productivity and Collaboration')
), lines AS NOT MATERIALIZED (
    SELECT
        * EXCLUDE (product_product_name, product_region, product_vcpu, product_memory, product_gpu, product_operating_system,
                   product_tenancy, product_model, product_inference_type),
        line_item_line_item_type AS type,
        CASE
            WHEN line_item_line_item_type IN ('RIFee', 'SavingsPlanRecurringFee', 'SavingsPlanUpfrontFee') THEN 'prepaid'
            WHEN line_item_line_item_type IN ('Fee', 'Refund')
                AND (reservation_reservation_a_r_n IS NOT NULL OR ends_with(line_item_product_code, 'SavingsPlans')) THEN 'prepaid'
            WHEN line_item_line_item_type IN ('Usage', 'Refund') THEN 'usage'
            WHEN line_item_line_item_type = 'SavingsPlanCoveredUsage' THEN 'covered'
            WHEN line_item_line_item_type = 'DiscountedUsage' THEN 'discounted'
            WHEN line_item_line_item_type = 'SavingsPlanNegation' THEN 'negation'
            WHEN line_item_line_item_type IN ('Fee', 'FlatRateSubscription') THEN 'fee'
            WHEN line_item_line_item_type = 'Tax' THEN 'tax'
            WHEN line_item_line_item_type = 'Credit' THEN 'credit'
            WHEN ends_with(line_item_line_item_type, 'Discount') THEN 'discount'
            ELSE 'unknown'
        END AS role,
        -- What is invoiced: the cost after private discounts, where the bill states it; in such a bill the lines that
        -- show a discount by itself have a net cost of 0.
        CASE
            WHEN line_item_net_unblended_cost IS NULL THEN money(line_item_unblended_cost)
            ELSE money(line_item_net_unblended_cost)
        END AS paid,
        coalesce(money(line_item_unblended_cost), money(line_item_net_unblended_cost)) AS gross,
        coalesce(savings_plan_savings_plan_a_r_n, reservation_reservation_a_r_n) AS commitment,
        -- What a commitment was paid for and nobody used, at the net price where there is one. AWS nets the fee of a
        -- savings plan but not its unused part: that is scaled by the same ratio, in integers, to the tenth decimal.
        CASE
            WHEN line_item_line_item_type = 'RIFee' THEN
                list_sum([
                    coalesce(money(reservation_net_unused_recurring_fee), money(reservation_unused_recurring_fee)),
                    coalesce(money(reservation_net_unused_amortized_upfront_fee_for_billing_period),
                             money(reservation_unused_amortized_upfront_fee_for_billing_period))
                ])
            WHEN line_item_line_item_type <> 'SavingsPlanRecurringFee' OR net_fee IS NULL OR fee = 0 OR net_fee = fee THEN idle
            ELSE CAST(
                CAST(CAST(idle AS DECIMAL(26, 10)) * 10000000000 AS HUGEINT)
                * CAST(CAST(net_fee AS DECIMAL(26, 10)) * 10000000000 AS HUGEINT)
                // CAST(CAST(fee AS DECIMAL(26, 10)) * 10000000000 AS HUGEINT) AS DECIMAL(28, 0)
            ) * 0.0000000001
        END AS unused,
        idle,
        quantity(line_item_usage_amount) AS amount,
        CASE
            WHEN lower(pricing_unit) = '1k tokens' THEN '1000 Tokens'
            WHEN lower(pricing_unit) = '1m tokens' THEN '1000000 Tokens'
            WHEN lower(pricing_unit) IN ('quantity', 'unit', 'units', 'count') THEN 'Units'
            ELSE regexp_replace(regexp_replace(pricing_unit, '(?i)\b(?:hrs?|hours?)$', 'Hours'), '(?i)\b(?:mo|months?)$', 'Months')
        END AS unit,
        instant(line_item_usage_start_date) AS since,
        instant(line_item_usage_end_date) AS until,
        instant(bill_billing_period_start_date) AS bill_start,
        -- USE1-BoxUsage:p5.48xlarge is the meter BoxUsage of a p5.48xlarge; us-east-1 has no prefix.
        regexp_extract(split_part(line_item_usage_type, ':', 1), '[A-Za-z0-9]+$') AS meter,
        coalesce(starts_with(bill_billing_entity, 'AWS Marketplace'), false) AS marketplace,
        regexp_matches(line_item_legal_entity, '^(?:Amazon|AWS|AISPL)') AS legal_entity_is_aws,
        split_line_item_parent_resource_id IS NOT NULL
            AND (paid = 0 OR coalesce(line_item_net_unblended_cost, line_item_unblended_cost) IS NULL) AS is_split,
        coalesce(product_product_name, product ->> '$.product_name') AS product_name,
        coalesce(product_region, product ->> '$.region') AS region,
        coalesce(product_vcpu, product ->> '$.vcpu') AS vcpu,
        coalesce(product_memory, product ->> '$.memory') AS memory,
        coalesce(product_gpu, product ->> '$.gpu') AS gpu,
        coalesce(product_operating_system, product ->> '$.operating_system') AS operating_system,
        coalesce(product_tenancy, product ->> '$.tenancy') AS tenancy,
        coalesce(product_model, product ->> '$.model') AS model,
        coalesce(product_inference_type, product ->> '$.inference_type', product ->> '$.inferenceType') AS inference_type,
        -- The `tags` column has everything, told apart by prefixes; resource tags lose theirs here. CUR 2.0 writes
        -- user:team as user_team; a key that two tags would share keeps the map as it was.
        coalesce(TRY(map_from_entries(list_transform(
            map_entries(coalesce(tag_map(tags), tag_map(resource_tags), resource_tags_flat)),
            lambda e: {'key': CASE
                WHEN starts_with(e.key, 'resourceTags/') THEN regexp_replace(e.key[14:], '^user[:_]', '')
                WHEN starts_with(e.key, 'aws_eks_') THEN 'aws:eks:' || replace(e.key[9:], '_', '-')
                WHEN starts_with(e.key, 'aws_') THEN 'aws:' || e.key[5:]
                ELSE regexp_replace(e.key, '^user[:_]', '')
            END, 'value': e.value}
        ))), tag_map(tags), tag_map(resource_tags), resource_tags_flat) AS tagged
    FROM (
        SELECT
            *,
            money(savings_plan_total_commitment_to_date) - money(savings_plan_used_commitment) AS idle,
            money(savings_plan_recurring_commitment_for_billing_period)
                + coalesce(money(savings_plan_amortized_upfront_commitment_for_billing_period), 0) AS fee,
            money(savings_plan_net_recurring_commitment_for_billing_period)
                + coalesce(money(savings_plan_net_amortized_upfront_commitment_for_billing_period), 0) AS net_fee
        FROM native
    )
), reservations AS MATERIALIZED (
    -- Reservations that cover other sizes of their family are counted in normalised hours.
    SELECT reservation_reservation_a_r_n AS arn, bool_or(quantity(reservation_total_reserved_normalized_units) > 0) AS flexible
    FROM native
    WHERE line_item_line_item_type = 'RIFee'
    GROUP BY ALL
), residue AS NOT MATERIALIZED (
    -- Covered usage is billed at its on-demand price and taken back by negation lines: both vanish here, as in FOCUS.
    -- What they leave (rounding, or half of the pair missing) is on the invoice, so it stays, as one row per plan.
    SELECT
        bill_billing_entity, bill_billing_period_start_date, bill_billing_period_end_date, bill_invoice_id,
        bill_invoicing_entity, bill_payer_account_id, bill_payer_account_name, line_item_currency_code,
        line_item_legal_entity, savings_plan_savings_plan_a_r_n, commitment, bill_start, legal_entity_is_aws, marketplace,
        'SavingsPlanNegation' AS type, 'residue' AS role, sum(paid) AS paid, sum(paid) AS gross,
        min(line_item_product_code) AS line_item_product_code,
        min(line_item_usage_start_date) AS line_item_usage_start_date, min(since) AS since, max(until) AS until,
        'Savings plan: covered usage less its negation' AS line_item_line_item_description, min_by(_file, _row) AS _file, min(_row) AS _row
    FROM lines
    WHERE role IN ('covered', 'negation')
    GROUP BY ALL
    HAVING sum(paid) <> 0
), charges AS NOT MATERIALIZED (
    SELECT * FROM lines WHERE role <> 'negation' AND NOT is_split
    UNION ALL BY NAME
    SELECT * REPLACE ('unused' AS role) FROM lines
    WHERE line_item_line_item_type IN ('RIFee', 'SavingsPlanRecurringFee') AND unused <> 0
    UNION ALL BY NAME
    SELECT * FROM residue
), pieces AS NOT MATERIALIZED (
    -- One row per pod or task, hour and resource (vCPU, memory, accelerator), with where its share of the host begins
    -- and ends on a scale from 0 to 1: shares that are differences of rounded bounds add up exactly.
    SELECT
        *,
        CAST(CAST((edge - cost) * 1000000000000000000 // whole AS DECIMAL(28, 0)) * 0.000000000000000001 AS DECIMAL(19, 18)) AS lower,
        CAST(CAST(edge * 1000000000000000000 // whole AS DECIMAL(28, 0)) * 0.000000000000000001 AS DECIMAL(19, 18)) AS upper
    FROM (
        SELECT
            *,
            sum(cost) OVER (PARTITION BY host, hour ORDER BY pod, resource ROWS UNBOUNDED PRECEDING)::HUGEINT AS edge,
            sum(cost + idle_cost) OVER (PARTITION BY host, hour)::HUGEINT AS whole
        FROM (
            SELECT
                split_line_item_parent_resource_id AS host, line_item_usage_start_date AS hour,
                line_item_resource_id AS pod, regexp_extract(line_item_usage_type, '[^-]+-Hours$') AS resource,
                split_line_item_split_usage AS used, tagged,
                CAST(CAST(money(coalesce(split_line_item_net_split_cost, split_line_item_split_cost)) AS DECIMAL(26, 10))
                     * 10000000000 AS HUGEINT) AS cost,
                CAST(CAST(coalesce(money(coalesce(split_line_item_net_unused_cost, split_line_item_unused_cost)), 0)
                     AS DECIMAL(26, 10)) * 10000000000 AS HUGEINT) AS idle_cost
            FROM lines
            WHERE is_split
        )
        WHERE cost IS NOT NULL
    )
    WHERE whole > 0
), shares AS MATERIALIZED (
    SELECT
        host, hour, pod, min(lower) AS lower, max(upper) AS upper, any_value(tagged) AS pod_tags,
        '{"Elements":[' || string_agg(concat(
            '{"AllocatedRatio":', upper - lower, ',"UsageUnit":', to_json(resource), ',"UsageQuantity":', coalesce(quantity(used)::VARCHAR, 'null'), '}'
        ), ',' ORDER BY lower) || ']}' AS details
    FROM pieces
    GROUP BY host, hour, pod
    UNION ALL
    -- What AWS calls unused belongs to no pod: it stays visible as the host's remainder.
    SELECT host, hour, NULL, max(upper), 1, NULL, concat('{"Elements":[{"AllocatedRatio":', 1 - max(upper), '}]}')
    FROM pieces
    GROUP BY host, hour
    HAVING max(upper) < 1
)
, mapped AS NOT MATERIALIZED (
    SELECT
        bill_payer_account_id AS BillingAccountId,
        bill_payer_account_name AS BillingAccountName,
        CASE WHEN bill_payer_account_id IS NOT NULL THEN 'Management Account' END AS BillingAccountType,
        line_item_usage_account_id AS SubAccountId,
        line_item_usage_account_name AS SubAccountName,
        CASE WHEN line_item_usage_account_id IS NOT NULL THEN 'Member Account' END AS SubAccountType,
        line_item_currency_code AS BillingCurrency,
        bill_start AS BillingPeriodStart,
        instant(bill_billing_period_end_date) AS BillingPeriodEnd,
        since AS ChargePeriodStart,
        -- Lines of a whole month end at 23:59:59; a fee may end when it begins.
        CASE
            WHEN until <= since THEN since + INTERVAL 1 SECOND
            WHEN date_part('minute', until) = 59 AND date_part('second', until) >= 59 THEN date_trunc('second', until) + INTERVAL 1 SECOND
            ELSE until
        END AS ChargePeriodEnd,
        bill_invoice_id AS InvoiceId,
        coalesce(bill_invoicing_entity, CASE WHEN legal_entity_is_aws THEN line_item_legal_entity END, 'Amazon Web Services, Inc.') AS InvoiceIssuerName,
        'AWS' AS ProviderName,
        coalesce(line_item_legal_entity, 'Amazon Web Services, Inc.') AS PublisherName,
        CASE WHEN marketplace AND NOT legal_entity_is_aws THEN line_item_legal_entity ELSE 'AWS' END AS ServiceProviderName,
        CASE WHEN role NOT IN ('tax', 'discount', 'residue', 'unknown') THEN 'AWS' END AS HostProviderName,
        CASE
            WHEN role IN ('usage', 'covered', 'discounted', 'unused') THEN 'Usage'
            WHEN role IN ('prepaid', 'fee') THEN 'Purchase'
            WHEN role = 'tax' THEN 'Tax'
            WHEN role = 'credit' THEN 'Credit'
            ELSE 'Adjustment'
        END AS ChargeCategory,
        CASE WHEN (type = 'Refund' OR bill_bill_type = 'Refund') AND since < bill_start THEN 'Correction' END AS ChargeClass,
        CASE
            WHEN type = 'Refund' THEN 'One-Time'
            WHEN role IN ('usage', 'covered', 'discounted', 'unused') THEN 'Usage-Based'
            WHEN type IN ('RIFee', 'SavingsPlanRecurringFee', 'FlatRateSubscription') OR s.subcategory = 'Support' THEN 'Recurring'
            ELSE 'One-Time'
        END AS ChargeFrequency,
        CASE
            WHEN role <> 'unused' THEN line_item_line_item_description
            ELSE 'Unused: ' || coalesce(line_item_line_item_description, commitment)
        END AS ChargeDescription,
        CASE WHEN role IN ('covered', 'unused') THEN 0 ELSE paid END AS BilledCost,
        CASE
            WHEN role = 'covered' THEN coalesce(money(savings_plan_net_savings_plan_effective_cost), money(savings_plan_savings_plan_effective_cost))
            WHEN role = 'discounted' THEN coalesce(
                money(reservation_net_effective_cost), money(reservation_effective_cost),
                money(reservation_amortized_upfront_cost_for_usage) + money(reservation_recurring_fee_for_usage)
            )
            WHEN role = 'unused' THEN unused
            WHEN role = 'prepaid' THEN 0
            ELSE paid
        END AS EffectiveCost,
        -- AWS states 0 where there is no public price: then the price before private discounts is the list price.
        CASE
            WHEN role IN ('unused', 'discount') THEN 0
            WHEN type = 'Refund' OR role IN ('tax', 'credit', 'residue', 'unknown') THEN paid
            WHEN role = 'discounted' OR role IN ('usage', 'covered') AND (listed <> 0 OR gross = 0) THEN listed
            ELSE gross
        END AS ListCost,
        CASE WHEN role = 'unused' THEN 0 WHEN role = 'discounted' THEN listed ELSE paid END AS ContractedCost,
        CASE
            WHEN role IN ('prepaid', 'fee') OR role IN ('usage', 'covered') AND NOT coalesce(listed <> 0 OR gross = 0, false) THEN money(line_item_unblended_rate)
            WHEN role = 'unused' THEN 0 WHEN measured THEN money(pricing_public_on_demand_rate)
        END AS ListUnitPrice,
        CASE
            WHEN role = 'unused' THEN 0 WHEN role = 'discounted' THEN money(pricing_public_on_demand_rate)
            WHEN measured OR role IN ('prepaid', 'fee') THEN money(CASE WHEN paid <> gross THEN line_item_net_unblended_rate ELSE line_item_unblended_rate END)
        END AS ContractedUnitPrice,
        CASE
            WHEN ChargeClass IS NOT NULL THEN NULL
            WHEN role = 'usage' AND contains(meter, 'Spot') OR meter = 'CapacityBlockFee' THEN 'Dynamic'
            WHEN role IN ('covered', 'discounted', 'unused') THEN 'Committed'
            WHEN role IN ('usage', 'prepaid', 'fee') THEN 'Standard'
        END AS PricingCategory,
        CASE
            WHEN role = 'unused' THEN coalesce(CAST(idle AS DECIMAL(38, 14)), quantity(reservation_unused_quantity))
            WHEN measured OR role = 'fee' THEN amount
            WHEN role = 'prepaid' AND type <> 'Refund' THEN coalesce(amount, quantity(reservation_total_reserved_units))
        END AS PricingQuantity,
        CASE
            WHEN PricingQuantity IS NULL THEN NULL
            WHEN role = 'unused' AND idle IS NOT NULL THEN line_item_currency_code
            ELSE coalesce(unit, CASE WHEN machine OR type = 'RIFee' THEN 'Hours' END, 'Units')
        END AS PricingUnit,
        CASE
            WHEN measured AND unit = '1000 Tokens' THEN CAST(amount * 1000 AS DECIMAL(38, 14))
            WHEN measured AND unit = '1000000 Tokens' THEN CAST(amount * 1000000 AS DECIMAL(38, 14))
            WHEN measured THEN amount
        END AS ConsumedQuantity,
        CASE WHEN ConsumedQuantity IS NULL THEN NULL WHEN ends_with(unit, ' Tokens') THEN 'Tokens' ELSE PricingUnit END AS ConsumedUnit,
        CASE WHEN committed THEN commitment END AS CommitmentDiscountId,
        CASE WHEN NOT committed OR commitment IS NULL THEN NULL WHEN savings_plan_savings_plan_a_r_n IS NULL THEN 'Usage' ELSE 'Spend' END AS CommitmentDiscountCategory,
        CASE CommitmentDiscountCategory WHEN 'Spend' THEN 'Savings Plan' WHEN 'Usage' THEN 'Reserved Instance' END AS CommitmentDiscountType,
        CASE WHEN commitment IS NULL THEN NULL WHEN role = 'unused' THEN 'Unused' WHEN role IN ('covered', 'discounted') THEN 'Used' END AS CommitmentDiscountStatus,
        -- Money for savings plans; hours for reservations, counted on the monthly fee and not on the payment upfront,
        -- since AWS writes the monthly fee for every reservation, at 0 dollars too.
        CASE
            WHEN commitment IS NULL OR role = 'residue' THEN NULL
            WHEN savings_plan_savings_plan_a_r_n IS NOT NULL THEN CASE role
                WHEN 'covered' THEN quantity(savings_plan_savings_plan_effective_cost)
                WHEN 'unused' THEN CAST(idle AS DECIMAL(38, 14))
                WHEN 'prepaid' THEN CAST(gross AS DECIMAL(38, 14))
            END
            WHEN role = 'discounted' THEN CASE WHEN flexible THEN quantity(line_item_normalized_usage_amount) ELSE amount END
            WHEN role = 'unused' THEN quantity(CASE WHEN flexible THEN reservation_unused_normalized_unit_quantity ELSE reservation_unused_quantity END)
            WHEN type = 'RIFee' THEN quantity(CASE WHEN flexible THEN reservation_total_reserved_normalized_units ELSE reservation_total_reserved_units END)
            WHEN type = 'Fee' AND role = 'prepaid' THEN 0
        END AS CommitmentDiscountQuantity,
        CASE WHEN CommitmentDiscountQuantity IS NOT NULL THEN CASE
            WHEN CommitmentDiscountCategory = 'Spend' THEN line_item_currency_code
            ELSE CASE WHEN flexible THEN 'Normalized Hours' ELSE coalesce(unit, 'Hours') END
        END END AS CommitmentDiscountUnit,
        CASE
            WHEN capacity IS NULL OR role = 'unused' THEN NULL
            WHEN lower(capacity_reservation_capacity_reservation_status) = 'used' THEN 'Used'
            WHEN lower(capacity_reservation_capacity_reservation_status) IN ('unused', 'cancelled') OR meter IN ('UnusedBox', 'UnusedDed') THEN 'Unused'
        END AS CapacityReservationStatus,
        CASE WHEN CapacityReservationStatus IS NOT NULL OR role NOT IN ('usage', 'covered', 'discounted', 'unused') THEN capacity END AS CapacityReservationId,
        coalesce(CASE WHEN NOT marketplace THEN s.name END, product_name, product_servicecode, line_item_product_code, 'Other') AS ServiceName,
        coalesce(s.category, 'Other') AS ServiceCategory,
        coalesce(s.subcategory, 'Other (Other)') AS ServiceSubcategory,
        CASE WHEN ChargeCategory IN ('Usage', 'Purchase') AND ChargeClass IS NULL THEN coalesce(
            product_sku, nullif(concat_ws('/', line_item_product_code, line_item_usage_type, line_item_operation), '')
        ) END AS SkuId,
        CASE WHEN SkuId IS NOT NULL THEN coalesce(pricing_rate_code, SkuId) || if(role = 'unused', '/Unused', '') END AS SkuPriceId,
        CASE WHEN SkuId IS NOT NULL THEN line_item_usage_type END AS SkuMeter,
        CASE WHEN SkuPriceId IS NOT NULL THEN nullif('{' || concat_ws(',',
            '"InstanceType":' || to_json(instance)::VARCHAR,
            '"CoreCount":' || TRY_CAST(vcpu AS INTEGER),
            '"MemorySize":' || TRY_CAST(replace(regexp_extract(memory, '^([0-9.,]+) GiB$', 1), ',', '') AS DECIMAL(12, 3)),
            '"GpuCount":' || TRY_CAST(gpu AS DECIMAL(9, 3)),
            '"OperatingSystem":' || to_json(operating_system)::VARCHAR,
            '"x_Tenancy":' || to_json(tenancy)::VARCHAR,
            '"x_Model":' || to_json(model)::VARCHAR,
            '"x_InferenceType":' || to_json(inference_type)::VARCHAR
        ) || '}', '{}') END AS SkuPriceDetails,
        instance AS x_InstanceType,
        place AS RegionId,
        CASE WHEN place IS NOT NULL THEN coalesce(product_location, place) END AS RegionName,
        CASE WHEN line_item_availability_zone <> place THEN line_item_availability_zone END AS AvailabilityZone,
        CASE WHEN role IN ('unused', 'prepaid') THEN coalesce(commitment, line_item_resource_id) ELSE line_item_resource_id END AS ResourceId,
        CASE
            WHEN ResourceId IS NULL THEN NULL
            WHEN starts_with(ResourceId, 'i-') THEN 'instance'
            WHEN starts_with(ResourceId, 'vol-') THEN 'volume'
            WHEN starts_with(ResourceId, 'snap-') THEN 'snapshot'
            WHEN line_item_product_code = 'AmazonS3' THEN 'bucket'
            WHEN line_item_product_code = 'AWSQueueService' THEN 'queue'
            WHEN line_item_product_code = 'AmazonSNS' THEN 'topic'
            ELSE coalesce(
                nullif(regexp_extract(ResourceId, '^arn:(?:[^:]*:){4}([A-Za-z][A-Za-z-]*)[/:]', 1), ''),
                product_product_family, line_item_product_code, 'resource'
            )
        END AS ResourceType,
        coalesce(tagged['Name'], tagged['name']) AS ResourceName,
        -- Cost categories keep the prefix that AWS gives them in the `tags` column.
        coalesce(TRY(map_from_entries(nullif(list_concat(
            map_entries(tagged),
            CASE WHEN tags IS NULL THEN list_transform(
                map_entries(coalesce(tag_map(cost_category), cost_category_flat)),
                lambda e: {'key': 'costCategory/' || e.key, 'value': e.value}
            ) END,
            CASE WHEN line_item_iam_principal IS NOT NULL THEN [{'key': 'x_iam_principal', 'value': line_item_iam_principal}] END
        ), []))), tagged) AS Tags,
        type AS x_ChargeType,
        map_from_entries(list_filter([
            {'key': 'line_item_product_code', 'value': line_item_product_code},
            {'key': 'line_item_operation', 'value': line_item_operation},
            {'key': 'line_item_unblended_cost', 'value': CASE WHEN paid <> gross THEN line_item_unblended_cost END},
            {'key': 'line_item_iam_principal', 'value': line_item_iam_principal},
            {'key': 'line_item_user_identifier', 'value': line_item_user_identifier},
            {'key': 'line_item_tax_type', 'value': line_item_tax_type},
            {'key': 'pricing_currency', 'value': CASE WHEN pricing_currency <> line_item_currency_code THEN pricing_currency END},
            {'key': 'bill_billing_entity', 'value': CASE WHEN bill_billing_entity <> 'AWS' THEN bill_billing_entity END},
            {'key': 'discount', 'value': nullif(discount, '{}')},
            {'key': 'capacity_reservation_type', 'value': capacity_reservation_capacity_reservation_type},
            {'key': 'capacity_reservation_status', 'value': coalesce(capacity_reservation_capacity_reservation_status, CASE WHEN meter IN ('Reservation', 'DedicatedRes') THEN 'Reserved' END)},
            {'key': 'savings_plan_offering_type', 'value': savings_plan_offering_type},
            {'key': 'payment_option', 'value': CASE WHEN committed THEN coalesce(savings_plan_payment_option, pricing_purchase_option) END},
            {'key': 'offering_class', 'value': pricing_offering_class}
        ], lambda e: e.value IS NOT NULL)) AS x_Native,
        nullif(concat_ws('; ',
            CASE
                WHEN paid IS NULL AND coalesce(line_item_net_unblended_cost, line_item_unblended_cost) IS NULL THEN 'BilledCost: the line has no cost'
                ELSE issue('BilledCost', coalesce(line_item_net_unblended_cost, line_item_unblended_cost), paid)
            END,
            CASE WHEN role IN ('covered', 'discounted') AND EffectiveCost IS NULL THEN 'EffectiveCost: the line does not say its share of the commitment' END,
            CASE WHEN type = 'SavingsPlanRecurringFee' AND idle IS NULL OR type = 'RIFee' AND unused IS NULL AND quantity(reservation_unused_quantity) > 0
                THEN 'EffectiveCost: the fee does not say what was left unused' END,
            issue('ListCost', pricing_public_on_demand_cost, listed),
            issue('ConsumedQuantity', line_item_usage_amount, amount),
            issue('ChargePeriodStart', line_item_usage_start_date, since),
            issue('ChargePeriodEnd', line_item_usage_end_date, until),
            issue('BillingPeriodStart', bill_billing_period_start_date, bill_start),
            CASE
                WHEN role = 'unknown' THEN 'ChargeCategory: line item type "' || coalesce(type, '') || '" is not known, kept as Adjustment'
                WHEN role = 'residue' AND abs(paid) >= 0.01 THEN 'BilledCost: usage covered by the savings plan and its negation differ'
            END
        ), '') AS x_DataIssues,
        identity_line_item_id AS origin,
        CASE WHEN h.host IS NOT NULL THEN CAST(amount * TRY_CAST(gpu AS DECIMAL(9, 3)) AS DECIMAL(38, 14)) END AS x_GpuHours,
        h.host, h.pod, h.lower, h.upper, h.details, h.pod_tags,
        _file, _row
    FROM (
        SELECT
            *,
            money(pricing_public_on_demand_cost) AS listed,
            type <> 'Refund' AND role IN ('usage', 'covered', 'discounted') AS measured,
            role IN ('covered', 'discounted', 'unused', 'prepaid', 'residue') AS committed,
            meter IN ('BoxUsage', 'SpotUsage', 'DedicatedUsage', 'HostBoxUsage') AS machine,
            coalesce(product_instance_type, nullif(regexp_extract(
                line_item_usage_type, ':((?:ml\.|db\.|cache\.)?[a-z][a-z0-9-]*\.[a-z0-9-]*(?:nano|micro|small|medium|large|metal)[a-z0-9-]*)$', 1
            ), '')) AS instance,
            coalesce(capacity_reservation_capacity_reservation_arn, CASE
                WHEN meter IN ('UnusedBox', 'UnusedDed', 'Reservation', 'DedicatedRes') THEN line_item_resource_id
            END) AS capacity,
            coalesce(
                product_region_code, region, nullif(regexp_extract(line_item_availability_zone, '^[a-z]{2}(?:-[a-z]+)+-[0-9]'), ''),
                product_from_region_code
            ) AS place
        FROM charges
    ) AS c
    LEFT JOIN services AS s ON s.code = CASE
        WHEN c.marketplace THEN CASE WHEN contains(c.product_name, '(Amazon Bedrock Edition)') THEN 'AmazonBedrock' END
        WHEN c.line_item_product_code = 'AmazonEC2' AND contains(c.line_item_usage_type, 'EBS:') THEN 'EBS'
        ELSE c.line_item_product_code
    END
    LEFT JOIN reservations AS r ON r.arn = c.reservation_reservation_a_r_n
    LEFT JOIN shares AS h
        ON h.hour = c.line_item_usage_start_date
        AND h.host = CASE WHEN c.machine AND c.measured THEN c.line_item_resource_id END
), parted AS NOT MATERIALIZED (
    -- The host's charge becomes its pods' charges and a remainder: everything that can be summed is cut at the bounds of
    -- the share. Rounded to ten decimals, as AWS's own amounts are, except the last one, which takes what is left.
    SELECT
        * EXCLUDE (BilledCost, EffectiveCost, ListCost, ContractedCost, ConsumedQuantity, PricingQuantity, CommitmentDiscountQuantity, x_GpuHours),
        CASE
            WHEN host IS NULL THEN COLUMNS('^(?:Billed|Effective|List|Contracted)Cost$|Quantity$|^x_GpuHours$')
            ELSE CASE WHEN upper = 1 THEN COLUMNS('^(?:Billed|Effective|List|Contracted)Cost$|Quantity$|^x_GpuHours$')
                ELSE CAST(CAST(COLUMNS('^(?:Billed|Effective|List|Contracted)Cost$|Quantity$|^x_GpuHours$') AS DECIMAL(19, 10)) * upper AS DECIMAL(28, 10))
            END - CAST(CAST(COLUMNS('^(?:Billed|Effective|List|Contracted)Cost$|Quantity$|^x_GpuHours$') AS DECIMAL(19, 10)) * lower AS DECIMAL(28, 10))
        END
    FROM mapped
)
SELECT
    * EXCLUDE (origin, host, pod, lower, upper, details, pod_tags),
    CASE WHEN host IS NOT NULL THEN 'AWS split cost allocation' END AS AllocatedMethodId,
    details AS AllocatedMethodDetails,
    pod AS AllocatedResourceId,
    CASE
        WHEN contains(pod, ':pod/') THEN array_to_string(string_split(pod, '/')[3:4], '/')
        ELSE string_split(pod, '/')[-1]
    END AS AllocatedResourceName,
    CASE WHEN pod_tags IS NOT NULL THEN map_from_entries(list_filter(
        map_entries(pod_tags), lambda e: Tags[e.key] IS DISTINCT FROM e.value
    )) END AS AllocatedTags,
    CASE WHEN host IS NOT NULL THEN origin END AS x_OriginChargeId,
    CASE WHEN ChargeCategory IN ('Usage', 'Purchase') AND CommitmentDiscountQuantity IS NOT NULL THEN concat(
        '{"Elements":[{"ContractId":', to_json(CommitmentDiscountId), ',"ContractCommitmentId":', to_json(CommitmentDiscountId),
        CASE CommitmentDiscountCategory
            WHEN 'Spend' THEN concat(',"ContractCommitmentAppliedCost":', CommitmentDiscountQuantity, ',"ContractCommitmentAppliedQuantity":null,"ContractCommitmentAppliedUnit":null')
            ELSE concat(',"ContractCommitmentAppliedCost":null,"ContractCommitmentAppliedQuantity":', CommitmentDiscountQuantity, ',"ContractCommitmentAppliedUnit":', to_json(CommitmentDiscountUnit))
        END, '}]}'
    ) END AS ContractApplied
FROM parted
