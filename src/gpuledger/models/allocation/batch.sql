-- How many charges start in each hour, by the grid that their periods are made of.
WITH charge AS (
    SELECT epoch_us(ChargePeriodStart) AS start_us, epoch_us(ChargePeriodEnd) AS end_us FROM {charges}
), gridded AS (
    SELECT alloc_grid(start_us, end_us) AS grid_us, start_us, end_us FROM charge
)
SELECT
    grid_us,
    CASE WHEN grid_us < 0 THEN 0 ELSE start_us // 3600000000 * 3600000000 END AS from_us,
    CASE WHEN grid_us < 0 THEN 0 ELSE min(start_us) END AS since_us,
    CASE WHEN grid_us < 0 THEN 0 ELSE max(end_us) END AS until_us,
    count(*) AS charges
FROM gridded
GROUP BY 1, 2
ORDER BY 1, 2
