-- What spot costs of the price on demand, by kind of machine: as you say (fact spot-ratio), by list prices, or as you pay
-- for spot machines of the same family.
WITH kind AS (
    SELECT
        provider, region, instance_type, family,
        CASE provider WHEN 'AWS' THEN 'aws' WHEN 'Microsoft' THEN 'azure' WHEN 'Google Cloud' THEN 'gcp' ELSE lower(provider) END AS cloud
    FROM atom
    WHERE pricing = 'Standard' AND commitment_id IS NULL AND instance_type IS NOT NULL
    GROUP BY ALL
), listed AS (
    SELECT cloud, region, instance_type, min(CAST(spot AS DOUBLE) / CAST(on_demand AS DOUBLE)) AS ratio
    FROM machine_price
    WHERE spot > 0 AND on_demand > 0
    GROUP BY ALL
), own AS (
    SELECT provider, family, sum(CAST(cost AS DOUBLE)) / sum(CAST(list_cost AS DOUBLE)) AS ratio
    FROM atom
    WHERE pricing = 'Dynamic' AND list_cost > 0
    GROUP BY ALL
)
SELECT k.provider, k.region, k.instance_type, coalesce(try_cast(f.value AS DOUBLE), min(l.ratio), any_value(o.ratio)) AS ratio
FROM kind AS k
LEFT JOIN fact AS f ON f.name = k.instance_type AND f.key = 'spot-ratio'
LEFT JOIN listed AS l ON l.cloud = k.cloud AND l.instance_type = lower(k.instance_type) AND l.region IN (k.region, '*')
LEFT JOIN own AS o ON o.provider = k.provider AND o.family = k.family
GROUP BY k.provider, k.region, k.instance_type, f.value
