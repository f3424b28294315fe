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
-- The piece of an amount from one cumulated weight to another, of a whole weight.
CREATE OR REPLACE MACRO unit_share18(amount, since, until, whole) AS
    CASE
        WHEN amount IS NULL THEN NULL
        WHEN since = 0 AND until = whole THEN CAST(amount AS DECIMAL(38, 18))
        ELSE CAST(sign(amount) AS INTEGER) * CAST(alloc_dec18(
            alloc_floor(alloc_int18(abs(amount)) // whole, alloc_int18(abs(amount)) % whole, until, whole)
            - alloc_floor(alloc_int18(abs(amount)) // whole, alloc_int18(abs(amount)) % whole, since, whole)
        ) AS DECIMAL(38, 18))
    END;
CREATE OR REPLACE MACRO unit_share14(amount, since, until, whole) AS
    CASE
        WHEN amount IS NULL THEN NULL
        WHEN since = 0 AND until = whole THEN CAST(amount AS DECIMAL(38, 14))
        ELSE CAST(sign(amount) AS INTEGER) * alloc_dec14(
            alloc_floor(alloc_int14(abs(amount)) // whole, alloc_int14(abs(amount)) % whole, until, whole)
            - alloc_floor(alloc_int14(abs(amount)) // whole, alloc_int14(abs(amount)) % whole, since, whole)
        )
    END;
