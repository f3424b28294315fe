-- Nodes over time, and machines that are several nodes.
SELECT cluster, node, "start", "end", gpu_count, cpu_cores, memory_gib, gpu_model, instance_type, region
FROM seen_node
UNION ALL BY NAME
SELECT * FROM pool_node
