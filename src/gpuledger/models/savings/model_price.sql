-- What a unit of each kind of token costs, by model and place, as your own bills show.
SELECT
    provider, ai_model, token_type, tier, unit, region, meter,
    sum(cost) AS cost,
    CAST(sum(cost) AS DOUBLE) / nullif(CAST(sum(quantity) AS DOUBLE), 0) AS price,
    sum(quantity) AS quantity
FROM atom
WHERE ai_model IS NOT NULL AND token_type IS NOT NULL AND quantity > 0
GROUP BY ALL
