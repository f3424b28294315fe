-- Hours are counted from 1970; a period that touches several hours is spread over all of them.
CREATE OR REPLACE MACRO unit_hour(t) AS epoch_us(t) // 3600000000;
CREATE OR REPLACE MACRO unit_hours(since, until) AS
    greatest(1, (epoch_us(until) + 3599999999) // 3600000000 - epoch_us(since) // 3600000000);
-- The k-th of n even pieces of an amount, whose sum is the amount.
CREATE OR REPLACE MACRO unit_cut18(amount, k, n) AS
    CASE
        WHEN n = 1 OR amount = 0 THEN CAST(amount AS DECIMAL(38, 18))
        ELSE CAST(sign(amount) AS INTEGER) * CAST(alloc_dec18(
            alloc_int18(abs(amount)) * (k + 1) // n - alloc_int18(abs(amount)) * k // n
        ) AS DECIMAL(38, 18))
    END;
CREATE OR REPLACE MACRO unit_cut14(amount, k, n) AS
    CASE
        WHEN n = 1 OR amount = 0 THEN CAST(amount AS DECIMAL(38, 14))
        ELSE CAST(sign(amount) AS INTEGER) * alloc_dec14(
            alloc_int14(abs(amount)) * (k + 1) // n - alloc_int14(abs(amount)) * k // n
        )
    END;
-- The piece of an amount from one cumulated weight to another, of a whole weight. Weights are of an hour, a day or a
-- month of one owner: below the root of 2^127 (1.3e19), so that no product overflows.
CREATE OR REPLACE MACRO unit_floor(n, weight, whole) AS n // whole * weight + n % whole * weight // whole;
CREATE OR REPLACE MACRO unit_share18(amount, since, until, whole) AS
    CASE
        WHEN since = 0 AND until = whole THEN CAST(amount AS DECIMAL(38, 18))
        ELSE CAST(sign(amount) AS INTEGER) * CAST(alloc_dec18(
            unit_floor(alloc_int18(abs(amount)), until, whole) - unit_floor(alloc_int18(abs(amount)), since, whole)
        ) AS DECIMAL(38, 18))
    END;
CREATE OR REPLACE MACRO unit_share14(amount, since, until, whole) AS
    CASE
        WHEN since = 0 AND until = whole THEN CAST(amount AS DECIMAL(38, 14))
        ELSE CAST(sign(amount) AS INTEGER) * alloc_dec14(
            unit_floor(alloc_int14(abs(amount)), until, whole) - unit_floor(alloc_int14(abs(amount)), since, whole)
        )
    END;
