"""torchtitan's training logs: its metrics lines, and what it says of checkpoints.

Documented by torchtitan: components/metrics.py, components/checkpoint.py, train.py. A metrics line has step and loss; its
`tps` is tokens per second and *device*, rounded, so that tokens are counted exactly instead: steps times global batch
size times sequence length, which the log states when it starts. Time between two lines is that of the steps, less what
saving took. The logs of a run's attempts lie in one folder, or are one file. Times are UTC.
Known to be missing: tokens, where a version doesn't log batch size and sequence length; waiting for data, which is in
TensorBoard and W&B only (`wandb`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from gpuledger.core import training_lines
from gpuledger.core.contracts import Connection
from gpuledger.core.file_columns import literal
from gpuledger.core.training_lines import Event
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError
from gpuledger.models.training_steps import intervals, typed

TYPE: Final = "torchtitan"
TITLE: Final = "torchtitan training logs"
TABLE: Final = "training_interval"
SUFFIXES: Final = (".log", ".txt", ".out", ".err")
_TIME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})[ T](\d{2}:\d{2}:\d{2})(?:[,.](\d{1,6}))?")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_STEP: Final = re.compile(r"\bstep:\s*(\d+)\b.*?\bloss:\s*([-+0-9.eE]+|nan|inf)")
_START: Final = re.compile(r"Training starts at step (\d+)")
_BATCH: Final = re.compile(r"global batch size (\d+)\b.*?sequence length (\d+)")
_SAVED: Final = re.compile(r"Finished saving the checkpoint.*?in ([0-9.]+) seconds")
_LOADED: Final = re.compile(r"Finished loading the checkpoint.*?in ([0-9.]+) seconds")


def relation(
    con: Connection, files: Sequence[tuple[str, Path]], scratch: Path
) -> tuple[str, list[Diagnostic]]:
    """Return SQL of the intervals. Raises SourceError when no log has a metrics line."""
    lines = scratch / "torchtitan.jsonl"
    if not training_lines.write(files, lines, read):
        raise SourceError("no metrics line of torchtitan", where=files[0][0], hint="It logs them with a time: `step: 10  loss: …`.")  # fmt: skip
    con.execute(f"CREATE OR REPLACE TEMP TABLE torchtitan_event AS {_events(lines)}")
    row = con.execute(
        "SELECT count(*) FROM torchtitan_event WHERE steps IS NOT NULL AND tokens IS NULL"
    ).fetchone()
    told = []
    if row is not None and row[0]:
        told.append(Diagnostic("tokens-unknown", "warning", files[0][0], f"{row[0]:,} metrics lines without a batch size and sequence length before them", "Keep the beginning of the log: it states both."))  # fmt: skip
    return intervals("FROM torchtitan_event"), told


def _events(lines: Path) -> str:
    names = ("run_id", "t", "step", "steps", "tokens", "step_seconds", "loss", "saved", "save_seconds", "load_seconds", "startup_seconds", "restored")  # fmt: skip
    shape = ", ".join(f"'{name}': 'VARCHAR'" for name in names)
    return typed(
        {**{name: name for name in names}, "name": "run_id"},
        f"read_json({literal(lines)}, format = 'newline_delimited', columns = {{{shape}}})",
    )


@dataclass(slots=True)
class _Attempt:
    """What the lines so far have said."""

    begun: datetime | None = None
    step: int | None = None
    at: datetime | None = None
    tokens_per_step: int | None = None
    saving: Decimal = Decimal(0)


def read(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events of a log."""
    now = _Attempt()
    for raw in lines:
        line = _COLOUR.sub("", raw)
        when = _time(line)
        if when is None:
            continue
        now.begun = now.begun or when
        if batch := _BATCH.search(line):
            now.tokens_per_step = int(batch[1]) * int(batch[2])
        if start := _START.search(line):
            now.step, now.at, now.saving = int(start[1]) - 1, when, Decimal(0)
            restored = now.step > 0 or None
            yield {"t": when, "startup_seconds": _seconds(when, now.begun), "restored": restored}
        elif saved := _SAVED.search(line):
            now.saving += Decimal(saved[1])
            yield {"t": when, "saved": now.step, "save_seconds": saved[1]}
        elif loaded := _LOADED.search(line):
            yield {"t": when, "load_seconds": loaded[1]}
            now.begun = when  # the rest is start-up
        elif found := _STEP.search(line):
            yield _step(now, when, int(found[1]), found[2])


def _step(now: _Attempt, when: datetime, step: int, loss: str) -> Event:
    steps = step - now.step if now.step is not None and step > now.step else None
    spent = None
    if steps and now.at is not None:
        spent = max(Decimal(0), _seconds(when, now.at) - now.saving)
    per_step = now.tokens_per_step
    now.step, now.at, now.saving = step, when, Decimal(0)
    return {
        "t": when, "step": step, "steps": steps, "step_seconds": spent, "loss": loss if loss not in {"nan", "inf"} else None,
        "tokens": None if steps is None or per_step is None else steps * per_step,
    }  # fmt: skip


def _seconds(until: datetime, since: datetime) -> Decimal:
    span = until - since
    return Decimal(span.days * 86400 + span.seconds) + Decimal(span.microseconds) / 1_000_000


def _time(line: str) -> datetime | None:
    found = _TIME.search(line)
    if found is None:
        return None
    fraction = (found[3] or "0").ljust(6, "0")
    return datetime.fromisoformat(f"{found[1]}T{found[2]}.{fraction}").replace(tzinfo=UTC)
