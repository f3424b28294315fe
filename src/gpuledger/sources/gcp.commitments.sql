-- Commitments of the months billed here: spend-based ones from their daily list where it was delivered (amount, term),
-- else what fees tell (that they exist, and what for).
WITH periods AS (
    SELECT DISTINCT period_start AS period FROM asked WHERE period_start IS NOT NULL
), snapshots AS (
    SELECT
        billing_account_id AS account,
        regexp_replace(subscription_instance_id, '^subscriptions/', '') AS id,
        concat_ws(': ', commitment_product, commitment_name) AS description,
        -- An amount per hour, for every hour of the term.
        CASE WHEN regexp_matches(commitment_value_unit, '/ *(h|hr|hour)$') THEN
            CAST(money(commitment_value) * date_diff('hour', instant(start_time), instant(end_time)) AS DECIMAL(32, 18))
        END AS cost,
        CAST(nullif(regexp_extract(term, '^P([0-9]+)Y$', 1), '') AS INTEGER) AS years,
        CASE lower(state) WHEN 'active' THEN 'Active' WHEN 'expired' THEN 'Expired' WHEN 'canceled' THEN 'Canceled' WHEN 'pending' THEN 'Pending' END AS status,
        instant(start_time) AS begins,
        instant(end_time) AS ends,
        _file,
        _row
    FROM native
    WHERE commitment_value IS NOT NULL AND cost IS NULL AND usage_start_time IS NULL
), listed AS (
    -- The list has no date: what ended is never active again.
    SELECT * FROM snapshots JOIN periods ON begins < period + INTERVAL 1 MONTH AND (ends IS NULL OR ends > period)
    QUALIFY row_number() OVER (PARTITION BY account, id, period ORDER BY status IN ('Active', 'Pending'), ends DESC, _file, _row) = 1
), fees_by_contract AS (
    SELECT
        account, contract, period_start,
        any_value(sku_description) AS description,
        any_value(CASE WHEN pooled THEN commitment_class ELSE 'Spend' END) AS class,
        any_value(currency) AS currency,
        any_value(CAST(nullif(regexp_extract(sku_description, 'for ([0-9]+) years?', 1, 'i'), '') AS INTEGER)) AS years,
        min({'file': _file, 'row': _row}) AS first
    FROM asked WHERE is_fee GROUP BY ALL
)
SELECT
    id AS ContractCommitmentId,
    id AS ContractId,
    'Spend-based committed use discount' AS ContractCommitmentType,
    'Spend' AS ContractCommitmentCategory,
    description AS ContractCommitmentDescription,
    cost AS ContractCommitmentCost,
    'USD' AS BillingCurrency,
    years || CASE WHEN years = 1 THEN ' Year' ELSE ' Years' END AS ContractCommitmentDurationType,
    status AS ContractCommitmentLifecycleStatus,
    begins AS ContractCommitmentPeriodStart,
    ends AS ContractCommitmentPeriodEnd,
    begins AS ContractPeriodStart,
    ends AS ContractPeriodEnd,
    'Discount' AS ContractCommitmentBenefitCategory,
    'Hourly' AS ContractCommitmentFulfillmentInterval,
    'Monthly' AS ContractCommitmentPaymentInterval,
    -- What an hour doesn't use is lost with it.
    'Continuous' AS ContractCommitmentModel,
    'No Upfront' AS ContractCommitmentPaymentModel,
    0 AS ContractCommitmentPaymentUpfrontPercentage,
    'Google Cloud' AS InvoiceIssuerName,
    'Google Cloud' AS ServiceProviderName,
    period AS _period,
    _file,
    _row
FROM listed
UNION ALL BY NAME
SELECT
    contract AS ContractCommitmentId,
    contract AS ContractId,
    CASE class WHEN 'Spend' THEN 'Spend-based committed use discount' ELSE 'Resource-based committed use discount' END AS ContractCommitmentType,
    class AS ContractCommitmentCategory,
    description AS ContractCommitmentDescription,
    currency AS BillingCurrency,
    years || CASE WHEN years = 1 THEN ' Year' ELSE ' Years' END AS ContractCommitmentDurationType,
    'Discount' AS ContractCommitmentBenefitCategory,
    'Hourly' AS ContractCommitmentFulfillmentInterval,
    'Monthly' AS ContractCommitmentPaymentInterval,
    'Continuous' AS ContractCommitmentModel,
    'No Upfront' AS ContractCommitmentPaymentModel,
    0 AS ContractCommitmentPaymentUpfrontPercentage,
    'Google Cloud' AS InvoiceIssuerName,
    'Google Cloud' AS ServiceProviderName,
    period_start AS _period,
    first.file AS _file,
    first.row AS _row
FROM fees_by_contract
WHERE (account, contract, period_start) NOT IN (SELECT (account, id, period) FROM listed WHERE id IS NOT NULL)
