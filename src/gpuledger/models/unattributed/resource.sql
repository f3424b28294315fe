-- One row per resource, job and owner, of the window and of whatever evidence may come from. A resource whose tags changed
-- has several rows, and so has a machine that jobs shared. Costs are those of the window only.
--
-- Places to fill: the table to make, the relation of charges (with the columns of a job where one held the charge),
-- conditions of the window (inside) and of what evidence may come from (around), the cost column, and SQL over `tags` for
-- each kind of clue.
CREATE OR REPLACE TEMP TABLE {table} AS
WITH charge AS (
    SELECT
        *,
        coalesce({inside}, false) AS inside,
        coalesce(ServiceProviderName, ProviderName, HostProviderName) AS provider,
        coalesce(SubAccountId, BillingAccountId) AS account,
        -- A job that names nobody owns nothing; the name of a job in a tag is the owner's own word.
        coalesce(x_CostCenter, x_Team, x_Owner, x_Project, CASE WHEN x_JobId IS NULL THEN x_Job END) IS NOT NULL AS owned,
        CASE
            WHEN ChargeCategory = 'Tax' THEN 'tax'
            WHEN ChargeCategory = 'Credit' THEN 'credits'
            WHEN CommitmentDiscountStatus = 'Unused' THEN 'unused commitments'
            WHEN ChargeCategory = 'Purchase' AND CommitmentDiscountId IS NOT NULL THEN 'commitment purchases'
            WHEN ServiceSubcategory = 'Support' OR ServiceName ILIKE '%support%' THEN 'support'
            WHEN ChargeCategory = 'Purchase' AND ResourceId IS NULL THEN 'fees'
            WHEN ChargeCategory = 'Adjustment' THEN 'adjustments'
            WHEN ChargeClass = 'Correction' AND ResourceId IS NULL THEN 'corrections'
        END AS nature
    FROM {relation}
    WHERE ({inside}) OR ({around})
), resource AS (
    SELECT
        provider, account, BillingCurrency AS currency,
        coalesce(ResourceId, concat_ws('|', ServiceName, x_AiModel, RegionId, Tags['x_iam_principal'])) AS resource_key,
        x_JobId AS job_id,
        x_Team AS team, x_CostCenter AS cost_center, x_Owner AS owner, x_Project AS project, owned,
        CASE WHEN NOT owned THEN nature END AS nature,
        any_value(ResourceId) AS resource_id,
        any_value(ResourceName) AS resource_name,
        coalesce(any_value(SubAccountName), any_value(BillingAccountName)) AS account_name,
        arg_max(ServiceName, abs(coalesce({metric}, 0))) AS service,
        any_value(x_InstanceType) AS instance_type,
        coalesce(any_value(x_InstanceType), any_value(ResourceType), any_value(x_AiModel)) AS type,
        any_value(x_GpuModel) AS gpu_model,
        any_value(RegionId) AS region,
        any_value(Tags) FILTER (cardinality(Tags) > 0) AS own_tags,
        any_value(AllocatedTags) FILTER (cardinality(AllocatedTags) > 0) AS allocated_tags,
        any_value(job_labels) AS job_labels,
        any_value(job_name) AS job_name, any_value(job_kind) AS job_kind,
        any_value(job_namespace) AS job_namespace, any_value(job_cluster) AS job_cluster,
        any_value(x_Native['line_item_user_identifier']) AS native_user,
        min(ChargePeriodStart) AS first_seen,
        max(ChargePeriodEnd) FILTER (inside) AS last_seen,
        min(ChargePeriodEnd - ChargePeriodStart) AS grain,
        sum({metric}) FILTER (inside) AS cost,
        sum(x_GpuHours) FILTER (inside) AS gpu_hours,
        count(*) FILTER (inside) AS charges
    FROM charge
    GROUP BY ALL
), tagged AS (
    SELECT
        * EXCLUDE (own_tags, allocated_tags, job_labels),
        regexp_extract(resource_id, '[^/:]+$') AS last_part,
        -- What a machine's tags say is not said of the jobs on it.
        map_concat(
            coalesce(CASE WHEN job_id IS NULL THEN own_tags ELSE job_labels END, MAP {}), coalesce(allocated_tags, MAP {})
        ) AS tags
    FROM resource
)
SELECT
    * EXCLUDE (native_user, last_part, type, job_name, job_kind, job_namespace, job_cluster),
    -- What it is counted as: a job, however many machines it held, or a resource.
    coalesce('job|' || job_id, resource_key) AS thing,
    CASE WHEN job_id IS NULL THEN type ELSE coalesce(job_kind, 'job') END AS kind,
    -- A name that people gave: the resource's own, else the end of its id unless that is a random one.
    lower(CASE WHEN job_id IS NOT NULL THEN job_name ELSE coalesce(resource_name, CASE
        WHEN NOT regexp_matches(last_part, '^(?:i|vol|snap|eni|eipalloc|nat|ami)-[0-9a-f]+$|[0-9a-f]{8}-[0-9a-f]{4}-|^[0-9a-f]{12,}$|^\d+$')
        THEN last_part
    END) END) AS name,
    coalesce({tag.creator}, CASE WHEN job_id IS NULL THEN native_user END) AS creator,
    {tag.service_account} AS service_account,
    {tag.key_pair} AS key_pair,
    {tag.launch_group} AS launch_group,
    {tag.image} AS image,
    coalesce({tag.namespace}, job_namespace) AS namespace,
    coalesce({tag.cluster}, job_cluster) AS cluster,
    nullif(regexp_extract(lower(resource_id), '/resourcegroups/([^/]+)', 1), '') AS resource_group,
    first_seen <= coalesce(
        min(first_seen) FILTER (resource_id IS NOT NULL) OVER (PARTITION BY provider), min(first_seen) OVER (PARTITION BY provider)
    ) AS at_the_beginning
FROM tagged;
