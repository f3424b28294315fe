-- Spend in atoms: what one job, machine, model or commitment cost on one day, from `savings_charge` (allocated charges).
-- Only what a rule can say something about: work, machines, models behind an API, commitments.
WITH piece AS (
    SELECT
        CAST(ChargePeriodStart AS DATE) AS day,
        ServiceProviderName AS provider,
        SubAccountId AS account,
        ServiceName AS service,
        lower(RegionId) AS region,
        ResourceId AS resource,
        ResourceType AS resource_type,
        x_InstanceType AS instance_type,
        x_GpuModel AS gpu_model,
        x_GpuMemoryGiB AS gpu_memory_gib,
        x_JobId AS job_id,
        x_AllocationState AS state,
        x_Cluster AS cluster,
        x_Node AS node,
        x_Attempt AS attempt,
        x_AiModel AS ai_model,
        x_TokenType AS token_type,
        x_ServiceTier AS tier,
        SkuMeter AS meter,
        PricingUnit AS unit,
        PricingCategory AS pricing,
        CommitmentDiscountId AS commitment_id,
        CommitmentDiscountStatus AS commitment_status,
        CommitmentDiscountType AS commitment_type,
        x_Project AS project,
        x_Job AS job_tag,
        x_Owner AS charge_owner,
        x_Team AS charge_team,
        x_CostCenter AS charge_cost_center,
        sum(EffectiveCost) AS cost,
        sum(ListCost) AS list_cost,
        sum(ContractedCost) AS contracted_cost,
        sum(PricingQuantity) AS quantity,
        sum(x_GpuHours) AS gpu_hours,
        sum(x_HeldGpuHours) AS held_gpu_hours,
        min(ChargePeriodStart) AS first,
        max(ChargePeriodEnd) AS last,
        any_value(ResourceName) AS resource_name
    FROM savings_charge
    WHERE ChargeCategory IN ('Usage', 'Credit')
        AND (x_JobId IS NOT NULL OR x_AllocationState IS NOT NULL OR x_InstanceType IS NOT NULL OR x_GpuModel IS NOT NULL
            OR x_AiModel IS NOT NULL OR x_TokenType IS NOT NULL OR x_ServiceTier IS NOT NULL
            OR CommitmentDiscountId IS NOT NULL)
    GROUP BY ALL
)
SELECT
    row_number() OVER (ORDER BY p.day, p.provider, p.resource, p.job_id, p.node, p.ai_model, p.token_type, p.tier, p.commitment_id, p.cost) AS atom,
    p.*,
    lower(regexp_replace(p.ai_model, '-([0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2})$', '')) AS model_key,
    regexp_extract(p.instance_type, '^[^.]+') AS family,
    regexp_extract(p.resource, '[^/]+$') AS short_name,
    coalesce(j.owner, p.charge_owner) AS owner,
    coalesce(j.team, p.charge_team) AS team,
    coalesce(j.cost_center, p.charge_cost_center) AS cost_center
FROM piece AS p
LEFT JOIN jobs AS j ON j.job_id = p.job_id
WHERE p.cost > 0
