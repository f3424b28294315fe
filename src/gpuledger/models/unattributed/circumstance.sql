-- What the data shows of how the incidents of `un_top` stayed without an owner: their resources and keys, and what their
-- account and provider have elsewhere.
WITH part AS (
    SELECT p.*, map_keys(tags) AS keys FROM un_part AS p WHERE incident IN (SELECT incident FROM un_top)
), keys AS (
    SELECT incident, list({key: key, resources: resources} ORDER BY resources DESC, key) AS keys
    FROM (
        SELECT incident, key, count(DISTINCT thing) AS resources
        FROM (SELECT incident, thing, unnest(keys) AS key FROM part)
        GROUP BY ALL
    )
    GROUP BY incident
), account AS (
    SELECT
        provider, account, currency, sum(cost) AS cost,
        sum(cost) FILTER (coalesce(team, cost_center, owner, project) IS NOT NULL) AS owned_cost
    FROM un_resource
    WHERE nature IS NULL
    GROUP BY ALL
), provider AS (
    SELECT
        provider, count(DISTINCT resource_key) FILTER (creator IS NOT NULL AND job_id IS NULL) AS with_creator, min(first_seen) AS beginning,
        coalesce(bool_or(len(list_filter(map_keys(tags), lambda k: regexp_matches(k, '^(?:accountTag|costCategory)/'))) > 0), false) AS inherits
    FROM un_resource
    GROUP BY ALL
), part_facts AS (
    SELECT
        incident, count(DISTINCT thing) AS things,
        list(DISTINCT creator) FILTER (creator IS NOT NULL) AS creators,
        count(DISTINCT thing) FILTER (creator IS NOT NULL) AS with_creator,
        list(DISTINCT coalesce(job_id, resource_id) ORDER BY coalesce(job_id, resource_id)) FILTER (resource_id IS NOT NULL) AS ids
    FROM part
    GROUP BY incident
)
SELECT
    t.incident, f.things, f.creators, f.with_creator, list_slice(f.ids, 1, {sample}) AS ids, k.keys,
    a.cost AS account_cost, a.owned_cost, p.with_creator AS provider_with_creator, p.beginning, p.inherits
FROM un_top AS t
JOIN part_facts AS f USING (incident)
LEFT JOIN keys AS k USING (incident)
LEFT JOIN account AS a ON (a.provider, a.account, a.currency) IS NOT DISTINCT FROM (t.provider, t.account, t.currency)
LEFT JOIN provider AS p ON p.provider IS NOT DISTINCT FROM t.provider;
