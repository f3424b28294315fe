"""Accounting's answers, from files or spooled from a command, turned into Jobs and UsageIntervals in two passes.

The first pass chains attempts (see `attempts`), the second tells them, so that memory holds a line about each record
and nothing more. Answers may overlap: a record that several of them hold is told once, from the one that knows its end.
"""

import gzip
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final, cast

from gpuledger.core.usage import Job, UsageInterval
from gpuledger.errors import SourceError
from gpuledger.telemetry.slurm import documents, holdings, parsable
from gpuledger.telemetry.slurm.attempts import Attempts
from gpuledger.telemetry.slurm.ledger_jobs import JobBuilder
from gpuledger.telemetry.slurm.records import Allocation, Notes, Options

_GZIP: Final = b"\x1f\x8b"
Open = Callable[[], IO[bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One output of Slurm. `open` gives it from its beginning, each time it is called; `name` is for people."""

    name: str
    open: Open
    scheduler: bool = False

    @classmethod
    def of_file(cls, path: Path) -> "Answer":
        """Return a file's content, unpacked when it is gzip."""

        def opened() -> IO[bytes]:
            try:
                with path.open("rb") as stream:
                    packed = stream.read(2) == _GZIP
                return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")
            except OSError as error:
                raise SourceError(
                    str(error.strerror), where=str(path), hint="Give a file of sacct's output."
                ) from error

        return cls(str(path), opened)


@contextmanager
def text_of(answer: Answer) -> Iterator[IO[str]]:
    """Open an answer as text: UTF-8, with what isn't replaced; lines end at line feeds only."""
    with answer.open() as stream, io.TextIOWrapper(stream, "utf-8", "replace", newline="\n") as text:
        yield text


def _records(answer: Answer, options: Options, notes: Notes, *, steps: bool = False) -> Iterator[Allocation]:
    try:
        with text_of(answer) as probe:
            is_json = probe.read(4096).lstrip("\ufeff \t\r\n").startswith("{")
        with text_of(answer) as text:
            if answer.scheduler:
                yield from documents.scheduled(text, options, notes)
            elif is_json:
                yield from documents.accounted(text, options, notes)
            else:
                yield from parsable.records(text, options, notes, steps=steps)
    except (EOFError, gzip.BadGzipFile) as error:
        notes.add("slurm-truncated", "error", "the file ends early", str(error), "Get the file again.")


class Reading:
    """Two passes over answers. `restarts` maps raw ids of unfinished jobs to how often they were requeued."""

    def __init__(
        self,
        answers: Sequence[Answer],
        options: Options,
        notes: Notes,
        restarts: Mapping[int, int] | None = None,
    ) -> None:
        self._answers = answers
        self._options = options
        self._notes = notes
        self._restarts = restarts or {}
        self._attempts = Attempts()
        self._best: dict[tuple[str, str, int], tuple[bool, bool, int]] = {}
        # Both passes meet the same bad lines; they are told once.
        for number, answer in enumerate(answers):
            for record in self._read(answer, notes):
                self._learn(number, record)

    def _read(self, answer: Answer, notes: Notes, *, steps: bool = False) -> Iterator[Allocation]:
        for record in _records(answer, self._options, notes, steps=steps):
            known = self._restarts.get(record.raw)
            if record.restarts is None and known is not None and record.unfinished:
                yield replace(record, restarts=known)
            else:
                yield record

    def _learn(self, number: int, record: Allocation) -> None:
        if len(self._answers) == 1:
            self._attempts.add(record)
            return
        if _stale(record, number, len(self._answers)):
            return
        key, told = _key(record), (record.end is not None, record.start is not None, number)
        known = self._best.get(key)
        if known is None:
            self._attempts.add(record)
        elif told > known:
            self._attempts.replace(record)
        else:
            return
        self._best[key] = told

    @property
    def empty(self) -> bool:
        """Whether the answers tell no job."""
        return not self._attempts

    def unclear(self, since: int) -> list[int]:
        """Raw ids of jobs whose first submission may be told by records that ended before `since` only."""
        return self._attempts.unclear(since)

    def learn_history(self, answer: Answer) -> None:
        """Take earlier records of jobs from an answer; they aren't told, they say whose attempts the others are."""
        for record in _records(answer, self._options, self._notes):
            self._attempts.add(record, earlier=True)

    def tell(
        self,
        window: holdings.Window,
        shapes: holdings.Shapes,
        lost: Callable[[Allocation], bool] = lambda _: False,
    ) -> Iterator[Job | UsageInterval]:
        """Yield every job and what it held in the window. `lost` tells jobs that run for accounting only."""
        self._attempts.close()
        silent = Notes(self._notes.source)
        open_jobs: dict[str, JobBuilder] = {}
        for number, answer in enumerate(self._answers):
            for record in self._read(answer, silent, steps=True):
                if len(self._answers) > 1 and self._best.get(_key(record), _NONE)[2] != number:
                    continue
                place = self._attempts.place(record)
                alone = self._attempts.alone(record)
                builder = (
                    JobBuilder(self._options)
                    if alone
                    else open_jobs.setdefault(place.job_id, JobBuilder(self._options))
                )
                builder.add(record, place)
                if not lost(record):
                    yield from holdings.intervals(record, place, shapes, window, self._notes)
                if alone:
                    yield builder.job()
        for builder in open_jobs.values():
            yield builder.job()


def _key(record: Allocation) -> tuple[str, str, int]:
    return record.cluster, record.display, record.submit


def _stale(record: Allocation, number: int, answers: int) -> bool:
    """Tell tasks that waited when an earlier answer was given: the last one has them under their own ids."""
    return "[" in record.display and number + 1 < answers


_NONE: Final = (False, False, -1)
