"""Synthetic answers of sacct, as its man page documents them, for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.diagnostics import Diagnostic
from gpuledger.telemetry import slurm

COLUMNS = (
    *(
        "JobID",
        "JobIDRaw",
        "State",
        "Submit",
        "Start",
        "End",
        "ElapsedRaw",
        "Suspended",
        "AllocTRES",
        "NodeList",
    ),
    *("TRESUsageInTot", "Account", "User", "WCKey", "JobName", "Comment", "AdminComment"),
)
T0 = 1_795_500_000
"""A Tuesday in November 2026, 06:00 UTC; times of rows are seconds after it."""


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(T0 + seconds, UTC)


def row(job: str, start: int | None = 0, end: int | None = 100, **cells: Any) -> dict[str, str]:  # noqa: ANN401 - whatever prints
    """Return a line: one GPU on gpu1 from `start` to `end`, submitted ten seconds before, unless `cells` say else."""
    submit = cells.pop("submit", (start or 0) - 10)
    told = {
        "JobID": job,
        "JobIDRaw": job.replace("_", "").replace("+", ""),
        "State": "RUNNING" if end is None else "COMPLETED",
        "Submit": str(T0 + int(submit)),
        "Start": "Unknown" if start is None else str(T0 + start),
        "End": "Unknown" if end is None else str(T0 + end),
        "AllocTRES": "" if start is None else "billing=4,cpu=4,gres/gpu:h100=1,gres/gpu=1,mem=8G,node=1",
        "NodeList": "None assigned" if start is None else "gpu1",
        "Account": "research",
        "User": "amy",
        "JobName": "job",
        "Suspended": "00:00:00",
    }
    if start is not None and end is not None:
        told["ElapsedRaw"] = str(end - start)
    return told | {name: str(value) for name, value in cells.items()}


def table(rows: Sequence[dict[str, str]], delimiter: str = "|", *, more: Sequence[str] = ()) -> str:
    columns = (*COLUMNS, *more)
    lines = [columns, *([one.get(name, "") for name in columns] for one in rows)]
    return "".join(f"{delimiter.join(line)}\n" for line in lines)


class Told:
    """What `read_jobs` said, sorted by kind."""

    def __init__(self, records: Sequence[Job | UsageInterval | Diagnostic]) -> None:
        self.jobs = [one for one in records if isinstance(one, Job)]
        self.usage = [one for one in records if isinstance(one, UsageInterval)]
        self.diagnostics = [one for one in records if isinstance(one, Diagnostic)]

    @property
    def ids(self) -> list[str]:
        return sorted(job.job_id for job in self.jobs)

    @property
    def codes(self) -> list[str]:
        return [one.code for one in self.diagnostics]

    def gpus(self) -> list[tuple[str, str, Any, int, int]]:
        """(id as shown, node, cards, start, end after T0) of every GPU row."""
        return [
            (
                str(one.pod),
                one.node,
                one.requested,
                int(one.start.timestamp()) - T0,
                int(one.end.timestamp()) - T0,
            )
            for one in self.usage
            if one.resource == "gpu"
        ]


def read(folder: Path, *texts: str, nodes: Sequence[NodeInterval] = (), **settings: Any) -> Told:  # noqa: ANN401 - as read_jobs takes
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / f"sacct-{number}.txt")
        paths[-1].write_text(text, "utf-8", newline="")
    settings.setdefault("asked", at(1000))
    return Told(list(slurm.read_jobs(paths, nodes=nodes, **settings)))
