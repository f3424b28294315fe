-- Spend without an owner that is nobody's by nature, by kind.
SELECT nature, sum(cost) AS cost, sum(charges)::BIGINT AS charges
FROM un_resource
WHERE NOT owned AND nature IS NOT NULL AND charges > 0
GROUP BY nature
ORDER BY nature;
