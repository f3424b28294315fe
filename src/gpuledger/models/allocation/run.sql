-- Machines mostly do for hours what they did the hour before. Charges of one machine that cost the same and have the
-- same claims are one run: only its leader is split, the others have the leader's rows. Compared exactly, not by hash.
WITH alike AS (
    SELECT
        c.charge_no,
        c.start_us,
        lag(c.charge_no) OVER same AS before_no,
        min(c.charge_no) OVER same_all AS alike_no
    FROM alloc_charge AS c
    JOIN alloc_weight AS w USING (charge_no)
    WINDOW
        same AS (
            PARTITION BY
                c.cluster, c.node, w.shape_no, w.seen_us, w.unseen_us, c.BilledCost, c.EffectiveCost, c.ListCost,
                c.ContractedCost, c.PricingCurrencyEffectiveCost, c.ConsumedQuantity, c.PricingQuantity,
                c.CommitmentDiscountQuantity, c.x_GpuHours
            ORDER BY c.start_us, c.charge_no
        ),
        same_all AS (
            PARTITION BY
                c.cluster, c.node, w.shape_no, w.seen_us, w.unseen_us, c.BilledCost, c.EffectiveCost, c.ListCost,
                c.ContractedCost, c.PricingCurrencyEffectiveCost, c.ConsumedQuantity, c.PricingQuantity,
                c.CommitmentDiscountQuantity, c.x_GpuHours
        )
), claims AS (
    SELECT charge_no, count(*) AS claims FROM alloc_claim GROUP BY charge_no
), shared AS (
    SELECT a.charge_no, count(*) AS claims
    FROM alike AS a
    JOIN alloc_claim AS k ON k.charge_no = a.charge_no
    JOIN alloc_claim AS b ON b.charge_no = a.before_no AND b.resource = k.resource AND b.holder_no = k.holder_no
        AND b.units IS NOT DISTINCT FROM k.units AND b.unknown = k.unknown AND b.capped = k.capped
    GROUP BY a.charge_no
), marked AS (
    SELECT
        a.charge_no,
        a.start_us,
        a.alike_no,
        CASE
            WHEN a.before_no IS NULL OR coalesce(m.claims, 0) <> coalesce(b.claims, 0)
                OR coalesce(m.claims, 0) <> coalesce(s.claims, 0)
                THEN a.charge_no
        END AS leader_no
    FROM alike AS a
    LEFT JOIN claims AS m ON m.charge_no = a.charge_no
    LEFT JOIN claims AS b ON b.charge_no = a.before_no
    LEFT JOIN shared AS s ON s.charge_no = a.charge_no
)
SELECT
    charge_no,
    last_value(leader_no IGNORE NULLS) OVER (
        PARTITION BY alike_no ORDER BY start_us, charge_no ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS leader_no
FROM marked
