-- One claim per charge, resource and holder. A device's claims are scaled down to its time. A holder's GPU claim is the
-- larger of what it held of named devices and what it asked for without one; CPU and memory go by max(request, usage).
-- `lots` counts whole card-, core- or GiB-seconds, `factor` is the part of a second that divides what isn't whole.
WITH device AS (
    SELECT charge_no, device_no, sum(units) AS w
    FROM alloc_hold
    WHERE device_no > 0
    GROUP BY charge_no, device_no
), crowded AS (
    SELECT d.charge_no, d.device_no, d.w, s.seen_us * CAST(63000000000 AS HUGEINT) AS total
    FROM device AS d
    JOIN alloc_weight AS s USING (charge_no)
    WHERE d.w > s.seen_us * CAST(63000000000 AS HUGEINT)
), scaled AS (
    SELECT
        h.charge_no, h.device_no, h.holder_no, h.units, o.total, o.w,
        alloc_floor(total // w, total % w, h.units, w) AS floored
    FROM crowded AS o
    JOIN alloc_hold AS h USING (charge_no, device_no)
    WHERE h.units > 0
), ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY charge_no, device_no
            ORDER BY alloc_rest(total // w, total % w, units, w, floored) DESC, holder_no
        ) AS rank,
        total - sum(floored) OVER (PARTITION BY charge_no, device_no) AS leftover
    FROM scaled
), held AS (
    SELECT
        h.* EXCLUDE (units),
        coalesce(r.floored + CAST(r.rank <= r.leftover AS INTEGER), h.units) AS units,
        r.w IS NOT NULL AS capped
    FROM alloc_hold AS h
    LEFT JOIN ranked AS r USING (charge_no, device_no, holder_no)
), claimed AS (
    SELECT
        charge_no,
        resource,
        holder_no,
        CASE
            WHEN resource = 1 THEN greatest(sum(units) FILTER (device_no > 0), sum(units) FILTER (device_no = 0))
            ELSE greatest((sum(requested) + 50000) // 100000, (alloc_int14(sum(used)) + 50000) // 100000)
        END AS units,
        sum(unknown) > 0 AS unknown,
        bool_or(capped) AS capped,
        sum(requested) AS requested,
        sum(used) AS used,
        sum(units_measured) AS units_measured
    FROM held
    GROUP BY charge_no, resource, holder_no
), counted AS (
    SELECT
        *,
        CAST(CASE WHEN resource = 1 THEN 63000000000000000 ELSE 1000000000000000 END AS HUGEINT) AS lot,
        units // CASE WHEN resource = 1 THEN 63000000000000000 ELSE 1000000000000000 END AS lots
    FROM claimed
)
SELECT
    *,
    lots * lot = units AS whole_lots,
    CASE
        WHEN lots * lot = units OR units % 1000000 = 0 THEN 1000000
        WHEN units % 1000 = 0 THEN 1000
        ELSE 1
    END AS factor,
    alloc_nano_hours(units, lots, lot) AS nano_hours
FROM counted
