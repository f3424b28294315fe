-- Accelerators and AI models of ledger rows, in one streaming pass: two hash joins against small tables, and
-- regular expressions only on texts that a cheap look for a literal let through. Names in braces are filled in by
-- gpuledger.models.recognition from the data files of gpuledger.prices. Only columns that are null are filled.
WITH named AS (
    SELECT
        *,
        -- The source's own word for the instance type; else the meter, as AWS (…BoxUsage:p5.48xlarge) and
        -- Azure (ND96isr H100 v5) write it; else AWS's sentence.
        coalesce(
            lower(x_InstanceType),
            CASE
                WHEN contains(SkuPriceDetails, 'nstanceType') THEN lower(coalesce(
                    SkuPriceDetails ->> '$.InstanceType',
                    SkuPriceDetails ->> '$.instanceType',
                    SkuPriceDetails ->> '$.x_InstanceType'
                ))
            END,
            CASE
                WHEN contains(SkuMeter, ':') THEN lower(split_part(SkuMeter, ':', -1))
                WHEN starts_with(lower(SkuMeter), 'n') THEN lower(SkuMeter)
            END,
            CASE
                WHEN contains(ChargeDescription, 'xlarge') OR contains(ChargeDescription, '.metal')
                    THEN nullif(regexp_extract(lower(ChargeDescription), '{aws_types}', 1), '')
            END
        ) AS _type,
        -- The text that may name an accelerator or an AI model. A meter of one word with dashes is a usage type of
        -- AWS; what describes it says nothing more.
        CASE
            WHEN regexp_matches(SkuMeter, '{telling}') THEN lower(SkuMeter)
            WHEN contains(SkuMeter, '-') AND NOT contains(SkuMeter, ' ') THEN NULL
            WHEN regexp_matches(ChargeDescription, '{telling}') OR {ai_provider} THEN lower(ChargeDescription)
        END AS _text,
        CASE
            WHEN {consumed_hours} THEN ConsumedQuantity
            WHEN {priced_hours} THEN PricingQuantity
        END AS _hours,
        CASE
            WHEN {consumed_gpu_hours} THEN ConsumedQuantity
            WHEN {priced_gpu_hours} THEN PricingQuantity
        END AS _gpu_hours
    FROM {relation}
), matched AS (
    SELECT
        *,
        CASE {gpu_sku} END AS _sku,
        CASE {ai_family} END AS _family
    FROM named
), worded AS (
    SELECT
        *,
        CASE {ai_spelling} END AS _spelled,
        CASE {ai_token} END AS _token,
        CASE {ai_tier} END AS _tier
    FROM matched
), keyed AS (
    SELECT *, nullif(trim(regexp_replace(_spelled, '[ _-]+', '-', 'g'), '-'), '') AS _spelling FROM worded
)
SELECT
    r.* EXCLUDE (
        _type, _text, _hours, _gpu_hours, _sku, _family, _spelled, _token, _tier, _spelling
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
            WHEN CASE
                WHEN contains(r.SkuMeter, ':')
                    THEN NOT regexp_matches(lower(r.SkuMeter), '{running}')
                ELSE regexp_matches(
                    lower(concat_ws(' ', r.SkuMeter, r.ServiceName, r.ChargeDescription)), '{not_running}'
                )
            END THEN NULL
            -- Somebody else's software on the instance bills hours too (Marketplace).
            WHEN NOT regexp_matches(lower(r.PublisherName), '{hosts}')
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
LEFT JOIN recognized_gpu_types AS t ON t.instance_type = r._type
LEFT JOIN recognized_ai_models AS m ON m.spelling = r._spelling
