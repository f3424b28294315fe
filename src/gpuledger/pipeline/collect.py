"""`[telemetry.NAME]` sources into the ledger, day by day, going on where the last collection stopped.

What a day's unit covers is in the note of its commit: `covered`, the times that were told whole, and `complete`. A
day is collected again and replaced until it is complete. What was stored stays where the new answer says nothing:
outside the time that was asked for, and, of a source that knows the present only, whatever has ended since.
"""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from gpuledger.config import TelemetrySection
from gpuledger.core.telling import Asked, Block, Covered, Kept
from gpuledger.core.usage_tables import HOLDING_TABLES
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import GpuledgerError, UsageError
from gpuledger.focus.schema import quoted
from gpuledger.pipeline import record_files, tellers, token_files
from gpuledger.pipeline.ingest import Action, Ingested, Report, scratch_folder
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.locations import clear
from gpuledger.pipeline.poll import alone, state_of
from gpuledger.pipeline.record_files import Checked
from gpuledger.pipeline.store import Store, scan, slug
from gpuledger.pipeline.telemetry import Spool, store_spool
from gpuledger.telemetry import records

Interval = tuple[datetime, datetime]
_FIRST: Final = timedelta(days=1)
# How far back days that aren't complete are asked for again.
_BACK: Final = timedelta(days=31)
# What happened at a day's end is known a while later.
_SETTLING: Final = timedelta(minutes=10)
# What names the thing that a row is about, for rows of things that a new answer doesn't mention.
_KEYS: Final = {
    "job": ("job_id",),
    "node_interval": ("cluster", "node"),
    "usage_interval": ("cluster", "pod_uid"),
}


def collect(  # noqa: PLR0913  # what, of when, and how: all the caller's
    ledger: Ledger,
    names: Sequence[str],
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Callable[[str], None] = lambda _: None,
    *,
    force: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    kept: Kept | None = None,
) -> Report:
    """Ask telemetry sources by name, and store what they say of [since, until).

    The default window goes from the last moment that is stored, or a day back, until now. A source that fails keeps
    what it told before, is a Diagnostic `collect-failed`, and stops no other. `force` is for files of records; a loop
    gives the same `kept` each time. Raises UsageError for a name that isn't configured.
    """
    report = Report()
    for name in names:
        if name not in ledger.config.telemetry:
            known = ", ".join(ledger.config.telemetry) or "none"
            raise UsageError(
                f"no telemetry source {name!r} in the configuration", hint=f"There are: {known}."
            )
    for name in names:
        section = ledger.config.telemetry[name]
        try:
            if section.type == records.TYPE or section.path is not None:
                report.extend(_files(ledger, name, section, progress, force=force))
            else:
                run = _Collection(ledger, name, section, progress, now, kept)
                try:
                    run.run(since, until)
                finally:
                    report.extend(run.report)
        except GpuledgerError as error:
            told = Diagnostic("collect-failed", "error", error.where or name, error.message, error.hint or "")
            report.diagnostics.append(told)
            report.rows.append(Ingested(slug(name), None, "unknown", 0, None, None, None, "rejected"))
    return report


def _files(
    ledger: Ledger, name: str, section: TelemetrySection, progress: Callable[[str], None], *, force: bool
) -> Report:
    if section.path is None:
        raise UsageError("no path", where=f"telemetry.{name}", hint='Say where the files are: path = "…".')
    return token_files.ingest(ledger, section.type, section.path, source=name, force=force, progress=progress)


@dataclass(frozen=True, slots=True)
class Held:
    """What the ledger holds of one day: the times that were told whole, and whether that is all."""

    covered: tuple[Interval, ...]
    complete: bool
    gaps: tuple[Interval, ...] = ()

    @property
    def until(self) -> datetime | None:
        """End of what was told."""
        return max((end for _, end in self.covered), default=None)


def held_days(store: Store, source: str) -> dict[date, Held]:
    """Return what the ledger holds of a collected source, by day. Usage is committed last, so its notes count."""
    found: dict[date, Held] = {}
    for note in store.history("usage_interval"):
        if note["source"] != slug(source) or "covered" not in note:
            continue
        day = date.fromisoformat(note["billing_period"])
        found.setdefault(day, Held(_times(note["covered"]), bool(note["complete"]), _times(note["gaps"])))
    return found


def _times(pairs: Sequence[Sequence[str]]) -> tuple[Interval, ...]:
    return tuple((datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in pairs)


def joined(intervals: Sequence[Interval]) -> list[Interval]:
    """Return intervals in order, those that touch made one."""
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(slots=True)
class _Collection:
    """One source while it is asked."""

    ledger: Ledger
    name: str
    section: TelemetrySection
    progress: Callable[[str], None]
    now: Callable[[], datetime]
    kept: Kept | None
    report: Report = field(default_factory=Report)
    ask: tellers.Ask = field(init=False)
    held: Mapping[date, Held] = field(init=False)

    def run(self, since: datetime | None, until: datetime | None) -> None:
        self.ask = tellers.find(self.section.type)
        folder = state_of(self.ledger.store) / "telemetry" / slug(self.name)
        with alone(folder, self.name):
            self.held = held_days(self.ledger.store, self.name)
            start, end = self._window(since, until)
            if start < end:
                self._ask(start, end)

    def _window(self, since: datetime | None, until: datetime | None) -> Interval:
        end = until or self.now()
        last = max((held.until for held in self.held.values() if held.until is not None), default=None)
        start = since or last or end - _FIRST
        if self.ask.memory == "days" or (self.ask.memory == "present" and since is None and last is not None):
            start = _midnight(start)  # the day is told anew as a whole
        if since is None and last is not None and self.ask.memory != "past":
            back = last - (_BACK if self.ask.memory == "days" else timedelta(days=1))
            open_days = [day for day, held in self.held.items() if not held.complete and day >= back.date()]
            start = min([start, *(datetime(day.year, day.month, day.day, tzinfo=UTC) for day in open_days)])
        return start, end

    def _ask(self, start: datetime, end: datetime) -> None:
        settings, aliases = self.section.settings, self._aliases()
        asked = Asked(self.name, start, end, settings, aliases, self.now, self.progress, self.kept)
        scratch = scratch_folder(self.ledger.store)
        try:
            with _many_objects():
                for number, told in enumerate(self._parts(asked, scratch)):
                    self._store(told, scratch / f"out-{number}")
                    told.spool.close()
                    clear(told.spool.folder)
        finally:
            clear(scratch)

    def _aliases(self) -> dict[str, tuple[str, ...]]:
        """Return the user's spellings of canonical keys, those for this type (`[tags.providers.Kubernetes]`) first."""
        tags = self.ledger.config.tags
        tables = [table for name, table in tags.providers.items() if name.casefold() == self.section.type]
        found: dict[str, tuple[str, ...]] = {}
        for table in (*tables, tags.aliases):
            for key, names in table.items():
                found[key] = (*found.get(key, ()), *names)
        return found

    def _parts(self, asked: Asked, scratch: Path) -> Iterator["_Part"]:
        """Yield what was told, at least once for each day. What came before a failure is a part, too."""
        number = 0
        part = _Part(Spool(scratch / f"spool-{number}"))
        try:
            for told in self.ask.tell(asked):
                if isinstance(told, Diagnostic):
                    self.report.diagnostics.append(told)
                elif isinstance(told, Covered):
                    part.cover(told)
                    if told.until == _midnight(told.until) or told.until >= asked.until or not told.complete:
                        yield part
                        number += 1
                        part = _Part(Spool(scratch / f"spool-{number}"))
                elif isinstance(told, Block):
                    part.spool.take(told)
                else:
                    part.spool.add(told)
        except GpuledgerError:
            part.spool.rewind()
            if part.covered:
                yield part
            raise
        part.spool.rewind()
        if part.covered:
            yield part

    def _store(self, part: "_Part", scratch: Path) -> None:
        start, end = part.covered[0][0], part.covered[-1][1]
        days = [day.date() for day, _ in tellers.days(start, end)]
        if not part.complete and any(day in self.held for day in days):
            self.report.diagnostics.append(
                Diagnostic(
                    "telemetry-kept", "warning", f"{self.name} {days[0]}", "the answer isn't complete: what was stored before stays",
                    "It is asked again next time.",
                )
            )  # fmt: skip
            return
        scratch.mkdir(parents=True, exist_ok=True)
        keeper = _Keeper(self.ledger, slug(self.name), days, (start, end), ended=self.ask.memory == "present")
        moment = self.now()
        delivery = f"{slug(self.section.type)}-{moment:%Y%m%dT%H%M%SZ}"
        notes = {day.isoformat(): self._note(part, day) for day in days}
        stored = store_spool(
            self.ledger.store, slug(self.name), part.spool, days, scratch, delivery_id=delivery,
            order=int(moment.timestamp() * 1_000_000), notes=notes, beside=keeper.add,
        )  # fmt: skip
        self.report.diagnostics += stored.diagnostics
        for day in days:
            action: Action = "replaced" if day in self.held else "loaded"
            rows = stored.of(day.isoformat())
            self.report.rows.append(
                Ingested(slug(self.name), day.isoformat(), delivery, rows, None, None, None, action)
            )

    def _note(self, part: "_Part", day: date) -> dict[str, Any]:
        """Say what the day's unit covers now."""
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        end = begin + timedelta(days=1)
        before = self.held.get(day, Held((), complete=True))
        gone = (part.covered[0][0], part.covered[-1][1])
        told = [
            (max(one[0], begin), min(one[1], end)) for one in part.covered if one[0] < end and one[1] > begin
        ]
        covered = joined([*before.covered, *told])
        gaps = [one for one in before.gaps if not (gone[0] <= one[0] and one[1] <= gone[1])]
        gaps += [one for one in part.gaps if begin <= one[0] < end]
        return {
            "type": self.section.type,
            "covered": _texts(covered),
            "complete": part.complete and covered == [(begin, end)] and self._settled(end),
            "gaps": _texts(joined(gaps)),
        }

    def _settled(self, end: datetime) -> bool:
        return self.ask.memory == "past" or self.now() >= end + _SETTLING


@contextmanager
def _many_objects() -> Iterator[None]:
    """Look for garbage in cycles less often: an answer is millions of objects without any, and half the time goes there."""
    before = gc.get_threshold()
    gc.set_threshold(1_000_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _texts(intervals: Sequence[Interval]) -> list[list[str]]:
    return [[start.isoformat(), end.isoformat()] for start, end in intervals]


@dataclass(slots=True)
class _Part:
    """What a source told up to a day's end, or up to where it stopped."""

    spool: Spool
    covered: list[Interval] = field(default_factory=list)
    gaps: list[Interval] = field(default_factory=list)
    complete: bool = True

    def cover(self, told: Covered) -> None:
        self.spool.mark()
        self.covered = joined([*self.covered, (told.since, told.until)])
        self.gaps += told.gaps
        self.complete = self.complete and told.complete


@dataclass(slots=True)
class _Keeper:
    """Adds to the new rows what the days' units hold and the new answer doesn't speak of."""

    ledger: Ledger
    source: str
    days: Sequence[date]
    window: Interval
    ended: bool

    def add(self, con: duckdb.Connection, checked: Checked) -> None:
        """Make `good_<table>` the new rows and those that stay."""
        table = checked.table
        periods = [day.isoformat() for day in self.days]
        files = self.ledger.store.readable(table, None, self.ledger.cache, periods, self.source)
        if not files:
            return
        new = duckdb.columns(con, f"good_{table}")
        con.execute(f"ALTER VIEW good_{table} RENAME TO new_{table}")
        names = ", ".join(quoted(name) for name in new)
        con.execute(f"CREATE OR REPLACE VIEW old_{table} AS SELECT {names} FROM {scan(table, files)}")
        # A job is told whole by any answer; in the units of several days it is the same, so once will do.
        kept = self._jobs() if table == "job" else self._intervals(table)
        con.execute(
            f"CREATE OR REPLACE VIEW good_{table} AS SELECT {names} FROM new_{table} UNION ALL {kept}"
        )
        record_files.measure(con, checked)

    def _jobs(self) -> str:
        return f"SELECT DISTINCT ON (job_id) * FROM old_job AS o WHERE {_unmentioned('job')}"

    def _intervals(self, table: str) -> str:
        start, end = (f"TIMESTAMPTZ '{moment.isoformat()}'" for moment in self.window)
        if table not in HOLDING_TABLES:  # what came of a time is told whole or not at all
            return f'SELECT * FROM old_{table} WHERE "end" <= {start} OR "end" > {end}'
        gone = f"NOT ({_unmentioned(table)})" if self.ended else "true"
        whole = f"SELECT * FROM old_{table} AS o WHERE NOT ({gone}) UNION ALL" if self.ended else ""
        return f"""{whole}
            SELECT * REPLACE (least("end", {start}) AS "end") FROM old_{table} AS o WHERE "start" < {start} AND {gone}
            UNION ALL
            SELECT * REPLACE (greatest("start", {end}) AS "start") FROM old_{table} AS o WHERE "end" > {end} AND {gone}"""


def _unmentioned(table: str) -> str:
    same = " AND ".join(f"n.{name} IS NOT DISTINCT FROM o.{name}" for name in _KEYS[table])
    return f"NOT EXISTS (FROM new_{table} AS n WHERE {same})"
