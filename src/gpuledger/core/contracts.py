"""The contracts between the layers: what a source gives the pipeline, and what it gets from it.

A *file connector* is a module in `gpuledger.sources` with the names of `FileConnector`; beside it stands a file of
the same stem with one SQL SELECT that turns its native rows into ledger rows. A connector that also has `poll`
fetches its own deliveries from an API and leaves them as files that the same connector reads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gpuledger.diagnostics import Diagnostic


class Result(Protocol):
    """What a query returns: the part of DuckDB's cursor that we rely on."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all remaining rows."""
        ...

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, or None."""
        ...

    @property
    def description(self) -> list[tuple[Any, ...]]:
        """Column name first, as in DB-API."""
        ...


class Connection(Protocol):
    """A DuckDB connection, as far as layers without an engine may know it."""

    def execute(self, query: str, parameters: object = ...) -> Result:
        """Run SQL with bound parameters."""
        ...


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a delivery: `path` relative to its tree with `/` as separator, size in bytes."""

    path: str
    size: int
    modified: datetime | None = None


class Tree(Protocol):
    """A folder (local or object store) or a single file that holds deliveries."""

    @property
    def location(self) -> str:
        """Path or URL as the user gave it."""
        ...

    @property
    def files(self) -> Sequence[SourceFile]:
        """All files below it, sorted by path; hidden files and folders are left out."""
        ...

    def read(self, path: str) -> bytes:
        """Return the content of a small file such as a manifest."""
        ...

    def local(self, path: str) -> Path:
        """Return a local path of the file, downloading it first where needed."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """One complete statement of one or more billing periods of one source.

    `delivery_id` None means: identified by the content of its files. `delivered_at` orders the deliveries of a
    unit; None means: the moment of ingestion. `missing` lists files that a manifest names and the tree lacks: such a
    delivery is refused whole. `expected_rows` (and `_bytes`) maps a file's path to the number of data rows that a
    manifest promises; `expected_total` is the promise over all files. `labels` maps a file's path to the connector's
    own word on it, such as the kind of export: its rows have it as `_label`.
    """

    files: tuple[SourceFile, ...]
    delivery_id: str | None = None
    delivered_at: datetime | None = None
    source: str | None = None
    billing_period: str | None = None
    expected_rows: Mapping[str, int] = field(default_factory=dict)
    expected_bytes: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    expected_total: int | None = None
    columns: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()


@runtime_checkable
class FileConnector(Protocol):
    """Names that a connector module must have. See CONTRIBUTING for the optional ones."""

    TYPE: str
    TITLE: str
    PROVIDER: str | None
    VERSION: str
    COLUMNS: Mapping[str, Sequence[str]]
    REQUIRED: Sequence[str]
    TOTAL: str


@dataclass(frozen=True, slots=True)
class Reply:
    """An API's answer: HTTP status, headers by lower-case name, body as it was sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Send(Protocol):
    """GET with retries: rate limits, server errors, broken connections and cut bodies are waited out.

    Returns the first lasting answer: JSON with status 2xx, or a 3xx or 4xx (redirects are not followed). Raises SourceError when tries or time run out.
    """

    def __call__(self, url: str, params: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Reply:
        """Send one request."""
        ...


class Pages(Protocol):
    """The raw pages of a source, by path below `state_dir` with `/`; a page is written whole or not at all."""

    def names(self, prefix: str = "") -> list[str]:
        """Paths that start with the prefix, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """Return a page's content."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Put the content in the page's place in one step, durably."""
        ...

    def remove(self, name: str) -> None:
        """Delete a page if it is there."""
        ...


@dataclass(frozen=True, slots=True)
class PollContext:
    """What a poller gets: its settings, a folder for its raw pages, the clock, and ways to fetch and keep pages.

    `settings` are the values of `[sources.NAME]` with secrets resolved. `since` and `until` bound the charge
    periods to fetch, UTC, half-open. `state_dir` is private to the source and survives between polls; what is in it
    below a folder whose name starts with a dot is no delivery.
    """

    settings: Mapping[str, Any]
    state_dir: Path
    since: datetime
    until: datetime
    now: Callable[[], datetime]
    progress: Callable[[str], None]
    send: Send
    pages: Pages


class Poller(Protocol):
    """A connector that fetches from an API: yields diagnostics while it writes pages below `state_dir`."""

    def poll(self, context: PollContext) -> Iterator[Diagnostic]:
        """Fetch what is missing or may still change; resumable, rate-limited, safe to repeat."""
        ...
