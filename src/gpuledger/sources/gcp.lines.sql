-- What gcp.sql and gcp.commitments.sql rest on: native rows with their types and credits read (`asked`), and the fees of
-- commitments with what they cover (`shares`, by account, month, pool and hour; `keyed` has each row's pool).
--
-- A pool is a set of fees and of usage that these pay for together. Its fee is shared out in each hour in proportion to
-- what was committed for: so much of the commitment as the usage took, the rest of the fee is unused.
unit_names(unit, name) AS (VALUES
    ('hour', 'Hours'), ('day', 'Days'), ('month', 'Months'), ('second', 'Seconds'), ('seconds', 'Seconds'),
    ('gibibyte', 'GiB'), ('gibibyte hour', 'GiB-Hours'), ('gibibyte month', 'GiB-Months'), ('tebibyte', 'TiB'),
    ('mebibyte', 'MiB'), ('bytes', 'Bytes'), ('byte-seconds', 'Byte-Seconds'), ('requests', 'Requests')
), texts AS NOT MATERIALIZED (
    SELECT
        * REPLACE (
            coalesce(cost_type, 'regular') AS cost_type,
            -- The list of commitments has the bare id.
            regexp_replace(subscription_instance_id, '^subscriptions/', '') AS subscription_instance_id
        ),
        cost AS native_cost,
        subscription_instance_id AS native_subscription,
        CASE WHEN trim(credits) <> '[]' THEN json_text(credits) END AS credits_json,
        json_text(labels) AS labels_json,
        json_text(project_labels) AS project_labels_json,
        tag_map(json_text(system_labels)) AS system,
        CASE WHEN trim(tags) <> '[]' THEN
            TRY(from_json(json_text(tags), '[{"key":"VARCHAR","value":"VARCHAR","namespace":"VARCHAR"}]'))
        END AS tag_list,
        replace(lower(transaction_type), ' ', '_') AS seller_type
    FROM native
    WHERE cost IS NOT NULL OR usage_start_time IS NOT NULL OR commitment_value IS NULL
), typed AS NOT MATERIALIZED (
    SELECT
        t.* REPLACE (money(t.cost) AS cost),
        billing_account_id AS account,
        coalesce(
            TRY_CAST(TRY_STRPTIME(regexp_replace(invoice_month, '[^0-9]', '', 'g'), '%Y%m') AS TIMESTAMPTZ),
            date_trunc('month', instant(usage_start_time))
        ) AS period_start,
        instant(usage_start_time) AS started,
        instant(usage_end_time) AS ended,
        TRY(from_json(
            credits_json,
            '[{"name":"VARCHAR","amount":"VARCHAR","full_name":"VARCHAR","id":"VARCHAR","type":"VARCHAR"}]'
        )) AS credit_list,
        coalesce(quantity(usage_amount_in_pricing_units), quantity(usage_amount)) AS priced_amount,
        quantity(usage_amount) AS used_amount,
        -- A count of what, only the name of the SKU says.
        CASE
            WHEN regexp_matches(sku_description, '\btokens?\b|gemini [2-9].*(input|output)', 'i') THEN 'Tokens' ELSE 'Units'
        END AS counted,
        coalesce(priced.name, nullif(coalesce(usage_pricing_unit, usage_unit), 'count'), counted) AS pricing_unit,
        coalesce(used.name, nullif(usage_unit, 'count'), counted) AS used_unit,
        money(cost_at_list) AS list_cost,
        money(price_list_price) AS list_price,
        coalesce(money(price_effective_price_default), money(price_effective_price)) AS own_price,
        money(cost_at_effective_price_default) AS own_cost,
        coalesce(
            TRY(map_from_entries(list_transform(tag_list, lambda t: {'key': t.key, 'value': t.value}))),
            TRY(map_from_entries(list_transform(tag_list, lambda t: {'key': concat_ws('/', t.namespace, t.key), 'value': t.value})))
        ) AS own_tags,
        system['compute.googleapis.com/machine_spec'] AS machine,
        coalesce(system['compute.googleapis.com/is_unused_reservation'] = 'true', false) AS unused_reservation,
        -- Some flattened files have the zone in the region's column.
        coalesce(location_region, location_location) AS place,
        nullif(regexp_replace(place, '-[a-z]$', ''), '') AS region_text,
        coalesce(location_zone, nullif(regexp_extract(place, '^[a-z-]+[0-9]+-[a-z]$'), '')) AS zone,
        coalesce(resource_global_name, resource_name) AS resource,
        CASE
            WHEN seller_type IN ('third_party_reseller', 'third_party_agency', '2', '3') THEN seller_name ELSE 'Google Cloud'
        END AS seller,
        adjustment_type IN ('USAGE_CORRECTION', 'PRICE_CORRECTION', 'METADATA_CORRECTION') AS correction,
        coalesce(
            adjustment_type IN ('GOODWILL', 'SALES_BASED_GOODWILL', 'SLA_VIOLATION') AND cost_type <> 'tax', false
        ) AS good_will,
        coalesce(regexp_matches(sku_description, '^commitment( v[0-9]+:| - dollar based)', 'i'), false) AS fee_text,
        coalesce(consumption_model_description <> 'Default', false) AS discounted_model
    FROM texts AS t
    LEFT JOIN unit_names AS priced ON priced.unit = lower(coalesce(usage_pricing_unit, usage_unit))
    LEFT JOIN unit_names AS used ON used.unit = lower(usage_unit)
), credited AS NOT MATERIALIZED (
    SELECT
        *,
        CASE WHEN regexp_matches(region_text, '^[a-z]+(-[a-z]+)+[0-9]+$') THEN region_text END AS region_id,
        CASE WHEN regexp_matches(lower(sku_description), '\bgpu\b') THEN machine END AS gpu_machine,
        coalesce(
            CASE WHEN unused_reservation OR contains(resource, '/reservations/') THEN resource END,
            coalesce(system['compute.googleapis.com/reservation_project_id'], project_id)
                || '/' || system['compute.googleapis.com/reservation_name']
        ) AS reservation,
        list_transform(credit_list, lambda c: {
            'credit': c,
            'amount': money(c.amount),
            -- Old exports have no types, only names.
            'role': CASE coalesce(
                upper(nullif(c.type, '')),
                CASE WHEN c.name ILIKE 'committed us%' THEN 'COMMITTED_USAGE_DISCOUNT' WHEN c.name ILIKE 'sustained us%' THEN 'DISCOUNT' END
            )
                WHEN 'COMMITTED_USAGE_DISCOUNT' THEN 'committed'
                WHEN 'COMMITTED_USAGE_DISCOUNT_DOLLAR_BASE' THEN 'committed'
                WHEN 'FEE_UTILIZATION_OFFSET' THEN 'offset'
                WHEN 'SUSTAINED_USAGE_DISCOUNT' THEN 'discount'
                WHEN 'DISCOUNT' THEN 'discount'
                WHEN 'FREE_TIER' THEN 'discount'
                WHEN 'SUBSCRIPTION_BENEFIT' THEN 'discount'
                WHEN 'RESELLER_MARGIN' THEN 'discount'
                ELSE 'payment'
            END
        }) AS roles
    FROM typed
), summed AS NOT MATERIALIZED (
    SELECT
        *,
        coalesce(list_sum(list_transform(list_filter(roles, lambda r: r.role = 'discount'), lambda r: r.amount)), 0) AS discounts,
        coalesce(list_sum(list_transform(list_filter(roles, lambda r: r.role = 'committed'), lambda r: r.amount)), 0) AS commitment_credit,
        coalesce(list_sum(list_transform(list_filter(roles, lambda r: r.role = 'offset'), lambda r: r.amount)), 0) AS fee_offset,
        list_transform(list_filter(roles, lambda r: r.role IN ('payment', 'offset')), lambda r: r.credit) AS payments,
        list_filter(roles, lambda r: r.role = 'committed')[1].credit AS commitment_entry
    FROM credited
), lines AS NOT MATERIALIZED (
    SELECT
        *,
        cost_type = 'regular' AND commitment_credit = 0 AND (
            fee_text OR fee_offset <> 0 OR (subscription_instance_id IS NOT NULL AND NOT discounted_model)
        ) AS is_fee,
        cost_type = 'regular' AND discounted_model AS direct,
        CASE WHEN cost_type = 'regular' AND commitment_credit < 0 AND cost > 0 THEN least(-commitment_credit, cost) END AS covered,
        CASE
            WHEN upper(commitment_entry.type) = 'COMMITTED_USAGE_DISCOUNT_DOLLAR_BASE' THEN 'Spend'
            WHEN contains(lower(sku_description), 'dollar based') THEN 'Spend'
            ELSE 'Usage'
        END AS commitment_class,
        coalesce(
            nullif(commitment_entry.full_name, ''), nullif(commitment_entry.name, ''), nullif(commitment_entry.id, '')
        ) AS credit_name,
        -- Fees and usage name the same thing differently: "Commitment v1: N2 Cpu in Americas for 1 Year" is for "N2
        -- Instance Core running in Americas", "… Nvidia H100 80GB GPU running in Americas for 1 Year" for the rest of it.
        regexp_replace(lower(sku_description), '^commitment v[0-9]+: | (running )?in .*$| for [0-9] years?.*$', '', 'g') AS framed,
        regexp_replace(trim(regexp_replace(framed, '\b(instance|predefined|custom|extended)( |$)|^n1 ', '', 'g')), '\bcore$', 'cpu') AS named
    FROM summed
), asked AS NOT MATERIALIZED (
    SELECT
        *,
        is_fee AND fee_offset = 0 AND fee_text AS pooled,
        coalesce(subscription_instance_id, sku_id) AS contract,
        CASE WHEN is_fee THEN tag_map(labels_json)['goog-originating-sku-id'] END AS origin_sku,
        CASE commitment_class
            WHEN 'Spend' THEN 'spend/' || regexp_extract(
                lower(coalesce(credit_name, sku_description)), 'dollar based[^:]*: *((?:cloud )?[a-z0-9]+)', 1
            )
            ELSE 'commitments/' || coalesce(region_id, 'global') || '/' || named
        END AS thing,
        -- In the unit of the commitment: of resources their pricing unit, of old spend-based ones US dollars at list.
        CASE
            WHEN covered IS NULL THEN NULL
            WHEN commitment_class = 'Spend' AND coalesce(money(currency_conversion_rate), 1) <> 1
                THEN CAST(CAST(covered AS DOUBLE) / CAST(currency_conversion_rate AS DOUBLE) AS DECIMAL(38, 9))
            WHEN commitment_class = 'Spend' THEN CAST(covered AS DECIMAL(38, 9))
            WHEN covered = cost THEN CAST(priced_amount AS DECIMAL(38, 9))
            ELSE CAST(CAST(priced_amount AS DOUBLE) * CAST(covered AS DOUBLE) / CAST(cost AS DOUBLE) AS DECIMAL(38, 9))
        END AS covers
    FROM lines
), special AS MATERIALIZED (
    SELECT
        account, period_start, contract, origin_sku, sku_id, thing, pooled, covered, covers, started, ended, commitment_class,
        cost + discounts AS fee, priced_amount, {'file': _file, 'row': _row} AS spot
    FROM asked
    WHERE pooled OR covered IS NOT NULL
), grain AS (
    -- Hours, unless the file sums up more.
    SELECT
        CASE
            WHEN max(ended - started) <= INTERVAL 1 HOUR THEN 'hour' WHEN max(ended - started) <= INTERVAL 1 DAY THEN 'day' ELSE 'month'
        END AS step
    FROM special
), attributed AS (
    SELECT DISTINCT account, contract, true AS by_sku FROM special WHERE pooled AND origin_sku IS NOT NULL
), origins AS (
    SELECT DISTINCT account, origin_sku AS sku_id, true AS has_fee FROM special WHERE pooled AND origin_sku IS NOT NULL
), pooling AS (
    SELECT
        s.*,
        date_trunc(step, started) AS bucket,
        CASE
            WHEN pooled AND origin_sku IS NOT NULL THEN 'sku/' || origin_sku
            WHEN pooled AND by_sku THEN 'idle/' || contract
            WHEN NOT pooled AND has_fee THEN 'sku/' || sku_id
            ELSE thing
        END AS pool_key
    FROM special AS s
    CROSS JOIN grain
    LEFT JOIN attributed USING (account, contract)
    LEFT JOIN origins USING (account, sku_id)
), fees AS (
    SELECT
        account, period_start, pool_key, bucket,
        sum(fee) AS fee,
        any_value(commitment_class) AS class,
        -- Fees of the old spend-based model count their commitment in hundredths of a dollar.
        sum(CAST(priced_amount * CASE WHEN commitment_class = 'Spend' THEN 0.01 ELSE 1 END AS DECIMAL(38, 9))) AS committed,
        min(spot) AS first
    FROM pooling WHERE pooled GROUP BY ALL
), uses AS (
    SELECT account, period_start, pool_key, bucket, sum(covers) AS covered, sum(covered) AS covered_cost, max(spot) AS last
    FROM pooling WHERE NOT pooled GROUP BY ALL
), contracts AS (
    SELECT account, pool_key, CASE WHEN count(DISTINCT contract) = 1 THEN any_value(contract) ELSE pool_key END AS id
    FROM pooling WHERE pooled GROUP BY account, pool_key
), bases AS (
    -- What names the SKU that it was used for was used up, whatever the rounding of its numbers says.
    SELECT
        f.*, u.covered, u.last,
        CASE WHEN starts_with(pool_key, 'sku/') AND u.covered IS NOT NULL THEN u.covered ELSE greatest(f.committed, u.covered) END AS base
    FROM fees AS f LEFT JOIN uses AS u USING (account, period_start, pool_key, bucket)
), spent AS (
    SELECT account, period_start, pool_key, bucket, sum(part_of(b.fee, p.covers, b.base)) AS used
    FROM pooling AS p JOIN bases AS b USING (account, period_start, pool_key, bucket)
    WHERE NOT p.pooled GROUP BY ALL
), shares AS (
    SELECT
        account, period_start, pool_key, bucket, id, class, fee, base, committed, covered,
        CAST(fee - coalesce(used, 0) AS DECIMAL(32, 18)) AS remainder,
        -- The row that gets the remainder: the fee's, as unused, or where all is used the last that uses it.
        CASE WHEN base IS DISTINCT FROM covered THEN first ELSE last END AS taker
    FROM bases
    LEFT JOIN spent USING (account, period_start, pool_key, bucket)
    LEFT JOIN contracts USING (account, pool_key)
), keyed AS NOT MATERIALIZED (
    SELECT
        a.*,
        CASE WHEN pooled OR covered IS NOT NULL THEN date_trunc(step, started) END AS bucket,
        CASE
            WHEN pooled AND origin_sku IS NOT NULL THEN 'sku/' || origin_sku
            WHEN pooled AND by_sku THEN 'idle/' || contract
            WHEN covered IS NOT NULL AND has_fee THEN 'sku/' || sku_id
            WHEN pooled OR covered IS NOT NULL THEN thing
        END AS pool_key
    FROM asked AS a
    CROSS JOIN grain
    LEFT JOIN attributed USING (account, contract)
    LEFT JOIN origins USING (account, sku_id)
)
