-- A charge period ends after it starts; otherwise time-based sums lose the charge.
SELECT x_Source, x_BillingPeriod, x_SourceFile, x_SourceRow, ChargePeriodStart, ChargePeriodEnd
FROM cost_and_usage
WHERE ChargePeriodEnd <= ChargePeriodStart
