-- The combinations of `alloc_tag` with numbers: who holds, which machine, which device, and how many units of a card (63e9 are one) each moment holds, by the rules of
-- gpuledger.core.sharing.held_units; null where that can't be told.
WITH machine AS (
    SELECT cluster, node, min(charge_no) AS machine_no FROM alloc_charge GROUP BY cluster, node
), device AS (
    SELECT device, CAST(row_number() OVER () AS INTEGER) AS device_no
    FROM (SELECT DISTINCT device FROM alloc_tag WHERE resource = 'gpu' AND device IS NOT NULL)
), card AS (
    SELECT
        t.*,
        w.holder_no,
        coalesce(d.device_no, 0) AS device_no,
        (2 * CAST(share_numerator AS HUGEINT) * 63000000000 + share_denominator) // (2 * share_denominator) AS share,
        alloc_int14(requested) AS requested14
    FROM alloc_tag AS t
    JOIN alloc_who AS w ON w.job_id IS NOT DISTINCT FROM t.job_id AND w.pod_uid IS NOT DISTINCT FROM t.pod_uid
        AND w.namespace IS NOT DISTINCT FROM t.namespace AND w.pod IS NOT DISTINCT FROM t.pod
        AND w.container IS NOT DISTINCT FROM t.container AND w.attempt IS NOT DISTINCT FROM t.attempt
        AND w.state IS NOT DISTINCT FROM t.state
    LEFT JOIN device AS d ON d.device = t.device AND t.resource = 'gpu'
)
SELECT
    sameness,
    holder_no,
    device_no,
    requested14,
    m.machine_no,
    CASE resource WHEN 'gpu' THEN 1 WHEN 'cpu' THEN 2 ELSE 3 END AS resource,
    CASE
        WHEN resource <> 'gpu' THEN NULL
        WHEN device IS NOT NULL THEN coalesce(share, CASE WHEN coalesce(sharing, 'whole') = 'whole' THEN 63000000000 END)
        WHEN requested14 IS NULL THEN share
        WHEN share < 63000000000 AND requested14 >= 100000000000000 AND requested14 % 100000000000000 = 0
            THEN share * (requested14 // 100000000000000)
        WHEN requested14 < 0 OR (
            share IS NULL AND coalesce(sharing, 'whole') <> 'whole' AND requested14 % 100000000000000 = 0
        ) THEN NULL
        ELSE (requested14 * 63 + 50000) // 100000
    END AS units
FROM card AS c
JOIN machine AS m ON m.cluster = c.cluster AND m.node = c.node
