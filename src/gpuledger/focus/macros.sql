-- Macros that every connection has: text of a bill to exact values. They never fail: what can't be read is NULL, and
-- issue() says so in the row's x_DataIssues.

CREATE OR REPLACE MACRO money(t) AS TRY_CAST(t AS DECIMAL(32,18));

CREATE OR REPLACE MACRO quantity(t) AS TRY_CAST(t AS DECIMAL(38,14));

-- A zone that is missing is UTC, as FOCUS prescribes for its own times. '… +0000 UTC' is Go's form (OCI, Kubernetes).
-- A cast takes 4/1/25 for the year 4, and knows 'infinity': neither is a time of a bill. Functions only, no CASE: the
-- engine then computes each distinct text of a dictionary once.
CREATE OR REPLACE MACRO instant(t) AS
    COALESCE(
        TRY_CAST(regexp_extract(t, '^\s*[12][0-9]{3}[-/].+') AS TIMESTAMPTZ),
        TRY_CAST(replace(regexp_extract(t, '^[12][0-9]{3}[-/].+'), ' +0000 UTC', '+00') AS TIMESTAMPTZ)
    );

-- Dates as Azure's exports write them: month first with slashes (a cast would take 3/1/21 for the year 3), day first
-- with dots as in German. Other orders are the connector's business.
CREATE OR REPLACE MACRO instant_us(t) AS
    CASE
        WHEN regexp_matches(t, '^[0-9]{1,2}/[0-9]{1,2}/[0-9]{2}([^0-9]|$)')
            THEN TRY_CAST(TRY_STRPTIME(t, ['%m/%d/%y', '%m/%d/%y %H:%M:%S']) AS TIMESTAMPTZ)
        WHEN contains(t, '/') OR t[3] = '.' OR t[2] = '.'
            THEN TRY_CAST(TRY_STRPTIME(
                t, ['%m/%d/%Y', '%m/%d/%Y %H:%M:%S', '%m/%d/%Y %H:%M', '%d.%m.%Y', '%d.%m.%Y %H:%M:%S']
            ) AS TIMESTAMPTZ)
        ELSE instant(t)
    END;

-- Digits beyond the stored scale would be rounded: said, not silent. Short texts can't have that many.
CREATE OR REPLACE MACRO issue(name, t, v) AS
    CASE
        WHEN t IS NULL THEN NULL
        WHEN v IS NULL AND t NOT IN ('{}', '[]') THEN name || ': "' || left(t, 40) || '" can''t be read'
        WHEN length(t) > 19 AND length(rtrim(split_part(t, '.', 2), '0')) > 18 AND v::VARCHAR <> t
            AND TRY_CAST(t AS DOUBLE) IS NOT NULL
            THEN name || ': "' || left(t, 60) || '" has more decimals than are stored'
    END;

CREATE OR REPLACE MACRO tag_map(t) AS
    CASE
        WHEN t IS NULL OR t IN ('{}', '[]') THEN NULL
        WHEN t[1] = '[' THEN TRY(map_from_entries(from_json(t, '[{"key":"VARCHAR","value":"VARCHAR"}]')))
        ELSE TRY(from_json(t, '"MAP(VARCHAR,VARCHAR)"'))
    END;

-- A nested value as JSON: it is JSON, or what Python prints for it, as files have it that came through pandas.
CREATE OR REPLACE MACRO python_json(t) AS
    regexp_replace(regexp_replace(regexp_replace(regexp_replace(replace(regexp_replace(
        t, 'Decimal\(''([^'']*)''\)', '\1', 'g'
    ), '''', '"'), '\bNone\b', 'null', 'g'), '\bTrue\b', 'true', 'g'), '\bFalse\b', 'false', 'g'), '\bnan\b', 'null', 'g');

CREATE OR REPLACE MACRO json_text(t) AS
    CASE WHEN t IS NULL OR json_valid(t) THEN t WHEN json_valid(python_json(t)) THEN python_json(t) ELSE t END;

-- The part of a total that a piece is of its whole, to nine decimals, rounded down: parts never sum to more than the
-- total. NULL when the whole is 0, or when it doesn't fit.
CREATE OR REPLACE MACRO part_of(total, piece, whole) AS TRY(CAST(CAST(
    CAST(trunc(total * 1000000000) AS HUGEINT) * CAST(trunc(piece * 1000000000) AS HUGEINT)
    // nullif(CAST(trunc(whole * 1000000000) AS HUGEINT), 0)
    AS DECIMAL(38, 0)) * CAST(0.000000001 AS DECIMAL(9, 9)) AS DECIMAL(32, 18)));

-- Unit price times quantity, exact, then rounded to the scale of money. The product itself would need 32 decimals and
-- overflow, so whole parts and fractions are multiplied apart, in types wider than 18 digits (DuckDB doesn't widen
-- narrower ones). NULL when it doesn't fit.
CREATE OR REPLACE MACRO times(price, amount) AS TRY(CAST(
    CAST(trunc(price) AS DECIMAL(19, 0)) * CAST(trunc(amount) AS DECIMAL(19, 0))
    + CAST(trunc(price) AS DECIMAL(19, 0)) * CAST(amount - trunc(amount) AS DECIMAL(19, 14))
    + CAST(price - trunc(price) AS DECIMAL(19, 18)) * CAST(trunc(amount) AS DECIMAL(19, 0))
    + CAST(CAST(price - trunc(price) AS DECIMAL(19, 18)) * CAST(amount - trunc(amount) AS DECIMAL(19, 14)) AS DECIMAL(38, 18))
    AS DECIMAL(32, 18)));
