-- Weights of a charge's GPU, CPU and memory parts: unit price times capacity, in lowest terms. The price is the newest
-- of the best match (type and region, type, region, model, any) that isn't later than the charge. A charge for one
-- part alone needs no price.
WITH price AS (
    SELECT
        instance_type,
        region,
        gpu_model,
        coalesce(epoch_us(valid_from), -9223372036854775807) AS from_us,
        (alloc_int14(gpu) + 50000) // 100000 AS gpu,
        (alloc_int14(cpu) + 50000) // 100000 AS cpu,
        (alloc_int14(memory) + 50000) // 100000 AS memory
    FROM {prices}
), candidate AS (
    SELECT
        s.instance_type,
        s.region,
        s.gpu_model,
        p.from_us,
        CAST([
            CAST(p.instance_type IS NOT NULL AS INTEGER) * 4 + CAST(p.region IS NOT NULL AS INTEGER) * 2
                + CAST(p.gpu_model IS NOT NULL AS INTEGER),
            p.from_us, coalesce(p.gpu, 0), coalesce(p.cpu, 0), coalesce(p.memory, 0)
        ] AS HUGEINT[]) AS ranked
    FROM (SELECT DISTINCT instance_type, region, gpu_model FROM alloc_seen) AS s
    JOIN price AS p ON (p.instance_type IS NULL OR lower(p.instance_type) = lower(s.instance_type))
        AND (p.region IS NULL OR lower(p.region) = lower(s.region))
        AND (p.gpu_model IS NULL OR lower(p.gpu_model) = lower(s.gpu_model))
), chosen AS (
    SELECT s.charge_no, max(ranked) AS ranked
    FROM alloc_seen AS s
    JOIN alloc_charge AS c USING (charge_no)
    JOIN candidate AS p ON p.instance_type IS NOT DISTINCT FROM s.instance_type
        AND p.region IS NOT DISTINCT FROM s.region AND p.gpu_model IS NOT DISTINCT FROM s.gpu_model
        AND p.from_us <= c.start_us
    GROUP BY s.charge_no
), asked AS (
    SELECT
        c.charge_no,
        c.part,
        coalesce(s.seen_us, 0) AS seen_us,
        greatest(c.machine_us - coalesce(s.seen_us, 0), 0) AS unseen_us,
        s.gpu,
        s.cpu,
        s.memory,
        p.ranked
    FROM alloc_charge AS c
    LEFT JOIN alloc_seen AS s USING (charge_no)
    LEFT JOIN chosen AS p USING (charge_no)
), shape AS (
    SELECT
        *,
        coalesce(CASE WHEN part IS NULL THEN ranked[3] * (gpu // 1000) WHEN part = 'gpu' THEN gpu END, 0) AS wg,
        coalesce(CASE WHEN part IS NULL THEN ranked[4] * 63 * (cpu // 1000) WHEN part = 'cpu' THEN cpu END, 0) AS wc,
        coalesce(CASE WHEN part IS NULL THEN ranked[5] * 63 * (memory // 1000) WHEN part = 'memory' THEN memory END, 0) AS wm
    FROM (SELECT DISTINCT part, gpu, cpu, memory, ranked FROM asked)
), reduced AS (
    SELECT
        * EXCLUDE (wg, wc, wm),
        CAST(row_number() OVER () AS INTEGER) AS shape_no,
        wg // common AS weight_gpu,
        wc // common AS weight_cpu,
        wm // common AS weight_memory
    FROM shape, LATERAL (SELECT greatest(gcd(gcd(wg, wc), wm), 1) AS common)
)
SELECT
    a.charge_no, a.part, a.seen_us, a.unseen_us, a.gpu, a.cpu, a.memory,
    a.ranked IS NOT NULL AS priced,
    r.shape_no, r.weight_gpu, r.weight_cpu, r.weight_memory
FROM asked AS a
JOIN reduced AS r ON r.part IS NOT DISTINCT FROM a.part AND r.gpu IS NOT DISTINCT FROM a.gpu
    AND r.cpu IS NOT DISTINCT FROM a.cpu AND r.memory IS NOT DISTINCT FROM a.memory
    AND r.ranked IS NOT DISTINCT FROM a.ranked
