-- Estimates beside the bill, per machine and the finest time that its bill knows (hour, day or month), and what makes
-- the difference. {final} and {estimated} are relations of ledger columns, {keys} and {name_keys} the names that a
-- machine goes by, {groups} a STRUCT of what to group by, {cost} and {list} the amounts, {lag} how long before the newest
-- charge of a provider's bill its rows may still be missing.
WITH charge AS (
    SELECT
        ResourceId,
        CASE WHEN starts_with(ResourceId, '//compute.googleapis.com/') THEN ResourceName END AS ResourceName,
        coalesce(ChargePeriodStart, BillingPeriodStart) AS _start,
        coalesce(ChargePeriodEnd, BillingPeriodEnd) AS _end,
        BillingCurrency, ServiceProviderName, {cost} AS _cost, {list} AS _list,
        PricingCategory IS NOT DISTINCT FROM 'Dynamic' AS _spot,
        x_GpuHours IS NOT NULL OR x_InstanceType IS NOT NULL AND ServiceCategory = 'Compute' AS _machine,
        -- Hours of the machine in microseconds; null where the quantity counts something else.
        CASE
            WHEN x_GpuCount > 0 AND x_GpuHours IS NOT NULL
                THEN (CAST(x_GpuHours * 1000000 AS HUGEINT) * 3600000) // CAST(x_GpuCount * 1000 AS HUGEINT)
            WHEN x_GpuHours IS NOT NULL OR x_GpuCount IS NOT NULL THEN NULL
            WHEN regexp_matches(
                concat_ws(' ', SkuMeter, ChargeDescription),
                '(?i)unused|software|licen[cs]e|ebs[ -]?optimi|\b(?:o?cpus?|vcpus?|cores?|ram|memory)\b'
            ) THEN NULL
            WHEN lower(ConsumedUnit) IN ({hours}) THEN CAST(ConsumedQuantity * 1000000 AS HUGEINT) * 3600
            WHEN lower(PricingUnit) IN ({hours}) THEN CAST(PricingQuantity * 1000000 AS HUGEINT) * 3600
        END AS _microseconds,
        {groups} AS _groups
    FROM {final}
    WHERE ChargeCategory = 'Usage'
        AND x_CostStatus IS DISTINCT FROM 'Estimated'
        AND ServiceCategory IS DISTINCT FROM 'Networking'
        AND ServiceCategory IS DISTINCT FROM 'Storage'
        AND AllocatedMethodId IS NULL
        AND CommitmentDiscountStatus IS DISTINCT FROM 'Unused'
        AND CapacityReservationStatus IS DISTINCT FROM 'Unused'
), guess AS (
    SELECT
        ResourceId, ChargePeriodStart AS _start, ChargePeriodEnd AS _end, BillingCurrency, ServiceProviderName,
        {cost} AS _cost, CASE WHEN ListUnitPrice IS NOT NULL THEN {list} END AS _list,
        PricingCategory IS NOT DISTINCT FROM 'Dynamic' AS _spot,
        CAST(epoch_us(ChargePeriodEnd) - epoch_us(ChargePeriodStart) AS HUGEINT) AS _microseconds,
        {groups} AS _groups
    FROM {estimated}
), metered AS (
    SELECT ResourceId, unnest({keys}) AS _key FROM (SELECT DISTINCT ResourceId FROM guess)
), billed AS (
    SELECT ResourceId, unnest(list_concat({keys}, {name_keys})) AS _key
    FROM (SELECT DISTINCT ResourceId, ResourceName FROM charge WHERE ResourceId IS NOT NULL)
), pair AS (
    SELECT DISTINCT metered.ResourceId AS _metered, billed.ResourceId AS _billed FROM metered JOIN billed USING (_key)
), named AS (
    -- A bill may spell a machine in several ways, and bill several machines as one.
    SELECT _metered, _billed, min(_billed) OVER (PARTITION BY _metered) AS _name FROM pair
), machine_of_guess AS (
    SELECT _metered, min(_machine) AS _machine
    FROM (SELECT _metered, min(_name) OVER (PARTITION BY _billed) AS _machine FROM named)
    GROUP BY _metered
), machine_of_charge AS (
    SELECT _billed, min(_name) AS _machine FROM named GROUP BY _billed
), entry AS (
    SELECT
        coalesce(m._machine, c.ResourceId, '') AS _machine, true AS _final, _start, _end, BillingCurrency,
        ServiceProviderName, _cost, _list, _spot, _microseconds, _groups,
        CASE
            WHEN _end <= date_trunc('hour', _start) + INTERVAL 1 HOUR THEN 1
            WHEN _end <= date_trunc('day', _start) + INTERVAL 1 DAY THEN 2
            ELSE 3
        END AS _grain
    FROM charge AS c LEFT JOIN machine_of_charge AS m ON m._billed = c.ResourceId
    WHERE c._machine OR m._billed IS NOT NULL
    UNION ALL
    SELECT
        coalesce(m._machine, g.ResourceId, ''), false, _start, _end, BillingCurrency,
        ServiceProviderName, _cost, _list, _spot, _microseconds, _groups, NULL
    FROM guess AS g LEFT JOIN machine_of_guess AS m ON m._metered = g.ResourceId
), grained AS (
    SELECT
        *,
        date_trunc('month', _start) AS _month,
        max(_grain) OVER (PARTITION BY _machine, date_trunc('month', _start)) AS _finest,
        bool_or(NOT _final) OVER (PARTITION BY _machine) AS _known
    FROM entry
), cell AS (
    SELECT
        _machine, BillingCurrency,
        CASE coalesce(_finest, 1)
            WHEN 1 THEN date_trunc('hour', _start) WHEN 2 THEN date_trunc('day', _start) ELSE _month
        END AS _bucket,
        max(_end) AS _end,
        max(_finest) AS _grain,
        any_value(_known) AS _known,
        coalesce(min(ServiceProviderName) FILTER (_final), min(ServiceProviderName)) AS _provider,
        first(_groups ORDER BY _final DESC, abs(_cost) DESC NULLS LAST, CAST(_groups AS VARCHAR)) AS _groups,
        count(*) FILTER (_final) AS _charges,
        count(*) FILTER (NOT _final) AS _guesses,
        count(*) FILTER (NOT _final AND _cost IS NULL) AS _unpriced,
        sum(_cost) FILTER (_final) AS final,
        sum(_cost) FILTER (NOT _final) AS estimated,
        CASE WHEN bool_and(_list IS NOT NULL) FILTER (_final) THEN sum(_list) FILTER (_final) END AS _final_list,
        CASE WHEN bool_and(_list IS NOT NULL) FILTER (NOT _final) THEN sum(_list) FILTER (NOT _final) END AS _guess_list,
        coalesce(sum(_microseconds) FILTER (_final), 0) AS _final_time,
        coalesce(sum(_microseconds) FILTER (NOT _final), 0) AS _guess_time,
        bool_or(_spot) AS _spot
    FROM grained
    GROUP BY _machine, BillingCurrency, _bucket
), reach AS (
    -- How far each provider's bill reaches, less what may still come.
    SELECT ServiceProviderName AS _by, max(_end) - {lag} AS _settled FROM entry WHERE _final GROUP BY ALL
), dated AS (
    SELECT
        cell.*,
        coalesce(cell._end <= reach._settled OR _grain = 3 AND _charges > 0, _charges > 0) AS settled,
        coalesce(final, 0) - coalesce(estimated, 0) AS difference,
        -- What hours make of the difference, where only one side has them; less than a second is rounding.
        CASE
            WHEN _charges = 0 OR _guesses = 0 OR _final_time = 0 OR abs(_final_time - _guess_time) < 1000000 THEN NULL
            WHEN _final_time > _guess_time THEN metered_units(final) * (_final_time - _guess_time) // _final_time
            ELSE -metered_units(estimated) * (_guess_time - _final_time) // _guess_time
        END AS _hours_part
    FROM cell LEFT JOIN reach ON reach._by IS NOT DISTINCT FROM cell._provider
), parted AS (
    SELECT
        *,
        CASE
            WHEN _guesses = 0 OR _charges > 0 AND _final_time > _guess_time THEN 'unmetered'
            WHEN settled THEN 'over_metered'
            ELSE 'late_row'
        END AS _hours_class,
        CASE
            WHEN _charges = 0 OR _guesses = 0 THEN difference
            ELSE coalesce(metered_money(_hours_part), 0)
        END AS _hours_amount,
        CASE
            WHEN _unpriced > 0 THEN 'unpriced'
            WHEN _spot THEN 'price_error'
            WHEN _final_list > 0 AND _guess_list > 0 AND _final_time > 0
                THEN CASE
                    WHEN abs(
                        CAST(_final_list AS DOUBLE) / CAST(_final_time AS DOUBLE) * CAST(_guess_time AS DOUBLE)
                        / CAST(_guess_list AS DOUBLE) - 1
                    ) < 0.000001 THEN 'discount'
                    ELSE 'price_error'
                END
            WHEN difference < 0 THEN 'discount'
            ELSE 'price_error'
        END AS _rate_class
    FROM dated
), classed AS (
    SELECT *, difference - _by_hours AS _by_rate
    FROM (
        -- What division leaves over is no class of its own.
        SELECT
            *,
            CASE WHEN _hours_amount <> 0 AND abs(difference - _hours_amount) < 0.000000000001 THEN difference ELSE _hours_amount END
                AS _by_hours
        FROM parted
    )
)
SELECT
    _groups AS groups, BillingCurrency AS currency, settled AND _known AS counts, estimated, final, difference,
    {classes},
    CAST(_guess_time AS HUGEINT) AS estimated_time, CAST(_final_time AS HUGEINT) AS final_time
FROM classed
