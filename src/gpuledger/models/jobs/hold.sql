-- What each job held between {since} and {until} (microseconds), by holder as allocation tells them apart: the larger of
-- what it held of named devices and what it asked for without one. Cards as in gpuledger.core.sharing.held_units.
WITH told AS (
    SELECT
        *,
        greatest(epoch_us("start"), {since}) AS from_us,
        least(epoch_us("end"), {until}) AS to_us,
        CASE WHEN share_denominator > 0
            THEN (2 * CAST(share_numerator AS HUGEINT) * 63000000000 + share_denominator) // (2 * share_denominator)
        END AS share,
        CAST(trunc(requested * 1000000000) AS HUGEINT) AS asked
    FROM held_usage
    WHERE "start" < make_timestamptz({until}) AND "end" > make_timestamptz({since}) AND "start" < "end"
), counted AS (
    SELECT
        *,
        to_us - from_us AS span_us,
        CASE
            WHEN resource <> 'gpu' THEN NULL
            WHEN device IS NOT NULL THEN coalesce(share, CASE WHEN coalesce(sharing, 'whole') = 'whole' THEN 63000000000 END)
            WHEN requested IS NULL THEN share
            WHEN share < 63000000000 AND requested >= 1 AND requested = trunc(requested) THEN share * CAST(trunc(requested) AS HUGEINT)
            WHEN requested < 0 OR (share IS NULL AND coalesce(sharing, 'whole') <> 'whole' AND requested = trunc(requested)) THEN NULL
            ELSE asked * 63
        END AS units
    FROM told
), holder AS (
    SELECT
        job_id, cluster, node, pod_uid, namespace, pod, attempt, state,
        min(from_us) AS from_us,
        max(to_us) AS to_us,
        sum(units * span_us) FILTER (device IS NOT NULL) AS named,
        sum(units * span_us) FILTER (device IS NULL) AS unnamed,
        bool_or(resource = 'gpu' AND units IS NULL) AS unclear,
        sum(CAST(trunc(used * 1000000000) AS HUGEINT) * 63 * span_us) FILTER (resource = 'gpu') AS used,
        bool_or(resource = 'gpu') AS gpu
    FROM counted
    GROUP BY job_id, cluster, node, pod_uid, namespace, pod, attempt, state
)
SELECT
    job_id,
    any_value(cluster) AS cluster,
    min(namespace) AS namespace,
    make_timestamptz(CAST(min(from_us) AS BIGINT)) AS held_from,
    make_timestamptz(CAST(max(to_us) AS BIGINT)) AS held_to,
    max(attempt) AS attempt,
    -- Some cards can't be told: then the sum isn't known either.
    CASE WHEN NOT bool_or(unclear) THEN coalesce(sum(greatest(named, unnamed)), 0) END AS units,
    CASE WHEN NOT bool_or(unclear) THEN coalesce(sum(greatest(named, unnamed)) FILTER (state = 'held'), 0) END AS waiting,
    sum(used) AS used,
    list_sort(list_distinct(list(struct_pack(cluster := cluster, node := node)) FILTER (gpu))) AS machines
FROM holder
GROUP BY job_id
