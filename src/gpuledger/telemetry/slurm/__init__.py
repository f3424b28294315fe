"""Slurm: jobs and what they held from accounting (sacct), nodes from the controller (scontrol, sinfo).

Live by `collect`, from files by `read_jobs` and `read_nodes`. Formats: `sacct --parsable2`, `sacct --json` and
`squeue --json` of Slurm 21.08 to 26.11, `scontrol show node` as text and JSON, `sinfo --json`.

What Slurm doesn't say: each node's part of a job of several nodes (told where it can be, else spread evenly), when a
job was suspended, average GPU use, how nodes were configured in the past, and, before `Restarts` (newer versions),
whether an id that comes again is a requeue: then the records decide, see `attempts`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.diagnostics import Diagnostic
from gpuledger.telemetry.slurm import holdings, machines, notation
from gpuledger.telemetry.slurm.answers import Answer, Reading, text_of
from gpuledger.telemetry.slurm.cluster import Covered, Record, collect
from gpuledger.telemetry.slurm.commands import Commands
from gpuledger.telemetry.slurm.records import Notes, Options

__all__ = ["TITLE", "TYPE", "Commands", "Covered", "Options", "Record", "collect", "read_jobs", "read_nodes"]

TYPE = "slurm"
TITLE = "Slurm accounting (sacct) and nodes (scontrol, sinfo)"


def read_jobs(
    paths: Sequence[Path],
    asked: datetime,
    *,
    options: Options | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    nodes: Sequence[NodeInterval] = (),
) -> Iterator[Job | UsageInterval | Diagnostic]:
    """Yield jobs and holdings out of files of `sacct -P`, `sacct --json` or `squeue --json`, plain or gzip.

    Files may overlap, such as one for each day; give them in the order of time. `asked` is when the last was made:
    what runs then ends then. [since, until) cuts intervals; the default is all that the files tell. `nodes` tell what
    each node can hold, which a fair split over uneven nodes and parts of cards need. Diagnostics come last. Raises
    SourceError for a file that isn't sacct's.
    """
    notes = Notes(", ".join(path.name for path in paths[:3]))
    window = holdings.Window(
        since=0 if since is None else int(since.timestamp()),
        until=_END_OF_TIME if until is None else int(until.timestamp()),
        now=int(asked.timestamp()),
    )
    shapes: Mapping[str, Mapping[str, int]] = {
        node.node: notation.gres(node.labels.get("slurm/gres")) for node in nodes
    }
    reading = Reading([Answer.of_file(path) for path in paths], options or Options(), notes)
    yield from reading.tell(window, shapes)
    yield from notes.diagnostics()


def read_nodes(
    path: Path, since: datetime, until: datetime, asked: datetime, *, options: Options | None = None
) -> Iterator[NodeInterval | Diagnostic]:
    """Yield nodes out of a file of `scontrol show node` (text or JSON) or `sinfo --json`, over [since, until).

    `asked` is when the file was made; the nodes aren't told beyond it. Raises SourceError for another kind of file.
    """
    notes = Notes(path.name)
    with text_of(Answer.of_file(path)) as text:
        for machine in machines.machines(text, notes):
            yield from machines.intervals(machine, since, until, options or Options(), asked)
    yield from notes.diagnostics()


_END_OF_TIME = 1 << 40
