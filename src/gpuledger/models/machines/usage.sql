-- What was held of nodes.
SELECT * FROM held_usage WHERE resource IN ('gpu', 'cpu', 'memory')
