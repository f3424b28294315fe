-- What committed hours cost of hours on demand, by provider: the dearest and the cheapest of your own commitments, else
-- what you say (fact commitment-ratio).
SELECT provider, max(ratio) AS ratio, min(ratio) AS lowest FROM discount GROUP BY provider
UNION ALL
SELECT name, try_cast(value AS DOUBLE), try_cast(value AS DOUBLE)
FROM fact
WHERE key = 'commitment-ratio' AND name NOT IN (SELECT provider FROM discount)
