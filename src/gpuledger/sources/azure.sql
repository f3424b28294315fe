-- Azure cost details (ActualCost, AmortizedCost) to FOCUS 1.3. Rules follow Microsoft's own conversion
-- (learn.microsoft.com/cloud-computing/finops/focus/convert); where we differ, azure.py says so. `classified` is from
-- azure.py: native rows, without those that both exports have, with the flags that say what a row is.
WITH region_ids(id, name, other) AS (VALUES
    -- `other` is the order of words that meters and older services write ("US East 2").
    ('australiacentral', 'Australia Central', 'aucentral'), ('australiaeast', 'Australia East', 'aueast'),
    ('australiasoutheast', 'Australia Southeast', 'ausoutheast'), ('austriaeast', 'Austria East', 'ateast'),
    ('belgiumcentral', 'Belgium Central', 'becentral'), ('brazilsouth', 'Brazil South', 'brsouth'),
    ('brazilsoutheast', 'Brazil Southeast', 'brsoutheast'), ('canadacentral', 'Canada Central', 'cacentral'),
    ('canadaeast', 'Canada East', 'caeast'), ('centralindia', 'Central India', 'incentral'),
    ('centralus', 'Central US', 'uscentral'), ('chilecentral', 'Chile Central', 'clcentral'),
    ('denmarkeast', 'Denmark East', 'dkeast'), ('eastasia', 'East Asia', 'apeast'),
    ('eastus', 'East US', 'useast'), ('eastus2', 'East US 2', 'useast2'),
    ('francecentral', 'France Central', 'frcentral'), ('francesouth', 'France South', 'frsouth'),
    ('germanynorth', 'Germany North', 'denorth'), ('germanywestcentral', 'Germany West Central', 'dewestcentral'),
    ('indonesiacentral', 'Indonesia Central', 'idcentral'), ('israelcentral', 'Israel Central', 'ilcentral'),
    ('italynorth', 'Italy North', 'itnorth'), ('japaneast', 'Japan East', 'jaeast'),
    ('japanwest', 'Japan West', 'jawest'), ('koreacentral', 'Korea Central', 'krcentral'),
    ('koreasouth', 'Korea South', 'krsouth'), ('malaysiawest', 'Malaysia West', 'mywest'),
    ('mexicocentral', 'Mexico Central', 'mxcentral'), ('newzealandnorth', 'New Zealand North', 'nznorth'),
    ('northcentralus', 'North Central US', 'usnorthcentral'), ('northeurope', 'North Europe', 'eunorth'),
    ('norwayeast', 'Norway East', 'noeast'), ('norwaywest', 'Norway West', 'nowest'),
    ('polandcentral', 'Poland Central', 'plcentral'), ('qatarcentral', 'Qatar Central', 'qacentral'),
    ('southafricanorth', 'South Africa North', 'zanorth'), ('southafricawest', 'South Africa West', 'zawest'),
    ('southcentralus', 'South Central US', 'ussouthcentral'), ('southindia', 'South India', 'insouth'),
    ('southeastasia', 'Southeast Asia', 'apsoutheast'), ('spaincentral', 'Spain Central', 'escentral'),
    ('swedencentral', 'Sweden Central', 'secentral'), ('swedensouth', 'Sweden South', 'sesouth'),
    ('switzerlandnorth', 'Switzerland North', 'chnorth'), ('switzerlandwest', 'Switzerland West', 'chwest'),
    ('uaecentral', 'UAE Central', 'aecentral'), ('uaenorth', 'UAE North', 'aenorth'),
    ('uksouth', 'UK South', 'gbsouth'), ('ukwest', 'UK West', 'gbwest'),
    ('usgovarizona', 'USGov Arizona', 'usgovaz'), ('usgovtexas', 'USGov Texas', 'usgovtx'),
    ('usgovvirginia', 'USGov Virginia', 'usgovva'), ('westcentralus', 'West Central US', 'uswestcentral'),
    ('westeurope', 'West Europe', 'euwest'), ('westindia', 'West India', 'inwest'),
    ('westus', 'West US', 'uswest'), ('westus2', 'West US 2', 'uswest2'), ('westus3', 'West US 3', 'uswest3'),
    ('northcentralus', 'North Central US', 'usnorth'), ('southcentralus', 'South Central US', 'ussouth')
), regions AS (
    SELECT DISTINCT unnest([id, other]) AS key, id, name FROM region_ids
), service_names(class, subclass, names) AS (VALUES
    ('AI and Machine Learning', 'Generative AI', ['azure openai', 'azure openai service', 'foundry models']),
    ('AI and Machine Learning', 'Machine Learning', ['azure machine learning', 'machine learning service', 'machine learning studio']),
    ('AI and Machine Learning', 'AI Platforms', ['cognitive services', 'azure applied ai services', 'foundry tools', 'azure ai services']),
    ('AI and Machine Learning', 'Bots', ['azure bot service', 'health bot']),
    ('Analytics', 'Analytics Platforms', ['azure synapse analytics', 'azure data explorer', 'microsoft fabric']),
    ('Analytics', 'Business Intelligence', ['power bi', 'power bi embedded', 'azure managed grafana', 'azure grafana service']),
    ('Analytics', 'Data Processing', ['azure databricks', 'hdinsight', 'azure data factory v2', 'azure data factory']),
    ('Analytics', 'Search', ['azure cognitive search', 'azure ai search']),
    ('Analytics', 'Streaming Analytics', ['stream analytics']),
    ('Compute', 'Containers', ['azure kubernetes service', 'container instances', 'container registry', 'azure container apps', 'azure red hat openshift']),
    ('Compute', 'End User Computing', ['azure virtual desktop', 'windows virtual desktop', 'azure lab services', 'microsoft dev box']),
    ('Compute', 'Serverless Compute', ['functions', 'cloud services', 'azure batch', 'batch']),
    ('Compute', 'Virtual Machines', ['virtual machines', 'virtual machines licenses', 'azure dedicated host', 'azure vmware solution', 'specialized compute']),
    ('Databases', 'Caching', ['redis cache', 'azure cache for redis', 'azure managed redis']),
    ('Databases', 'NoSQL Databases', ['azure cosmos db']),
    ('Databases', 'Relational Databases', ['sql database', 'sql managed instance', 'azure database for mysql', 'azure database for postgresql', 'azure database for mariadb']),
    ('Developer Tools', 'Developer Platforms', ['azure devops', 'github', 'azure spring cloud']),
    ('Identity', 'Identity and Access Management', ['azure active directory', 'microsoft entra id', 'azure active directory for external identities', 'microsoft entra domain services']),
    ('Integration', 'API Management', ['api management']),
    ('Integration', 'Messaging', ['service bus', 'event hubs', 'event grid', 'notification hubs', 'azure communication services']),
    ('Integration', 'Workflow Orchestration', ['logic apps', 'automation']),
    ('Internet of Things', 'IoT Platforms', ['iot hub', 'iot central', 'azure iot hub']),
    ('Management and Governance', 'Cost Management', ['azure reservations', 'azure savings plan for compute']),
    ('Management and Governance', 'Data Governance', ['microsoft purview', 'azure purview']),
    ('Management and Governance', 'Disaster Recovery', ['azure site recovery']),
    ('Management and Governance', 'Observability', ['azure monitor', 'log analytics', 'application insights', 'network watcher', 'insight and analytics']),
    ('Networking', 'Application Networking', ['load balancer', 'application gateway', 'traffic manager']),
    ('Networking', 'Content Delivery', ['content delivery network', 'azure front door service', 'azure front door']),
    ('Networking', 'Network Connectivity', ['vpn gateway', 'virtual wan', 'nat gateway', 'azure nat gateway', 'virtual network private link', 'private link', 'bandwidth']),
    ('Networking', 'Network Infrastructure', ['virtual network', 'networking']),
    ('Networking', 'Network Routing', ['azure dns', 'expressroute']),
    ('Networking', 'Network Security', ['azure firewall', 'azure bastion', 'azure ddos protection']),
    ('Security', 'Secret Management', ['key vault', 'azure dedicated hsm']),
    ('Security', 'Security Posture Management', ['microsoft defender for cloud', 'security center', 'advanced threat protection', 'advanced data security']),
    ('Security', 'Threat Detection and Response', ['sentinel', 'azure sentinel', 'microsoft sentinel']),
    ('Storage', 'Backup Storage', ['backup']),
    ('Storage', 'File Storage', ['azure netapp files', 'azure managed lustre']),
    ('Storage', 'Storage Platforms', ['storage', 'azure hpc cache']),
    ('Web', 'Application Platforms', ['azure app service', 'app service']),
    ('Web', 'Other (Web)', ['azure maps', 'signalr', 'app configuration'])
), services AS (
    SELECT unnest(names) AS key, class, subclass FROM service_names
), families(key, class, subclass) AS (VALUES
    ('ai + machine learning', 'AI and Machine Learning', 'Other (AI and Machine Learning)'),
    ('analytics', 'Analytics', 'Other (Analytics)'), ('compute', 'Compute', 'Other (Compute)'),
    ('containers', 'Compute', 'Containers'), ('databases', 'Databases', 'Other (Databases)'),
    ('developer tools', 'Developer Tools', 'Other (Developer Tools)'), ('identity', 'Identity', 'Other (Identity)'),
    ('integration', 'Integration', 'Other (Integration)'), ('internet of things', 'Internet of Things', 'Other (Internet of Things)'),
    ('management and governance', 'Management and Governance', 'Other (Management and Governance)'),
    ('networking', 'Networking', 'Other (Networking)'), ('security', 'Security', 'Other (Security)'),
    ('storage', 'Storage', 'Other (Storage)'), ('web', 'Web', 'Other (Web)')
), orders AS (
    -- Purchases may name the order only, usage names the reservation: an order that holds one reservation is that one.
    SELECT reservation_order, any_value(benefit) AS only_benefit
    FROM classified
    WHERE benefit IS NOT NULL AND benefit <> reservation_order
    GROUP BY reservation_order HAVING count(DISTINCT benefit) = 1
), typed AS (
    SELECT
        c.*,
        instant_us(Date) AS usage_date,
        -- A refund is written as a negative price; FOCUS wants prices positive and the quantity negative.
        CASE WHEN coalesce(money(UnitPrice), money(EffectivePrice)) < 0 THEN -quantity(Quantity) ELSE quantity(Quantity) END AS amount,
        coalesce(money(ExchangeRatePricingToBilling), 1) AS rate,
        -- 0 is how Azure writes a price that it doesn't fill: for reservations, Marketplace, and what cost something.
        CASE WHEN NOT (money(PayGPrice) = 0 AND (committed OR marketplace OR cost <> 0)) THEN abs(money(PayGPrice)) END AS list_price,
        CASE
            WHEN UnitPrice IS NULL AND NOT committed THEN abs(money(EffectivePrice))
            WHEN NOT (money(UnitPrice) = 0 AND (committed OR marketplace OR cost <> 0)) THEN abs(money(UnitPrice))
        END AS own_price,
        -- '10K', '1K/Hour', '100 GB/Month', '10 Hours', '1/Hour', 'GB': a number, K, M or B, and a unit.
        regexp_extract(UnitOfMeasure, '^ *([0-9][0-9.,]*) ?([KMB]?)(?:$|[ /])', ['number', 'scale']) AS block_text,
        trim(regexp_replace(UnitOfMeasure, '^ *[0-9][0-9.,]* ?[KMB]?($|[ /])', '\1')) AS unit_text,
        CASE lower(Frequency) WHEN 'onetime' THEN 'One-Time' WHEN 'recurring' THEN 'Recurring' WHEN 'usagebased' THEN 'Usage-Based' END AS frequency_name,
        CASE
            WHEN Term SIMILAR TO '[0-9]+' THEN CAST(Term AS INTEGER)
            WHEN Term SIMILAR TO 'P[0-9]+Y' THEN 12 * CAST(regexp_extract(Term, '[0-9]+') AS INTEGER)
            WHEN Term SIMILAR TO 'P[0-9]+M' THEN CAST(regexp_extract(Term, '[0-9]+') AS INTEGER)
        END AS term_months,
        nullif(regexp_extract(lower(coalesce(ResourceLocation, Location)), '^[a-z0-9 _-]+$'), '') AS place,
        string_split(regexp_extract(resource, '^.*/providers/(.+)$', 1), '/') AS resource_path,
        coalesce(
            CASE WHEN MeterCategory = 'Cognitive Services' AND contains(lower(MeterSubCategory), 'openai') THEN 'Azure OpenAI' END,
            nullif(MeterCategory, 'Unassigned'), ServiceName,
            CASE benefit_kind WHEN 'Savings Plan' THEN 'Azure savings plan for compute' WHEN 'Reservation' THEN 'Azure Reservations' END,
            CASE WHEN marketplace THEN coalesce(PlanName, PublisherName) END, ConsumedService, 'Unassigned'
        ) AS service
    FROM classified AS c
), measured AS (
    SELECT
        t.*,
        date_trunc('month', usage_date) AS usage_month,
        CASE
            WHEN unit_text IS NULL OR unit_text = 'Unassigned' THEN NULL
            WHEN block_text.number = '' THEN 1
            ELSE TRY_CAST(replace(block_text.number, ',', '') AS BIGINT)
                * CASE block_text.scale WHEN 'K' THEN 1000 WHEN 'M' THEN 1000000 WHEN 'B' THEN 1000000000 ELSE 1 END
        END AS block,
        CASE
            WHEN unit_text = 'Unassigned' THEN NULL
            WHEN unit_text = '' AND contains(lower(MeterName), 'token') THEN 'Tokens'
            WHEN unit_text = '' THEN 'Units'
            WHEN regexp_matches(unit_text, '^(1 )?(/? ?)(hours?|hrs?)$', 'i') AND NOT starts_with(unit_text, '/') THEN 'Hours'
            WHEN regexp_matches(unit_text, '^/ ?hour$', 'i') AND lower(ConsumedService) = 'microsoft.compute' AND service = 'Virtual Machines' THEN 'Hours'
            WHEN starts_with(unit_text, '/') THEN 'Unit-' || upper(trim(unit_text, '/ ')[1]) || lower(trim(unit_text, '/ ')[2:]) || 's'
            WHEN contains(unit_text, '/') THEN trim(split_part(unit_text, '/', 1)) || '-' || trim(split_part(unit_text, '/', 2)) || 's'
            WHEN regexp_matches(unit_text, '^[KMGTP]i?B Hours?$') THEN replace(rtrim(unit_text, 's'), ' ', '-') || 's'
            WHEN regexp_matches(unit_text, '([KMGTP]i?B|s)$') THEN unit_text
            ELSE unit_text || 's'
        END AS unit,
        CASE
            WHEN bought AND type = 'purchase' AND frequency_name = 'One-Time' THEN usage_date + to_months(term_months)
            WHEN bought AND type = 'purchase' AND frequency_name = 'Recurring' THEN usage_date + INTERVAL 1 MONTH
        END AS covered_until,
        CASE
            WHEN PayGPrice IS NULL AND PaygCostInBillingCurrency IS NULL THEN NULL
            WHEN money(PaygCostInBillingCurrency) <> 0 THEN money(PaygCostInBillingCurrency)
            WHEN rate = 1 THEN times(list_price, amount)
            ELSE times(times(list_price, quantity(rate::VARCHAR)), amount)
        END AS list_cost,
        CASE WHEN rate = 1 THEN times(own_price, amount) ELSE times(times(own_price, quantity(rate::VARCHAR)), amount) END AS own_cost
    FROM typed AS t
), costed AS (
    SELECT
        m.*,
        -- Counts come in blocks ('10K': 0.0004 is four), hours and gigabytes as themselves ('10 Hours': 22 is 22).
        block > 1 AND (
            block_text.scale <> '' OR NOT regexp_matches(unit, 'Hour|Minute|Second|Day|Week|Month|Year|[KMGTP]i?B|[Mm]bps|IOPS')
        ) AS in_blocks,
        coalesce(only_benefit, benefit) AS commitment,
        CASE
            WHEN (covered OR unused) AND kind IS DISTINCT FROM 'actual' THEN CAST(0 AS DECIMAL(32, 18))
            ELSE cost
        END AS billed,
        CASE
            WHEN bought THEN CAST(0 AS DECIMAL(32, 18))
            -- What the actual view says of covered usage is 0, and that is not what it cost.
            WHEN covered AND (kind = 'actual' OR (kind IS NULL AND cost = 0)) THEN NULL
            ELSE cost
        END AS effective
    FROM measured AS m
    LEFT JOIN orders AS o USING (reservation_order)
), counted AS (
    SELECT
        *,
        CASE
            WHEN commitment IS NULL THEN NULL
            WHEN benefit_kind = 'Savings Plan' THEN CAST(CASE WHEN bought THEN cost ELSE effective END AS DECIMAL(38, 14))
            WHEN bought AND unit = 'Hours' AND covered_until IS NOT NULL
                THEN CAST(amount * date_diff('hour', usage_date, covered_until) AS DECIMAL(38, 14))
            WHEN bought THEN NULL
            -- Instance size flexibility: an hour of a larger size uses up several hours of the reserved one.
            ELSE CAST(coalesce(times(money(info ->> '$.RINormalizationRatio'), amount), amount) AS DECIMAL(38, 14))
        END AS commitment_quantity,
        CASE WHEN benefit_kind = 'Savings Plan' THEN BillingCurrency ELSE unit END AS commitment_unit
    FROM costed
)
SELECT
    AvailabilityZone,
    billed AS BilledCost,
    account AS BillingAccountId,
    CASE WHEN customer_agreement THEN coalesce(BillingProfileName, BillingAccountName) ELSE BillingAccountName END AS BillingAccountName,
    account_type AS BillingAccountType,
    BillingCurrency,
    coalesce(instant_us(BillingPeriodStartDate), usage_month) AS BillingPeriodStart,
    coalesce(
        -- The last day is meant inclusively; the first of a month can only be exclusive.
        instant_us(BillingPeriodEndDate) + CASE WHEN day(instant_us(BillingPeriodEndDate)) = 1 THEN INTERVAL 0 DAY ELSE INTERVAL 1 DAY END,
        coalesce(instant_us(BillingPeriodStartDate), usage_month) + INTERVAL 1 MONTH
    ) AS BillingPeriodEnd,
    usage_date AS ChargePeriodStart,
    coalesce(covered_until, usage_date + INTERVAL 1 DAY) AS ChargePeriodEnd,
    category AS ChargeCategory,
    CASE WHEN type = 'refund' THEN 'Correction' END AS ChargeClass,
    coalesce(nullif(Product, 'Unassigned'), ProductOrderName, concat_ws(' - ', service, nullif(MeterSubCategory, 'Unassigned'), nullif(MeterName, 'Unassigned'))) AS ChargeDescription,
    CASE
        WHEN category = 'Purchase' THEN CASE WHEN frequency_name = 'Recurring' THEN 'Recurring' ELSE 'One-Time' END
        ELSE coalesce(frequency_name, CASE category WHEN 'Usage' THEN 'Usage-Based' ELSE 'One-Time' END)
    END AS ChargeFrequency,
    lower(info ->> '$.VMCapacityReservationId') AS CapacityReservationId,
    -- Capacity that nobody used is charged to the reservation itself.
    CASE WHEN (info ->> '$.VMCapacityReservationId') IS NULL THEN NULL WHEN contains(resource, '/capacityreservations/') THEN 'Unused' ELSE 'Used' END AS CapacityReservationStatus,
    commitment AS CommitmentDiscountId,
    CASE WHEN commitment IS NOT NULL THEN coalesce(BenefitName, ReservationName) END AS CommitmentDiscountName,
    CASE WHEN commitment IS NOT NULL THEN CASE benefit_kind WHEN 'Savings Plan' THEN 'Spend' ELSE 'Usage' END END AS CommitmentDiscountCategory,
    CASE WHEN commitment IS NOT NULL THEN benefit_kind END AS CommitmentDiscountType,
    CASE WHEN commitment IS NULL THEN NULL WHEN unused THEN 'Unused' WHEN covered THEN 'Used' END AS CommitmentDiscountStatus,
    commitment_quantity AS CommitmentDiscountQuantity,
    CASE WHEN commitment_quantity IS NOT NULL THEN commitment_unit END AS CommitmentDiscountUnit,
    CASE WHEN commitment_quantity IS NOT NULL AND benefit_kind = 'Savings Plan' THEN json_object('Elements', json_array(json_object(
        'ContractId', reservation_order, 'ContractCommitmentId', commitment, 'ContractCommitmentAppliedCost', commitment_quantity,
        'ContractCommitmentAppliedQuantity', NULL, 'ContractCommitmentAppliedUnit', NULL)))
    WHEN commitment_quantity IS NOT NULL THEN json_object('Elements', json_array(json_object(
        'ContractId', reservation_order, 'ContractCommitmentId', commitment, 'ContractCommitmentAppliedCost', NULL,
        'ContractCommitmentAppliedQuantity', commitment_quantity, 'ContractCommitmentAppliedUnit', commitment_unit)))
    END AS ContractApplied,
    CASE WHEN is_usage AND NOT unused THEN CASE WHEN in_blocks THEN amount * block ELSE amount END END AS ConsumedQuantity,
    CASE WHEN is_usage AND NOT unused AND amount IS NOT NULL THEN coalesce(unit, 'Units') END AS ConsumedUnit,
    CASE WHEN priced THEN own_cost ELSE cost END AS ContractedCost,
    CASE WHEN priced THEN CASE WHEN rate = 1 THEN own_price ELSE times(own_price, quantity(rate::VARCHAR)) END END AS ContractedUnitPrice,
    effective AS EffectiveCost,
    'Microsoft' AS HostProviderName,
    InvoiceId,
    coalesce(PartnerName, 'Microsoft') AS InvoiceIssuerName,
    CASE WHEN priced THEN list_cost ELSE cost END AS ListCost,
    CASE WHEN priced THEN CASE WHEN rate = 1 THEN list_price ELSE times(list_price, quantity(rate::VARCHAR)) END END AS ListUnitPrice,
    CASE
        WHEN NOT priced THEN NULL
        WHEN covered OR unused THEN 'Committed'
        WHEN starts_with(model, 'spot') THEN 'Dynamic'
        ELSE 'Standard'
    END AS PricingCategory,
    PricingCurrency,
    CASE WHEN priced AND PricingCurrency IS NOT NULL THEN own_price END AS PricingCurrencyContractedUnitPrice,
    CASE WHEN PricingCurrency IS NULL OR effective IS NULL THEN NULL WHEN effective = 0 THEN effective ELSE money(CostInPricingCurrency) END AS PricingCurrencyEffectiveCost,
    CASE WHEN priced AND PricingCurrency IS NOT NULL THEN list_price END AS PricingCurrencyListUnitPrice,
    CASE WHEN priced THEN amount END AS PricingQuantity,
    CASE WHEN NOT priced OR amount IS NULL THEN NULL WHEN bought THEN 'Units' WHEN in_blocks THEN block || ' ' || unit ELSE coalesce(unit, 'Units') END AS PricingUnit,
    coalesce(CASE WHEN PublisherType = 'AWS' THEN 'AWS' END, 'Microsoft') AS ProviderName,
    publisher AS PublisherName,
    publisher AS ServiceProviderName,
    coalesce(r.id, CASE WHEN place NOT IN ('global', 'unassigned', 'unknown', 'all regions', 'notapplicable', 'intercontinental') THEN regexp_replace(place, '[^a-z0-9]', '', 'g') END) AS RegionId,
    coalesce(r.name, CASE WHEN place NOT IN ('global', 'unassigned', 'unknown', 'all regions', 'notapplicable', 'intercontinental') THEN coalesce(Location, ResourceLocation) END) AS RegionName,
    CASE WHEN (bought OR unused) AND commitment IS NOT NULL THEN commitment ELSE resource END AS ResourceId,
    CASE
        WHEN (bought OR unused) AND commitment IS NOT NULL THEN coalesce(BenefitName, ReservationName)
        ELSE coalesce(ResourceName, nullif(split_part(resource, '/', -1), ''))
    END AS ResourceName,
    CASE
        WHEN (bought OR unused) AND commitment IS NOT NULL THEN benefit_kind
        WHEN resource IS NOT NULL THEN coalesce(
            lower(ResourceType),
            nullif(array_to_string(list_filter(resource_path, lambda part, place: place = 1 OR place % 2 = 0), '/'), '')
        )
    END AS ResourceType,
    coalesce(s.class, f.class, 'Other') AS ServiceCategory,
    coalesce(s.subclass, f.subclass, 'Other (Other)') AS ServiceSubcategory,
    service AS ServiceName,
    CASE WHEN priced THEN coalesce(ProductId, meter) END AS SkuId,
    CASE WHEN priced AND coalesce(ProductId, meter) IS NOT NULL THEN nullif(MeterName, 'Unassigned') END AS SkuMeter,
    CASE WHEN priced AND coalesce(ProductId, meter) IS NOT NULL THEN concat_ws('_', coalesce(ProductId, meter), coalesce(PartNumber, CASE WHEN ProductId IS NOT NULL THEN meter END)) END AS SkuPriceId,
    CASE WHEN priced AND coalesce(ProductId, meter) IS NOT NULL THEN json_merge_patch('{}', json_object(
        'InstanceType', instance_type, 'CoreCount', TRY_CAST(info ->> '$.VCPUs' AS INTEGER), 'x_MeterCategory', nullif(MeterCategory, 'Unassigned'),
        'x_MeterSubCategory', nullif(MeterSubCategory, 'Unassigned'), 'x_Term', Term, 'x_ImageType', info ->> '$.ImageType'
    )) END AS SkuPriceDetails,
    lower(SubscriptionId) AS SubAccountId,
    CASE WHEN SubscriptionId IS NOT NULL THEN SubscriptionName END AS SubAccountName,
    CASE WHEN SubscriptionId IS NOT NULL THEN 'Subscription' END AS SubAccountType,
    tag_map(tags_json) AS Tags,
    instance_type AS x_InstanceType,
    ChargeType AS x_ChargeType,
    CASE kind WHEN 'actual' THEN 'Azure ActualCost' WHEN 'amortized' THEN 'Azure AmortizedCost' ELSE 'Azure cost details' END AS x_SourceVersion,
    map_from_entries(list_filter([
        {'key': 'MeterCategory', 'value': MeterCategory}, {'key': 'MeterSubCategory', 'value': MeterSubCategory},
        {'key': 'MeterId', 'value': MeterId}, {'key': 'MeterRegion', 'value': MeterRegion}, {'key': 'PartNumber', 'value': PartNumber},
        {'key': 'ServiceFamily', 'value': ServiceFamily}, {'key': 'ConsumedService', 'value': ConsumedService},
        {'key': 'UnitOfMeasure', 'value': UnitOfMeasure}, {'key': 'EffectivePrice', 'value': EffectivePrice},
        {'key': 'ResourceGroup', 'value': ResourceGroup}, {'key': 'VMName', 'value': info ->> '$.VMName'},
        {'key': 'UsageType', 'value': info ->> '$.UsageType'}, {'key': 'OfferId', 'value': OfferId}, {'key': 'PlanName', 'value': PlanName},
        {'key': 'ProductOrderId', 'value': ProductOrderId}, {'key': 'ProductOrderName', 'value': ProductOrderName}, {'key': 'Term', 'value': Term},
        {'key': 'PricingModel', 'value': PricingModel}, {'key': 'PublisherType', 'value': PublisherType}, {'key': 'AccountName', 'value': AccountName},
        {'key': 'InvoiceSectionName', 'value': InvoiceSectionName}, {'key': 'CostCenter', 'value': CostCenter},
        {'key': 'CustomerTenantId', 'value': CustomerTenantId}, {'key': 'CustomerName', 'value': CustomerName}, {'key': 'ResellerName', 'value': ResellerName},
        {'key': 'CostAllocationRuleName', 'value': CostAllocationRuleName}, {'key': 'PreviousInvoiceId', 'value': PreviousInvoiceId},
        {'key': 'CostInUsd', 'value': CostInUsd}, {'key': 'ExchangeRatePricingToBilling', 'value': ExchangeRatePricingToBilling}
    ], lambda e: e.value IS NOT NULL)) AS x_Native,
    nullif(concat_ws('; ',
        issue('BilledCost', CostInBillingCurrency, cost),
        CASE WHEN CostInBillingCurrency IS NULL THEN 'BilledCost: the cost is empty' END,
        issue('ChargePeriodStart', Date, usage_date),
        issue('BillingPeriodStart', BillingPeriodStartDate, instant_us(BillingPeriodStartDate)),
        issue('PricingQuantity', Quantity, amount),
        issue('ListUnitPrice', PayGPrice, money(PayGPrice)),
        issue('ContractedUnitPrice', UnitPrice, money(UnitPrice)),
        issue('Tags', nullif(tags_json, '{}'), tag_map(tags_json))
    ), '') AS x_DataIssues,
    _file,
    _row
FROM counted
LEFT JOIN regions AS r ON r.key = regexp_replace(place, '[^a-z0-9]', '', 'g')
LEFT JOIN services AS s ON s.key = lower(service)
LEFT JOIN families AS f ON f.key = lower(ServiceFamily)
