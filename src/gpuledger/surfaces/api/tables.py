"""The narrow tables behind the API, and the SQL that fills them for a run of days.

- `api_job`: one row per job, from the view `jobs`.
- `api_holder`: who held machine time: text columns, '' where there is none. `kind` is 'holder', 'idle', 'unknown' or
  'overhead'; money that no job holds has its name in `placeholder`.
- `api_cost`: holder, charge period and exact sums: gpu, cpu and ram as allocation split them, the rest as pv (storage),
  network or external by the charge's service category; `unpriced` counts charges without a cost.
- `api_user`, `api_usage`: the same for what was asked for and used, per hour, in card-, core- and GiB-hours. Cards
  that are told by device and without one are one claim: the larger, as in allocation.
"""

from collections.abc import Sequence
from typing import Final

SHAPE: Final[Sequence[str]] = (
    """CREATE TABLE api_holder (
    id INTEGER, kind VARCHAR, cluster VARCHAR, node VARCHAR, namespace VARCHAR, pod VARCHAR, container VARCHAR,
    job_id VARCHAR, provider VARCHAR, provider_id VARCHAR, currency VARCHAR, placeholder VARCHAR, from_idle BOOLEAN)""",
    """CREATE TABLE api_user (
    id INTEGER, cluster VARCHAR, node VARCHAR, namespace VARCHAR, pod VARCHAR, container VARCHAR, job_id VARCHAR,
    provider VARCHAR, provider_id VARCHAR, placeholder VARCHAR)""",
    """CREATE TABLE api_cost (
    holder INTEGER, "start" TIMESTAMPTZ, "end" TIMESTAMPTZ, total DECIMAL(38,18), gpu DECIMAL(38,18),
    cpu DECIMAL(38,18), ram DECIMAL(38,18), pv DECIMAL(38,18), network DECIMAL(38,18), external DECIMAL(38,18),
    unpriced BIGINT)""",
    """CREATE TABLE api_usage (
    "user" INTEGER, "start" TIMESTAMPTZ, resource VARCHAR, held DOUBLE, requested DOUBLE, used DOUBLE,
    used_of DOUBLE, unmeasured BOOLEAN, unrequested BOOLEAN)""",
)
HOLDERS: Final[Sequence[str]] = (
    """CREATE TABLE api_job AS SELECT
    job_id, kind, name, namespace, labels, team, owner, cost_center, environment, project, workload_type, model,
    started, ended FROM jobs""",
)

_KIND: Final = """CASE
    WHEN x_JobId IS NOT NULL OR x_AllocationState IS NULL OR x_AllocationState IN ('running', 'held') THEN 'holder'
    ELSE x_AllocationState END"""
_KEYS: Final = "kind, cluster, node, namespace, pod, container, job_id, provider, provider_id, currency, placeholder, from_idle"
_USER: Final = "cluster, node, namespace, pod, container, job_id"

LOAD_COST: Final[Sequence[str]] = (
    f"""CREATE OR REPLACE TABLE api_new AS
WITH charge AS (
    SELECT
        {_KIND} AS kind,
        x_Cluster AS cluster,
        coalesce(x_Node, '') AS node,
        coalesce(x_Namespace, '') AS namespace,
        coalesce(x_Pod, '') AS pod,
        coalesce(x_Container, '') AS container,
        coalesce(x_JobId, '') AS job_id,
        coalesce(ServiceProviderName, '') AS provider,
        coalesce(ResourceId, '') AS provider_id,
        coalesce(BillingCurrency, '') AS currency,
        x_AllocationState IS NOT DISTINCT FROM 'idle' AND x_JobId IS NOT NULL AS from_idle,
        ChargePeriodStart AS "start",
        ChargePeriodEnd AS "end",
        EffectiveCost AS total,
        x_GpuCost AS gpu,
        x_CpuCost AS cpu,
        x_MemoryCost AS ram,
        ServiceCategory AS category
    FROM allocated
    WHERE x_Cluster IS NOT NULL AND ChargePeriodStart >= $start AND ChargePeriodStart < $end
), parted AS (
    SELECT *,
        CASE WHEN kind IN ('unknown', 'overhead') THEN concat('__', kind, '__') ELSE '' END AS placeholder,
        CAST(total - coalesce(gpu, 0) - coalesce(cpu, 0) - coalesce(ram, 0) AS DECIMAL(38,18)) AS rest
    FROM charge
)
SELECT
    {_KEYS}, "start", "end",
    sum(total) AS total, sum(gpu) AS gpu, sum(cpu) AS cpu, sum(ram) AS ram,
    sum(CASE WHEN category = 'Storage' THEN rest END) AS pv,
    sum(CASE WHEN category = 'Networking' THEN rest END) AS network,
    sum(CASE WHEN category IS NULL OR category NOT IN ('Storage', 'Networking') THEN nullif(rest, 0) END) AS external,
    count(*) - count(total) AS unpriced
FROM parted GROUP BY ALL""",
    f"""INSERT INTO api_holder
SELECT (SELECT coalesce(max(id) + 1, 0) FROM api_holder) + row_number() OVER () AS id, *
FROM (SELECT DISTINCT {_KEYS} FROM api_new) AS n ANTI JOIN api_holder AS h USING ({_KEYS})""",
    f"""INSERT INTO api_cost
SELECT h.id, n."start", n."end", n.total, n.gpu, n.cpu, n.ram, n.pv, n.network, n.external, n.unpriced
FROM api_new AS n JOIN api_holder AS h USING ({_KEYS})""",
    "DROP TABLE api_new",
)

TOLD: Final = """CREATE OR REPLACE TABLE api_told AS SELECT * FROM usage_interval
WHERE "start" >= $start AND "start" < $end AND "end" > "start" AND resource IN ('gpu', 'cpu', 'memory', 'storage')"""

# `{current}` is `api_told` with every claim once, see `models.usage`.
LOAD_USAGE: Final[Sequence[str]] = (
    f"""CREATE OR REPLACE TABLE api_new AS
WITH told AS (
    SELECT
        cluster, CASE WHEN resource = 'storage' THEN '' ELSE node END AS node,  -- a volume is on no machine
        coalesce(namespace, '') AS namespace, coalesce(pod, '') AS pod,
        coalesce(container, '') AS container, coalesce(job_id, '') AS job_id, resource,
        resource = 'gpu' AND device IS NOT NULL AS by_device,
        CASE
            WHEN resource = 'gpu' AND device IS NOT NULL
                THEN coalesce(CAST(share_numerator AS DOUBLE) / share_denominator, 1)
            ELSE CAST(requested AS DOUBLE)
        END AS requested,
        CAST(used AS DOUBLE) AS used,
        "start", "end"
    FROM ({{current}})
), hourly AS (
    SELECT * REPLACE (date_trunc('hour', "start") AS "start"), epoch("end" - "start") / 3600 AS hours FROM told
    WHERE date_trunc('hour', "start") = date_trunc('hour', "end" - INTERVAL 1 MICROSECOND)
    UNION ALL
    SELECT * EXCLUDE (hour) REPLACE (hour AS "start"),
        epoch(least("end", hour + INTERVAL 1 HOUR) - greatest("start", hour)) / 3600 AS hours
    FROM (
        SELECT *, unnest(generate_series(
            date_trunc('hour', "start"), "end" - INTERVAL 1 MICROSECOND, INTERVAL 1 HOUR)) AS hour
        FROM told WHERE date_trunc('hour', "start") <> date_trunc('hour', "end" - INTERVAL 1 MICROSECOND)
    )
), claim AS (
    SELECT
        {_USER}, resource, "start",
        sum(hours * requested) FILTER (by_device) AS by_card,
        sum(hours * requested) FILTER (NOT by_device) AS by_request,
        sum(hours * used) AS used,
        sum(hours) FILTER (requested IS NOT NULL) AS requested_hours,
        sum(hours) FILTER (used IS NOT NULL) AS used_hours
    FROM hourly GROUP BY ALL
)
SELECT
    {_USER}, resource, "start",
    CASE WHEN resource = 'gpu' THEN greatest(by_card, by_request) ELSE greatest(by_request, used) END AS held,
    coalesce(by_request, by_card) AS requested, used,
    coalesce(by_request, by_card) * least(1, used_hours / requested_hours) AS used_of,
    used_hours IS NULL OR coalesce(used_hours < requested_hours, false) AS unmeasured,
    requested_hours IS NULL AS unrequested
FROM claim""",
    f"""INSERT INTO api_user
SELECT
    (SELECT coalesce(max(id) + 1, 0) FROM api_user) + row_number() OVER () AS id,
    n.*, coalesce(m.provider, ''), coalesce(m.provider_id, ''), '' AS placeholder
FROM (
    SELECT n.* FROM (SELECT DISTINCT {_USER} FROM api_new) AS n ANTI JOIN api_user AS u USING ({_USER})
) AS n LEFT JOIN (
    SELECT cluster, node, any_value(provider) AS provider, any_value(provider_id) AS provider_id
    FROM api_holder WHERE node <> '' GROUP BY ALL
) AS m USING (cluster, node)""",
    f"""INSERT INTO api_usage
SELECT u.id, n."start", n.resource, n.held, n.requested, n.used, n.used_of, n.unmeasured, n.unrequested
FROM api_new AS n JOIN api_user AS u USING ({_USER})""",
    "DROP TABLE api_new",
)
