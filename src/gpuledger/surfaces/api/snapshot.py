"""One read-only connection for each state of the ledger, with what the requests of that state share.

A request looks at the versions of the tables, which costs less than a millisecond, and gets a cursor of the connection
that belongs to them. Costs and usage are kept in memory in a narrow form: who (`api_holder`, `api_user`, one row per
holder and one integer key) and what (`api_cost`, `api_usage`, one row per holder and hour), loaded for the days that
somebody asked for.
"""

import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gpuledger.core.opencost.windows import Span
from gpuledger.engines.duckdb import Connection
from gpuledger.models.usage import usage_current
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.store import TABLES
from gpuledger.surfaces.api.tables import HOLDERS, LOAD_COST, LOAD_USAGE, SHAPE, TOLD

Versions = tuple[tuple[str, int | None], ...]
_DAY = timedelta(days=1)
_PATIENCE = 5.0  # seconds
_COMMIT = re.compile(r"\d{20}\.json")  # Delta protocol, "Delta Log Entries"
_MOST_ROWS = 30_000_000  # of the narrow tables; beyond it the days loaded so far are dropped


@dataclass(slots=True)
class Snapshot:
    """A state of the ledger: its connection, the days that are in memory, and texts kept."""

    con: Connection
    versions: Versions
    read: datetime
    days: set[datetime] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    kept: dict[str, tuple[str, list[tuple[Any, ...]]]] = field(default_factory=dict)

    def reading(self, span: Span) -> Connection:
        """Return a connection that sees the days of a window in memory, whatever others load or drop meanwhile."""
        with self.lock:
            self._have(span)
            cursor = self.con.cursor()
            cursor.execute("BEGIN TRANSACTION")
            cursor.execute("SELECT 1 FROM api_cost LIMIT 1")  # a transaction's view is that of its first look
            return cursor

    def load(self, span: Span) -> None:
        """Have the days of a window in memory."""
        with self.lock:
            self._have(span)

    def _have(self, span: Span) -> None:
        first = span.start.replace(hour=0, minute=0, second=0, microsecond=0)
        wanted = [
            first + n * _DAY for n in range((span.end - first + _DAY - timedelta(microseconds=1)) // _DAY)
        ]
        missing = [day for day in wanted if day not in self.days]
        if not missing:
            return
        if self._rows() > _MOST_ROWS:
            self._forget()
            missing = wanted
        for start, end in _runs(missing):
            self._load(start, end)
        self.days.update(missing)

    def _rows(self) -> int:
        found = self.con.execute(
            "SELECT (SELECT count(*) FROM api_cost) + (SELECT count(*) FROM api_usage)"
        ).fetchone()
        return int(found[0]) if found else 0

    def _forget(self) -> None:
        self.days.clear()
        self._all_or_nothing(
            [(f"DELETE FROM {table}", None) for table in ("api_cost", "api_usage", "api_holder", "api_user")]
        )

    def _load(self, start: datetime, end: datetime) -> None:
        times = {"start": start, "end": end}
        self.con.execute(TOLD, times)
        current = usage_current(self.con, "api_told")
        self._all_or_nothing(
            [
                *((statement, times if "$start" in statement else None) for statement in LOAD_COST),
                *((statement.replace("{current}", current), None) for statement in LOAD_USAGE),
            ]
        )
        self.con.execute("DROP TABLE api_told")

    def _all_or_nothing(self, statements: Iterable[tuple[str, Mapping[str, datetime] | None]]) -> None:
        self.con.execute("BEGIN TRANSACTION")
        try:
            for statement, parameters in statements:
                self.con.execute(statement, parameters)
        except BaseException:
            self.con.execute("ROLLBACK")
            raise
        self.con.execute("COMMIT")


class Snapshots:
    """The newest snapshot of a ledger, and the older ones that requests still read."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.lock = threading.Lock()
        self.newest: Snapshot | None = None
        self.asked: tuple[float, Versions] | None = None

    def versions(self) -> Versions:
        """Return the present version of each table of the ledger; None for a table that isn't there.

        An object store is asked every five seconds at most: each table costs a round trip.
        """
        now = time.monotonic()
        with self.lock:
            if self.ledger.store.remote and self.asked is not None and now - self.asked[0] < _PATIENCE:
                return self.asked[1]
        found = tuple((name, self._version(name)) for name in TABLES)
        with self.lock:
            self.asked = (now, found)
        return found

    def _version(self, name: str) -> int | None:
        store = self.ledger.store
        if store.remote:
            table = store.table(name)
            return None if table is None else table.version()
        try:
            with os.scandir(f"{store.uri(name)}/_delta_log") as files:
                commits = [int(file.name[:20]) for file in files if _COMMIT.fullmatch(file.name)]
        except FileNotFoundError:
            return None
        return max(commits, default=None)

    def current(self) -> Snapshot:
        """Return the snapshot of the ledger's present state."""
        versions = self.versions()
        with self.lock:
            if self.newest is None or self.newest.versions != versions:
                self.newest = self._open(versions)
            return self.newest

    def _open(self, versions: Versions) -> Snapshot:
        con = self.ledger.connect()
        for statement in (*SHAPE, *HOLDERS):
            con.execute(statement)
        return Snapshot(con, versions, datetime.now(UTC))

    @contextmanager
    def cursor(self, span: Span | None = None) -> Iterator[Connection]:
        """Give a connection of the present state, with the days of a window in memory; closed afterwards."""
        snapshot = self.current()
        cursor = snapshot.con.cursor() if span is None else snapshot.reading(span)
        cursor.execute("SET TimeZone = 'UTC'")
        try:
            yield cursor
        finally:
            cursor.close()


def _runs(days: list[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """Join neighbouring days to [start, end) runs of at most a week, to bound what one load holds."""
    start = end = None
    for day in days:
        if end == day and start is not None and day - start < 7 * _DAY:
            end = day + _DAY
            continue
        if start is not None and end is not None:
            yield start, end
        start, end = day, day + _DAY
    if start is not None and end is not None:
        yield start, end
