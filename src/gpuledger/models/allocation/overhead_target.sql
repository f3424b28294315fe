-- Who shares a charge of no machine: the jobs that cost something in its cluster while it ran.
WITH charge AS (
    SELECT charge_id, cluster, epoch_us(ChargePeriodStart) AS start_us, epoch_us(ChargePeriodEnd) AS end_us FROM {charges}
), cost AS (
    SELECT
        cluster,
        job_id,
        epoch_us("start") AS start_us,
        epoch_us("end") AS end_us,
        epoch_us("end") - epoch_us("start") AS span_us,
        alloc_int18(weight) AS weight
    FROM {weights}
    WHERE job_id IS NOT NULL AND "end" > "start" AND weight > 0
), part AS (
    SELECT
        c.charge_id,
        w.job_id,
        alloc_floor(
            w.weight // w.span_us, w.weight % w.span_us,
            least(w.end_us, c.end_us) - greatest(w.start_us, c.start_us), CAST(w.span_us AS HUGEINT)
        ) AS part
    FROM charge AS c
    JOIN cost AS w ON (c.cluster IS NULL OR w.cluster = c.cluster) AND w.start_us < c.end_us AND w.end_us > c.start_us
)
SELECT charge_id AS source_key, job_id AS target, job_id, job_id AS name, {weight} AS weight
FROM part
GROUP BY charge_id, job_id
