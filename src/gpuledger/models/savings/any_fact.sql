-- Facts of jobs, and those that the configuration states of anything.
SELECT key, value FROM job_fact
UNION ALL
SELECT key, value FROM fact
