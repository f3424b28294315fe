-- Accelerators and AI models of ledger rows, in one streaming pass: two hash joins against small tables, and
-- regular expressions only on texts that a cheap look for a literal let through. Names in braces are filled in by
-- gpuledgemodels.recognition from the data files of gpuledgeprices. Only columns that are null are filled.
WITH looked AS (
    -- Functions of one column, outside CASE: the engine computes them once per distinct text of a Parquet dictionary
    -- (but not regexp_matches).
    SELECT
        *,
        {types},
        lower(SkuMeter) AS _meter,
        lower(ChargeDescription) AS _charge,
        regexp_extract(SkuMeter, '{telling}') <> '' AS _meter_tells,
        -- A meter of one word with dashes is a usage type of AWS; what describes it says nothing more.
        contains(SkuMeter, '-') AND NOT contains(SkuMeter, ' ') AS _usage_type,
        regexp_extract(ChargeDescription, '{telling}') <> '' OR {ai_provider} AS _charge_tells,
        {consumed_hours} AS _consumed_hours,
        {priced_hours} AS _priced_hours,
        {consumed_gpu_hours} AS _consumed_gpu_hours,
        {priced_gpu_hours} AS _priced_gpu_hours,
        regexp_extract(SkuMeter, '{running}') <> '' AS _running,
        regexp_extract(SkuMeter, '{not_running}') <> ''
            OR regexp_extract(ServiceName, '{not_running}') <> ''
            OR regexp_extract(ChargeDescription, '{not_running}') <> '' AS _not_running,
        regexp_extract(PublisherName, '{hosts}') <> '' AS _by_host
    FROM {relation}
), named AS (
    SELECT
        * EXCLUDE (
            _meter, _charge, _meter_tells, _usage_type, _charge_tells,
            _consumed_hours, _priced_hours, _consumed_gpu_hours, _priced_gpu_hours
        ),
        {type} AS _type,
        -- The text that may name an accelerator or an AI model.
        CASE WHEN _meter_tells THEN _meter WHEN NOT coalesce(_usage_type, false) AND _charge_tells THEN _charge END AS _text,
        CASE WHEN _consumed_hours THEN ConsumedQuantity WHEN _priced_hours THEN PricingQuantity END AS _hours,
        CASE
            WHEN _consumed_gpu_hours THEN ConsumedQuantity
            WHEN _priced_gpu_hours THEN PricingQuantity
        END AS _gpu_hours
    FROM looked
), matched AS (
    SELECT
        *,
        CAST(CASE {gpu_sku} END AS INTEGER) AS _sku,
        CAST(CASE {ai_family} END AS INTEGER) AS _family
    FROM named
), worded AS (
    SELECT
        *,
        {ai_spelling} AS _spelled,
        {ai_token} AS _token,
        {ai_tier} AS _tier
    FROM matched
), keyed AS (
    SELECT *, nullif(trim(regexp_replace(_spelled, '[ _-]+', '-', 'g'), '-'), '') AS _spelling FROM worded
)
SELECT
    r.* EXCLUDE (
        {type_columns}, _running, _not_running, _by_host, _type, _text, _hours, _gpu_hours, _sku, _family,
        _spelled, _token, _tier, _spelling
    ) REPLACE (
        coalesce(r.x_GpuModel, t.gpu_model, {sku_models}[r._sku]) AS x_GpuModel,
        coalesce(r.x_GpuCount, t.gpu_count) AS x_GpuCount,
        coalesce(r.x_GpuMemoryGiB, t.gpu_memory_gib, {sku_memories}[r._sku]) AS x_GpuMemoryGiB,
        CASE
            WHEN r.x_GpuHours IS NOT NULL THEN r.x_GpuHours
            WHEN t.instance_type IS NULL AND r._sku IS NULL AND r.x_GpuCount IS NULL AND r._gpu_hours IS NULL
                THEN NULL
            -- Unused commitments and reservations ran nothing; shares of a split charge count at their origin.
            WHEN r.ChargeCategory IS DISTINCT FROM 'Usage' OR r.CommitmentDiscountStatus = 'Unused'
                OR r.CapacityReservationStatus = 'Unused' OR r.AllocatedMethodId IS NOT NULL
                THEN NULL
            WHEN NOT {sku_counts}[r._sku] THEN NULL
            WHEN r._gpu_hours IS NOT NULL THEN r._gpu_hours
            WHEN {sku_counts}[r._sku] THEN r._hours
            WHEN t.per_accelerator THEN NULL
            -- Of AWS's usage types with an instance type in them only some are the instance running.
            WHEN CASE WHEN contains(r.SkuMeter, ':') THEN NOT r._running ELSE r._not_running END THEN NULL
            -- Somebody else's software on the instance bills hours too (Marketplace).
            WHEN NOT r._by_host
                AND lower(r.PublisherName) IS DISTINCT FROM lower(coalesce(r.HostProviderName, r.ProviderName))
                THEN NULL
            WHEN abs(r._hours) >= 1e9 THEN NULL
            WHEN r.x_GpuCount IS NOT NULL THEN CAST(r._hours * r.x_GpuCount AS DECIMAL(38, 14))
            WHEN t.denominator = 1 THEN CAST(r._hours * t.numerator AS DECIMAL(38, 14))
            -- Thirds and sixths of a card: exact on integers, rounded half away from zero at the 14th decimal.
            WHEN t.denominator > 1 THEN CAST(
                (
                    CAST(r._hours * CAST(100000000000000 AS DECIMAL(15, 0)) AS HUGEINT) * t.numerator
                    + CAST(sign(r._hours) AS HUGEINT) * (t.denominator // 2)
                ) // t.denominator AS DECIMAL(38, 0)
            ) * CAST(0.00000000000001 AS DECIMAL(14, 14))
        END AS x_GpuHours,
        coalesce(r.x_AiModel, m.model, r._spelling) AS x_AiModel,
        coalesce(r.x_TokenType, r._token) AS x_TokenType,
        coalesce(r.x_ServiceTier, r._tier) AS x_ServiceTier
    )
FROM keyed AS r
LEFT JOIN (FROM recognized_gpu_types WHERE {any_type}) AS t ON t.instance_type = r._type
LEFT JOIN (FROM recognized_ai_models WHERE {any_family}) AS m ON m.spelling = r._spelling
