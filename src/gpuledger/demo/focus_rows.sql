-- Synthetic FOCUS rows, made from their number alone. $rows, $seed and $start (start of the month, UTC) are bound;
-- {hours} is the number of hours of the month. Multiplication by odd constants spreads the numbers: the engine's own
-- hash may change between versions.
--
-- Every hundred rows hold one commitment in balance: row 0 buys ten hours, rows 1 to 9 use one each, row 10 leaves one
-- unused. Rows 11 to 13 are tax, a credit and a correction. The rest is usage at the negotiated price. A last block of
-- fewer than a hundred rows is usage only.
WITH
catalogue(sku, ServiceName, ServiceCategory, ServiceSubcategory, SkuMeter, unit, price, ResourceType, details) AS (
    VALUES
    (0, 'Example GPU Machines', 'Compute', 'Virtual Machines', 'Compute', 'Hours', 55.04, 'Instance', '{"InstanceType":"p5.48xlarge","CoreCount":192,"x_GpuModel":"H100","GpuCount":8}'),
    (1, 'Example GPU Machines', 'Compute', 'Virtual Machines', 'Compute', 'Hours', 21.957642, 'Instance', '{"InstanceType":"p4d.24xlarge","CoreCount":96,"x_GpuModel":"A100","GpuCount":8}'),
    (2, 'Example GPU Machines', 'Compute', 'Virtual Machines', 'Compute', 'Hours', 10.49264, 'Instance', '{"InstanceType":"g6e.12xlarge","CoreCount":48,"x_GpuModel":"L40S","GpuCount":4}'),
    (3, 'Example GPU Machines', 'Compute', 'Virtual Machines', 'Compute', 'Hours', 1.861, 'Instance', '{"InstanceType":"g6e.xlarge","CoreCount":4,"x_GpuModel":"L40S","GpuCount":1}'),
    (4, 'Example Machines', 'Compute', 'Virtual Machines', 'Compute', 'Hours', 1.6128, 'Instance', '{"InstanceType":"m7i.8xlarge","CoreCount":32}'),
    (5, 'Example Machines', 'Compute', 'Virtual Machines', 'Compute', 'Hours', 0.2016, 'Instance', '{"InstanceType":"m7i.xlarge","CoreCount":4}'),
    (6, 'Example Machines', 'Compute', 'Virtual Machines', 'Compute', 'Hours', 0.085, 'Instance', '{"InstanceType":"c6i.large","CoreCount":2}'),
    (7, 'Example Disks', 'Storage', 'Block Storage', 'Capacity', 'GB-Hours', 0.0001095, 'Volume', '{"StorageClass":"SSD"}'),
    (8, 'Example Disks', 'Storage', 'Block Storage', 'Operations', 'Operations', 0.0000002, 'Volume', '{"StorageClass":"SSD"}'),
    (9, 'Example Objects', 'Storage', 'Object Storage', 'Capacity', 'GB-Hours', 0.0000315, 'Bucket', '{"StorageClass":"Standard"}'),
    (10, 'Example Objects', 'Storage', 'Object Storage', 'Requests', 'Requests', 0.0000004, 'Bucket', '{"StorageClass":"Standard"}'),
    (11, 'Example Network', 'Networking', 'Network Infrastructure', 'Data Transfer', 'GB', 0.09, 'Interface', '{"x_Direction":"Out"}'),
    (12, 'Example Network', 'Networking', 'Network Infrastructure', 'Data Transfer', 'GB', 0.01, 'Interface', '{"x_Direction":"Between zones"}'),
    (13, 'Example Models', 'AI and Machine Learning', 'Generative AI', 'Input Tokens', 'Tokens', 0.000003, 'Endpoint', '{"x_Model":"example-large","x_TokenType":"input"}'),
    (14, 'Example Models', 'AI and Machine Learning', 'Generative AI', 'Output Tokens', 'Tokens', 0.000015, 'Endpoint', '{"x_Model":"example-large","x_TokenType":"output"}'),
    (15, 'Example Models', 'AI and Machine Learning', 'Generative AI', 'Cached Input Tokens', 'Tokens', 0.0000003, 'Endpoint', '{"x_Model":"example-large","x_TokenType":"cache_read"}'),
    (16, 'Example Kubernetes', 'Compute', 'Containers', 'Cluster', 'Hours', 0.1, 'Cluster', '{"x_Tier":"Standard"}'),
    (17, 'Example Functions', 'Compute', 'Serverless Compute', 'Duration', 'GB-Seconds', 0.0000166667, 'Function', '{"Architecture":"x86"}'),
    (18, 'Example Warehouse', 'Databases', 'Data Warehouses', 'Compute', 'Hours', 3.26, 'Warehouse', '{"x_Size":"4XL"}'),
    (19, 'Example Observability', 'Management and Governance', 'Observability', 'Ingestion', 'GB', 0.5, 'Workspace', '{"x_Kind":"Logs"}')
),
regions(region, RegionId, RegionName) AS (
    VALUES
    (0, 'us-east-1', 'US East (synthetic)'), (1, 'us-west-2', 'US West (synthetic)'),
    (2, 'eu-central-1', 'Frankfurt (synthetic)'), (3, 'eu-west-1', 'Ireland (synthetic)'),
    (4, 'ap-northeast-1', 'Tokyo (synthetic)'), (5, 'ap-southeast-2', 'Sydney (synthetic)')
),
numbered AS (
    SELECT
        i,
        i // 100 AS block,
        CASE WHEN i // 100 < $rows::BIGINT // 100 AND i % 100 < 14 THEN i % 100 ELSE 99 END AS part,
        ((i * 48271 + $seed::BIGINT * 7919) % 2147483647) AS spread,
        ((i * 40014 + $seed::BIGINT * 6364) % 2147483563) AS spread2,
        $start::TIMESTAMP + to_hours((i * {hours}) // greatest($rows::BIGINT, 1)) AS hour
    FROM range($rows::BIGINT) AS numbers(i)
),
placed AS (
    SELECT
        *,
        part BETWEEN 0 AND 10 AS committed,
        part IN (11, 12) AS unpriced,
        CASE WHEN part BETWEEN 0 AND 10 THEN block % 40 ELSE spread % greatest($rows::BIGINT // 50, 1) END AS resource
    FROM numbered
),
described AS (
    SELECT
        placed.*,
        CASE WHEN committed THEN resource % 3 ELSE resource % 20 END AS sku,
        resource % 6 AS region,
        resource % 60 AS account,
        (resource * 31) % 24 AS team
    FROM placed
),
priced AS (
    SELECT
        described.*,
        CASE
            WHEN part = 0 THEN 10
            WHEN committed THEN 1
            WHEN unit = 'Hours' THEN (spread2 % 10000 + 1) * 0.0001::DECIMAL(5, 4)
            WHEN unit = 'GB' THEN (spread2 % 90000 + 1) * 0.001::DECIMAL(4, 3)
            ELSE spread2 % 900000 + 1
        END::DECIMAL(18, 4) AS quantity,
        catalogue.* EXCLUDE (sku, price),
        regions.* EXCLUDE (region),
        price::DECIMAL(32, 10) AS list_price,
        (price::DECIMAL(32, 10) * 0.94::DECIMAL(3, 2))::DECIMAL(32, 10) AS contracted_price,
        (price::DECIMAL(32, 10) * 0.62::DECIMAL(3, 2))::DECIMAL(32, 10) AS committed_price
    FROM described
    JOIN catalogue USING (sku)
    JOIN regions USING (region)
),
summed AS (
    SELECT
        *,
        CASE WHEN part = 0 THEN committed_price ELSE contracted_price END AS unit_price,
        CASE WHEN part = 12 THEN -1 WHEN part = 13 THEN -1 ELSE 1 END::DECIMAL(1, 0) AS sign,
        (list_price * quantity)::DECIMAL(32, 16) AS list_product,
        ((CASE WHEN part = 0 THEN committed_price ELSE contracted_price END) * quantity)::DECIMAL(32, 16) AS contracted_product,
        (committed_price * quantity)::DECIMAL(32, 16) AS committed_product
    FROM priced
),
costs AS (
    SELECT
        *,
        (sign * CASE WHEN unpriced THEN contracted_product ELSE list_product END)::DECIMAL(32, 16) AS ListCost,
        (sign * contracted_product)::DECIMAL(32, 16) AS ContractedCost,
        (sign * CASE
            WHEN part = 0 THEN committed_product
            WHEN committed THEN 0
            ELSE contracted_product
        END)::DECIMAL(32, 16) AS BilledCost,
        (sign * CASE
            WHEN part = 0 THEN 0
            WHEN committed THEN committed_product
            ELSE contracted_product
        END)::DECIMAL(32, 16) AS EffectiveCost,
        CASE WHEN committed THEN 'synthetic-commitment-' || lpad(resource::VARCHAR, 4, '0') END AS CommitmentDiscountId,
        CASE
            WHEN unpriced THEN NULL
            WHEN part IN (0, 10) THEN 'synthetic-commitment-' || lpad(resource::VARCHAR, 4, '0')
            ELSE 'synthetic-' || lower(ResourceType) || '-' || lpad(resource::VARCHAR, 8, '0')
        END AS ResourceId
    FROM summed
)
SELECT
    NULL::VARCHAR AS AvailabilityZone,
    BilledCost,
    'synthetic-000000000001' AS BillingAccountId,
    'Example Company (synthetic)' AS BillingAccountName,
    'Payer Account' AS BillingAccountType,
    'USD' AS BillingCurrency,
    {period_end} AS BillingPeriodEnd,
    {period_start} AS BillingPeriodStart,
    NULL::VARCHAR AS CapacityReservationId,
    NULL::VARCHAR AS CapacityReservationStatus,
    CASE part WHEN 0 THEN 'Purchase' WHEN 11 THEN 'Tax' WHEN 12 THEN 'Credit' ELSE 'Usage' END AS ChargeCategory,
    CASE WHEN part = 13 THEN 'Correction' END AS ChargeClass,
    'Synthetic: ' || ServiceName || ', ' || SkuMeter AS ChargeDescription,
    CASE part WHEN 0 THEN 'Recurring' WHEN 11 THEN 'One-Time' WHEN 12 THEN 'One-Time' ELSE 'Usage-Based' END AS ChargeFrequency,
    {charge_end} AS ChargePeriodEnd,
    {charge_start} AS ChargePeriodStart,
    CASE WHEN committed THEN 'Usage' END AS CommitmentDiscountCategory,
    CommitmentDiscountId,
    CASE WHEN committed THEN 'Synthetic commitment ' || resource END AS CommitmentDiscountName,
    CASE WHEN committed THEN quantity END AS CommitmentDiscountQuantity,
    CASE WHEN part BETWEEN 1 AND 9 THEN 'Used' WHEN part = 10 THEN 'Unused' END AS CommitmentDiscountStatus,
    CASE WHEN committed THEN 'Reservation' END AS CommitmentDiscountType,
    CASE WHEN committed THEN 'Hours' END AS CommitmentDiscountUnit,
    CASE WHEN part NOT IN (0, 10, 11, 12) THEN quantity END AS ConsumedQuantity,
    CASE WHEN part NOT IN (0, 10, 11, 12) THEN unit END AS ConsumedUnit,
    ContractedCost,
    CASE WHEN NOT unpriced THEN unit_price END AS ContractedUnitPrice,
    EffectiveCost,
    'SYNTHETIC-' || strftime($start::TIMESTAMP, '%Y%m') AS InvoiceId,
    'Example Cloud (synthetic)' AS InvoiceIssuerName,
    ListCost,
    CASE WHEN NOT unpriced THEN list_price END AS ListUnitPrice,
    CASE WHEN unpriced THEN NULL WHEN part BETWEEN 1 AND 10 THEN 'Committed' ELSE 'Standard' END AS PricingCategory,
    'USD' AS PricingCurrency,
    CASE WHEN NOT unpriced THEN unit_price END AS PricingCurrencyContractedUnitPrice,
    EffectiveCost AS PricingCurrencyEffectiveCost,
    CASE WHEN NOT unpriced THEN list_price END AS PricingCurrencyListUnitPrice,
    CASE WHEN NOT unpriced THEN quantity END AS PricingQuantity,
    CASE WHEN NOT unpriced THEN unit END AS PricingUnit,
    'Example Cloud (synthetic)' AS ProviderName,
    'Example Cloud (synthetic)' AS PublisherName,
    RegionId,
    RegionName,
    ResourceId,
    CASE WHEN NOT unpriced THEN 'Example ' || lower(ResourceType) || ' ' || resource END AS ResourceName,
    CASE WHEN unpriced THEN NULL WHEN part IN (0, 10) THEN 'Commitment' ELSE ResourceType END AS ResourceType,
    ServiceCategory,
    ServiceName,
    ServiceSubcategory,
    CASE WHEN NOT unpriced THEN 'SKU-' || lpad(sku::VARCHAR, 4, '0') END AS SkuId,
    CASE WHEN NOT unpriced THEN SkuMeter END AS SkuMeter,
    CASE WHEN NOT unpriced THEN details END AS SkuPriceDetails,
    CASE WHEN NOT unpriced THEN 'PRICE-' || lpad(sku::VARCHAR, 4, '0') || '-' || CASE WHEN committed THEN 'C' ELSE 'S' END END AS SkuPriceId,
    'synthetic-' || lpad(account::VARCHAR, 12, '0') AS SubAccountId,
    'Example account ' || account || ' (synthetic)' AS SubAccountName,
    'Linked Account' AS SubAccountType,
    CASE
        WHEN unpriced OR part IN (0, 10) OR resource % 7 = 3 THEN '{"synthetic":"true"}'
        ELSE
            '{"synthetic":"true","team":"team-' || lpad(team::VARCHAR, 2, '0')
            || '","cost-center":"CC-' || (4000 + team)
            || '","env":"' || CASE resource % 4 WHEN 0 THEN 'dev' WHEN 1 THEN 'staging' ELSE 'prod' END
            || '","app":"app-' || lpad((resource % 200)::VARCHAR, 3, '0') || '"}'
    END AS Tags{more}
FROM costs
