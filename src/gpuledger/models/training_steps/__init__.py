"""Steps and other events of training runs, as logs and trackers tell them, into intervals: SQL over one relation of events.

The relation has run_id, name, t (when the event ended), step, steps and tokens (since the event before), step_seconds,
data_seconds (waiting for data within these), loss, saved (step of a checkpoint that was saved), save_seconds,
load_seconds, startup_seconds, and restored: a checkpoint of the run was gone on from. All but run_id and t may be null; quantities are decimals.
"""

from collections.abc import Mapping
from datetime import timedelta
from importlib.resources import files
from typing import Final

_TYPES: Final = {
    "run_id": "VARCHAR", "name": "VARCHAR", "t": "TIMESTAMPTZ", "step": "BIGINT", "saved": "BIGINT", "restored": "BOOLEAN",
    **dict.fromkeys(("steps", "tokens", "step_seconds", "data_seconds", "loss", "save_seconds", "load_seconds", "startup_seconds"), "DECIMAL(38, 14)"),
}  # fmt: skip


def intervals(events: str, step: timedelta = timedelta(minutes=5)) -> str:
    """Return SQL of training intervals, with some of the columns of `training_interval`."""
    sql = files(__package__).joinpath("intervals.sql").read_text("utf-8")
    return sql.format(events=events, step=step // timedelta(microseconds=1))


def typed(columns: Mapping[str, str], relation: str) -> str:
    """Return SQL of events from a relation: `columns` gives SQL for some of them, the others are null."""
    listed = ", ".join(
        f"CAST({columns.get(name, 'NULL')} AS {kind}) AS {name}" for name, kind in _TYPES.items()
    )
    return f"SELECT {listed} FROM {relation}"
