"""One attempt of a Slurm job as accounting tells it, whichever of its outputs said so; and what we note on the way."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from decimal import Decimal
from typing import Final

from gpuledger.diagnostics import Diagnostic, Severity

# A record that follows one of these under the same job id is the job's next attempt (sacct(1), job state codes).
REQUEUED: Final = frozenset({"REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
# The job goes on under a new record, with another number of nodes.
RESIZED: Final = "RESIZING"
UNFINISHED: Final = frozenset(
    {"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STAGE_OUT", "SIGNALING", "STOPPED"}
)

# Default evidence: which of Slurm's own fields says which dimension.
DIMENSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "account": ("cost_center", "team"),
    "user": ("owner",),
    "wckey": ("project",),
}


@dataclass(frozen=True, slots=True)
class Options:
    """How to read Slurm's answers.

    `cluster` names rows that don't say theirs. `zone` is that of times without one (sacct prints the local time of
    where it runs). `dimensions` says which dimensions `account`, `user`, `wckey`, `qos`, `partition` and
    `reservation` stand for; `aliases` are the user's own spellings of canonical tags in comments.
    """

    cluster: str | None = None
    zone: tzinfo = UTC
    dimensions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: DIMENSIONS)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class Step:
    """A job step: `batch`, `extern`, `0`, … Its resources are part of its job's and never added to them."""

    name: str
    nodes: str
    ended: bool
    tres: Mapping[str, int]
    cpu_seconds: Decimal | None = None
    memory_bytes: int | None = None


@dataclass(slots=True)
class Allocation:
    """One record of a job: an attempt of a job, of an array's task or of a heterogeneous job's component.

    `display` is the id as people see it (`7`, `7_3`, `7+1`), `root` its number (7), `raw` the id that Slurm uses.
    Times are Unix seconds. `tres` is what was allocated to the whole job, empty when nothing was. `placement` tells
    each node's part where Slurm's controller said it.
    """

    display: str
    root: int
    raw: int
    kind: str
    cluster: str
    state: str
    submit: int
    start: int | None
    end: int | None
    tres: Mapping[str, int]
    nodes: str
    name: str = ""
    account: str = ""
    user: str = ""
    wckey: str = ""
    wckey_by_default: bool = False
    qos: str = ""
    partition: str = ""
    reservation: str = ""
    comment: str = ""
    admin_comment: str = ""
    cancelled_by: str | None = None
    elapsed: int | None = None
    suspended: int = 0
    restarts: int | None = None
    sluid: str = ""
    steps: list[Step] = field(default_factory=list)
    placement: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def unfinished(self) -> bool:
        """Whether the attempt goes on, as far as accounting knows."""
        return self.end is None and self.state in UNFINISHED


@dataclass(slots=True)
class _Note:
    severity: Severity
    message: str
    hint: str
    first: str
    count: int = 1


class Notes:
    """Findings while reading, each kind told once with its count and first example."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: dict[tuple[str, str], _Note] = {}

    def add(self, code: str, severity: Severity, message: str, first: str, hint: str = "") -> None:
        """Count a finding; `message` is the same for all of its kind, `first` an example such as a job id."""
        known = self._found.get((code, message))
        if known is None:
            self._found[code, message] = _Note(severity, message, hint, first)
        else:
            known.count += 1

    def any(self, code: str) -> bool:
        """Whether something of that code was found."""
        return any(found == code for found, _ in self._found)

    def diagnostics(self) -> Iterator[Diagnostic]:
        """Yield what was found, in the order of first sight."""
        for (code, _), note in self._found.items():
            often = f" ({note.count} times, first: {note.first})" if note.count > 1 else f" ({note.first})"
            yield Diagnostic(code, note.severity, self.source, note.message + often, note.hint)
