"""`sacct --parsable2` output, line by line: every attempt of every job, with its steps.

Documented in sacct(1). The header names the columns. People put separators and line breaks into job names and
comments, so a record may take several lines, and a cell too many is given to the free text that makes the rest
readable.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gpuledger.errors import SourceError
from gpuledger.telemetry.slurm import notation
from gpuledger.telemetry.slurm.records import Allocation, Notes, Options, Step

REQUIRED: Final = ("JobID", "State", "Submit", "Start", "End", "AllocTRES", "NodeList")
OPTIONAL: Final = (
    *("JobIDRaw", "Cluster", "ElapsedRaw", "Suspended", "TRESUsageInTot", "Account", "User", "WCKey", "QOS"),
    *("Partition", "Reservation", "Restarts", "SLUID"),
)
# People's own words, which may hold anything; they come last, and a column that can't be mistaken ends the record.
FREE: Final = ("JobName", "Comment", "AdminComment")
_OTHER_FREE: Final = frozenset(
    {"submitline", "workdir", "systemcomment", "extra", "constraints", "stdout", "stderr", "stdin"}
)
_FREE: Final = frozenset(name.lower() for name in FREE) | _OTHER_FREE

_ID: Final = re.compile(
    r"(?P<root>\d+)(?:_(?P<task>\d+|\[[^\]]*\]?\S*?))?(?:\+(?P<offset>\d+))?(?:\.(?P<step>[\w+.-]+))?"
)
_SUSPENDED: Final = re.compile(r"[\d:.-]+")


@dataclass(slots=True)
class _Table:
    """The header's columns and how to read a cell of them."""

    delimiter: str
    columns: list[str]
    places: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.places = {name.lower(): place for place, name in reversed(list(enumerate(self.columns)))}

    def get(self, cells: list[str], name: str) -> str:
        place = self.places.get(name)
        return cells[place].strip() if place is not None else ""


def command_hint(columns: Iterable[str] = (*REQUIRED, *OPTIONAL, *FREE)) -> str:
    """Say how to make a file that we can read."""
    return f"SLURM_TIME_FORMAT=%s sacct -a -D -P --noconvert -S DAY -E DAY -o {','.join(columns)},JobIDRaw"


def records(
    lines: Iterable[str], options: Options, notes: Notes, *, steps: bool = True
) -> Iterator[Allocation]:
    """Yield the attempts of `sacct -P` output in its order, steps attached to theirs unless they aren't wanted.

    Lines that can't be read are noted (`slurm-bad-row`, `slurm-truncated`) and left out. Raises SourceError when the
    header isn't one of sacct's or lacks columns.
    """
    stream = iter(lines)
    table = _header(next(stream, ""), notes)
    current: Allocation | None = None
    for cells in _rows(stream, table, notes):
        found = _ID.fullmatch(table.get(cells, "jobid"))
        if found is None:
            notes.add("slurm-bad-row", "error", "a line has no job id", table.get(cells, "jobid")[:40])
            continue
        try:
            if found["step"] is None:
                if current is not None:
                    yield current
                current = None
                current = _allocation(cells, table, found, options)
            elif steps and current is not None and current.display == found[0].split(".", 1)[0]:
                current.steps.append(_step(cells, table, found["step"]))
        except ValueError as error:
            notes.add("slurm-bad-row", "error", "a line can't be read", f"job {found[0]}: {error}")
    if current is not None:
        yield current


def _header(line: str, notes: Notes) -> _Table:
    line = line.rstrip("\r\n")
    first = re.match(r"\ufeff?(\w+)(\W+)", line)
    if first is None:
        raise SourceError(
            "no header of sacct", where=notes.source, hint=f"Make the file with: {command_hint()}"
        )
    columns = line.removeprefix("\ufeff").split(first[2])
    if columns[-1] == "":  # -p ends lines with a separator, -P doesn't
        columns.pop()
    absent = {name.lower() for name in REQUIRED} - {name.lower() for name in columns}
    if absent:
        names = [name for name in REQUIRED if name.lower() in absent]
        raise SourceError(
            f"not a file of sacct with what we need: no column {', '.join(names)}",
            where=notes.source,
            hint=f"Make the file with: {command_hint()}",
        )
    return _Table(first[2], columns)


def _rows(lines: Iterator[str], table: _Table, notes: Notes) -> Iterator[list[str]]:
    """Yield records as cells, joining lines that a line break in free text had cut."""
    width, begun = len(table.columns), ""
    for line in lines:
        text = line.rstrip("\n").rstrip("\r")
        alone = _cells(text, table)
        if begun:
            joined = _cells(f"{begun}\n{text}", table)
            if len(alone) >= width and _readable(alone[:width], table):
                notes.add("slurm-bad-row", "error", "a line is cut short", begun[:40])
            elif len(joined) < width:
                begun = f"{begun}\n{text}"
                continue
            else:
                alone = joined
            begun = ""
        if not text and len(alone) < width:
            continue
        if len(alone) < width:
            begun = text
        elif len(alone) == width:
            yield alone
        elif (mended := _mended(alone, table)) is not None:
            yield mended
        else:
            notes.add("slurm-bad-row", "error", "a line has too many cells", alone[0][:40], _DELIMITER_HINT)
    if begun:
        notes.add(
            "slurm-truncated",
            "error",
            "the last line is cut short: the answer isn't whole",
            begun[:40],
            "Ask Slurm again.",
        )


_DELIMITER_HINT: Final = "Give sacct a separator that nobody types: --delimiter=$'\\x1f'."


def _cells(text: str, table: _Table) -> list[str]:
    cells = text.split(table.delimiter)
    if len(cells) > len(table.columns) and cells[-1] == "":
        cells.pop()
    return cells


def _mended(cells: list[str], table: _Table) -> list[str] | None:
    """Give the cells too many to the one free text with which the rest can be read; None when that isn't clear."""
    extra = len(cells) - len(table.columns)
    found: list[list[str]] = []
    for place, name in enumerate(table.columns):
        if name.lower() in _FREE:
            text = table.delimiter.join(cells[place : place + extra + 1])
            tried = [*cells[:place], text, *cells[place + extra + 1 :]]
            if _readable(tried, table):
                found.append(tried)
    told = {
        tuple(cell for name, cell in zip(table.columns, cells, strict=True) if name.lower() not in _FREE)
        for cells in found
    }
    return found[0] if len(told) == 1 else None


def _readable(cells: list[str], table: _Table) -> bool:
    if _ID.fullmatch(table.get(cells, "jobid")) is None:
        return False
    try:
        notation.allocated(table.get(cells, "alloctres"))
        notation.nodes(table.get(cells, "nodelist"))
        for name in ("submit", "start", "end"):
            notation.instant(table.get(cells, name))
    except ValueError:
        return False
    return bool(re.fullmatch(r"[A-Z_]+( by \S+|\+)?", table.get(cells, "state")))


def _allocation(cells: list[str], table: _Table, found: re.Match[str], options: Options) -> Allocation:
    state, cancelled_by = notation.state(table.get(cells, "state"))
    submit = notation.instant(table.get(cells, "submit"), options.zone)
    if submit is None:
        raise ValueError("no time of submission")
    wckey = table.get(cells, "wckey")
    raw = table.get(cells, "jobidraw")
    restarts = table.get(cells, "restarts")
    elapsed = table.get(cells, "elapsedraw")
    suspended = table.get(cells, "suspended")
    display = found[0]
    return Allocation(
        display=display,
        root=int(found["root"]),
        raw=int(raw) if raw.isdecimal() else int(found["root"]),
        kind="SlurmArray" if found["task"] else "SlurmHetJob" if found["offset"] else "SlurmJob",
        cluster=table.get(cells, "cluster") or options.cluster or "slurm",
        state=state,
        submit=submit,
        start=notation.instant(table.get(cells, "start"), options.zone),
        end=notation.instant(table.get(cells, "end"), options.zone),
        tres=notation.allocated(table.get(cells, "alloctres")),
        nodes=table.get(cells, "nodelist"),
        name=table.get(cells, "jobname"),
        account=table.get(cells, "account"),
        user=table.get(cells, "user"),
        wckey=wckey.removeprefix("*"),
        wckey_by_default=wckey.startswith("*"),
        qos=table.get(cells, "qos"),
        partition=table.get(cells, "partition"),
        reservation=table.get(cells, "reservation"),
        comment=table.get(cells, "comment"),
        admin_comment=table.get(cells, "admincomment"),
        cancelled_by=cancelled_by,
        elapsed=int(elapsed) if elapsed.isdecimal() else None,
        suspended=int(notation.cpu_seconds(suspended)) if _SUSPENDED.fullmatch(suspended) else 0,
        restarts=int(restarts) if restarts.isdecimal() else None,
        sluid=table.get(cells, "sluid"),
    )


def _step(cells: list[str], table: _Table, name: str) -> Step:
    cpu, memory = notation.used(table.get(cells, "tresusageintot"))
    return Step(
        name=name,
        nodes=table.get(cells, "nodelist"),
        ended=notation.instant(table.get(cells, "end")) is not None,
        tres=notation.allocated(table.get(cells, "alloctres")),
        cpu_seconds=cpu,
        memory_bytes=memory,
    )
