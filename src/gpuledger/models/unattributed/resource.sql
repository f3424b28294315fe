-- One row per resource and owner, of the window and of whatever evidence may come from. A resource whose
-- tags changed has several rows. Costs are those of the window only.
--
-- Places to fill: the relation of charges, conditions of the window (inside) and of what evidence may come from (around),
-- the cost column, SQL for the job of a charge, and SQL over `tags` for each kind of clue.
CREATE OR REPLACE TEMP TABLE un_resource AS
WITH charge AS (
    SELECT
        *,
        coalesce({inside}, false) AS inside,
        coalesce(ServiceProviderName, ProviderName, HostProviderName) AS provider,
        coalesce(SubAccountId, BillingAccountId) AS account,
        coalesce(x_CostCenter, x_Team, x_Owner, x_Project, {job}) IS NOT NULL AS owned,
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
        x_Team AS team, x_CostCenter AS cost_center, x_Owner AS owner, x_Project AS project, owned,
        CASE WHEN NOT owned THEN nature END AS nature,
        any_value(ResourceId) AS resource_id,
        any_value(ResourceName) AS resource_name,
        coalesce(any_value(SubAccountName), any_value(BillingAccountName)) AS account_name,
        arg_max(ServiceName, abs(coalesce({metric}, 0))) AS service,
        any_value(x_InstanceType) AS instance_type,
        coalesce(any_value(x_InstanceType), any_value(ResourceType), any_value(x_AiModel)) AS kind,
        any_value(x_GpuModel) AS gpu_model,
        any_value(RegionId) AS region,
        any_value(coalesce(AllocatedTags, Tags)) FILTER (cardinality(coalesce(AllocatedTags, Tags)) > 0) AS tags,
        any_value(x_Native['line_item_user_identifier']) AS native_user,
        min(ChargePeriodStart) AS first_seen,
        max(ChargePeriodEnd) FILTER (inside) AS last_seen,
        min(ChargePeriodEnd - ChargePeriodStart) AS grain,
        sum({metric}) FILTER (inside) AS cost,
        sum(x_GpuHours) FILTER (inside) AS gpu_hours,
        count(*) FILTER (inside) AS charges
    FROM charge
    GROUP BY ALL
)
SELECT
    * EXCLUDE (tags, native_user),
    tags,
    -- A name that people gave: the resource's own, else the end of its id unless that is a random one.
    lower(coalesce(resource_name, CASE
        WHEN NOT regexp_matches(last_part, '^(?:i|vol|snap|eni|eipalloc|nat|ami)-[0-9a-f]+$|[0-9a-f]{8}-[0-9a-f]{4}-|^[0-9a-f]{12,}$|^\d+$')
        THEN last_part
    END)) AS name,
    coalesce({tag.creator}, native_user) AS creator,
    {tag.service_account} AS service_account,
    {tag.key_pair} AS key_pair,
    {tag.launch_group} AS launch_group,
    {tag.image} AS image,
    {tag.namespace} AS namespace,
    {tag.cluster} AS cluster,
    nullif(regexp_extract(lower(resource_id), '/resourcegroups/([^/]+)', 1), '') AS resource_group,
    first_seen <= coalesce(
        min(first_seen) FILTER (resource_id IS NOT NULL) OVER (PARTITION BY provider), min(first_seen) OVER (PARTITION BY provider)
    ) AS at_the_beginning
FROM (SELECT *, regexp_extract(resource_id, '[^/:]+$') AS last_part FROM resource);
