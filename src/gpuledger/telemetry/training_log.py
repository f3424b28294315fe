"""Step records of training runs in tables: JSON lines, JSON, CSV or Parquet with a time, a step and what was done.

No vendor's format: trainers write such files by callbacks of their own. Names are matched as core/step_records.py lists
them: time, step, tokens of the record (or per step, or in total), loss, time per step, waiting for data, checkpoints.
A run is named by a column, or else by its folder, or file. Times without a zone are UTC.
Known to be missing: what was done before the first record; why steps were done again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gpuledger.core import file_columns
from gpuledger.core.contracts import Connection
from gpuledger.diagnostics import Diagnostic
from gpuledger.models.training_steps import intervals_of_tables

TYPE: Final = "training-log"
TITLE: Final = "Training step records in tables"
TABLE: Final = "training_interval"
SUFFIXES: Final = file_columns.SUFFIXES


def relation(
    con: Connection, files: Sequence[tuple[str, Path]], scratch: Path
) -> tuple[str, list[Diagnostic]]:
    """Return SQL of the intervals. Raises SourceError when a file has no times or steps."""
    del scratch
    return intervals_of_tables(con, files, TITLE), []
