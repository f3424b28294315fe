-- Usage whose instance type or SKU text follows a vendor's naming of accelerators, but which recognition left without
-- a model. {relation} is filled in by gpuledger.models.recognition.
WITH suspects AS (
    SELECT
        coalesce(
            x_InstanceType,
            CASE WHEN contains(SkuMeter, ':') THEN split_part(SkuMeter, ':', -1) END
        ) AS instance_type,
        coalesce(SkuMeter, ChargeDescription) AS sku,
        ServiceName,
        BillingCurrency,
        EffectiveCost
    FROM {relation}
    WHERE x_GpuModel IS NULL AND x_AiModel IS NULL AND ChargeCategory = 'Usage'
        AND (x_InstanceType IS NOT NULL OR contains(SkuMeter, ':') OR contains(lower(SkuMeter), 'gpu')
            OR contains(lower(ChargeDescription), 'gpu'))
), named AS (
    SELECT
        *,
        CASE
            WHEN regexp_matches(
                lower(instance_type),
                -- AWS, SageMaker; Azure; Google; Oracle; Alibaba; Lambda, Massed; Nebius; CoreWeave
                '^(?:ml\.)?(?:p[2-9]|g[2-9]|gr[0-9]|trn[0-9]|inf[0-9]|dl[0-9])[a-z0-9-]*\.'
                || '|^standard_n[cdgv][0-9]|^(?:a[2-9]x?|g[2-9])-|^(?:ct[0-9]|tpu)[a-z0-9]*-|^(?:bm|vm)\.gpu'
                || '|^ecs\.(?:ebmgn|gn|vgn|sgn)[0-9]|^gpu_[0-9]+x_|^gpu-|^gd-[0-9]|-[0-9]x$'
            ) THEN instance_type
            WHEN regexp_matches(lower(sku), '\bgpus?\b')
                AND NOT regexp_matches(lower(sku), 'licen[cs]|commitment|workstation|suspended')
                THEN sku
        END AS name
    FROM suspects
)
SELECT name, any_value(ServiceName ORDER BY ServiceName), BillingCurrency, count(*), sum(EffectiveCost)
FROM named
WHERE name IS NOT NULL
GROUP BY name, BillingCurrency
ORDER BY sum(EffectiveCost) DESC NULLS LAST, name
