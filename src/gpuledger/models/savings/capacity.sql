-- Output tokens a second that one replica of a model on a card can give: as told (fact tokens-per-second), else the best
-- that any replica was seen to give.
SELECT
    s.model,
    s.gpu_model,
    max(s.most_rate) AS seen,
    coalesce(max(try_cast(f.value AS DOUBLE)), max(s.most_rate)) AS rate,
    max(f.value) IS NOT NULL AS told
FROM serving_hour AS s
LEFT JOIN job_fact AS f ON f.job_id = s.job_id AND f.key = 'tokens-per-second'
WHERE s.job_id IS NOT NULL AND s.most_rate > 0
GROUP BY s.model, s.gpu_model
