-- What each commitment left idle, by hour: committed, used and idle in its own unit, and what the idle part cost. The
-- same for all its hours: what the used part of the window cost (`covered_cost`) and would have cost on demand
-- (`covered_on_demand`, null where that isn't known), so that idle_cost * covered_on_demand / covered_cost is what the
-- idle part would have bought on demand; and the place, instance type and card model, where there is one of it.
-- Provisioned throughput is not in it: a bill doesn't say what of it was used.
WITH whole AS (
    SELECT
        commitment_id, kind,
        sum(cost) FILTER (status = 'Used') AS covered_cost,
        CASE WHEN bool_and(status <> 'Used' OR on_demand IS NOT NULL) THEN sum(on_demand) FILTER (status = 'Used') END AS covered_on_demand,
        CASE WHEN count(DISTINCT region) = 1 THEN any_value(region) END AS region,
        CASE WHEN count(DISTINCT zone) = 1 THEN any_value(zone) END AS zone,
        CASE WHEN count(DISTINCT instance_type) = 1 THEN any_value(instance_type) END AS instance_type,
        CASE WHEN count(DISTINCT gpu_model) = 1 THEN any_value(gpu_model) END AS gpu_model
    FROM commitment_hour WHERE status IN ('Used', 'Unused') GROUP BY ALL
)
SELECT
    commitment_id, kind, any_value(provider) AS provider, any_value(currency) AS currency, any_value(category) AS category,
    any_value(unit) AS unit, hour,
    any_value(w.region) AS region, any_value(w.zone) AS zone, any_value(w.instance_type) AS instance_type,
    any_value(w.gpu_model) AS gpu_model,
    sum(amount) AS committed,
    coalesce(sum(amount) FILTER (status = 'Used'), 0) AS used,
    coalesce(sum(amount) FILTER (status = 'Unused'), 0) AS idle,
    coalesce(sum(h.cost) FILTER (status = 'Unused'), 0) AS idle_cost,
    any_value(covered_cost) AS covered_cost,
    any_value(covered_on_demand) AS covered_on_demand,
    -- The hour's part of something that the bill tells by the day or month.
    bool_or(even) AS even
FROM commitment_hour AS h
JOIN whole AS w USING (commitment_id, kind)
WHERE status IN ('Used', 'Unused')
GROUP BY commitment_id, kind, hour
