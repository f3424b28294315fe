-- Who shares the idle part of a charge: the jobs that held the same machine then, by their ratio of it or evenly.
SELECT source_key, target, job_id, name, CAST({weight} AS HUGEINT) AS weight
FROM (
    SELECT
        c.charge_id AS source_key,
        coalesce(h.job_id, c.cluster || '/unnamed') AS target,
        any_value(h.job_id) AS job_id,
        any_value(h.job_id) AS name,
        sum(s.amount) AS ratio
    FROM alloc_share AS s
    JOIN alloc_run AS n ON n.leader_no = s.charge_no
    JOIN alloc_charge AS c ON c.charge_no = n.charge_no
    JOIN alloc_who AS h USING (holder_no)
    WHERE s.amount_no = 1
    GROUP BY 1, 2
)
