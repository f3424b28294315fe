"""Weights & Biases run histories, exported: `run.history()` or `scan_history()` as CSV, JSON lines or Parquet.

Documented by W&B: "Import and export data". `_timestamp` is seconds since 1970, `_step` the logging step; a trainer's own
step counts where it logs one. A run is its folder, or file: export a file for each. Names of metrics are the trainer's;
those of torchtitan, the Hugging Face trainer and Lightning are known (core/step_records.py).
Known to be missing: what a sampled history leaves out (`scan_history` doesn't); checkpoints, unless they are logged.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gpuledger.core import file_columns
from gpuledger.core.contracts import Connection
from gpuledger.diagnostics import Diagnostic
from gpuledger.models.training_steps import intervals_of_tables

TYPE: Final = "wandb"
TITLE: Final = "Weights & Biases run histories"
TABLE: Final = "training_interval"
SUFFIXES: Final = file_columns.SUFFIXES


def relation(
    con: Connection, files: Sequence[tuple[str, Path]], scratch: Path
) -> tuple[str, list[Diagnostic]]:
    """Return SQL of the intervals. Raises SourceError when a file is no run's history."""
    del scratch
    return intervals_of_tables(con, files, TITLE), []
