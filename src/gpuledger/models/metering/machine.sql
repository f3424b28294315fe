-- Each machine over [$from, $until), as told: x_Source of telemetry is who tells. {nodes} is `node_interval`.
SELECT
    cluster, node, greatest(start, $from) AS start, least("end", $until) AS "end", x_Source AS teller,
    nullif(provider_id, '') AS provider_id, nullif(instance_type, '') AS instance_type, nullif(lower(cloud), '') AS cloud,
    nullif(region, '') AS region, nullif(zone, '') AS zone, nullif(pool, '') AS pool,
    nullif(gpu_model, '') AS gpu_model, gpu_count, cpu_cores, memory_gib, spot,
    CASE
        -- What changes with every reading isn't about the machine.
        WHEN labels['slurm/as-of'] IS NULL AND labels['slurm/state'] IS NULL THEN labels
        ELSE map_from_entries(list_filter(
            map_entries(labels), lambda label: label.key NOT IN ('slurm/as-of', 'slurm/state')
        ))
    END AS labels
FROM {nodes}
WHERE start < $until AND "end" > $from AND start < "end"
