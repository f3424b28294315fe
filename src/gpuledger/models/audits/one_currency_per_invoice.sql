-- An invoice has one currency; two mean that rows of different bills were mixed.
SELECT InvoiceIssuerName, InvoiceId, string_agg(DISTINCT BillingCurrency, ', ') AS Currencies
FROM cost_and_usage
WHERE InvoiceId IS NOT NULL
GROUP BY ALL
HAVING count(DISTINCT BillingCurrency) > 1
