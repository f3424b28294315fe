"""How a telemetry source is asked, and what it answers: records, findings, and up to when all was told.

A telemetry module has TYPE and TITLE and, to be collected by name, `tell(asked)`. What it yields before a `Covered` is
all that there is of that time; what comes after the last one is thrown away, so that a failure loses no whole part.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from gpuledger.core.contracts import Connection
from gpuledger.core.usage_tables import Record
from gpuledger.diagnostics import Diagnostic

# How a source remembers: `past` can be asked again for any part of the past, `days` tells whole days anew (and better),
# `present` knows what there is now and forgets what ended: what it once said of that stays.
Memory = Literal["past", "days", "present"]


@dataclass(slots=True)
class Kept:
    """What a loop keeps from one question to the next: an open watch by source. `close` it when the loop ends."""

    _open: dict[str, tuple[ExitStack, Any]] = field(default_factory=dict)

    def open(self, name: str, watch: AbstractContextManager[Any]) -> None:
        """Enter a source's watch and keep it."""
        stack = ExitStack()
        self._open[name] = stack, stack.enter_context(watch)

    def get(self, name: str) -> Any:  # noqa: ANN401  # what a source keeps is its own matter
        """Return what was entered for a source, or None."""
        return self._open[name][1] if name in self._open else None

    def drop(self, name: str) -> None:
        """End a source's watch."""
        self._open.pop(name)[0].close()

    def close(self) -> None:
        """End all watches."""
        for name in list(self._open):
            self.drop(name)


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: [since, until), both UTC, with the settings of the source (secrets resolved).

    Who asks in a loop gives `kept`, so that a source that can watch sees what comes and goes between two questions.
    """

    name: str
    since: datetime
    until: datetime
    settings: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    progress: Callable[[str], None] = lambda _: None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Covered:
    """All records of [since, until), which is within one UTC day unless the source tells of the present.

    `complete` is false when part of the answer is missing: it doesn't replace what a complete answer said before.
    `gaps` are times inside of which nothing is known.
    """

    since: datetime
    until: datetime
    complete: bool = True
    gaps: tuple[tuple[datetime, datetime], ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """Many records of one table at once: a Parquet file with columns of the table, which goes to whoever is told."""

    table: str
    path: Path
    rows: int


Told = Record | Block | Diagnostic | Covered


@runtime_checkable
class TelemetryModule(Protocol):
    """Names that a telemetry module must have."""

    TYPE: str
    TITLE: str


class Teller(Protocol):
    """What a telemetry module of a third party has besides, and MEMORY if it isn't `past`."""

    def tell(self, asked: Asked) -> Iterator[Told]:
        """Yield what is known of the time asked for. Raises ConfigError for settings, SourceError for the rest."""
        ...


@runtime_checkable
class FileTelemetry(Protocol):
    """Names that a telemetry module has whose files become rows of one table.

    `relation` returns SQL of rows with some of the columns of TABLE, and what was wrong with the files, which it gets as
    names to show and local paths; `scratch` is a folder for its own files.
    """

    TYPE: str
    TITLE: str
    TABLE: str
    SUFFIXES: Sequence[str]

    def relation(
        self, con: Connection, files: Sequence[tuple[str, Path]], scratch: Path
    ) -> tuple[str, list[Diagnostic]]:
        """Return SQL of the files' rows. Raises SourceError when a file isn't of this kind."""
        ...
