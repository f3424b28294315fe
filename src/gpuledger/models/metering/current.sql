-- Every charge once: the bill's rows, and estimates for what the bill hasn't reached yet.
SELECT * FROM {final}
UNION ALL BY NAME
SELECT * FROM ({unreplaced})
