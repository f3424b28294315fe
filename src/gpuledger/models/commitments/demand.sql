-- On-demand machine usage by hour and by who held the machine: one row per holder (job, else the resource itself), machine
-- and hour, a charge of more than an hour spread evenly. Of several jobs on a machine the one with the largest part of the
-- charge is its holder: commitments cover machines, so that a machine moves as a whole. Hours count from 1970.
WITH part AS (
    SELECT ResourceId AS resource, ChargePeriodStart AS start, x_JobId AS job, sum(EffectiveCost) AS cost
    FROM window_allocated WHERE x_JobId IS NOT NULL AND ResourceId IS NOT NULL GROUP BY ALL
), holder AS (
    SELECT resource, start, max_by(job, cost) AS job FROM part GROUP BY ALL
), charge AS (
    {on_demand}
), cut AS (
    SELECT
        *,
        CAST(greatest(epoch("end") - epoch(start), 1) AS HUGEINT) AS seconds,
        CAST(greatest(epoch(hour) - epoch(start), 0) AS HUGEINT) AS low,
        CAST(least(epoch(hour) + 3600 - epoch(start), seconds) AS HUGEINT) AS high
    FROM (SELECT *, unnest(range(date_trunc('hour', start), greatest("end", start + INTERVAL 1 SECOND), INTERVAL 1 HOUR)) AS hour FROM charge)
)
SELECT
    coalesce(h.job, c.resource) AS id, h.job, c.resource, any_value(c.name) AS name,
    provider, currency, payer, account, region, zone, instance_type, gpu_model, meter, tenancy, platform, spot, reserved,
    CAST(epoch(hour) AS BIGINT) // 3600 AS hour,
    from_attos(sum(in_attos(CAST(cost AS DECIMAL(38, 18))) * high // seconds - in_attos(CAST(cost AS DECIMAL(38, 18))) * low // seconds)) AS cost,
    from_units(sum(in_units(CAST(quantity AS DECIMAL(38, 14))) * high // seconds - in_units(CAST(quantity AS DECIMAL(38, 14))) * low // seconds)) AS quantity
FROM cut AS c
LEFT JOIN holder AS h USING (resource, start)
WHERE c.resource IS NOT NULL AND provider IN {providers}
GROUP BY ALL
ORDER BY id, hour
