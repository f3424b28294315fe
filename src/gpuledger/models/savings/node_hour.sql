-- Machines with cards by hour: how many cards there were for the whole of the hour, and how many of them somebody held.
-- Held is the larger of what was held of named cards and what was asked for without a card's name.
WITH hour AS (
    SELECT unnest(generate_series({since}, {until} - INTERVAL 1 HOUR, INTERVAL 1 HOUR)) AS hour
), there AS (
    SELECT h.hour, n.cluster, n.node, any_value(n.pool) AS pool, any_value(n.gpu_model) AS gpu_model, max(n.gpu_count) AS cards
    FROM node_interval AS n
    JOIN hour AS h ON h.hour >= n."start" AND h.hour + INTERVAL 1 HOUR <= n."end"
    WHERE n.gpu_count > 0 AND n."start" < {until} AND n."end" > {since}
    GROUP BY h.hour, n.cluster, n.node
), piece AS (
    SELECT
        h.hour, u.cluster, u.node, u.device, u.pod, u.job_id,
        max(u.cards) AS cards
    FROM card_use AS u
    JOIN hour AS h ON u."start" < h.hour + INTERVAL 1 HOUR AND u."end" > h.hour
    GROUP BY ALL
), holder AS (
    SELECT hour, cluster, node, pod, job_id, coalesce(sum(cards) FILTER (device <> ''), 0) AS named, coalesce(max(cards) FILTER (device = ''), 0) AS asked
    FROM piece
    GROUP BY hour, cluster, node, pod, job_id
), held AS (
    SELECT hour, cluster, node, sum(greatest(named, asked)) AS held FROM holder GROUP BY hour, cluster, node
)
SELECT
    t.hour, CAST(t.hour AS DATE) AS day, t.cluster, t.node, coalesce(t.pool, '') AS pool, t.gpu_model,
    CAST(t.cards AS DOUBLE) AS cards,
    least(CAST(t.cards AS DOUBLE), coalesce(h.held, 0)) AS held
FROM there AS t
LEFT JOIN held AS h ON h.hour = t.hour AND h.cluster = t.cluster AND h.node = t.node
-- Telemetry that was away tells of nobody: such hours aren't idle ones.
WHERE EXISTS (SELECT 1 FROM card_use AS u WHERE u.cluster = t.cluster AND u.day = CAST(t.hour AS DATE))
