-- Charges whose billed cost could not be read are missing from every sum. Machines without a price are told as they
-- are metered.
SELECT x_Source, x_BillingPeriod, x_SourceFile, x_SourceRow, x_DataIssues
FROM cost_and_usage
WHERE BilledCost IS NULL AND x_CostStatus IS DISTINCT FROM 'Estimated'
