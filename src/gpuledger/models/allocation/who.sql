-- Who holds something, numbered in the order that settles ties.
SELECT
    *,
    CAST(row_number() OVER (
        ORDER BY
            job_id NULLS FIRST, pod_uid NULLS FIRST, namespace NULLS FIRST, pod NULLS FIRST, container NULLS FIRST,
            attempt NULLS FIRST, state NULLS FIRST
    ) AS INTEGER) AS holder_no
FROM (SELECT DISTINCT job_id, pod_uid, namespace, pod, container, attempt, state FROM alloc_tag)
