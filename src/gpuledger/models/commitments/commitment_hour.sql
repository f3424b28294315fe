-- One row per commitment, hour, status and place: amounts in the commitment's own unit (money where the bill counts no
-- quantity), and costs. Whole numbers of 1e-14 units and 1e-18 money are cut at the hours' bounds, so that an amount's
-- hours add up to it exactly.
WITH measured AS (
    SELECT commitment_id, kind, NOT bool_or(uncounted) AND count(DISTINCT unit) = 1 AS counted
    FROM commitment_charge WHERE status <> 'Fee' GROUP BY ALL
), piece AS (
    SELECT
        c.* EXCLUDE (quantity, cost, on_demand),
        counted,
        in_units(CASE WHEN counted THEN quantity ELSE CAST(cost AS DECIMAL(38, 14)) END) AS amount,
        in_attos(CAST(cost AS DECIMAL(38, 18))) AS cost,
        in_attos(CAST(on_demand AS DECIMAL(38, 18))) AS on_demand,
        CAST(epoch("end") - epoch(start) AS HUGEINT) AS seconds
    FROM (SELECT * REPLACE (CAST(quantity AS DECIMAL(38, 14)) AS quantity) FROM commitment_charge WHERE status <> 'Fee') AS c
    JOIN measured USING (commitment_id, kind)
), cut AS (
    SELECT
        *,
        CAST(greatest(epoch(hour) - epoch(start), 0) AS HUGEINT) AS low,
        CAST(least(epoch(hour) + 3600 - epoch(start), seconds) AS HUGEINT) AS high
    FROM (SELECT *, unnest(range(date_trunc('hour', start), "end", INTERVAL 1 HOUR)) AS hour FROM piece)
), spread AS (
    SELECT
        commitment_id, kind, status, provider, currency, category, unit, counted, account, region, zone, instance_type, gpu_model,
        start, "end", hour, seconds > 3600 AS even,
        amount * high // seconds - amount * low // seconds AS amount,
        cost * high // seconds - cost * low // seconds AS cost,
        on_demand * high // seconds - on_demand * low // seconds AS on_demand
    FROM cut
), used AS (
    SELECT commitment_id, kind, hour, sum(amount)::HUGEINT AS amount, bool_or(even) AS even
    FROM spread WHERE status = 'Used' GROUP BY ALL
), long AS (
    -- What stayed unused is told of more than an hour at once, while the use is told by the hour.
    SELECT s.commitment_id, s.kind, s.start, s."end", s.hour, sum(s.amount)::HUGEINT AS amount, coalesce(any_value(u.amount), 0)::HUGEINT AS used
    FROM spread AS s
    LEFT JOIN used AS u USING (commitment_id, kind, hour)
    WHERE s.status = 'Unused' AND s.even AND coalesce(NOT u.even, true)
    GROUP BY ALL
), levels AS (
    SELECT
        *,
        sum(amount + used) OVER whole AS total,
        count(*) OVER whole AS hours,
        row_number() OVER (PARTITION BY commitment_id, kind, start, "end" ORDER BY hour) AS place
    FROM long
    WINDOW whole AS (PARTITION BY commitment_id, kind, start, "end")
), shaped AS (
    SELECT
        commitment_id, kind, start, "end", hour, amount,
        (total::HUGEINT * place // hours - total::HUGEINT * (place - 1) // hours - used)::HUGEINT AS idle,
        sum(amount) OVER whole AS whole_amount
    FROM levels
    WINDOW whole AS (PARTITION BY commitment_id, kind, start, "end")
    QUALIFY min(idle) OVER whole >= 0 AND count(*) OVER whole = (epoch("end") - epoch(start)) / 3600
), reshaped AS (
    -- Several rows of one time share its shape by their part of it; costs follow the amounts.
    SELECT
        s.* EXCLUDE (amount, cost, on_demand, even),
        s.even AND h.hour IS NULL AS even,
        CASE WHEN h.hour IS NULL OR h.whole_amount = 0 THEN s.amount
            WHEN count(*) OVER same = 1 THEN h.idle
            ELSE s.amount END AS amount,
        CASE WHEN h.hour IS NULL OR h.whole_amount = 0 OR count(*) OVER same > 1 THEN s.cost
            ELSE CAST(sum(s.cost) OVER unit * (sum(h.idle) OVER running // 100000000) // nullif(h.whole_amount // 100000000, 0)
                - sum(s.cost) OVER unit * ((sum(h.idle) OVER running - h.idle) // 100000000) // nullif(h.whole_amount // 100000000, 0) AS HUGEINT) END AS cost,
        s.on_demand
    FROM spread AS s
    LEFT JOIN shaped AS h ON s.status = 'Unused' AND (s.commitment_id, s.kind, s.start, s."end", s.hour) = (h.commitment_id, h.kind, h.start, h."end", h.hour)
    WINDOW same AS (PARTITION BY s.commitment_id, s.kind, s.status, s.start, s."end", s.hour),
        unit AS (PARTITION BY s.commitment_id, s.kind, s.status, s.start, s."end"),
        running AS (PARTITION BY s.commitment_id, s.kind, s.status, s.start, s."end" ORDER BY s.hour ROWS UNBOUNDED PRECEDING)
)
SELECT
    commitment_id, kind, status, provider, currency, category,
    CASE WHEN counted THEN unit ELSE currency END AS unit,
    account, region, zone, instance_type, gpu_model, hour,
    bool_or(even) AS even,
    from_units(sum(amount)) AS amount,
    from_attos(sum(cost)) AS cost,
    from_attos(sum(on_demand)) AS on_demand
FROM reshaped
GROUP BY ALL
