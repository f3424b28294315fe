-- Machines of which nothing says that they have cards: neither a count, nor a model, nor anybody who holds one.
SELECT cluster, node
FROM seen_node
WHERE (cluster, node) NOT IN (SELECT (cluster, node) FROM held_usage WHERE resource = 'gpu')
GROUP BY cluster, node
HAVING coalesce(max(gpu_count), 0) = 0 AND count(gpu_model) = 0
