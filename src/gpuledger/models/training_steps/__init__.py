"""Steps and other events of training runs, as logs and trackers tell them, into intervals: SQL over one relation of events.

The relation has run_id, name, t (when the event ended), step, steps and tokens (since the event before), step_seconds,
data_seconds (waiting for data within these), loss, saved (step of a checkpoint that was saved), save_seconds,
load_seconds, startup_seconds, and restored: a checkpoint of the run was gone on from. All but run_id and t may be null; quantities are decimals.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Final

from gpuledger.core import file_columns, step_records
from gpuledger.core.contracts import Connection
from gpuledger.core.training_lines import run_of

_TYPES: Final = {
    "run_id": "VARCHAR", "name": "VARCHAR", "t": "TIMESTAMPTZ", "step": "BIGINT", "saved": "BIGINT", "restored": "BOOLEAN",
    **dict.fromkeys(("steps", "tokens", "step_seconds", "data_seconds", "loss", "save_seconds", "load_seconds", "startup_seconds"), "DECIMAL(38, 14)"),
}  # fmt: skip


def intervals(events: str, step: timedelta = timedelta(minutes=5)) -> str:
    """Return SQL of training intervals, with some of the columns of `training_interval`."""
    sql = resources.files(__package__).joinpath("intervals.sql").read_text("utf-8")
    return sql.format(events=events, step=step // timedelta(microseconds=1))


def typed(columns: Mapping[str, str], relation: str) -> str:
    """Return SQL of events from a relation: `columns` gives SQL for some of them, the others are null."""
    listed = ", ".join(
        f"CAST({columns.get(name, 'NULL')} AS {kind}) AS {name}" for name, kind in _TYPES.items()
    )
    return f"SELECT {listed} FROM {relation}"


def intervals_of_tables(con: Connection, files: Sequence[tuple[str, Path]], title: str) -> str:
    """Return SQL of the intervals of runs whose step records are tables, a run a file or as a column names them.

    `title` names the format in errors. Raises SourceError when a file has no times or steps.
    """
    events = (
        step_records.events(
            file_columns.text_table(con, [one], step_records.SPELLINGS, ("time", "step"), title),
            file_columns.literal(run_of(one[0])),
        )
        for one in files
    )
    return intervals(" UNION ALL ".join(f"FROM ({one})" for one in events))
