-- Estimated FOCUS 1.3 rows: one per machine, clock hour and price, while it ran without a break. metered_machine has
-- machines over time, told once; metered_shape what their prices depend on; metered_price the price of each shape over
-- time, without gaps (source null: not known).
WITH shaped AS (
    SELECT
        m.*, s.shape, s.known_cloud,
        coalesce(m.gpu_model, s.known_model) AS model, coalesce(m.gpu_count, s.known_count) AS cards, s.known_memory
    FROM metered_machine AS m
    JOIN metered_shape AS s
        ON s.instance_type IS NOT DISTINCT FROM m.instance_type AND s.gpu_model IS NOT DISTINCT FROM m.gpu_model
        AND s.gpu_count IS NOT DISTINCT FROM m.gpu_count AND s.region IS NOT DISTINCT FROM m.region
        AND s.spot IS NOT DISTINCT FROM m.spot AND s.cloud IS NOT DISTINCT FROM m.cloud
), hourly AS (
    SELECT
        *, unnest(generate_series(date_trunc('hour', start), "end" - INTERVAL 1 MICROSECOND, INTERVAL 1 HOUR)) AS hour
    FROM shaped
), cut AS (
    SELECT
        h.* EXCLUDE (start, "end"), p.price,
        greatest(h.start, h.hour, p.valid_from) AS start,
        least(h."end", h.hour + INTERVAL 1 HOUR, p.valid_until) AS "end"
    FROM hourly AS h
    JOIN metered_price AS p
        ON p.shape = h.shape
        AND p.valid_from < least(h."end", h.hour + INTERVAL 1 HOUR) AND p.valid_until > greatest(h.start, h.hour)
), marked AS (
    -- Facts that changed within the hour, and don't change the price, cut no row: the newest holds.
    SELECT
        *,
        CASE
            WHEN lag("end") OVER each IS NOT DISTINCT FROM start AND lag(shape) OVER each = shape
                AND lag(price) OVER each = price THEN 0
            ELSE 1
        END AS _begins
    FROM cut
    WINDOW each AS (PARTITION BY machine, hour ORDER BY start)
), numbered AS (
    SELECT *, sum(_begins) OVER (PARTITION BY machine, hour ORDER BY start ROWS UNBOUNDED PRECEDING) AS _run FROM marked
), run AS (
    SELECT
        machine, hour, shape, any_value(price) AS price, min(start) AS start, max("end") AS "end",
        arg_max(provider_id, start) AS provider_id, arg_max(cluster, start) AS cluster, arg_max(node, start) AS node,
        arg_max(zone, start) AS zone, arg_max(pool, start) AS pool, arg_max(cpu_cores, start) AS cpu_cores,
        arg_max(memory_gib, start) AS memory_gib, arg_max(labels, start) AS labels, min(teller) AS teller,
        any_value(instance_type) AS instance_type, any_value(region) AS region, any_value(spot) AS spot,
        any_value(coalesce(cloud, known_cloud)) AS cloud, any_value(model) AS model, any_value(cards) AS cards,
        any_value(known_memory) AS known_memory
    FROM numbered
    GROUP BY machine, hour, shape, _run
), measured AS (
    SELECT
        *,
        metered_mark(start, hour) AS first,
        metered_mark("end", hour) AS last,
        CAST(CAST(cards * 1000000 AS DECIMAL(38, 14)) * 100000000 AS HUGEINT) AS card_units,
        coalesce(spot, false) AS is_spot,
        coalesce(instance_type, nullif(concat_ws(' ', rtrim(rtrim(CAST(cards AS VARCHAR), '0'), '.') || 'x', model), ''), 'machine') AS kind
    FROM run
), worded AS (
    SELECT
        *,
        metered_quantity(last - first) AS quantity,
        CASE WHEN is_spot THEN 'spot' ELSE 'on-demand' END AS capacity,
        coalesce(cloud_facts[cloud], cloud_facts['']) AS facts
    FROM measured, (SELECT {clouds} AS cloud_facts)
)
SELECT
    zone AS AvailabilityZone,
    CASE WHEN price.source IS NOT NULL THEN metered_cost(price.billed, first, last) END AS BilledCost,
    price.account_id AS BillingAccountId,
    price.account_name AS BillingAccountName,
    coalesce(price.currency, 'USD') AS BillingCurrency,
    date_trunc('month', hour) + INTERVAL 1 MONTH AS BillingPeriodEnd,
    date_trunc('month', hour) AS BillingPeriodStart,
    'Usage' AS ChargeCategory,
    kind || ' ' || capacity || coalesce(' in ' || region, '') || ', metered while node ' || node || ' ran' AS ChargeDescription,
    'Usage-Based' AS ChargeFrequency,
    "end" AS ChargePeriodEnd,
    start AS ChargePeriodStart,
    quantity AS ConsumedQuantity,
    'Hours' AS ConsumedUnit,
    CASE WHEN price.source IS NOT NULL THEN metered_cost(price.contracted, first, last) END AS ContractedCost,
    price.contracted.amount AS ContractedUnitPrice,
    CASE WHEN price.source IS NOT NULL THEN metered_cost(price.effective, first, last) END AS EffectiveCost,
    facts.provider AS HostProviderName,
    facts.issuer AS InvoiceIssuerName,
    -- Where no list price is known, FOCUS wants the cost that is.
    CASE
        WHEN price.source IS NOT NULL THEN metered_cost(
            CASE WHEN price.listed.amount IS NULL THEN price.contracted ELSE price.listed END, first, last
        )
    END AS ListCost,
    price.listed.amount AS ListUnitPrice,
    CASE WHEN is_spot THEN 'Dynamic' ELSE 'Standard' END AS PricingCategory,
    coalesce(price.currency, 'USD') AS PricingCurrency,
    price.contracted.amount AS PricingCurrencyContractedUnitPrice,
    CASE WHEN price.source IS NOT NULL THEN metered_cost(price.effective, first, last) END AS PricingCurrencyEffectiveCost,
    price.listed.amount AS PricingCurrencyListUnitPrice,
    quantity AS PricingQuantity,
    'Hours' AS PricingUnit,
    facts.provider AS ProviderName,
    facts.issuer AS PublisherName,
    region AS RegionId,
    region AS RegionName,
    coalesce(provider_id, cluster || '/' || node) AS ResourceId,
    node AS ResourceName,
    'instance' AS ResourceType,
    'Compute' AS ServiceCategory,
    facts.service AS ServiceName,
    facts.provider AS ServiceProviderName,
    'Virtual Machines' AS ServiceSubcategory,
    'metered/' || lower(kind) AS SkuId,
    'Instance hours' AS SkuMeter,
    '{{' || concat_ws(',',
        '"InstanceType":' || CAST(to_json(instance_type) AS VARCHAR),
        '"CoreCount":' || rtrim(rtrim(CAST(cpu_cores AS VARCHAR), '0'), '.'),
        '"MemorySize":' || rtrim(rtrim(CAST(memory_gib AS VARCHAR), '0'), '.'),
        '"GpuCount":' || rtrim(rtrim(CAST(cards AS VARCHAR), '0'), '.'),
        '"x_GpuModel":' || CAST(to_json(model) AS VARCHAR),
        '"x_Capacity":' || CAST(to_json(CASE WHEN spot IS NULL THEN 'unknown' ELSE capacity END) AS VARCHAR),
        '"x_Cluster":' || CAST(to_json(cluster) AS VARCHAR),
        '"x_Node":' || CAST(to_json(node) AS VARCHAR),
        '"x_Pool":' || CAST(to_json(pool) AS VARCHAR),
        '"x_PriceSource":' || CAST(to_json(price.source) AS VARCHAR),
        '"x_PriceBasis":' || CAST(to_json(price.basis) AS VARCHAR)
    ) || '}}' AS SkuPriceDetails,
    'metered/' || concat_ws('/', lower(kind), lower(region), capacity, price.source) AS SkuPriceId,
    labels AS Tags,
    'Estimated' AS x_CostStatus,
    'metered' AS x_SourceVersion,
    CASE WHEN price.source IS NULL THEN 'BilledCost: unpriced, no price of ' || kind || ' ' || capacity || coalesce(' in ' || region, '') || ' is known' END
        AS x_DataIssues,
    instance_type AS x_InstanceType,
    model AS x_GpuModel,
    CAST(cards AS DECIMAL(9, 3)) AS x_GpuCount,
    CAST(known_memory AS DECIMAL(9, 2)) AS x_GpuMemoryGiB,
    CASE WHEN card_units IS NOT NULL THEN metered_quantity(metered_cards(card_units, last) - metered_cards(card_units, first)) END
        AS x_GpuHours,
    map_from_entries(list_filter([
        {{'key': 'cluster', 'value': cluster}}, {{'key': 'node', 'value': node}}, {{'key': 'pool', 'value': pool}},
        {{'key': 'telemetry', 'value': teller}}
    ], lambda entry: entry.value IS NOT NULL)) AS x_Native,
    price.effective.amount AS _rate -- what an hour costs, of no column of the ledger
FROM worded
