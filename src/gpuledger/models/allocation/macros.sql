-- Exact arithmetic of the allocation, on integers. Money counts in 1e-18 of a currency unit, quantities in 1e-14.

-- A decimal of 18 (14) digits as an integer, and back. Whole part and fraction apart: the product would overflow.
CREATE OR REPLACE MACRO alloc_int18(x) AS
    CAST(trunc(x) AS HUGEINT) * 1000000000000000000
    + CAST((x - trunc(x)) * CAST(1000000000000000000 AS DECIMAL(19, 0)) AS HUGEINT);
CREATE OR REPLACE MACRO alloc_int14(x) AS
    CAST(trunc(x) AS HUGEINT) * 100000000000000
    + CAST((x - trunc(x)) * CAST(100000000000000 AS DECIMAL(15, 0)) AS HUGEINT);
CREATE OR REPLACE MACRO alloc_dec18(n) AS
    CAST(CAST(n AS DECIMAL(38, 0)) * CAST(0.000000000000000001 AS DECIMAL(18, 18)) AS DECIMAL(32, 18));
CREATE OR REPLACE MACRO alloc_dec14(n) AS
    CAST(CAST(n AS DECIMAL(38, 0)) * CAST(0.00000000000001 AS DECIMAL(14, 14)) AS DECIMAL(38, 14));

-- The primitive: floor(total * weight / whole) for 0 <= weight <= whole, exact where the product would overflow.
-- q = total // whole, r = total % whole, so q * weight fits; r * weight fits 64 bits (much faster) while whole is below
-- the root of 2^63, and 128 bits below the root of 2^127. Above, r * weight // whole is long division in thousands of the weight, for whole below 8e34.
CREATE OR REPLACE MACRO alloc_floor(q, r, weight, whole) AS
    q * weight + CASE
        WHEN whole <= 3037000499 THEN (CAST(r AS BIGINT) * CAST(weight AS BIGINT)) // CAST(whole AS BIGINT)
        WHEN whole <= 13043817825332782212 THEN (r * weight) // whole
        ELSE alloc_long(r, weight, whole)
    END;
-- What that floor left, as a numerator over `whole`: the fraction by which leftover units are ranked.
CREATE OR REPLACE MACRO alloc_rest(q, r, weight, whole, floored) AS
    CASE
        WHEN whole <= 13043817825332782212 THEN r * weight - (floored - q * weight) * whole
        ELSE alloc_long_rest(r, weight, whole)
    END;

-- Thousands of a weight, from the highest; each step's remainder is below `whole`.
CREATE OR REPLACE MACRO alloc_digit(weight, place) AS (weight // place) % 1000;
CREATE OR REPLACE MACRO alloc_long_steps(r, weight, whole) AS
    list_reduce(
        [
            struct_pack(q := CAST(0 AS HUGEINT), r := CAST(0 AS HUGEINT), d := CAST(0 AS HUGEINT))
        ] || list_transform(
            [
                CAST('1000000000000000000000000000000000' AS HUGEINT),
                CAST('1000000000000000000000000000000' AS HUGEINT),
                CAST('1000000000000000000000000000' AS HUGEINT),
                CAST('1000000000000000000000000' AS HUGEINT),
                CAST('1000000000000000000000' AS HUGEINT),
                CAST(1000000000000000000 AS HUGEINT), CAST(1000000000000000 AS HUGEINT),
                CAST(1000000000000 AS HUGEINT), CAST(1000000000 AS HUGEINT), CAST(1000000 AS HUGEINT),
                CAST(1000 AS HUGEINT), CAST(1 AS HUGEINT)
            ],
            lambda place: struct_pack(
                q := CAST(0 AS HUGEINT), r := CAST(0 AS HUGEINT), d := alloc_digit(weight, place)
            )
        ),
        lambda done, next: struct_pack(
            q := done.q * 1000 + (done.r * 1000 + r * next.d) // whole,
            r := (done.r * 1000 + r * next.d) % whole,
            d := next.d
        )
    );
CREATE OR REPLACE MACRO alloc_long(r, weight, whole) AS struct_extract(alloc_long_steps(r, weight, whole), 'q');
CREATE OR REPLACE MACRO alloc_long_rest(r, weight, whole) AS struct_extract(alloc_long_steps(r, weight, whole), 'r');

-- Units times microseconds in billionths of an hour, rounded half up. Most are whole lots, of a second each, and few:
-- they take the way of 64 bits, which is several times faster.
CREATE OR REPLACE MACRO alloc_nano_hours(units, lots, lot) AS
    CAST(CASE
        WHEN lots * lot = units AND lots < 4000000000
            THEN (CAST(lots AS BIGINT) * 2000000000 + 3600) // 7200
        ELSE (units * 5000000 + lot * 9) // (lot * 18)
    END AS BIGINT);
-- The same of cards used, times microseconds.
CREATE OR REPLACE MACRO alloc_used_hours(used) AS (CAST(CAST(used AS HUGEINT) AS BIGINT) * 10 + 18) // 36;
CREATE OR REPLACE MACRO alloc_nano(n) AS CAST(n * CAST(0.000000001 AS DECIMAL(18, 9)) AS DECIMAL(38, 14));

-- Ratios (in 1e-18) and billionths as text, without trailing zeros. Most have none to trim and none to put before.
CREATE OR REPLACE MACRO alloc_ratio_text(n) AS
    CASE
        WHEN n IS NULL THEN NULL
        WHEN n = 0 THEN '0'
        WHEN n = 1000000000000000000 THEN '1'
        WHEN n >= 100000000000000000 AND n % 10 <> 0 THEN concat('0.', CAST(n AS VARCHAR))
        ELSE concat('0.', rtrim(right(CAST(1000000000000000000 + n AS VARCHAR), 18), '0'))
    END;
CREATE OR REPLACE MACRO alloc_nano_text(n) AS
    CASE
        WHEN n % 1000000000 = 0 THEN CAST(n // 1000000000 AS VARCHAR)
        ELSE concat(CAST(n // 1000000000 AS VARCHAR), '.', rtrim(right(CAST(1000000000 + n % 1000000000 AS VARCHAR), 9), '0'))
    END;
-- One element of AllocatedMethodDetails; `unit` is the text between the numbers.
CREATE OR REPLACE MACRO alloc_element(ratio, unit, nano_hours) AS
    CASE
        WHEN ratio IS NOT NULL
            THEN concat('{"AllocatedRatio":', alloc_ratio_text(CAST(ratio AS BIGINT)), unit, alloc_nano_text(nano_hours), '}')
    END;
-- An apportioned amount with its origin's sign; none of a zero is zero, of an unknown unknown.
CREATE OR REPLACE MACRO alloc_signed(origin, part) AS
    CASE WHEN origin > 0 THEN coalesce(part, 0) WHEN origin < 0 THEN -coalesce(part, 0) WHEN origin = 0 THEN 0 END;
-- FOCUS' AllocatedResourceId of a holder: unique within a machine and a period.
CREATE OR REPLACE MACRO alloc_resource_id(cluster, job_id, pod_uid, namespace, pod, container, attempt) AS
    CASE
        WHEN pod_uid IS NOT NULL THEN concat(cluster, '/', pod_uid)
        WHEN pod IS NOT NULL THEN concat(cluster, '/', namespace || '/', pod)
        ELSE coalesce(job_id, cluster || '/unnamed') || CASE WHEN attempt <> 1 THEN '/' || attempt ELSE '' END
    END || coalesce('/' || container, '');
-- The widest bucket in microseconds that a period is made of; 0: none of them, -1: it isn't a period.
CREATE OR REPLACE MACRO alloc_grid(start_us, end_us) AS
    CASE
        WHEN NOT coalesce(start_us < end_us, false) THEN -1
        WHEN start_us % 86400000000 = 0 AND end_us % 86400000000 = 0 THEN 86400000000
        WHEN start_us % 3600000000 = 0 AND end_us % 3600000000 = 0 THEN 3600000000
        WHEN start_us % 900000000 = 0 AND end_us % 900000000 = 0 THEN 900000000
        WHEN start_us % 300000000 = 0 AND end_us % 300000000 = 0 THEN 300000000
        WHEN start_us % 60000000 = 0 AND end_us % 60000000 = 0 THEN 60000000
        ELSE 0
    END;
