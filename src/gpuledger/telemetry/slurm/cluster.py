"""A live Slurm: a day of accounting at a time, the nodes, and what is wrong with how Slurm keeps its books."""

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Final

from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError
from gpuledger.telemetry.slurm import holdings, machines, notation, parsable
from gpuledger.telemetry.slurm.answers import Reading
from gpuledger.telemetry.slurm.commands import Commands, Spool
from gpuledger.telemetry.slurm.records import Allocation, Notes, Options

_SEPARATOR: Final = "\x1f"
# Ids that one sacct is asked for: a command line is limited, and so is the patience of slurmdbd.
_IDS_AT_ONCE: Final = 1000
# Accounting learns of starts and ends a moment after the controller.
_SETTLING: Final = 60


@dataclass(frozen=True, slots=True)
class Covered:
    """All records of [since, until) were told; not `complete` when part of the answer is missing.

    A stored period may be replaced by a complete one only.
    """

    since: datetime
    until: datetime
    complete: bool


Record = Job | NodeInterval | UsageInterval | Diagnostic | Covered


@dataclass(slots=True)
class _State:
    """What the controller says at the moment of asking; None is: it didn't."""

    config: dict[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    restarts: dict[int, int] | None = None
    asked: int = 0
    shapes: dict[str, dict[str, int]] = field(default_factory=dict)


def collect(
    since: datetime,
    until: datetime,
    now: Callable[[], datetime],
    *,
    commands: Commands | None = None,
    options: Options | None = None,
    step: timedelta = timedelta(days=1),
) -> Iterator[Record]:
    """Yield what Slurm knows of [since, until), a `step` at a time, cut at midnights UTC for steps of a day.

    First diagnostics of the set-up, then per step NodeIntervals, Jobs, UsageIntervals, Diagnostics, and Covered.
    Intervals are cut at the step's ends; a job is told in each step that it touches. What still runs ends now, and
    steps that begin in the future are left out. When accounting doesn't answer for a step, the step isn't complete and
    the next one is tried; for the present, what the controller knows is told instead. Raises SourceError, last, when
    Slurm told nothing of any step.
    """
    commands, options = commands or Commands(), options or Options()
    notes = Notes("slurm")
    state = _ask_controller(commands, notes, now)
    options = replace(options, cluster=options.cluster or state.config.get("ClusterName"))
    yield from notes.diagnostics()
    found, failure = False, None
    for start, end in _steps(since, until, step):
        notes = Notes(f"slurm {start:%Y-%m-%dT%H:%M}Z")
        asked = now()
        if start >= asked:
            break
        yield from _nodes(commands, options, state, notes, start, end, asked)
        whole = False
        try:
            window = holdings.Window(_seconds(start), _seconds(end), _seconds(asked))
            whole = yield from _jobs(commands, options, state, notes, window)
            found = True
        except SourceError as error:
            failure = error
            notes.add("slurm-no-answer", "error", error.message, f"{start:%Y-%m-%d}", error.hint or "")
            if start <= asked < end + step and (
                yield from _live_jobs(commands, options, state, notes, window)
            ):
                found = True
        yield from notes.diagnostics()
        yield Covered(start, end, whole)
    if failure is not None and not found:
        raise failure


def _steps(since: datetime, until: datetime, step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    start = since.astimezone(UTC)
    while start < until:
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        end = min(start + step, until, midnight) if step <= timedelta(days=1) else min(start + step, until)
        yield start, end
        start = end


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _ask_controller(commands: Commands, notes: Notes, now: Callable[[], datetime]) -> _State:
    state = _State()
    with commands.run("sacct", "--helpformat") as spool:
        known = {word.lower(): word for word in spool.text().split()}
    wanted = (*parsable.REQUIRED, *parsable.OPTIONAL, *parsable.FREE)
    # An answer without the usual fields is no list of fields; sacct then says itself what is wrong.
    state.fields = tuple(name for name in wanted if name.lower() in known) if "jobid" in known else wanted
    with commands.run("scontrol", "show", "config") as spool:
        if spool.whole:
            state.config = dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", spool.text(), re.MULTILINE))
        else:
            error = spool.error()
            notes.add(
                "slurm-no-controller", "warning", error.message, "scontrol show config", error.hint or ""
            )
    _check_config(state.config, notes)
    state.asked = _seconds(now())
    if state.config:
        # Before sacct: what ends in between is known to have run.
        with commands.run("squeue", "-h", "-a", "-r", "-O", "JobID:20,RestartCnt:12") as spool:
            if spool.whole:
                rows = (line.split() for line in spool.text().splitlines())
                state.restarts = {
                    int(row[0]): int(row[1]) for row in rows if len(row) > 1 and row[0].isdecimal()
                }
    return state


def _check_config(config: Mapping[str, str], notes: Notes) -> None:
    """Note what in slurm.conf keeps cost from being told right."""
    if not config:
        return
    if config.get("AccountingStorageType", "").endswith("none"):
        notes.add(
            "slurm-no-accounting",
            "error",
            "Slurm keeps no job history",
            config["AccountingStorageType"],
            "Set AccountingStorageType=accounting_storage/slurmdbd.",
        )
    if "gpu" in config.get("GresTypes", "") and "gres/gpu" not in config.get("AccountingStorageTRES", ""):
        notes.add(
            "slurm-gpu-not-tracked",
            "error",
            "accounting doesn't keep GPUs, so jobs seem to hold none",
            "AccountingStorageTRES",
            "Add gres/gpu (and its types, gres/gpu:h100) to AccountingStorageTRES, and restart slurmctld; past jobs stay without.",
        )
    private = config.get("PrivateData", "none")
    if "jobs" in private:
        notes.add(
            "slurm-private-data",
            "warning",
            "Slurm may show us our own jobs only",
            f"PrivateData={private}",
            "Run it as root or a user with AdminLevel=Operator.",
        )
    if "job_comment" not in config.get("AccountingStoreFlags", ""):
        notes.add(
            "slurm-no-comments",
            "info",
            "accounting doesn't keep job comments, so team=…;model=… in them is lost",
            "AccountingStoreFlags",
            "Add job_comment to AccountingStoreFlags.",
        )


def _nodes(
    commands: Commands,
    options: Options,
    state: _State,
    notes: Notes,
    start: datetime,
    end: datetime,
    asked: datetime,
) -> Iterator[NodeInterval]:
    try:
        with commands.run("scontrol", "-a", "-o", "show", "node") as spool:
            if not spool.whole:
                raise spool.error()
            text = spool.text()
    except SourceError as error:
        notes.add("slurm-nodes-unknown", "warning", error.message, "scontrol show node", error.hint or "")
        return
    for machine in machines.machines(StringIO(text), notes):
        state.shapes[machine.name] = notation.gres(machine.gres)
        yield from machines.intervals(machine, start, end, options, asked)


def _sacct(commands: Commands, state: _State, *which: str) -> Spool:
    columns = ",".join((*state.fields, "JobIDRaw"))
    return commands.run(
        "sacct", "-a", "-D", "-P", "--noconvert", f"--delimiter={_SEPARATOR}", "-o", columns, *which
    )


def _jobs(
    commands: Commands, options: Options, state: _State, notes: Notes, window: holdings.Window
) -> Generator[Job | UsageInterval, None, bool]:
    """Yield a step's jobs and holdings; returns whether the answer was whole."""
    since, until = (
        datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        for moment in (window.since, window.until)
    )
    with _sacct(commands, state, "-S", since, "-E", until) as spool:
        if spool.code or not spool.output.tell():
            raise spool.error()
        reading = Reading([spool.answer(notes.source)], options, notes, state.restarts)
        if not spool.whole:
            error = spool.error()
            if reading.empty:  # sacct prints its header before it asks
                raise error
            notes.add("slurm-no-answer", "error", error.message, since, error.hint or "")
        for ids in _chunks(reading.unclear(window.since)):
            with _sacct(commands, state, "-j", ids, "-X") as history:
                if history.whole:
                    reading.learn_history(history.answer(notes.source))
                else:
                    error = history.error()
                    notes.add(
                        "slurm-no-history",
                        "warning",
                        f"earlier attempts aren't known: {error.message}",
                        ids[:40],
                        error.hint or "",
                    )
        yield from reading.tell(window, state.shapes, lambda record: _lost(record, state, notes))
        return spool.whole and not notes.any("slurm-truncated")


def _chunks(ids: list[int]) -> Iterator[str]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ",".join(map(str, ids[start : start + _IDS_AT_ONCE]))


def _lost(record: Allocation, state: _State, notes: Notes) -> bool:
    """Tell a job that runs for accounting and that the controller doesn't have: nobody knows when it ended."""
    if (
        state.restarts is None
        or not record.unfinished
        or record.start is None
        or record.raw in state.restarts
    ):
        return False
    if record.start > state.asked - _SETTLING:
        return False
    notes.add(
        "slurm-job-lost",
        "error",
        "a job runs for accounting only, so when it ended isn't known, and it counts nothing",
        f"job {record.display}",
        "`sacctmgr show runawayjobs` lists and mends them; after a failure of slurmdbd it may catch up by itself.",
    )
    return True


def _live_jobs(
    commands: Commands, options: Options, state: _State, notes: Notes, window: holdings.Window
) -> Generator[Job | UsageInterval, None, bool]:
    """Yield the jobs that the controller remembers, those in the queue and those that ended minutes ago; returns whether it could."""
    try:
        with commands.run("squeue", "-a", "-t", "all", "--json") as spool:
            if not spool.whole:
                raise spool.error()
            reading = Reading([spool.answer(notes.source, scheduler=True)], options, notes)
            yield from reading.tell(window, state.shapes)
            notes.add(
                "slurm-live-only",
                "warning",
                "accounting doesn't answer: only the jobs that the controller remembers are told",
                "squeue --json",
            )
    except SourceError as error:
        notes.add("slurm-no-controller", "warning", error.message, "squeue", error.hint or "")
        return False
    return True
