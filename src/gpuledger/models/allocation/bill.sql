-- Charges of one batch; `alloc_charge` is this table with row ids as `charge_no`. Equal amounts share a number (`…_no`, null for none or zero), so that they are apportioned once;
-- signs come back at the end, so that credits get the ratios of what they credit. The numbers: 0 accelerator hours, 1 the
-- ratio 1, 2 to 6 costs, 7 to 9 quantities.
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
    * EXCLUDE (machine_seconds, gpu_count, ChargePeriodStart, ChargePeriodEnd),
    epoch_us(ChargePeriodStart) AS start_us,
    epoch_us(ChargePeriodEnd) AS end_us,
    CAST(alloc_int14(machine_seconds) // 100000000 AS BIGINT) AS machine_us,
    alloc_int14(gpu_count) AS gpu14
FROM numbered
