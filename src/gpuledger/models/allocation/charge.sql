-- Charges of one batch. Equal amounts share a number (`…_no`, null for none or zero), so that they are apportioned once;
-- signs come back at the end, so that credits get the ratios of what they credit. Amounts are listed by number + 1, as
-- integers: 0 accelerator hours, 1 the ratio 1, 2 to 9 costs and quantities.
WITH numbered AS (
    SELECT
        *,
        CASE WHEN BilledCost <> 0 THEN 2 END AS billed_no,
        CASE WHEN EffectiveCost <> 0 THEN CASE WHEN abs(EffectiveCost) = abs(BilledCost) THEN 2 ELSE 3 END END AS effective_no,
        CASE WHEN ListCost <> 0 THEN CASE WHEN abs(ListCost) = abs(BilledCost) THEN 2 WHEN abs(ListCost) = abs(EffectiveCost) THEN 3 ELSE 4 END END AS list_no,
        CASE WHEN ContractedCost <> 0 THEN CASE WHEN abs(ContractedCost) = abs(BilledCost) THEN 2 WHEN abs(ContractedCost) = abs(EffectiveCost) THEN 3 WHEN abs(ContractedCost) = abs(ListCost) THEN 4 ELSE 5 END END AS contracted_no,
        CASE WHEN PricingCurrencyEffectiveCost <> 0 THEN CASE WHEN abs(PricingCurrencyEffectiveCost) = abs(BilledCost) THEN 2 WHEN abs(PricingCurrencyEffectiveCost) = abs(EffectiveCost) THEN 3 WHEN abs(PricingCurrencyEffectiveCost) = abs(ListCost) THEN 4 WHEN abs(PricingCurrencyEffectiveCost) = abs(ContractedCost) THEN 5 ELSE 6 END END AS pricing_currency_no,
        CASE WHEN ConsumedQuantity <> 0 THEN 7 END AS consumed_no,
        CASE WHEN PricingQuantity <> 0 THEN CASE WHEN abs(PricingQuantity) = abs(ConsumedQuantity) THEN 7 ELSE 8 END END AS pricing_no,
        CASE WHEN CommitmentDiscountQuantity <> 0 THEN CASE WHEN abs(CommitmentDiscountQuantity) = abs(ConsumedQuantity) THEN 7 WHEN abs(CommitmentDiscountQuantity) = abs(PricingQuantity) THEN 8 ELSE 9 END END AS commitment_no
    FROM {charges}
    WHERE {batch}
)
SELECT
    CAST(row_number() OVER () AS INTEGER) AS charge_no,
    * EXCLUDE (machine_seconds, gpu_count, ChargePeriodStart, ChargePeriodEnd),
    epoch_us(ChargePeriodStart) AS start_us,
    epoch_us(ChargePeriodEnd) AS end_us,
    CAST(alloc_int14(machine_seconds) // 100000000 AS BIGINT) AS machine_us,
    alloc_int14(gpu_count) AS gpu14,
    [
        CASE WHEN x_GpuHours <> 0 THEN alloc_int14(abs(x_GpuHours)) END,
        CAST(1000000000000000000 AS HUGEINT),
        CASE WHEN billed_no = 2 THEN alloc_int18(abs(BilledCost)) END,
        CASE WHEN effective_no = 3 THEN alloc_int18(abs(EffectiveCost)) END,
        CASE WHEN list_no = 4 THEN alloc_int18(abs(ListCost)) END,
        CASE WHEN contracted_no = 5 THEN alloc_int18(abs(ContractedCost)) END,
        CASE WHEN pricing_currency_no = 6 THEN alloc_int18(abs(PricingCurrencyEffectiveCost)) END,
        CASE WHEN consumed_no = 7 THEN alloc_int14(abs(ConsumedQuantity)) END,
        CASE WHEN pricing_no = 8 THEN alloc_int14(abs(PricingQuantity)) END,
        CASE WHEN commitment_no = 9 THEN alloc_int14(abs(CommitmentDiscountQuantity)) END
    ] AS amounts
FROM numbered
