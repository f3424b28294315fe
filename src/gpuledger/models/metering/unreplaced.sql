-- Estimated rows whose machine and time no bill has reached yet: no Final usage of the same machine overlaps their
-- charge period. {final} and {estimated} are relations with the columns of the Cost and Usage table.
-- Both are only asked for the machines that have estimates; the rest of the bill is passed over by its ResourceId.
WITH bill AS NOT MATERIALIZED (
    SELECT
        ResourceId,
        -- Google's bill numbers a machine; its node knows only the name.
        CASE WHEN starts_with(ResourceId, '//compute.googleapis.com/') THEN ResourceName END AS ResourceName,
        coalesce(ChargePeriodStart, BillingPeriodStart) AS _start,
        coalesce(ChargePeriodEnd, BillingPeriodEnd) AS _end
    FROM {final}
    WHERE ResourceId IS NOT NULL
        AND ChargeCategory = 'Usage'
        AND x_CostStatus IS DISTINCT FROM 'Estimated'
        -- Traffic and disks of a machine may be billed under its id before its hours are.
        AND ServiceCategory IS DISTINCT FROM 'Networking'
        AND ServiceCategory IS DISTINCT FROM 'Storage'
        AND coalesce(ChargePeriodEnd, BillingPeriodEnd) > (SELECT min(ChargePeriodStart) FROM {estimated})
        AND coalesce(ChargePeriodStart, BillingPeriodStart) < (SELECT max(ChargePeriodEnd) FROM {estimated})
), metered AS (
    SELECT ResourceId, unnest({keys}) AS _key
    FROM (SELECT DISTINCT ResourceId FROM {estimated} WHERE ResourceId IS NOT NULL)
), billed AS (
    SELECT ResourceId, unnest(list_concat({keys}, {name_keys})) AS _key
    FROM (SELECT DISTINCT ResourceId, ResourceName FROM bill)
), pair AS (
    SELECT DISTINCT metered.ResourceId AS _metered, billed.ResourceId AS _billed
    FROM metered JOIN billed USING (_key)
), cover AS (
    -- How far the bill reaches, of all charges that begin up to here.
    SELECT _metered, _start, max(_end) OVER (PARTITION BY _metered ORDER BY _start) AS _reach
    FROM bill JOIN pair ON bill.ResourceId = pair._billed
)
SELECT e.*
FROM {estimated} AS e
ASOF LEFT JOIN cover ON e.ResourceId = cover._metered AND e.ChargePeriodEnd > cover._start
WHERE cover._reach IS NULL OR cover._reach <= e.ChargePeriodStart
