-- Which bill's deployment a gateway's or an API's own tokens are of: the same model, and the same name or account, else
-- the same team, else the only one that there is. NULL: no bill knows it.
WITH told AS (
    SELECT DISTINCT provider, model, deployment, team FROM unit_served WHERE job_id IS NULL
), billed AS (
    SELECT DISTINCT provider, model, deployment, account, account_name, team FROM unit_bill
), tried AS (
    SELECT
        t.provider, t.model, t.deployment, t.team, b.provider AS at_provider, b.deployment AS at_deployment, b.team AS at_team, b.account AS at_account,
        CASE
            WHEN t.deployment IN (b.deployment, b.account, b.account_name) THEN 0
            WHEN t.team = b.team THEN 1
            ELSE 2
        END AS rank
    FROM told AS t
    JOIN billed AS b ON lower(b.model) = lower(t.model)
), best AS (
    SELECT * FROM tried QUALIFY rank = min(rank) OVER (PARTITION BY provider, model, deployment, team)
)
SELECT * EXCLUDE (rank) FROM best
QUALIFY count(*) OVER (PARTITION BY provider, model, deployment, team) = 1
