-- Each amount of a charge split into GPU (1), CPU (2) and memory (3), and time in which the machine wasn't seen or
-- couldn't be priced (4). Largest remainder; among so few, ranks are counted instead of sorted.
WITH amount AS (
    SELECT charge_no, unnest([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) AS amount_no, unnest([
        alloc_int14(abs(x_GpuHours)),
        CAST(1000000000000000000 AS HUGEINT),
        alloc_int18(abs(CASE WHEN billed_no = 2 THEN BilledCost END)),
        alloc_int18(abs(CASE WHEN effective_no = 3 THEN EffectiveCost END)),
        alloc_int18(abs(CASE WHEN list_no = 4 THEN ListCost END)),
        alloc_int18(abs(CASE WHEN contracted_no = 5 THEN ContractedCost END)),
        alloc_int18(abs(CASE WHEN pricing_currency_no = 6 THEN PricingCurrencyEffectiveCost END)),
        alloc_int14(abs(CASE WHEN consumed_no = 7 THEN ConsumedQuantity END)),
        alloc_int14(abs(CASE WHEN pricing_no = 8 THEN PricingQuantity END)),
        alloc_int14(abs(CASE WHEN commitment_no = 9 THEN CommitmentDiscountQuantity END))
    ]) AS amount
    FROM alloc_charge
    JOIN alloc_run USING (charge_no)
    WHERE leader_no = charge_no
), listed AS (
    SELECT a.charge_no, a.amount_no, a.amount, w.shape_no, w.seen_us, w.unseen_us,
        -- Accelerator hours belong to the accelerators alone.
        coalesce(a.amount_no = 0 AND w.part IS NULL AND w.gpu > 0, false) AS hours
    FROM amount AS a
    JOIN alloc_weight AS w USING (charge_no)
    WHERE a.amount > 0
), weighed AS (
    SELECT
        l.*,
        CASE WHEN hours THEN [1, 0, 0] ELSE [weight_gpu, weight_cpu, weight_memory] END AS weights
    FROM (SELECT DISTINCT amount, shape_no, seen_us, unseen_us, hours FROM listed) AS l
    JOIN (SELECT DISTINCT shape_no, weight_gpu, weight_cpu, weight_memory FROM alloc_weight) USING (shape_no)
), whole AS (
    SELECT *, seen_us + unseen_us AS all_us, weights[1] + weights[2] + weights[3] AS w FROM weighed
), unseen_floor AS (
    SELECT
        *,
        CASE WHEN unseen_us > 0 AND w > 0
            THEN alloc_floor(amount // all_us, amount % all_us, unseen_us, all_us) END AS floored
    FROM whole
), unseen AS (
    SELECT
        * EXCLUDE (floored),
        CASE
            WHEN w = 0 OR seen_us = 0 THEN amount
            WHEN floored IS NULL THEN 0
            ELSE floored + CAST(
                2 * alloc_rest(amount // all_us, amount % all_us, unseen_us, all_us, floored) > all_us AS INTEGER
            )
        END AS lost
    FROM unseen_floor
), quotient AS (
    SELECT *, amount - lost - q * w AS r FROM (SELECT *, (amount - lost) // greatest(w, 1) AS q FROM unseen)
), floored AS (
    SELECT
        *,
        alloc_floor(q, r, weights[1], w) AS gpu,
        alloc_floor(q, r, weights[2], w) AS cpu,
        alloc_floor(q, r, weights[3], w) AS memory
    FROM quotient
), rest AS (
    SELECT
        *,
        alloc_rest(q, r, weights[1], w, gpu) AS rest_gpu,
        alloc_rest(q, r, weights[2], w, cpu) AS rest_cpu,
        alloc_rest(q, r, weights[3], w, memory) AS rest_memory,
        amount - lost - gpu - cpu - memory AS leftover
    FROM floored
    WHERE w > 0
), ranked AS (
    SELECT
        amount, shape_no, seen_us, unseen_us, hours,
        gpu + CAST(CAST(rest_cpu > rest_gpu AS INTEGER) + CAST(rest_memory > rest_gpu AS INTEGER) < leftover AS INTEGER) AS gpu,
        cpu + CAST(CAST(rest_gpu >= rest_cpu AS INTEGER) + CAST(rest_memory > rest_cpu AS INTEGER) < leftover AS INTEGER) AS cpu,
        memory + CAST(CAST(rest_gpu >= rest_memory AS INTEGER) + CAST(rest_cpu >= rest_memory AS INTEGER) < leftover AS INTEGER) AS memory,
        lost
    FROM rest
    UNION ALL
    SELECT amount, shape_no, seen_us, unseen_us, hours, 0, 0, 0, lost FROM quotient WHERE w = 0
)
FROM (
    SELECT
        l.charge_no, l.amount_no, unnest([1, 2, 3, 4]) AS resource, unnest([r.gpu, r.cpu, r.memory, r.lost]) AS amount
    FROM listed AS l
    JOIN ranked AS r USING (amount, shape_no, seen_us, unseen_us, hours)
)
WHERE amount > 0
