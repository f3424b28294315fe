-- Charges by hour: one that covers several hours is spread over them evenly, and sums up to itself.
SELECT
    part, job_id, cluster, gpu_model, commitment, billing_period, currency, unlisted,
    hour + k AS hour,
    unit_cut18(effective, k, hours) AS effective,
    unit_cut18(list_cost, k, hours) AS list_cost,
    unit_cut14(gpu_hours, k, hours) AS gpu_hours,
    unit_cut14(measured, k, hours) AS measured,
    unit_cut14(used, k, hours) AS used
FROM (SELECT *, unnest(range(hours)) AS k FROM unit_charge)
