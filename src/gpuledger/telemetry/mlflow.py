"""MLflow runs, from its file store (mlruns/EXPERIMENT/RUN/metrics/…) or a copy of it.

Documented by MLflow: "Backend stores", FileStore: a metric is a file with a line for each value, `timestamp value step`,
the timestamp in milliseconds. Names of metrics are the trainer's; those of torchtitan, the Hugging Face trainer and
Lightning are known (core/step_records.py). A run's name is in its tags (mlflow.runName).
Known to be missing: runs in a database (export them to files first); checkpoints, unless they are logged as metrics.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from gpuledger.core.contracts import Connection
from gpuledger.core.file_columns import literal, quoted
from gpuledger.core.step_records import SPELLINGS, events
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError
from gpuledger.models.training_steps import intervals

TYPE: Final = "mlflow"
TITLE: Final = "MLflow runs (file store)"
TABLE: Final = "training_interval"
SUFFIXES: Final = ("",)  # metrics are files without one
_NAME: Final = "tags/mlflow.runName"


def relation(
    con: Connection, files: Sequence[tuple[str, Path]], scratch: Path
) -> tuple[str, list[Diagnostic]]:
    """Return SQL of the intervals. Raises SourceError when there is no metric of a run."""
    problems: list[Diagnostic] = []
    lines = scratch / "mlflow.jsonl"
    names = _names(files)
    with lines.open("w", encoding="utf-8") as out:
        for row in _values(files, names, problems):
            out.write(json.dumps(row) + "\n")
    if not lines.stat().st_size:
        raise SourceError(
            "no metrics of an MLflow run", where=files[0][0], hint="It is the folder mlruns, or a part of it."
        )
    shape = "{'run': 'VARCHAR', 'time': 'BIGINT', 'step': 'VARCHAR', 'metric': 'VARCHAR', 'value': 'VARCHAR'}"
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE mlflow_value AS FROM read_json({literal(lines)}, format = 'newline_delimited', columns = {shape})"
    )
    cells = ", ".join(
        f"any_value(value) FILTER (metric = {literal(name)}) AS {quoted(name)}"
        for name in SPELLINGS
        if name not in {"run", "time", "step"}
    )
    # Metrics of one step are logged within some milliseconds: the last of them is when the step ended.
    table = f"SELECT run, max(time)::VARCHAR AS time, step, {cells} FROM mlflow_value GROUP BY run, step"
    return intervals(events(table, "run")), problems


def _names(files: Sequence[tuple[str, Path]]) -> dict[str, str]:
    return {
        _run(shown): f"{path.read_text('utf-8', 'replace').strip()} ({_run(shown)[:8]})"
        for shown, path in files
        if shown.endswith(_NAME)
    }


def _run(shown: str) -> str:
    """Return the run's id: the folder that has `metrics` or `tags`."""
    parts = PurePosixPath(shown).parts
    place = next((n for n, part in enumerate(parts) if part in {"metrics", "tags"}), 0)
    return parts[place - 1] if place else ""


def _values(
    files: Sequence[tuple[str, Path]], names: dict[str, str], problems: list[Diagnostic]
) -> Iterator[dict[str, str | int]]:
    known = {_normal(one): name for name, more in SPELLINGS.items() for one in (name, *more)}
    for shown, path in files:
        _, found, metric = shown.rpartition("/metrics/") if "/metrics/" in shown else ("", "", "")
        if not found or (name := known.get(_normal(metric))) is None:
            continue
        run = _run(shown)
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            when, value, step, *_ = (*line.split(), "", "", "")
            if not when:
                continue
            if not when.isdigit() or not value:
                problems.append(Diagnostic("bad-line", "error", f"{shown}:{number}", "not a timestamp, a value and a step", "The other lines are read."))  # fmt: skip
                continue
            yield {
                "run": names.get(run, run),
                "time": int(when),
                "step": step or "0",
                "metric": name,
                "value": value,
            }


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
