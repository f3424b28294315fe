-- Allocated charges carry exactly the ledger's money, in every unit and currency: nothing lost, nothing twice.
WITH whole AS (
    SELECT
        x_Source, x_BillingPeriod, BillingCurrency, sum(BilledCost) AS billed, sum(EffectiveCost) AS effective,
        sum(ListCost) AS list, sum(ContractedCost) AS contracted
    FROM cost_and_usage
    GROUP BY ALL
), parts AS (
    SELECT
        x_Source, x_BillingPeriod, BillingCurrency, sum(BilledCost) AS billed, sum(EffectiveCost) AS effective,
        sum(ListCost) AS list, sum(ContractedCost) AS contracted
    FROM allocated
    GROUP BY ALL
)
SELECT
    coalesce(w.x_Source, p.x_Source) AS x_Source,
    coalesce(w.x_BillingPeriod, p.x_BillingPeriod) AS x_BillingPeriod,
    coalesce(w.BillingCurrency, p.BillingCurrency) AS BillingCurrency,
    w.billed, p.billed AS allocated_billed, w.effective, p.effective AS allocated_effective
FROM whole AS w
FULL JOIN parts AS p ON p.x_Source = w.x_Source AND p.x_BillingPeriod = w.x_BillingPeriod
    AND p.BillingCurrency IS NOT DISTINCT FROM w.BillingCurrency
WHERE w.billed IS DISTINCT FROM p.billed OR w.effective IS DISTINCT FROM p.effective
    OR w.list IS DISTINCT FROM p.list OR w.contracted IS DISTINCT FROM p.contracted
