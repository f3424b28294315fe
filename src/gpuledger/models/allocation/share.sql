-- Each part of each amount among the claims on it and what nobody holds, by largest remainder: floors first, then one
-- leftover unit each to the largest remainders, ties in the holders' order, idle last. Only amounts above zero are listed.
WITH quotient AS (
    SELECT p.charge_no, p.amount_no, p.resource, p.amount, t.whole AS w, p.amount // t.whole AS q
    FROM alloc_part AS p
    JOIN alloc_total AS t USING (charge_no, resource)
    WHERE t.claims > 1 OR t.claims = 1 AND t.remainder IS NOT NULL
), part AS (
    SELECT *, amount - q * w AS r FROM quotient
), weight AS (
    SELECT
        charge_no, resource, k.holder_no, CASE WHEN t.divisor = k.lot THEN k.lots ELSE k.units // t.divisor END AS weight
    FROM alloc_claim AS k
    JOIN alloc_total AS t USING (charge_no, resource)
    WHERE k.units > 0
    UNION ALL
    SELECT charge_no, resource, remainder_no, weight FROM alloc_total WHERE claims > 0 AND remainder IS NOT NULL
), weighed AS (
    SELECT p.charge_no, p.amount_no, p.resource, k.holder_no, p.q, p.r, p.w, k.weight
    FROM part AS p
    JOIN weight AS k USING (charge_no, resource)
), floored AS (
    SELECT *, alloc_floor(q, r, weight, w) AS floored FROM weighed
), rest AS (
    SELECT *, alloc_rest(q, r, weight, w, floored) AS rest FROM floored
), ranked AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY charge_no, resource, amount_no ORDER BY rest DESC, holder_no) AS rank,
        sum(rest) OVER (PARTITION BY charge_no, resource, amount_no) AS rests
    FROM rest
)
SELECT charge_no, amount_no, resource, holder_no, floored + CAST(rank * w <= rests AS INTEGER) AS amount
FROM ranked
WHERE floored > 0 OR rank * w <= rests
UNION ALL
-- Nobody holds any of it, or one has all, or it wasn't seen.
SELECT p.charge_no, p.amount_no, p.resource, t.remainder_no, p.amount
FROM alloc_part AS p
JOIN alloc_total AS t USING (charge_no, resource)
WHERE t.claims = 0
UNION ALL
SELECT p.charge_no, p.amount_no, p.resource, k.holder_no, p.amount
FROM alloc_part AS p
JOIN alloc_total AS t USING (charge_no, resource)
JOIN alloc_claim AS k USING (charge_no, resource)
WHERE t.claims = 1 AND t.remainder IS NULL AND k.units > 0
UNION ALL
SELECT charge_no, amount_no, resource, 2147483647 AS holder_no, amount FROM alloc_part WHERE resource = 4
