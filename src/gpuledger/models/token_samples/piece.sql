-- Samples become, by series and interval, what a counter gained and what a gauge was on average. A counter that falls
-- was reset and began at 0. `lag` without an order streams: samples come sorted by series and time.
SELECT
    s,
    (t - 1) // {step} AS b,
    sum(CASE WHEN s = ps AND t - pt <= {gap} THEN CASE WHEN v >= pv THEN v - pv ELSE v END END) AS gained,
    avg(v) AS mean
FROM (SELECT s, t, v, lag(s) OVER () AS ps, lag(t) OVER () AS pt, lag(v) OVER () AS pv FROM sample)
GROUP BY s, b
