-- Samples that don't follow the one before within an interval: the first of a series (and there the last of the series
-- before), the first after a gap, and those that are out of order.
SELECT * FROM (
    SELECT s, t, v, lag(s) OVER () AS ps, lag(t) OVER () AS pt, lag(v) OVER () AS pv FROM sample
)
WHERE s IS DISTINCT FROM ps OR t <= pt OR t - pt > {gap}
