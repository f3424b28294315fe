-- On-demand machine cost by hour, and by what commitments know usage by; a charge of more than an hour is spread evenly.
WITH charge AS (
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
    provider, currency, region, instance_type, meter,
    CAST(epoch(hour) AS BIGINT) // 3600 AS hour,
    from_attos(sum(in_attos(CAST(cost AS DECIMAL(38, 18))) * high // seconds - in_attos(CAST(cost AS DECIMAL(38, 18))) * low // seconds)) AS cost
FROM cut
WHERE NOT spot AND NOT reserved
GROUP BY ALL
