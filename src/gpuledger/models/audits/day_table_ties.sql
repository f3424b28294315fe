-- The derived day table carries exactly the ledger's money, in every currency.
WITH whole AS (SELECT BillingCurrency, sum(BilledCost) AS billed, sum(EffectiveCost) AS effective FROM cost_and_usage GROUP BY ALL),
days AS (SELECT BillingCurrency, sum(BilledCost) AS billed, sum(EffectiveCost) AS effective FROM cost_by_day GROUP BY ALL)
SELECT coalesce(whole.BillingCurrency, days.BillingCurrency) AS BillingCurrency, whole.billed, days.billed AS days_billed
FROM whole FULL JOIN days ON whole.BillingCurrency IS NOT DISTINCT FROM days.BillingCurrency
WHERE whole.billed IS DISTINCT FROM days.billed OR whole.effective IS DISTINCT FROM days.effective
