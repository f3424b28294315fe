"""Megatron-LM's training logs: its iteration lines, and what it says of checkpoints.

Documented by Megatron-LM: megatron/training/training.py (training_log), checkpointing.py, arguments.py (print_args).
A line says the mean time per iteration since the last one; tokens are consumed samples times `seq_length` of the
arguments, or the consumed tokens that some versions log. The logs of a run's attempts lie in one folder, or are one file.
A checkpoint at iteration 0 is another run's weights. Times stand in brackets before `iteration`, in local time without a zone: read as UTC.
Known to be missing: lines of versions that log no time; tokens, where the arguments aren't in the log.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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

TYPE: Final = "megatron"
TITLE: Final = "Megatron-LM training logs"
TABLE: Final = "training_interval"
SUFFIXES: Final = (".log", ".txt", ".out", ".err")
_LINE: Final = re.compile(r"(?:\[(\d{4}-\d{2}-\d{2})[ T](\d{2}:\d{2}:\d{2})(?:\.\d+)?\]\s*)?iteration\s+(\d+)\s*/\s*\d+\s*\|(.*)")  # fmt: skip
_ELAPSED: Final = re.compile(r"elapsed time per iteration \(ms\):\s*([0-9.]+)")
_SAMPLES: Final = re.compile(r"consumed samples:\s*(\d+)")
_TOKENS: Final = re.compile(r"consumed tokens:\s*(\d+)")
_LOSS: Final = re.compile(r"\b(?:lm )?loss:\s*([-+0-9.eE]+)")
_SEQUENCE: Final = re.compile(r"\bseq_length\s+\.+\s*(\d+)")
_SAVED: Final = re.compile(r"successfully saved checkpoint from iteration\s+(\d+)")
_LOADED: Final = re.compile(r"successfully loaded checkpoint.*?at iteration\s+(\d+)")
_TIMER: Final = re.compile(r"\b(save|load)-checkpoint\s*\.*:\s*\(?\s*([0-9.]+)(?:,\s*([0-9.]+))?")


def relation(
    con: Connection, files: Sequence[tuple[str, Path]], scratch: Path
) -> tuple[str, list[Diagnostic]]:
    """Return SQL of the intervals. Raises SourceError when no log has an iteration line with a time."""
    del con
    lines = scratch / "megatron.jsonl"
    if not training_lines.write(files, lines, read):
        raise SourceError(
            "no iteration line of Megatron-LM that has a time",
            where=files[0][0],
            hint="Versions since 2023 log `[time] iteration N/M | …`; older ones say no time.",
        )
    names = ("run_id", "t", "step", "steps", "tokens", "step_seconds", "loss", "saved", "save_seconds", "load_seconds", "restored")  # fmt: skip
    shape = ", ".join(f"'{name}': 'VARCHAR'" for name in names)
    read_lines = f"read_json({literal(lines)}, format = 'newline_delimited', columns = {{{shape}}})"
    return intervals(typed({**{name: name for name in names}, "name": "run_id"}, read_lines)), []


@dataclass(slots=True)
class _Attempt:
    """What the lines so far have said. `samples` and `tokens` are those consumed; `loading` waits for a line with a time."""

    fresh: bool = False
    step: int | None = None
    samples: int | None = None
    tokens: int | None = None
    sequence: int | None = None
    loading: Decimal | None = None
    restored: bool = False
    at: datetime | None = None


def read(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events of a log. Lines without a time are as late as the last one with it."""
    now = _Attempt()
    for line in lines:
        if sequence := _SEQUENCE.search(line):  # the arguments are printed when a process starts
            now = _Attempt(fresh=True, sequence=int(sequence[1]), at=now.at)
        elif loaded := _LOADED.search(line):
            now.step, now.fresh, now.samples, now.tokens = int(loaded[1]), False, None, None
            now.restored = now.step > 0
        elif timer := _TIMER.search(line):
            spent = Decimal(timer[3] or timer[2]) / 1000
            if timer[1] == "load":
                now.loading = spent
            elif now.at is not None:
                yield {"t": now.at, "save_seconds": spent}
        elif (saved := _SAVED.search(line)) and now.at is not None:
            yield {"t": now.at, "saved": int(saved[1])}
        elif (found := _LINE.search(line)) and found[1]:
            yield from _iteration(now, found)


def _iteration(now: _Attempt, found: re.Match[str]) -> Iterator[Event]:
    now.at = datetime.fromisoformat(f"{found[1]}T{found[2]}").replace(tzinfo=UTC)
    if now.restored or now.loading is not None:
        before_it = now.at - timedelta(microseconds=1)
        yield {"t": before_it, "load_seconds": now.loading, "restored": now.restored or None}
        now.loading, now.restored = None, False
    step, rest = int(found[3]), found[4]
    before = 0 if now.step is None and now.fresh else now.step
    steps = step - before if before is not None and step > before else None
    elapsed, loss = _ELAPSED.search(rest), _LOSS.search(rest)
    event: Event = {
        "t": now.at, "step": step, "steps": steps, "loss": loss[1] if loss else None, "tokens": _consumed(now, rest, steps),
        "step_seconds": Decimal(elapsed[1]) * steps / 1000 if elapsed and steps else None,
    }  # fmt: skip
    now.step, now.fresh = step, False
    yield event


def _consumed(now: _Attempt, rest: str, steps: int | None) -> int | None:
    """Tokens since the line before. After a checkpoint was loaded, the mean of a step is known from the next line on."""
    tokens, samples = (int(found[1]) if (found := one.search(rest)) else None for one in (_TOKENS, _SAMPLES))
    known = (now.tokens, now.samples) if not now.fresh else (0, 0)
    now.tokens, now.samples = tokens, samples
    if steps is None:
        return None
    if tokens is not None and known[0] is not None:
        return tokens - known[0]
    if samples is None or now.sequence is None:
        return None
    if known[1] is not None:
        return (samples - known[1]) * now.sequence
    batch = re.search(r"global batch size:\s*(\d+)", rest)
    return steps * int(batch[1]) * now.sequence if batch else None
