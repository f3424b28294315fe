"""Estimated cost of what runs: telemetry times prices, written as FOCUS rows until the bill replaces them.

A unit of `estimated_cost` is one UTC day, named `metered-<day>`, replaced as a whole. A day is metered again when its
telemetry changed or prices were entered; the rates learnt from bills only move days that are still open. So the
estimate of a past day stays what was known at its time, and comparing it with the bill is honest.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from gpuledger.config import PricesSection
from gpuledger.core import metering as core
from gpuledger.core import tags
from gpuledger.core.metering import BilledDay, CustomPrice, PriceBook
from gpuledger.core.telling import Kept
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import ConflictError, GpuledgerError, UsageError
from gpuledger.focus.schema import LEDGER_COST_AND_USAGE, PARTITION_COLUMNS, quoted, select_list
from gpuledger.models import metering as models
from gpuledger.pipeline import enrich
from gpuledger.pipeline.ingest import scratch_folder
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.locations import clear
from gpuledger.pipeline.store import DataFile, scan
from gpuledger.prices import load_prices

TABLE: Final = "estimated_cost"
_NODES: Final = "node_interval"
_BILLS: Final = "cost_and_usage"
_DAY: Final = timedelta(days=1)
# A machine that was seen this long before the newest reading of its cluster may still run.
SEEN: Final = timedelta(minutes=2)
STALE: Final = timedelta(minutes=15)
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Day:
    """What a day was metered to. `cost` is EffectiveCost by currency; unpriced hours are in no cost."""

    day: date
    rows: int
    machines: int
    unpriced: int
    cost: dict[str, Decimal]
    written: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """What runs now, as told by the newest telemetry (`as_of`, None: there is none of today).

    `usd_per_hour` and `spent_today` are in `currency`; None where unknown or in several currencies.
    `visibility_lag_seconds` is the time from when a machine began to cost to its first priced row in the ledger, the
    longest of the `new_nodes` that this tick saw first; None without any.
    """

    time: datetime
    as_of: datetime | None
    nodes: int
    unpriced_nodes: int
    usd_per_hour: Decimal | None
    spent_today: Decimal | None
    currency: str | None
    new_nodes: int
    visibility_lag_seconds: Decimal | None


@dataclass(slots=True)
class Metered:
    """The days that were looked at, what runs now, and what was found on the way."""

    days: list[Day] = field(default_factory=list)
    tick: Tick | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)


class Meter:
    """Meters a ledger, again and again; what one round read isn't read again by the next unless it changed."""

    def __init__(self, ledger: Ledger, *, seen: timedelta = SEEN) -> None:
        self.ledger, self.seen = ledger, seen
        self._billed: tuple[object, list[BilledDay]] | None = None
        self._window = (date.max, date.min)
        self._known: set[str] | None = None
        self._kept: Kept | None = None

    @contextmanager
    def watching(self) -> Iterator[Self]:
        """Let sources that can watch do so between rounds, until the context ends."""
        self._kept = Kept()
        try:
            yield self
        finally:
            self._kept.close()
            self._kept = None

    def run(self, now: datetime | None = None, progress: Callable[[str], None] = lambda _: None) -> Metered:
        """Meter every day whose telemetry or prices changed, up to `now`, and say what runs."""
        now = (now or datetime.now(UTC)).astimezone(UTC)
        if self._known is None:
            self._known = self._priced_machines(now)
        report = Metered()
        todo = self._todo(now.date())
        self._window = (min(todo, default=now.date()), max(todo, default=now.date()))
        findings = _Findings()
        for day, (identity, same) in sorted(todo.items()):
            progress(f"metering {day}")
            self._meter(day, now, identity, report, findings, same=same)
        report.diagnostics = [*findings.diagnostics(), *report.diagnostics]
        if report.tick is None:
            report.tick = Tick(now, None, 0, 0, None, None, None, 0, None)
        return report

    def collect_and_run(self, progress: Callable[[str], None] = lambda _: None) -> Metered:
        """Read the configured telemetry first. A source that fails is a Diagnostic; what there is, is metered."""
        found = _collect(self.ledger, progress, self._kept)
        report = self.run(progress=progress)
        report.diagnostics = [*found, *report.diagnostics]
        return report

    def round(self, progress: Callable[[str], None] = lambda _: None) -> Metered:
        """Collect and meter, in a loop: a ledger out of reach is a Diagnostic of this round, and tried again by the next."""
        try:
            return self.collect_and_run(progress)
        except UsageError:
            raise
        except GpuledgerError as error:
            where = error.where or self.ledger.location
            return Metered(
                diagnostics=[Diagnostic("meter-failed", "error", where, error.message, error.hint or "")]
            )

    def _todo(self, today: date) -> dict[date, tuple[str, bool]]:
        """Days to meter: their new delivery id, and whether the ledger holds that already.

        The id has two parts: telemetry and prices, which any day depends on, and what moves open days only.
        """
        held = self.ledger.store.units(TABLE)
        found: dict[date, tuple[str, bool]] = {}
        for day, inputs in self._inputs().items():
            unit = held.get((source_of(day), f"{day:%Y-%m}"))
            lasting = _hash(
                repr(inputs), repr(self.ledger.config.prices), repr(self.ledger.config.tags), _facts()
            )
            if day > today or (day < today - _DAY and unit and unit.delivery_id.startswith(lasting)):
                continue
            orders = [self.ledger.store.order(_NODES, source, day.isoformat()) for source, _, _ in inputs]
            identity = f"{lasting}-{_hash(repr(orders), repr(self._bill_version()))}"
            same = unit is not None and unit.delivery_id == identity
            if day == today or not same:
                found[day] = (identity, same)
        return found

    def _inputs(self) -> dict[date, list[tuple[str, str, int]]]:
        """Days with telemetry of machines, and the units that hold it."""
        found: dict[date, list[tuple[str, str, int]]] = {}
        for (source, period), unit in sorted(self.ledger.store.units(_NODES).items()):
            found.setdefault(date.fromisoformat(period), []).append((source, unit.delivery_id, unit.rows))
        return found

    def _bill_version(self) -> int | None:
        table = self.ledger.store.table(_BILLS)
        return None if table is None else table.version()

    def _meter(
        self, day: date, now: datetime, identity: str, report: Metered, findings: "_Findings", *, same: bool
    ) -> None:
        scratch = scratch_folder(self.ledger.store)
        con = duckdb.connect(spill=scratch / "spill", memory_limit=self.ledger.config.ledger.memory_limit)
        try:
            written = self._rows(con, day, now)
            if not same:
                self._write(con, day, identity, written, scratch)
            report.days.append(_summary(con, day, written=not same))
            findings.look(con, day)
            if day == now.date():
                self._tick(con, now, report)
        except ConflictError as error:
            report.diagnostics.append(
                Diagnostic("metered-elsewhere", "warning", f"{TABLE} {day}", error.message, "Let one meter run per ledger.")
            )  # fmt: skip
        finally:
            con.close()
            clear(scratch)

    def _rows(self, con: duckdb.Connection, day: date, now: datetime) -> Collection[str]:
        """Create the table `rows` of a day's estimates; return the columns that say something."""
        start = _start(day)
        end = max(start, min(start + _DAY, now))
        self._node_view(con, day)
        models.load(con)
        models.machines(con, "nodes", start, end)
        models.prices(con, self._book(day), start, end)
        query = models.estimate()
        given = set(duckdb.columns(con, f"({query})")) - {"_rate"}
        con.execute(f"CREATE OR REPLACE TABLE bare AS {query}")
        aliases = enrich.known_aliases(None, self.ledger.config.tags)
        canonical = tags.tag_expressions(aliases.resolve(tags.tag_keys(con, "bare", ("Tags",))), ("Tags",))
        expressions = {name: quoted(name) for name in given} | canonical
        columns = select_list(LEDGER_COST_AND_USAGE, expressions)
        con.execute(f"CREATE OR REPLACE TABLE rows AS SELECT {columns}, _rate FROM bare")
        return given | set(canonical)

    def _node_view(self, con: duckdb.Connection, day: date) -> None:
        found = self.ledger.store.readable(_NODES, None, self.ledger.cache, [day.isoformat()])
        con.execute(f"CREATE OR REPLACE VIEW nodes AS SELECT * FROM {scan(_NODES, found, hive=True)}")

    def _book(self, day: date) -> PriceBook:
        section = self.ledger.config.prices
        learnt = core.learn(self._bills(), day, section.learn_days)
        return PriceBook(custom_prices(section), learnt, section.prefer_custom)

    def _bills(self) -> list[BilledDay]:
        """What bills say of the days before those to be metered; read anew when a bill came."""
        learn_days, (first, last) = self.ledger.config.prices.learn_days, self._window
        version = self._bill_version()
        if version is None or not learn_days:
            return []
        since = first - learn_days * _DAY
        key = (version, since, last)
        if self._billed is None or self._billed[0] != key:
            months = {f"{since + back * _DAY:%Y-%m}" for back in range((last - since).days + 1)}
            found = self.ledger.store.readable(_BILLS, None, self.ledger.cache, months)
            with duckdb.connect(memory_limit=self.ledger.config.ledger.memory_limit) as con:
                relation = f"(SELECT * FROM {scan(_BILLS, found, hive=True)})"
                days = models.billed_days(con, relation, _start(since), _start(last)) if found else []
            self._billed = (key, days)
        return self._billed[1]

    def _write(
        self, con: duckdb.Connection, day: date, identity: str, columns: Collection[str], scratch: Path
    ) -> None:
        """Replace the day's unit; a day without machines is replaced by nothing."""
        source, period = source_of(day), f"{day:%Y-%m}"
        names = ", ".join(
            quoted(column.name)
            for column in LEDGER_COST_AND_USAGE
            if column.name in columns and column.name not in PARTITION_COLUMNS
        )
        path = scratch / "rows.parquet"
        count = _one(con, "SELECT count(*) FROM rows")
        store = self.ledger.store
        held = store.order(TABLE, source, period)
        if not count and held is None:
            return
        if count:
            con.execute(
                f"COPY (SELECT {names} FROM rows ORDER BY ResourceId, ChargePeriodStart) "
                f"TO {duckdb.literal(path)} ({duckdb.PARQUET})"
            )
        order = max(int(datetime.now(UTC).timestamp() * 1_000_000), (held or 0) + 1)
        note = {"type": "metered", "day": day.isoformat(), "rows": count}
        data = [DataFile(path, count, period)] if count else []
        store.replace(TABLE, source, identity, data, orders={period: order}, notes={period: note})

    def _tick(self, con: duckdb.Connection, now: datetime, report: Metered) -> None:
        """Say what runs: machines that the newest reading of their cluster still saw."""
        con.execute(
            """CREATE OR REPLACE TEMP TABLE alive AS
               SELECT * FROM (
                   SELECT *, max(ChargePeriodEnd) OVER (PARTITION BY x_Native['cluster']) AS _newest,
                          row_number() OVER (PARTITION BY lower(ResourceId) ORDER BY ChargePeriodStart DESC) AS _last
                   FROM rows
               ) WHERE _last = 1 AND ChargePeriodEnd >= _newest - to_microseconds(?)""",
            [self.seen // timedelta(microseconds=1)],
        )
        nodes, unpriced, as_of = con.execute(
            "SELECT count(*), count(*) FILTER (EffectiveCost IS NULL), max(_newest) FROM alive"
        ).fetchone() or (0, 0, None)
        rates = _by_currency(con, "SELECT BillingCurrency, sum(_rate) FROM alive")
        spent = _by_currency(con, "SELECT BillingCurrency, sum(EffectiveCost) FROM rows")
        fresh, lag = self._first_seen(con)
        currency = next(iter(spent)) if len(spent) == 1 else None
        if as_of is not None and now - as_of > STALE:
            report.diagnostics.append(
                Diagnostic("telemetry-stale", "warning", "node_interval", f"the newest telemetry is of {as_of:%Y-%m-%dT%H:%M:%SZ}",
                           "What runs now is not known; check the telemetry sources with `gpuledger doctor`.")
            )  # fmt: skip
        if len(spent) > 1:
            report.diagnostics.append(
                Diagnostic("several-currencies", "warning", TABLE, f"machines are priced in {', '.join(sorted(spent))}",
                           "Amounts of several currencies are never added up: ask `gpuledger costs --group-by BillingCurrency`.")
            )  # fmt: skip
        one = currency or ""
        report.tick = Tick(
            now,
            as_of and as_of.astimezone(UTC),
            nodes,
            unpriced,
            rates.get(one),
            spent.get(one),
            currency,
            len(fresh),
            lag,
        )

    def _first_seen(self, con: duckdb.Connection) -> tuple[set[str], Decimal | None]:
        """Machines that no estimate told before, and how long after its start the last of them is in the ledger."""
        known = self._known if self._known is not None else set()
        starts = {
            machine: start
            for machine, start in con.execute(
                "SELECT lower(ResourceId), min(ChargePeriodStart) FROM rows WHERE EffectiveCost IS NOT NULL GROUP BY ALL"
            ).fetchall()
            if machine not in known
        }
        self._known = known | set(starts)
        if not starts:
            return set(), None
        seconds = (datetime.now(UTC) - min(starts.values())) // timedelta(milliseconds=1)
        return set(starts), Decimal(seconds).scaleb(-3)

    def _priced_machines(self, now: datetime) -> set[str]:
        """Machines with a priced estimate of today or yesterday in the ledger."""
        today = now.astimezone(UTC).date()
        found = [
            file
            for day in (today, today - _DAY)
            for file in self.ledger.store.readable(
                TABLE, None, self.ledger.cache, [f"{day:%Y-%m}"], source_of(day)
            )
        ]
        if not found:
            return set()
        with duckdb.connect() as con:
            rows = con.execute(
                f"SELECT DISTINCT lower(ResourceId) FROM {scan(TABLE, found)} WHERE EffectiveCost IS NOT NULL"
            )
            return {row[0] for row in rows.fetchall()}


def _collect(ledger: Ledger, progress: Callable[[str], None], kept: Kept | None) -> list[Diagnostic]:
    """Read the telemetry sources of the configuration; return what was wrong."""
    from gpuledger.pipeline.collect import collect

    report = collect(ledger, list(ledger.config.telemetry), progress=progress, kept=kept)
    return list(report.diagnostics)


def source_of(day: date) -> str:
    """Name of the unit of `estimated_cost` that holds a day."""
    return f"metered-{day}"


def custom_prices(section: PricesSection) -> tuple[CustomPrice, ...]:
    """Return the prices of the configuration."""
    return tuple(
        CustomPrice(
            price.usd_per_hour,
            price.instance_type,
            price.gpu_model,
            price.region,
            price.spot,
            price.valid_from,
        )
        for price in section.custom
    )


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _hash(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:12]


@cache
def _facts() -> str:
    """Change with what is built in: our list prices, and the way we meter."""
    return _hash(repr(load_prices()), "1")


def _one(con: duckdb.Connection, query: str) -> int:
    row = con.execute(query).fetchone()
    return int(row[0]) if row else 0


def _by_currency(con: duckdb.Connection, query: str) -> dict[str, Decimal]:
    """Run a query of currency and amount, grouped; amounts that nobody knows are left out."""
    rows = con.execute(f"{query} GROUP BY BillingCurrency").fetchall()
    return {currency: amount for currency, amount in rows if amount is not None}


def _summary(con: duckdb.Connection, day: date, *, written: bool) -> Day:
    rows, machines, unpriced = con.execute(
        """SELECT count(*), count(DISTINCT lower(ResourceId)),
                  count(DISTINCT lower(ResourceId)) FILTER (EffectiveCost IS NULL) FROM rows"""
    ).fetchone() or (0, 0, 0)
    cost = _by_currency(con, "SELECT BillingCurrency, sum(EffectiveCost) FROM rows")
    return Day(day, rows, machines, unpriced, cost, written)


@dataclass(slots=True)
class _Findings:
    """What was wrong in any of the days, told once for all of them."""

    unpriced: dict[str, list[tuple[date, int, Decimal]]] = field(default_factory=dict)
    nameless: list[tuple[date, int]] = field(default_factory=list)

    def look(self, con: duckdb.Connection, day: date) -> None:
        """Find machines without a price, by kind, and machines that no bill can be matched with."""
        unpriced = con.execute(
            """SELECT regexp_replace(x_DataIssues, '^BilledCost: unpriced, ', ''), count(DISTINCT lower(ResourceId)),
                      sum(ConsumedQuantity)
               FROM rows WHERE EffectiveCost IS NULL GROUP BY ALL"""
        ).fetchall()
        for why, machines, hours in unpriced:
            self.unpriced.setdefault(why, []).append((day, machines, hours))
        nameless = _one(
            con,
            "SELECT count(DISTINCT ResourceId) FROM rows WHERE ResourceId = x_Native['cluster'] || '/' || x_Native['node']",
        )
        if nameless:
            self.nameless.append((day, nameless))

    def diagnostics(self) -> list[Diagnostic]:
        """Return them, most hours first."""
        found = []
        ranked = sorted(self.unpriced.items(), key=lambda item: (-sum(told[2] for told in item[1]), item[0]))
        for why, days in ranked[:_SHOWN]:
            machines, hours = max(told[1] for told in days), sum((told[2] for told in days), Decimal(0))
            found.append(
                Diagnostic(
                    "node-unpriced", "warning", _days([told[0] for told in days]),
                    f"{why}: {machines} machine(s), {hours.normalize():f} hours in no sum",
                    "Enter a price as [[prices.custom]] in gpuledger.toml, or ingest a bill that has one.",
                )
            )  # fmt: skip
        if self.nameless:
            found.append(
                Diagnostic(
                    "node-without-resource-id", "info", _days([day for day, _ in self.nameless]),
                    f"{max(count for _, count in self.nameless)} machine(s) have no id that a bill would know",
                    "Their bill replaces the estimates only if it ends in the node's name; else let telemetry tell the instance id.",
                )
            )  # fmt: skip
        return found


def _days(days: Sequence[date]) -> str:
    first, last = min(days), max(days)
    return f"{TABLE} {first}" if first == last else f"{TABLE} {first}..{last}"
