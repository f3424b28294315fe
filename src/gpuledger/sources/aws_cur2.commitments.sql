-- Savings plans and reservations named by the bill's fees, one row per commitment and billing period. The bill tells the
-- fee of the time that it covers, not the whole promise: that is the fee, what is amortised of the upfront payment
-- included, times the length of the term over the time covered, in integers to the tenth decimal.
WITH fees AS (
    SELECT
        *,
        coalesce(savings_plan_savings_plan_a_r_n, reservation_reservation_a_r_n) AS arn,
        savings_plan_savings_plan_a_r_n IS NOT NULL AS plan,
        instant(bill_billing_period_start_date) AS period,
        instant(coalesce(savings_plan_start_time, reservation_start_time)) AS term_start,
        instant(coalesce(savings_plan_end_time, reservation_end_time)) AS term_end_native,
        -- Terms and months end at 23:59:59, the last second included.
        term_end_native + CASE WHEN date_part('second', term_end_native) >= 59 THEN INTERVAL 1 SECOND ELSE INTERVAL 0 SECOND END AS term_end,
        instant(line_item_usage_start_date) AS since,
        instant(line_item_usage_end_date) AS until,
        line_item_line_item_type IN ('RIFee', 'SavingsPlanRecurringFee') AS recurs
    FROM native
    WHERE line_item_line_item_type IN ('RIFee', 'SavingsPlanRecurringFee', 'SavingsPlanUpfrontFee')
        OR line_item_line_item_type = 'Fee' AND reservation_reservation_a_r_n IS NOT NULL
), covered AS (
    -- One row per commitment and time covered: a fee split over several lines is one fee of that time.
    SELECT
        arn, plan, period, since, term_start, term_end,
        bill_payer_account_id, line_item_currency_code, coalesce(bill_invoicing_entity, line_item_legal_entity) AS issuer,
        max(epoch(until) - epoch(since) + CASE WHEN date_part('second', until) >= 59 THEN 1 ELSE 0 END)
            FILTER (WHERE recurs) AS seconds,
        sum(CASE
            WHEN plan THEN money(savings_plan_total_commitment_to_date)
            ELSE money(line_item_unblended_cost) + coalesce(money(reservation_amortized_upfront_fee_for_billing_period), 0)
        END) FILTER (WHERE recurs) AS cost,
        -- What is paid upfront and what is paid by the month, in the shares of the time covered.
        sum(CASE
            WHEN plan THEN money(savings_plan_amortized_upfront_commitment_for_billing_period)
            ELSE money(reservation_amortized_upfront_fee_for_billing_period)
        END) FILTER (WHERE recurs) AS upfront,
        sum(CASE
            WHEN plan THEN money(savings_plan_recurring_commitment_for_billing_period) ELSE money(line_item_unblended_cost)
        END) FILTER (WHERE recurs) AS monthly,
        sum(quantity(reservation_total_reserved_units)) FILTER (WHERE recurs) AS hours,
        sum(quantity(reservation_total_reserved_normalized_units)) FILTER (WHERE recurs) AS normalized,
        max(CASE
            WHEN plan THEN concat_ws(' ', savings_plan_purchase_term, savings_plan_payment_option, savings_plan_offering_type,
                                     savings_plan_instance_type_family, savings_plan_region)
            ELSE concat_ws(' ', pricing_lease_contract_length, pricing_purchase_option, pricing_offering_class, 'reservation',
                           product_instance_type, product_region_code)
        END) AS description,
        max(coalesce(savings_plan_payment_option, pricing_purchase_option)) AS payment,
        max(coalesce(savings_plan_purchase_term, pricing_lease_contract_length)) AS term,
        max(savings_plan_offering_type) AS offering,
        max(pricing_offering_class) AS class,
        max(savings_plan_instance_type_family) AS family,
        max(coalesce(savings_plan_region, product_region_code)) AS region,
        max(reservation_subscription_id) AS subscription,
        max(reservation_number_of_reservations) AS number,
        min_by(_file, _row) AS _file,
        min(_row) AS _row
    FROM fees
    GROUP BY ALL
), commitments AS (
    SELECT
        arn, plan, period, term_start, term_end, bill_payer_account_id, line_item_currency_code, issuer,
        CAST(epoch(term_end) - epoch(term_start) AS HUGEINT) AS term_seconds,
        CAST(sum(seconds) AS HUGEINT) AS seconds, sum(cost) AS cost, sum(upfront) AS upfront, sum(monthly) AS monthly, sum(hours) AS hours, sum(normalized) AS normalized,
        max(description) AS description, max(payment) AS payment, max(term) AS term, max(offering) AS offering,
        max(class) AS class, max(family) AS family, max(region) AS region, max(subscription) AS subscription,
        max(number) AS number, min_by(_file, _row) AS _file, min(_row) AS _row
    FROM covered
    GROUP BY ALL
)
SELECT
    arn AS ContractCommitmentId,
    arn AS ContractId,
    CASE WHEN plan THEN 'Savings Plan' ELSE 'Reserved Instance' END AS ContractCommitmentType,
    CASE WHEN plan THEN 'Spend' ELSE 'Usage' END AS ContractCommitmentCategory,
    CASE WHEN seconds > 0 THEN CAST(
        (CAST(CAST(cost AS DECIMAL(26, 10)) * 10000000000 AS HUGEINT) * term_seconds + seconds // 2) // seconds AS DECIMAL(28, 0)
    ) * 0.0000000001 END AS ContractCommitmentCost,
    CASE WHEN NOT plan AND seconds > 0 THEN CAST(
        (CAST(CAST(CASE WHEN normalized > 0 THEN normalized ELSE hours END AS DECIMAL(26, 10)) * 10000000000 AS HUGEINT)
         * term_seconds + seconds // 2) // seconds AS DECIMAL(28, 0)
    ) * 0.0000000001 END AS ContractCommitmentQuantity,
    CASE WHEN ContractCommitmentQuantity IS NULL THEN NULL WHEN normalized > 0 THEN 'Normalized Hours' ELSE 'Hours' END AS ContractCommitmentUnit,
    nullif(trim(description), '') AS ContractCommitmentDescription,
    term_start AS ContractCommitmentPeriodStart,
    term_end AS ContractCommitmentPeriodEnd,
    term_start AS ContractPeriodStart,
    term_end AS ContractPeriodEnd,
    line_item_currency_code AS BillingCurrency,
    coalesce(issuer, 'Amazon Web Services, Inc.') AS InvoiceIssuerName,
    'AWS' AS ServiceProviderName,
    'Discount' AS ContractCommitmentBenefitCategory,
    'Hourly' AS ContractCommitmentFulfillmentInterval,
    'Continuous' AS ContractCommitmentModel,
    'Public' AS ContractCommitmentOfferCategory,
    CASE WHEN payment IN ('No Upfront', 'Partial Upfront', 'All Upfront') THEN payment END AS ContractCommitmentPaymentModel,
    CASE payment
        WHEN 'All Upfront' THEN 1 WHEN 'No Upfront' THEN 0
        WHEN 'Partial Upfront' THEN CASE WHEN upfront + monthly > 0 THEN CAST(
            CAST(CAST(upfront AS DECIMAL(26, 10)) * 10000000000 AS HUGEINT) * 10000000000
            // CAST(CAST(upfront + monthly AS DECIMAL(26, 10)) * 10000000000 AS HUGEINT) AS DECIMAL(28, 0)
        ) * 0.0000000001 END
    END AS ContractCommitmentPaymentUpfrontPercentage,
    CASE payment
        WHEN 'All Upfront' THEN 'One-Time' WHEN 'Partial Upfront' THEN 'Monthly' WHEN 'No Upfront' THEN 'Monthly'
    END AS ContractCommitmentPaymentInterval,
    term AS ContractCommitmentDurationType,
    map_from_entries(list_filter([
        {'key': 'billing_account_id', 'value': bill_payer_account_id},
        {'key': 'savings_plan_offering_type', 'value': offering},
        {'key': 'offering_class', 'value': class},
        {'key': 'instance_type_family', 'value': family},
        {'key': 'region', 'value': region},
        {'key': 'reservation_subscription_id', 'value': subscription},
        {'key': 'reservation_number_of_reservations', 'value': number}
    ], lambda e: e.value IS NOT NULL)) AS x_Native,
    period AS _period,
    _file, _row
FROM commitments
