-- Charges whose billed cost could not be read are missing from every sum.
SELECT x_Source, x_BillingPeriod, x_SourceFile, x_SourceRow, x_DataIssues
FROM cost_and_usage
WHERE BilledCost IS NULL
