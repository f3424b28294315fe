-- Reservations and savings plans that the bill names, one row per commitment and month. Only a payment made at once
-- tells when the term began; amount and quantity are known when the payment is in the delivery.
WITH of_commitments AS (
    SELECT
        *,
        CASE
            WHEN Term SIMILAR TO '[0-9]+' THEN CAST(Term AS INTEGER)
            WHEN Term SIMILAR TO 'P[0-9]+Y' THEN 12 * CAST(regexp_extract(Term, '[0-9]+') AS INTEGER)
        END AS term_months,
        CASE WHEN bought AND type = 'purchase' THEN lower(Frequency) END AS payment,
        first_value(benefit) OVER (PARTITION BY reservation_order ORDER BY length(benefit) DESC, benefit) AS longest,
        count(DISTINCT CASE WHEN benefit <> reservation_order THEN benefit END) OVER (PARTITION BY reservation_order) AS reservations
    FROM classified
    WHERE benefit IS NOT NULL
), terms AS (
    SELECT
        account, month,
        CASE WHEN reservations = 1 THEN longest ELSE benefit END AS id,
        any_value(reservation_order) AS contract,
        any_value(benefit_kind) AS kind,
        any_value(BillingCurrency) AS currency,
        any_value(coalesce(ProductOrderName, BenefitName, ReservationName)) AS description,
        max(term_months) AS months,
        max(payment) AS paid,
        sum(cost) FILTER (WHERE payment IS NOT NULL) AS payments,
        count(DISTINCT Date) FILTER (WHERE payment IS NOT NULL) AS payment_dates,
        sum(quantity(Quantity)) FILTER (WHERE payment IS NOT NULL) AS bought_quantity,
        min(instant_us(Date)) FILTER (WHERE payment = 'onetime') AS began,
        min(coalesce(instant_us(BillingPeriodStartDate), date_trunc('month', instant_us(Date)))) AS period,
        any_value(coalesce(PartnerName, 'Microsoft')) AS issuer,
        arg_min(_file, _row) AS _file,
        min(_row) AS _row
    FROM of_commitments GROUP BY ALL
)
SELECT
    id AS ContractCommitmentId,
    contract AS ContractId,
    kind AS ContractCommitmentType,
    CASE kind WHEN 'Savings Plan' THEN 'Spend' ELSE 'Usage' END AS ContractCommitmentCategory,
    'Discount' AS ContractCommitmentBenefitCategory,
    CASE WHEN paid = 'onetime' THEN payments WHEN paid = 'recurring' AND payment_dates = 1 THEN CAST(payments * months AS DECIMAL(32, 18)) END AS ContractCommitmentCost,
    CASE kind WHEN 'Reservation' THEN bought_quantity END AS ContractCommitmentQuantity,
    CASE WHEN kind = 'Reservation' AND bought_quantity IS NOT NULL THEN 'Units' END AS ContractCommitmentUnit,
    currency AS BillingCurrency,
    description AS ContractCommitmentDescription,
    CASE WHEN months % 12 = 0 THEN (months // 12) || CASE WHEN months = 12 THEN ' Year' ELSE ' Years' END ELSE months || ' Months' END AS ContractCommitmentDurationType,
    CASE paid WHEN 'onetime' THEN 'One-Time' WHEN 'recurring' THEN 'Monthly' END AS ContractCommitmentPaymentInterval,
    CASE paid WHEN 'onetime' THEN 'All Upfront' WHEN 'recurring' THEN 'No Upfront' END AS ContractCommitmentPaymentModel,
    CASE paid WHEN 'onetime' THEN 1 WHEN 'recurring' THEN 0 END AS ContractCommitmentPaymentUpfrontPercentage,
    'Hourly' AS ContractCommitmentFulfillmentInterval,
    -- What an hour doesn't use is lost with it.
    'Continuous' AS ContractCommitmentModel,
    'Public' AS ContractCommitmentOfferCategory,
    began AS ContractCommitmentPeriodStart,
    began + to_months(months) AS ContractCommitmentPeriodEnd,
    began AS ContractPeriodStart,
    began + to_months(months) AS ContractPeriodEnd,
    issuer AS InvoiceIssuerName,
    'Microsoft' AS ServiceProviderName,
    period AS _period,
    _file,
    _row
FROM terms
