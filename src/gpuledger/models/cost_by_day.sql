-- One row per day and everything that people group by most: small enough for pages to read whole.
SELECT
    CAST(date_trunc('day', ChargePeriodStart) AS DATE) AS ChargeDay,
    x_BillingPeriod,
    x_CostStatus,
    BillingCurrency,
    ServiceProviderName,
    SubAccountId,
    SubAccountName,
    ServiceCategory,
    ServiceName,
    ChargeCategory,
    PricingCategory,
    CommitmentDiscountStatus,
    RegionId,
    x_GpuModel,
    x_AiModel,
    x_CostCenter,
    x_Team,
    x_Project,
    x_Environment,
    count(*) AS Charges,
    sum(BilledCost) AS BilledCost,
    sum(EffectiveCost) AS EffectiveCost,
    sum(ListCost) AS ListCost,
    sum(ContractedCost) AS ContractedCost,
    sum(x_GpuHours) AS x_GpuHours
FROM cost_and_usage
GROUP BY ALL
