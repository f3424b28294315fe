-- What each holder held of each charge's machine, by device (0: none named): units times microseconds as in alloc_seen;
-- what was asked for (in 1e-14) and used (a decimal) times microseconds. `unknown` counts moments in which the held part can't be told.
WITH slot AS (
    SELECT
        charge_no,
        min(charge_no) OVER (PARTITION BY cluster, node) AS machine_no,
        start_us,
        end_us,
        unnest(range(start_us // {grid}, (end_us - 1) // {grid} + 1)) AS bucket
    FROM alloc_charge
), moment AS (
    SELECT
        s.charge_no,
        t.holder_no,
        t.resource,
        t.device_no,
        t.units,
        t.requested14,
        p.samples,
        p.samples_used,
        p.used,
        {held_us} AS held_us
    FROM alloc_piece AS p
    JOIN alloc_holder AS t USING (sameness)
    JOIN slot AS s ON s.machine_no = t.machine_no AND s.bucket = p.bucket
)
SELECT
    charge_no,
    holder_no,
    resource,
    device_no,
    sum(units * (samples * held_us)) AS units,
    count(*) FILTER (resource = 1 AND units IS NULL) AS unknown,
    sum(requested14 * (samples * held_us)) AS requested,
    sum(used * CAST(held_us AS DECIMAL(18, 0))) AS used,
    sum(units * (samples_used * held_us)) FILTER (samples_used > 0) AS units_measured
FROM moment
WHERE held_us > 0
GROUP BY charge_no, holder_no, resource, device_no
