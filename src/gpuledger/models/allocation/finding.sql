-- What a reader of the batch's rows should know: how many charges each finding concerns, and one of them.
WITH finding AS (
    SELECT 'not-seen' AS code, charge_no FROM alloc_weight WHERE seen_us = 0
    UNION ALL
    SELECT 'no-ratio', charge_no FROM alloc_weight WHERE seen_us > 0 AND part IS NULL AND NOT priced
    UNION ALL
    SELECT 'shape-unknown', charge_no FROM alloc_weight
    WHERE seen_us > 0 AND CASE part
        WHEN 'gpu' THEN gpu IS NULL WHEN 'cpu' THEN cpu IS NULL WHEN 'memory' THEN memory IS NULL
        ELSE gpu IS NULL OR cpu IS NULL OR memory IS NULL
    END
    UNION ALL
    SELECT DISTINCT 'over-capacity', r.charge_no FROM alloc_total AS t JOIN alloc_run AS r ON r.leader_no = t.charge_no
    WHERE crowded
    UNION ALL
    SELECT DISTINCT 'claim-unknown', r.charge_no FROM alloc_total AS t JOIN alloc_run AS r ON r.leader_no = t.charge_no
    WHERE remainder_no = 2147483647
)
SELECT code, count(*), min(concat(c.cluster, '/', c.node, ' at ', make_timestamptz(c.start_us)))
FROM finding
JOIN alloc_charge AS c USING (charge_no)
GROUP BY code
