-- Amounts that nobody holds, spread over targets by weight: largest remainder, ties in the order of the targets' names.
-- `source` has one row per amount holder, `target` the weights; a source without a weighed target stays as it is.
WITH source AS (
    SELECT *, CAST(row_number() OVER () AS INTEGER) AS source_no FROM {source}
), weighed AS (
    SELECT source_key, target, job_id, name, weight, sum(weight) OVER (PARTITION BY source_key) AS whole
    FROM {target}
    WHERE weight > 0
), listed AS (
    SELECT
        source_no,
        source_key,
        unnest([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) AS amount_no,
        unnest([
            alloc_int14(abs(x_GpuHours)), ratio, alloc_int18(abs(BilledCost)), alloc_int18(abs(EffectiveCost)),
            alloc_int18(abs(ListCost)), alloc_int18(abs(ContractedCost)), alloc_int18(abs(PricingCurrencyEffectiveCost)),
            alloc_int14(abs(ConsumedQuantity)), alloc_int14(abs(PricingQuantity)), alloc_int14(abs(CommitmentDiscountQuantity))
        ]) AS amount
    FROM source
), floored AS (
    SELECT
        l.source_no, l.amount_no, t.target, t.job_id, t.name, t.whole,
        l.amount // t.whole AS q,
        l.amount % t.whole AS r,
        alloc_floor(l.amount // t.whole, l.amount % t.whole, t.weight, t.whole) AS floored,
        t.weight
    FROM listed AS l
    JOIN weighed AS t USING (source_key)
    WHERE l.amount IS NOT NULL
), ranked AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY source_no, amount_no ORDER BY rest DESC, target) AS rank,
        r - sum(floored - q * weight) OVER (PARTITION BY source_no, amount_no) AS leftover
    FROM (SELECT *, alloc_rest(q, r, weight, whole, floored) AS rest FROM floored)
), given AS (
    SELECT source_no, target, job_id, name, amount_no, floored + CAST(rank <= leftover AS INTEGER) AS amount FROM ranked
), spread AS (
    SELECT
        source_no, target, any_value(job_id) AS job_id, any_value(name) AS name,
        max(amount) FILTER (amount_no = 0) AS gpu_hours,
        max(amount) FILTER (amount_no = 1) AS ratio,
        max(amount) FILTER (amount_no = 2) AS billed,
        max(amount) FILTER (amount_no = 3) AS effective,
        max(amount) FILTER (amount_no = 4) AS list,
        max(amount) FILTER (amount_no = 5) AS contracted,
        max(amount) FILTER (amount_no = 6) AS pricing_currency,
        max(amount) FILTER (amount_no = 7) AS consumed,
        max(amount) FILTER (amount_no = 8) AS pricing,
        max(amount) FILTER (amount_no = 9) AS commitment
    FROM given
    GROUP BY source_no, target
    HAVING max(amount) > 0
)
SELECT
    s.x_OriginChargeId,
    s.x_Cluster,
    s.x_Node,
    '{method}' AS AllocatedMethodId,
    '{"Elements":[{"AllocatedRatio":' || alloc_ratio_text(CAST(p.ratio AS BIGINT)) || '}]}' AS AllocatedMethodDetails,
    p.target AS AllocatedResourceId,
    coalesce(p.name, p.target) AS AllocatedResourceName,
    CAST(NULL AS MAP(VARCHAR, VARCHAR)) AS AllocatedTags,
    alloc_signed(s.BilledCost, alloc_dec18(p.billed)) AS BilledCost,
    alloc_signed(s.EffectiveCost, alloc_dec18(p.effective)) AS EffectiveCost,
    alloc_signed(s.ListCost, alloc_dec18(p.list)) AS ListCost,
    alloc_signed(s.ContractedCost, alloc_dec18(p.contracted)) AS ContractedCost,
    alloc_signed(s.PricingCurrencyEffectiveCost, alloc_dec18(p.pricing_currency)) AS PricingCurrencyEffectiveCost,
    alloc_signed(s.ConsumedQuantity, alloc_dec14(p.consumed)) AS ConsumedQuantity,
    alloc_signed(s.PricingQuantity, alloc_dec14(p.pricing)) AS PricingQuantity,
    alloc_signed(s.CommitmentDiscountQuantity, alloc_dec14(p.commitment)) AS CommitmentDiscountQuantity,
    alloc_signed(s.x_GpuHours, alloc_dec14(p.gpu_hours)) AS x_GpuHours,
    p.job_id AS x_JobId,
    '{state}' AS x_AllocationState
FROM spread AS p
JOIN source AS s USING (source_no)
UNION ALL BY NAME
SELECT s.* EXCLUDE (source_no, source_key, ratio)
FROM source AS s
WHERE source_key NOT IN (SELECT source_key FROM weighed)
