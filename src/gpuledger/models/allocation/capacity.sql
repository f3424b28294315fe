-- What there is of each resource in each shape that the batch's charges have, with the figures that only depend on it.
WITH capacity AS (
    SELECT
        shape_no,
        unnest([1, 2, 3]) AS resource,
        unnest([gpu, cpu, memory]) AS capacity,
        -- A card-, core- or GiB-second in units times microseconds.
        unnest(CAST([63000000000000000, 1000000000000000, 1000000000000000] AS HUGEINT[])) AS lot
    FROM (SELECT DISTINCT shape_no, gpu, cpu, memory FROM alloc_weight)
)
SELECT
    *,
    CASE
        WHEN capacity % lot = 0 THEN lot
        WHEN capacity % 1000000 = 0 THEN 1000000
        WHEN capacity % 1000 = 0 THEN 1000
        ELSE 1
    END AS divisor,
    alloc_nano_hours(capacity, capacity // lot, lot) AS nano_hours
FROM capacity
WHERE capacity > 0
