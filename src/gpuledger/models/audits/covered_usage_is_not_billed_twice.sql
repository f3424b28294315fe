-- Usage that a commitment covers was paid for by its purchase: a billed cost on it would be counted twice.
SELECT x_Source, x_BillingPeriod, x_SourceFile, x_SourceRow, CommitmentDiscountId, BilledCost
FROM cost_and_usage
WHERE ChargeCategory = 'Usage' AND CommitmentDiscountStatus = 'Used' AND BilledCost > 0 AND PricingCategory = 'Committed'
