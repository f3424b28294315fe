-- What a committed hour costs of one on demand, by commitment, as its own used hours show.
SELECT commitment_id, any_value(provider) AS provider, CAST(sum(cost) AS DOUBLE) / CAST(sum(contracted_cost) AS DOUBLE) AS ratio
FROM atom
WHERE commitment_status = 'Used' AND contracted_cost > 0
GROUP BY commitment_id
HAVING sum(cost) < sum(contracted_cost)
