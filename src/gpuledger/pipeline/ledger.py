"""`Ledger`: the public Python API, and what every surface uses.

>>> from gpuledger.pipeline.ledger import Ledger
>>> ledger = Ledger("./ledger")
>>> ledger.ingest("focus", "bill.csv")          # doctest: +SKIP
>>> ledger.costs(group_by=["ServiceName"]).rows  # doctest: +SKIP
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gpuledger import registry
from gpuledger.config import Config
from gpuledger.core import windows
from gpuledger.engines import duckdb
from gpuledger.errors import ConfigError, LedgerError, UsageError
from gpuledger.pipeline import allocation_state, views
from gpuledger.pipeline import costs as cost_queries
from gpuledger.pipeline.ingest import Options, Report, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import TABLES, Store, Unit

_NO_LEDGER = "Ingest a bill first: gpuledger ingest --type TYPE PATH. Or try the example: gpuledger demo."


class Ledger:
    """One ledger: a folder or object store address, and a configuration."""

    def __init__(self, location: str = "ledger", config: Config | None = None) -> None:
        self.config = config or Config()
        self.store = Store(location)

    @property
    def location(self) -> str:
        """Where the ledger is, as an absolute path or URL."""
        return self.store.location

    @property
    def cache(self) -> Path:
        """Folder for downloads."""
        return Path.home() / ".cache" / "gpuledger"

    def ingest(
        self,
        type_name: str,
        location: str,
        *,
        source: str | None = None,
        force: bool = False,
        settings: Mapping[str, Any] | None = None,
        validate: bool = True,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Report:
        """Read the deliveries at a path or address. See `pipeline.ingest.ingest`."""
        options = Options(
            source=source,
            force=force,
            focus_version=self.config.ledger.focus_version if validate else None,
            progress=progress,
            settings=settings or {},
            tags=self.config.tags,
        )
        return ingest(self.store, open_tree(location, self.cache), registry.source(type_name), options)

    def ingest_configured(
        self,
        name: str,
        *,
        force: bool = False,
        validate: bool = True,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Report:
        """Read the deliveries of `[sources.NAME]`: from its path, or by polling its API.

        Raises ConfigError when the source has neither.
        """
        from gpuledger.pipeline import poll

        section = self.config.sources[name]
        connector = registry.source(section.type)
        if section.path is not None:
            return self.ingest(
                section.type,
                section.path,
                source=name,
                force=force,
                settings=section.settings,
                validate=validate,
                progress=progress,
            )
        if not hasattr(connector, "poll"):
            raise ConfigError(
                "no path",
                where=f"sources.{name}",
                hint=f'{connector.TITLE} is read from files: say where, path = "…".',
            )
        now = datetime.now(UTC)
        before = now.replace(day=1) - timedelta(days=1)
        window = windows.parse(f"{before:%Y-%m}..{now:%Y-%m}", now)  # last month may still be restated
        version = self.config.ledger.focus_version if validate else None
        options = Options(force=force, focus_version=version, progress=progress, tags=self.config.tags)
        return poll.poll(self.store, name, connector, section.settings, window, options=options)

    def connect(
        self, as_of: datetime | int | None = None, *, memory_limit: str | None = None
    ) -> duckdb.Connection:
        """Open a connection with a view of each table and those of `pipeline.views` on one snapshot of the ledger.

        `as_of` is a moment or a version of the table. A table that doesn't exist yet is an empty one.
        """
        con = duckdb.connect(memory_limit=memory_limit or self.config.ledger.memory_limit)
        views.define(con, self.files(as_of))
        return con

    def files(self, as_of: datetime | int | None = None) -> dict[str, list[str]]:
        """Return paths of the data files of one snapshot, by table. A version number is that of the bills' table."""
        return {
            table: self.store.readable(
                table, as_of if table == "cost_and_usage" or isinstance(as_of, datetime) else None, self.cache
            )
            for table in TABLES
        }

    def require(self) -> None:
        """Raise LedgerError with a hint when the ledger has neither bills, nor estimates, nor telemetry yet."""
        if all(self.store.table(name) is None for name in TABLES):
            raise LedgerError("there is no ledger here", where=self.location, hint=_NO_LEDGER)

    def costs(
        self,
        group_by: Sequence[str] = (),
        *,
        metric: str = "effective",
        where: Sequence[str] = (),
        window: str | None = None,
        allocated: bool = False,
        as_of: datetime | int | None = None,
        limit: int | None = None,
    ) -> cost_queries.Answer:
        """Sum costs. `window` as on the command line; `as_of` reads an earlier state of the ledger.

        `allocated` asks the charges as they were split among jobs; the answer says when that has to be done anew.
        """
        self.require()
        span = windows.parse(window, datetime.now(UTC)) if window else None
        question = cost_queries.Question(group_by, metric, where, span, allocated, limit)
        answer = cost_queries.ask(
            self.connect(as_of), "allocated" if allocated else "cost_and_usage", question
        )
        if allocated and as_of is None:
            answer.diagnostics = allocation_state.stale(self.store, self.config.allocation)
        return answer

    def history(self) -> list[dict[str, Any]]:
        """Return every delivery ever committed, newest first."""
        self.require()
        return self.store.history()

    def units(self) -> list[Unit]:
        """Return what the ledger holds now: one entry per source and billing period."""
        return sorted(
            self.store.units("cost_and_usage").values(), key=lambda unit: (unit.billing_period, unit.source)
        )


def parse_as_of(text: str) -> datetime | int:
    """Read `--as-of`: a version number or an ISO date or time (UTC). Raises UsageError."""
    if text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"can't read --as-of {text!r}", hint="Use 2026-11-03, 2026-11-03T08:00Z or a version number."
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
