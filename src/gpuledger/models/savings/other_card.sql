-- What each endpoint would need and cost on another card that serves the same model here: whole replicas for its peak,
-- at the price that a replica's hour has there.
WITH load AS (
    SELECT job_id, model, gpu_model, max(rate) AS peak, sum(replicas) AS replica_hours, count(DISTINCT hour) AS hours
    FROM endpoint_hour
    WHERE role = 'both' AND gpu_model IS NOT NULL
    GROUP BY ALL
), spent AS (
    SELECT job_id, CAST(sum(cost) AS DOUBLE) AS cost FROM atom WHERE job_id IS NOT NULL AND state = 'running' GROUP BY job_id
), priced AS (
    SELECT l.*, s.cost, s.cost / l.replica_hours AS price FROM load AS l JOIN spent AS s USING (job_id)
), per_card AS (
    SELECT model, gpu_model, min(price) AS price FROM priced GROUP BY ALL
), other AS (
    SELECT
        p.job_id, p.gpu_model AS now, c.gpu_model AS other, p.peak, p.hours, p.cost, c.rate, r.price,
        greatest(1, ceil(p.peak / ({headroom} * c.rate))) AS needed,
        greatest(1, ceil(2 * p.peak / ({headroom} * c.rate))) AS cautious,
        want.memory_gib < have.memory_gib AS smaller,
        want.year > have.year AND want.memory_gib >= have.memory_gib AS newer
    FROM priced AS p
    JOIN capacity AS c ON c.model IS NOT DISTINCT FROM p.model AND c.gpu_model <> p.gpu_model
    JOIN per_card AS r ON r.model IS NOT DISTINCT FROM p.model AND r.gpu_model = c.gpu_model
    JOIN card AS have ON have.gpu_model = p.gpu_model
    JOIN card AS want ON want.gpu_model = c.gpu_model
)
SELECT
    o.*, w.label,
    CAST(round(o.cost - o.cautious * o.price * o.hours, 9) AS DECIMAL(32, 9)) AS low_total,
    CAST(round(o.cost - o.needed * o.price * o.hours, 9) AS DECIMAL(32, 9)) AS high_total
FROM other AS o
JOIN work AS w ON w.job_id = o.job_id
WHERE o.cost > o.needed * o.price * o.hours
QUALIFY row_number() OVER (PARTITION BY o.job_id, smaller, newer ORDER BY o.needed * o.price, o.other) = 1
