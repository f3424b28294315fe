-- Usage rows cut at the edges of buckets and summed where all they say is equal: twelve rows of five minutes become
-- one. Rows that span buckets are looked for only where there are any.
WITH told AS NOT MATERIALIZED (
    SELECT {sameness} AS sameness, epoch_us("start") AS start_us, epoch_us("end") AS end_us, used
    FROM {usage}
    WHERE {during} AND resource IN ('gpu', 'cpu', 'memory')
), bucketed AS (
    SELECT sameness, start_us // {grid} AS bucket, start_us, end_us, used
    FROM told
    WHERE start_us // {grid} = (end_us - 1) // {grid}
    UNION ALL
    SELECT
        sameness, bucket, greatest(start_us, bucket * {grid}) AS start_us, least(end_us, (bucket + 1) * {grid}) AS end_us, used
    FROM (
        SELECT
            *,
            unnest(range(
                greatest(start_us // {grid}, {since_us} // {grid}), least((end_us - 1) // {grid}, ({until_us} - 1) // {grid}) + 1
            )) AS bucket
        FROM told
        WHERE {spanning} AND start_us // {grid} <> (end_us - 1) // {grid}
    )
)
SELECT sameness, bucket, {span}, count(*) AS samples, count(used) AS samples_used, sum(used) AS used
FROM bucketed
GROUP BY ALL
