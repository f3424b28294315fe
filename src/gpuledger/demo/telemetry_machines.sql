-- The machines of the example's bills and when they ran, read from the native files as written. `seconds` is what the
-- row charges of the time from `start`; `span` is the length of the row's period in seconds.
WITH aws AS (
    SELECT
        'aws' AS provider,
        line_item_resource_id AS resource,
        product_instance_type AS kind,
        -- People may tag as they like: a machine is known by the name that its team gave it.
        coalesce(json_extract_string(resource_tags, '$.user_name'), '') AS name,
        coalesce(json_extract_string(resource_tags, '$.user_team'), json_extract_string(resource_tags, '$.user_squad'), '') AS team,
        product_region_code AS region,
        starts_with(line_item_usage_type, 'SpotUsage') AS spot,
        line_item_usage_start_date::TIMESTAMP AS start,
        line_item_usage_amount::DECIMAL(20, 10) AS hours,
        3600 AS span
    FROM read_csv($aws, header = true, all_varchar = true)
    WHERE line_item_line_item_type IN ('Usage', 'DiscountedUsage', 'SavingsPlanCoveredUsage')
        AND product_instance_type <> ''
), azure AS (
    SELECT
        'azure' AS provider,
        ResourceId AS resource,
        json_extract_string(AdditionalInfo, '$.ServiceType') AS kind,
        ResourceName AS name,
        '' AS team,
        lower(ResourceLocation) AS region,
        false AS spot,
        strptime("Date", '%m/%d/%Y') AS start,
        Quantity::DECIMAL(20, 10) AS hours,
        86400 AS span
    FROM read_csv($azure, header = true, all_varchar = true)
    WHERE ChargeType = 'Usage' AND ResourceId LIKE '%/virtualMachines/%'
), gcp AS (
    SELECT
        'gcp' AS provider,
        resource.global_name AS resource,
        list_filter(system_labels, lambda x: x.key = 'compute.googleapis.com/machine_spec')[1].value AS kind,
        resource.name AS name,
        '' AS team,
        location.region AS region,
        false AS spot,
        replace(usage_start_time, ' UTC', '')::TIMESTAMP AS start,
        1::DECIMAL(20, 10) AS hours,
        3600 AS span
    FROM read_json($gcp, format = 'newline_delimited', columns = {
        resource: 'STRUCT("name" VARCHAR, global_name VARCHAR)', system_labels: 'STRUCT("key" VARCHAR, "value" VARCHAR)[]',
        location: 'STRUCT(region VARCHAR)', usage_start_time: 'VARCHAR', sku: 'STRUCT(description VARCHAR)'})
    WHERE contains(sku.description, ' Core running ')
), neocloud AS (
    SELECT
        'neocloud' AS provider,
        node AS resource,
        instance_type AS kind,
        node AS name,
        '' AS team,
        lower(region) AS region,
        false AS spot,
        rtrim(date_hour, 'Z')::TIMESTAMP AS start,
        quantity::DECIMAL(20, 10) AS hours,
        3600 AS span
    FROM read_csv($neocloud, header = true, all_varchar = true)
    WHERE instance_type <> ''
)
SELECT provider, resource, kind, name, team, region, spot, start, round(hours * 3600)::BIGINT AS seconds, span
FROM (FROM aws UNION ALL FROM azure UNION ALL FROM gcp UNION ALL FROM neocloud)
WHERE name <> '' AND start >= $start AND start < $end
ORDER BY provider, resource, start
