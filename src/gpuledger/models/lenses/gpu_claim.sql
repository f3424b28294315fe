-- Cards that each usage row tells of, in 63e9 units a card, as in gpuledger.core.sharing.held_units; times in microseconds.
WITH told AS (
    SELECT
        cluster, node, job_id, coalesce(pod_uid, pod) AS pod, namespace,
        greatest(epoch_us("start"), {since}) AS from_us,
        least(epoch_us("end"), {until}) AS to_us,
        device IS NOT NULL AS named,
        CASE WHEN share_denominator > 0
            THEN (2 * CAST(share_numerator AS HUGEINT) * 63000000000 + share_denominator) // (2 * share_denominator)
        END AS share,
        sharing, requested, used
    FROM held_usage
    WHERE resource = 'gpu'
        AND "start" < make_timestamptz({until}) AND "end" > make_timestamptz({since}) AND "start" < "end"
), counted AS (
    SELECT
        *,
        CASE
            WHEN named THEN coalesce(share, CASE WHEN coalesce(sharing, 'whole') = 'whole' THEN 63000000000 END)
            WHEN requested IS NULL THEN share
            WHEN share < 63000000000 AND requested >= 1 AND requested = trunc(requested) THEN share * CAST(trunc(requested) AS HUGEINT)
            WHEN requested < 0 OR (share IS NULL AND coalesce(sharing, 'whole') <> 'whole' AND requested = trunc(requested)) THEN NULL
            ELSE CAST(trunc(requested * 1000000000) AS HUGEINT) * 63
        END AS units
    FROM told
)
SELECT * FROM counted
