-- What training runs did by interval. An event counts in the interval in which it ended. Steps that are done again later,
-- because a run fell back to a checkpoint, made no lasting progress.
WITH event AS ({events}),
placed AS (
    SELECT *, (epoch_us(t) - 1) // {step} AS b,
        step IS NOT NULL AND coalesce(min(step) OVER (
            PARTITION BY run_id ORDER BY t ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
        ) <= step, false) AS again,
        bool_or(restored) OVER (PARTITION BY run_id) AS gone_on
    FROM event WHERE t IS NOT NULL
),
summed AS (
    SELECT run_id, any_value(name) AS name, b, sum(tokens) AS tokens, sum(steps) AS steps, sum(step_seconds) AS step_seconds_sum,
        sum(step_seconds) FILTER (NOT again) AS lasting, sum(step_seconds) FILTER (again) AS wasted_progress,
        sum(data_seconds) FILTER (NOT again) AS data_loading, sum(startup_seconds) AS startup,
        sum(save_seconds) AS checkpoint_save, sum(load_seconds) AS checkpoint_restore,
        arg_max(loss, t) FILTER (loss IS NOT NULL) AS loss, nullif(count(saved), 0) AS checkpoints,
        arg_max(saved, t) FILTER (saved IS NOT NULL) AS last_checkpoint_step, bool_or(gone_on) AS gone_on
    FROM placed GROUP BY run_id, b
)
SELECT
    run_id, name, make_timestamptz(b * {step}) AS start, make_timestamptz((b + 1) * {step}) AS "end",
    tokens, steps, step_seconds_sum,
    CASE WHEN step_seconds_sum IS NOT NULL THEN greatest(0, coalesce(lasting, 0) - coalesce(data_loading, 0)) END AS useful_seconds,
    nullif(map_from_entries(list_filter([
        {{'k': 'startup', 'v': startup}}, {{'k': 'data_loading', 'v': data_loading}}, {{'k': 'checkpoint_save', 'v': checkpoint_save}},
        {{'k': 'checkpoint_restore', 'v': checkpoint_restore}}, {{'k': 'wasted_progress', 'v': wasted_progress}}
    ], lambda e: e.v IS NOT NULL)), MAP {{}}) AS lost_seconds,
    loss, checkpoints, last_checkpoint_step, CASE WHEN gone_on THEN true END AS checkpoint_used
FROM summed
