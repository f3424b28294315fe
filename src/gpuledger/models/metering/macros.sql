-- Exact arithmetic of cut hours on integers; `gpuledger.core.metering` is the reference. Marks are hours since the
-- clock hour began, in units of the 14th decimal; what lies between two of them is their difference.
CREATE OR REPLACE TEMP MACRO metered_mark(moment, hour) AS (
    (CAST(epoch_us(moment) - epoch_us(hour) AS HUGEINT) * 100000000000000 + 1800000000) // 3600000000
);
CREATE OR REPLACE TEMP MACRO metered_quantity(mark) AS (
    CAST(CAST(mark AS DECIMAL(38, 0)) * CAST(0.00000000000001 AS DECIMAL(14, 14)) AS DECIMAL(38, 14))
);
-- A price of `units` and `rest` (units of the 18th decimal) for `mark` hours, in units of the 18th decimal, half up.
CREATE OR REPLACE TEMP MACRO metered_until(units, rest, mark) AS (
    CAST(units AS HUGEINT) * mark * 10000
    + (CAST(rest AS HUGEINT) * mark + 50000000000000) // 100000000000000
);
CREATE OR REPLACE TEMP MACRO metered_money(units) AS (
    CAST(CAST(units AS DECIMAL(38, 0)) * CAST(0.000000000000000001 AS DECIMAL(18, 18)) AS DECIMAL(38, 18))
);
CREATE OR REPLACE TEMP MACRO metered_units(amount) AS (
    CAST(trunc(amount) AS HUGEINT) * 1000000000000000000
    + CAST((amount - trunc(amount)) * 1000000000000000000 AS HUGEINT)
);
CREATE OR REPLACE TEMP MACRO metered_cost(price, first, last) AS (
    CAST(
        metered_money(
            metered_until(price.units, price.rest, last) - metered_until(price.units, price.rest, first)
        ) AS DECIMAL(32, 18)
    )
);
-- Hours of `cards` (units of the 14th decimal) for `mark` hours, in units of the 14th decimal, half up.
CREATE OR REPLACE TEMP MACRO metered_cards(cards, mark) AS (
    (CAST(cards AS HUGEINT) * mark + 50000000000000) // 100000000000000
);
