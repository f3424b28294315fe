-- What the machines of a trace would have cost: a FOCUS row per machine and UTC day, which charges the hours that it was
-- rented of that day, at the invented prices $gpu_price per card hour and, for machines without cards, $core_price per
-- core hour. Nothing here was ever billed.
WITH rated AS (
    SELECT
        *,
        (CASE WHEN gpus > 0 THEN gpus * $gpu_price::DECIMAL(12, 4) ELSE cores * $core_price::DECIMAL(12, 4) END)::DECIMAL(16, 4) AS rate
    FROM machine
), cut AS (
    SELECT
        * EXCLUDE (start, "end"),
        sum(epoch_us(least("end", day + INTERVAL 1 DAY)) - epoch_us(greatest(start, day)))::BIGINT AS us
    FROM (SELECT *, unnest(range(date_trunc('day', start), "end", INTERVAL 1 DAY)) AS day FROM rated)
    GROUP BY ALL
), priced AS (
    SELECT
        *,
        -- Microseconds over 3.6e9 to 14 decimals, cut off: the quotient of whole numbers, then what is left of it.
        ((us // 3600000000)::DECIMAL(18, 14)
            + ((us % 3600000000)::HUGEINT * 100000000000000::HUGEINT // 3600000000::HUGEINT)::DECIMAL(20, 0) * 0.00000000000001::DECIMAL(15, 14)
        )::DECIMAL(18, 14) AS hours
    FROM cut
), costed AS (
    SELECT *, (hours * rate)::DECIMAL(32, 18) AS cost FROM priced
)
SELECT
    'synthetic-trace-' || $trace AS BillingAccountId,
    'Synthetic prices on a real trace' AS BillingAccountName,
    'USD' AS BillingCurrency,
    date_trunc('month', day) AS BillingPeriodStart,
    date_trunc('month', day) + INTERVAL 1 MONTH AS BillingPeriodEnd,
    day AS ChargePeriodStart,
    day + INTERVAL 1 DAY AS ChargePeriodEnd,
    'Usage' AS ChargeCategory,
    'Usage-Based' AS ChargeFrequency,
    'Synthetic price on a real trace: ' || $trace || ', ' || coalesce(model || ', ', '') || gpus || ' cards, ' || cores || ' cores' AS ChargeDescription,
    cost AS BilledCost,
    cost AS EffectiveCost,
    cost AS ListCost,
    cost AS ContractedCost,
    rate::DECIMAL(32, 18) AS ListUnitPrice,
    rate::DECIMAL(32, 18) AS ContractedUnitPrice,
    hours::DECIMAL(38, 14) AS ConsumedQuantity,
    'Hours' AS ConsumedUnit,
    hours::DECIMAL(38, 14) AS PricingQuantity,
    'Hours' AS PricingUnit,
    'Standard' AS PricingCategory,
    'Nobody (synthetic)' AS InvoiceIssuerName,
    'Nobody (synthetic)' AS ProviderName,
    'Nobody (synthetic)' AS PublisherName,
    'Nobody (synthetic)' AS ServiceProviderName,
    'Nobody (synthetic)' AS HostProviderName,
    node AS ResourceId,
    node AS ResourceName,
    'Machine of a trace' AS ResourceType,
    'Compute' AS ServiceCategory,
    'Virtual Machines' AS ServiceSubcategory,
    'Machines of trace ' || $trace || ' (synthetic price)' AS ServiceName,
    'trace-' || $trace || '-' || coalesce(model, 'machine') || '-' || gpus || 'x' || cores AS SkuId,
    'trace-' || $trace || '-' || coalesce(model, 'machine') || '-' || gpus || 'x' || cores || '-' || rate AS SkuPriceId,
    'Machine hours' AS SkuMeter,
    json_object('CoreCount', cores::DOUBLE, 'GpuCount', gpus::INTEGER, 'MemorySize', memory::DOUBLE) AS SkuPriceDetails,
    json_object('synthetic', 'true', 'trace', $trace) AS Tags
FROM costed
ORDER BY day, node
