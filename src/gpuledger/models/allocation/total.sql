-- What is claimed of each charge's resources beside what there is. `whole` is the larger, so idle is never negative.
-- Weights leave `divisor` out: a card-, core- or GiB-second where all are whole, else a second or a millisecond.
WITH claimed AS (
    SELECT
        charge_no,
        resource,
        coalesce(sum(units) FILTER (units > 0), 0) AS claimed,
        count(*) FILTER (units > 0) AS claims,
        bool_or(unknown OR units IS NULL) AS unknown,
        bool_or(capped) AS capped,
        bool_and(whole_lots) IS NOT false AS whole_lots,
        min(factor) AS factor
    FROM alloc_claim
    JOIN alloc_run USING (charge_no)
    WHERE leader_no = charge_no
    GROUP BY charge_no, resource
), total AS (
    SELECT
        w.charge_no,
        c.resource,
        c.capacity,
        c.lot,
        c.nano_hours AS capacity_nano,
        coalesce(k.claimed, 0) AS claimed,
        coalesce(k.claims, 0) AS claims,
        coalesce(k.unknown, false) AS unknown,
        coalesce(k.capped, false) AS capped,
        CASE
            WHEN k.charge_no IS NULL OR k.whole_lots AND c.divisor = c.lot THEN c.divisor
            ELSE least(k.factor, c.divisor)
        END AS divisor
    FROM alloc_weight AS w
    JOIN alloc_run AS r USING (charge_no)
    JOIN alloc_capacity AS c USING (shape_no)
    LEFT JOIN claimed AS k ON k.charge_no = w.charge_no AND k.resource = c.resource
    WHERE r.leader_no = r.charge_no
), remaining AS (
    SELECT *, CASE WHEN capacity > claimed THEN capacity - claimed END AS remainder FROM total
), lots AS (
    SELECT *, CASE WHEN claims > 0 THEN remainder // lot END AS lots FROM remaining
)
SELECT
    charge_no,
    resource,
    remainder,
    CASE WHEN unknown THEN 2147483647 ELSE 2147483646 END AS remainder_no,
    CASE WHEN claims = 0 THEN capacity_nano ELSE alloc_nano_hours(remainder, lots, lot) END AS nano_hours,
    CASE WHEN divisor = lot THEN lots ELSE remainder // divisor END AS weight,
    CASE WHEN claims > 0 THEN greatest(capacity, claimed) // divisor END AS whole,
    capped OR claimed > capacity AS crowded,
    claims,
    divisor
FROM lots
