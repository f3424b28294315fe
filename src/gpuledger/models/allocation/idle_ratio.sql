-- The idle part of each charge of the batch, as a ratio in 1e-18.
SELECT c.charge_id, sum(s.amount) AS ratio
FROM alloc_share AS s
JOIN alloc_run AS n ON n.leader_no = s.charge_no
JOIN alloc_charge AS c ON c.charge_no = n.charge_no
WHERE s.amount_no = 1 AND s.holder_no = 2147483646
GROUP BY c.charge_id
