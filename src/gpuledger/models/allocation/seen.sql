-- How long, and with what capacity, each charge's machine was seen. Capacity is in units times microseconds: 63e9
-- units a card, 1e9 a core and a GiB; null when any moment's is unknown.
WITH moment AS (
    SELECT
        c.charge_no,
        least(m.to_us, c.end_us) - greatest(m.from_us, c.start_us) AS span_us,
        coalesce(m.gpu14, c.gpu14) AS gpu14,
        m.cpu14,
        m.memory14,
        m.gpu_model,
        m.instance_type,
        m.region
    FROM alloc_charge AS c
    JOIN alloc_machine AS m ON m.cluster = c.cluster AND m.node = c.node
        AND m.from_us < c.end_us AND m.to_us > c.start_us
)
SELECT
    charge_no,
    CAST(sum(span_us) AS BIGINT) AS seen_us,
    CASE WHEN count(*) = count(gpu14) THEN (sum(gpu14 * span_us) * 63 + 50000) // 100000 END AS gpu,
    CASE WHEN count(*) = count(cpu14) THEN (sum(cpu14 * span_us) + 50000) // 100000 END AS cpu,
    CASE WHEN count(*) = count(memory14) THEN (sum(memory14 * span_us) + 50000) // 100000 END AS memory,
    min(gpu_model) AS gpu_model,
    min(instance_type) AS instance_type,
    min(region) AS region
FROM moment
GROUP BY charge_no
