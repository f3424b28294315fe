-- One row per replica and interval, in the columns of token_interval. A disaggregated request is counted once: its
-- input where it was prefilled, its output and itself where it was decoded.
wide AS (
    SELECT replica, start, "end",
        {columns}
    FROM cell GROUP BY replica, start, "end"
)
SELECT
    {given}
FROM wide AS w
JOIN replica_told AS i USING (replica)
{buckets}
WHERE coalesce({needed}) IS NOT NULL
