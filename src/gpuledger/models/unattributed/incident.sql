-- What nobody owns in the window: `un_part` has its resources, each with the incident that it is part of; `un_incident`
-- one row per incident. Resources of one account, kind, region, creator and name (numbers aside) that began
-- within some minutes of one another are one incident, or every resource by itself. Jobs of one name (numbers aside) and
-- namespace are one, whenever they ran. What belongs to nobody by nature is left out, see nature.sql. `un_own` has what
-- somebody owns.
CREATE OR REPLACE TEMP MACRO un_stem(name) AS
    trim(regexp_replace(coalesce(name, ''), '(?:[-_.](?:[0-9]+|[0-9a-f]{5,}))+$|[0-9]+$', ''), '-_. ');

-- `shows`: its clues count, being its owner's. `spends`: its cost counts, as allocated. Where charges were split among jobs,
-- what machines show is taken from them as a whole, in `un_host`, and what they cost from the parts.
CREATE OR REPLACE TEMP VIEW un_own AS
SELECT o.*, i.key AS creator_key, un_stem(name) AS stem
FROM (
    SELECT *, true AS spends, {whole} OR job_id IS NOT NULL AS shows FROM un_resource
    UNION ALL BY NAME
    SELECT *, false AS spends, true AS shows FROM un_host
) AS o
LEFT JOIN un_identity AS i ON i.text = o.creator
WHERE coalesce(team, cost_center, owner, project) IS NOT NULL;

CREATE OR REPLACE TEMP TABLE un_part AS
WITH part AS (
    SELECT r.*, i.key AS creator_key, un_stem(name) AS stem, true AS spends, true AS shows
    FROM un_resource AS r
    LEFT JOIN un_identity AS i ON i.text = r.creator
    WHERE NOT owned AND nature IS NULL AND charges > 0
), alike AS (
    SELECT *, CASE
        WHEN {each} THEN concat_ws(chr(31), provider, account, currency, thing)
        WHEN job_id IS NOT NULL THEN concat_ws(chr(31), 'job', currency, kind, cluster, namespace, stem)
        ELSE concat_ws(chr(31), provider, account, currency, coalesce(kind, service), region, stem, creator_key)
    END AS alike
    FROM part
), burst AS (
    SELECT *, sum(breaks) OVER (PARTITION BY alike ORDER BY first_seen, resource_key ROWS UNBOUNDED PRECEDING) AS burst
    FROM (
        SELECT *, coalesce(
            (job_id IS NULL AND NOT {each} AND first_seen - lag(first_seen) OVER (PARTITION BY alike ORDER BY first_seen, resource_key)
             > INTERVAL {gap} MINUTE)::INTEGER, 0
        ) AS breaks
        FROM alike
    )
)
SELECT
    * EXCLUDE (burst, alike, breaks),
    -- Made of what it is and when it began: the same charges give the same id whatever else is in the ledger.
    left(md5(concat_ws(chr(31), alike, epoch(min(first_seen) OVER (PARTITION BY alike, burst)))), 12) AS incident
FROM burst;

CREATE OR REPLACE TEMP TABLE un_incident AS
SELECT
    incident,
    arg_max(provider, coalesce(cost, 0)) AS provider, arg_max(account, coalesce(cost, 0)) AS account,
    arg_max(account_name, coalesce(cost, 0)) AS account_name, any_value(currency) AS currency,
    arg_max(service, coalesce(cost, 0)) AS service, any_value(kind) AS kind,
    any_value(instance_type) AS instance_type, any_value(gpu_model) AS gpu_model, any_value(region) AS region,
    any_value(stem) AS stem, any_value(creator_key) AS creator_key, any_value(resource_group) AS resource_group,
    any_value(cluster) AS cluster, any_value(namespace) AS namespace,
    bool_or(job_id IS NOT NULL) AS is_job,
    count(DISTINCT thing) FILTER (resource_id IS NOT NULL) AS resources,
    min(first_seen) AS first_seen, max(last_seen) AS last_seen, max(grain) AS grain,
    bool_or(at_the_beginning) AS at_the_beginning,
    sum(cost) AS cost, sum(gpu_hours) AS gpu_hours, sum(charges)::BIGINT AS charges,
    min_by(coalesce(job_id, resource_id), (-coalesce(cost, 0), resource_key)) AS resource_id,
    min_by(name, (-coalesce(cost, 0), resource_key)) AS name
FROM un_part
GROUP BY incident;
