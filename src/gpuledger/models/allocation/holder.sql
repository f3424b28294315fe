-- The combinations of `alloc_tag` with numbers: who holds (numbered in the order that settles ties), which machine,
-- which device, and how many units of a card (63e9 are one) each moment holds, by the rules of
-- gpuledger.core.sharing.held_units; null where that can't be told.
WITH machine AS (
    SELECT cluster, node, min(charge_no) AS machine_no FROM alloc_charge GROUP BY cluster, node
), card AS (
    SELECT
        *,
        CAST(dense_rank() OVER (
            ORDER BY
                job_id NULLS FIRST, pod_uid NULLS FIRST, namespace NULLS FIRST, pod NULLS FIRST, container NULLS FIRST,
                attempt NULLS FIRST, state NULLS FIRST
        ) AS INTEGER) AS holder_no,
        CAST(dense_rank() OVER (ORDER BY device) AS INTEGER) AS device_no,
        (2 * CAST(share_numerator AS HUGEINT) * 63000000000 + share_denominator) // (2 * share_denominator) AS share,
        alloc_int14(requested) AS requested14
    FROM alloc_tag
)
SELECT
    c.* EXCLUDE (device, device_no, resource, share),
    m.machine_no,
    CASE resource WHEN 'gpu' THEN 1 WHEN 'cpu' THEN 2 ELSE 3 END AS resource,
    CASE WHEN device IS NOT NULL AND resource = 'gpu' THEN device_no ELSE 0 END AS device_no,
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
