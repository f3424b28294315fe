-- The machine of each resource: one node, or several in one cluster. `clusters` counts those that claim it.
WITH named AS (
    SELECT ResourceId, ResourceName, SubAccountId, unnest({keys ResourceId}) AS key
    FROM resource
    UNION
    SELECT ResourceId, ResourceName, SubAccountId, lower(regexp_extract(ResourceName, '[^/]+$'))
    FROM resource
    WHERE HostProviderName = 'Google Cloud' AND ResourceName <> ''
), pair AS (
    SELECT DISTINCT r.ResourceId, r.ResourceName, r.SubAccountId, p.kind, p.cluster, p.node, p.since, p.until
    FROM named AS r
    JOIN place AS p USING (key)
    -- Names of Google's machines repeat between projects and zones; numbers of projects say nothing.
    WHERE p.project IS NULL OR (
        coalesce(nullif(regexp_extract(lower(r.ResourceId), '/projects/([^/]*[^/0-9][^/]*)', 1), ''), p.project) = p.project
        AND coalesce(nullif(regexp_extract(lower(r.ResourceId), '/zones/([^/]+)', 1), ''), p.zone) = p.zone
        AND coalesce(nullif(regexp_extract(lower(r.SubAccountId), '^.*[^0-9].*$'), ''), p.project) = p.project
    )
), claimed AS (
    SELECT
        ResourceId, ResourceName, SubAccountId, kind, cluster,
        CASE WHEN count(DISTINCT node) = 1 THEN min(node) ELSE ResourceId END AS node,
        list_sort(list(DISTINCT node)) AS nodes,
        min(since) AS since,
        max(until) AS until
    FROM pair
    GROUP BY ResourceId, ResourceName, SubAccountId, kind, cluster
)
SELECT *, count(*) OVER (PARTITION BY ResourceId, ResourceName, SubAccountId) AS clusters
FROM claimed
QUALIFY row_number() OVER (
    PARTITION BY ResourceId, ResourceName, SubAccountId ORDER BY kind, until - since DESC, cluster
) = 1
