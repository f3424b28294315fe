"""Step records of training runs in tables, whoever wrote them: the names that they commonly have, and what they mean.

A record says what was done since the one before it. Of the first record of a run, or of one after a restart, that is
known only where it counts by itself (`tokens`) or is the run's first step.
"""

from collections.abc import Sequence
from typing import Final

# Our name of a column and the spellings of it; case and punctuation don't matter ("train/loss" is "train_loss").
SPELLINGS: Final[dict[str, Sequence[str]]] = {
    "time": ("timestamp", "ts", "_timestamp", "datetime", "created_at", "wall_time"),
    "step": ("_step", "global_step", "iteration", "iter", "train_step", "train/step", "train/global_step", "trainer/global_step"),
    "run": ("run_id", "run_name", "run_uuid", "experiment"),
    "tokens": ("ntokens", "num_tokens", "step_tokens", "tokens_since_last", "train/tokens"),
    "tokens_per_step": ("global_batch_tokens",),
    "tokens_total": (
        "tokens_seen", "num_tokens_seen", "num_input_tokens_seen", "train/num_input_tokens_seen", "consumed_tokens", "total_tokens",
        "cumulative_tokens", "n_tokens_seen", "train/total_tokens", "train/tokens_seen", "throughput/total_tokens",
    ),
    "step_seconds": ("step_time", "step_time_s", "seconds_per_step", "time_per_step", "iteration_time", "train/step_time", "time_metrics/end_to_end(s)", "perf/step_time"),
    "step_ms": ("step_time_ms", "elapsed_time_per_iteration_ms", "iteration_time_ms", "ms_per_step"),
    "data_seconds": ("data_time", "data_loading_time", "data_loading_seconds", "time_metrics/data_loading(s)", "train/data_time"),
    "loss": ("train_loss", "train/loss", "lm_loss", "lm loss", "global_avg_loss", "loss_metrics/global_avg_loss", "training_loss"),
    "checkpoint_step": ("saved_step", "checkpoint"),
    "save_seconds": ("checkpoint_save_seconds", "checkpoint_save_time", "save_time"),
    "load_seconds": ("checkpoint_restore_seconds", "checkpoint_load_time", "restore_time"),
}  # fmt: skip
# Seconds, milliseconds, microseconds or nanoseconds since 1970, or a text of a moment.
_TIME: Final = """(CASE
    WHEN TRY_CAST(time AS DOUBLE) IS NULL THEN instant(time)
    WHEN TRY_CAST(time AS DOUBLE) < 1e11 THEN make_timestamptz(CAST(round(CAST(time AS DOUBLE) * 1000000) AS BIGINT))
    WHEN TRY_CAST(time AS DOUBLE) < 1e14 THEN make_timestamptz(CAST(round(CAST(time AS DOUBLE) * 1000) AS BIGINT))
    WHEN TRY_CAST(time AS DOUBLE) < 1e17 THEN make_timestamptz(CAST(CAST(time AS DOUBLE) AS BIGINT))
    ELSE make_timestamptz(CAST(CAST(time AS DOUBLE) / 1000 AS BIGINT))
END)"""


def events(relation: str, run: str) -> str:
    """Return SQL of events (models.training_steps) from rows with the columns of SPELLINGS as text; `run` names their run."""
    return f"""
    SELECT run_id, run_id AS name, t, step, steps,
        coalesce(quantity(tokens), quantity(tokens_per_step) * steps, CASE WHEN total >= total_before THEN total - total_before
            WHEN step <= 1 THEN total END) AS tokens,
        coalesce(quantity(step_seconds), quantity(step_ms) / 1000) * coalesce(steps, 1) AS step_seconds,
        quantity(data_seconds) * coalesce(steps, 1) AS data_seconds, quantity(loss) AS loss, TRY_CAST(checkpoint_step AS BIGINT) AS saved,
        quantity(save_seconds) AS save_seconds, quantity(load_seconds) AS load_seconds, NULL::DECIMAL(38, 14) AS startup_seconds, NULL::BOOLEAN AS restored
    FROM (
        SELECT *, CASE WHEN step > step_before THEN step - step_before WHEN step <= 1 THEN 1 END AS steps
        FROM (
            SELECT *, lag(step) OVER w AS step_before, lag(total) OVER w AS total_before
            FROM (
                SELECT * EXCLUDE (step), coalesce(run, {run}) AS run_id, {_TIME} AS t,
                    TRY_CAST(TRY_CAST(step AS DOUBLE) AS BIGINT) AS step, quantity(tokens_total) AS total
                FROM ({relation})
            )
            WINDOW w AS (PARTITION BY run_id ORDER BY t)
        )
    )"""
