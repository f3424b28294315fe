-- What nobody owns in the window: `un_part` has its resources, each with the incident that it is part of; `un_incident`
-- one row per incident. Resources of one account, kind, region, creator and name (numbers aside) that began
-- within {gap} minutes of one another are one incident; {each}: every resource is one by itself.
-- What belongs to nobody by nature is left out, see nature.sql. `un_own` has what somebody owns.
CREATE OR REPLACE TEMP MACRO un_stem(name) AS
    trim(regexp_replace(coalesce(name, ''), '(?:[-_.](?:[0-9]+|[0-9a-f]{5,}))+$|[0-9]+$', ''), '-_. ');

CREATE OR REPLACE TEMP VIEW un_own AS
SELECT r.*, i.key AS creator_key, un_stem(name) AS stem
FROM un_resource AS r
LEFT JOIN un_identity AS i ON i.text = r.creator
WHERE coalesce(team, cost_center, owner, project) IS NOT NULL;

CREATE OR REPLACE TEMP TABLE un_part AS
WITH part AS (
    SELECT r.*, i.key AS creator_key, un_stem(name) AS stem, CASE WHEN {each} THEN resource_key END AS alone
    FROM un_resource AS r
    LEFT JOIN un_identity AS i ON i.text = r.creator
    WHERE NOT owned AND nature IS NULL AND charges > 0
), alike AS (
    SELECT *, concat_ws(chr(31), provider, account, currency, coalesce(kind, service), region, stem, creator_key, alone) AS alike
    FROM part
), burst AS (
    SELECT *, sum(breaks) OVER (PARTITION BY alike ORDER BY first_seen, resource_key ROWS UNBOUNDED PRECEDING) AS burst
    FROM (
        SELECT *, coalesce(
            (first_seen - lag(first_seen) OVER (PARTITION BY alike ORDER BY first_seen, resource_key) > INTERVAL {gap} MINUTE)::INTEGER, 0
        ) AS breaks
        FROM alike
    )
)
SELECT
    * EXCLUDE (burst, alike, breaks, alone),
    -- Made of what it is and when it began: the same charges give the same id whatever else is in the ledger.
    left(md5(alike || chr(31) || epoch(min(first_seen) OVER (PARTITION BY alike, burst))), 12) AS incident
FROM burst;

CREATE OR REPLACE TEMP TABLE un_incident AS
SELECT
    incident,
    any_value(provider) AS provider, any_value(account) AS account, any_value(account_name) AS account_name,
    any_value(currency) AS currency, arg_max(service, coalesce(cost, 0)) AS service, any_value(kind) AS kind,
    any_value(instance_type) AS instance_type, any_value(gpu_model) AS gpu_model, any_value(region) AS region,
    any_value(stem) AS stem, any_value(creator_key) AS creator_key, any_value(resource_group) AS resource_group,
    count(DISTINCT resource_key) FILTER (resource_id IS NOT NULL) AS resources,
    min(first_seen) AS first_seen, max(last_seen) AS last_seen, max(grain) AS grain,
    bool_or(at_the_beginning) AS at_the_beginning,
    sum(cost) AS cost, sum(gpu_hours) AS gpu_hours, sum(charges)::BIGINT AS charges,
    min_by(resource_id, (-coalesce(cost, 0), resource_key)) AS resource_id,
    min_by(name, (-coalesce(cost, 0), resource_key)) AS name
FROM un_part
GROUP BY incident;
