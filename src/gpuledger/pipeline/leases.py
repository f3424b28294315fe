"""Leases: dollars reserved on a budget when a workload is admitted, settled when it ends.

Kept in SQLite, or in PostgreSQL that several replicas share. A reservation is one transaction that holds the budget's
row, so that two replicas can't give away the same dollar. Amounts are whole millionths of a dollar.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final, Literal

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from gpuledger.core.policy import Budget
from gpuledger.core.policy.periods import period_of
from gpuledger.errors import GpuledgerError

State = Literal["reserved", "running", "settled", "expired"]
DEFAULT_URL: Final = "sqlite:///gpuledger-leases.sqlite"
_MICRO: Final = Decimal(10) ** 6
_TABLES: Final = sql.MetaData()
_PERIODS: Final = sql.Table(
    "budget_period",
    _TABLES,
    sql.Column("budget", sql.String(253), primary_key=True),
    sql.Column("period_start", sql.String(10), primary_key=True),
)
_LEASES: Final = sql.Table(
    "lease",
    _TABLES,
    sql.Column("key", sql.String(253), primary_key=True),
    sql.Column("budget", sql.String(253), nullable=False),
    sql.Column("period_start", sql.String(10), nullable=False),
    sql.Column("reserved_micro_usd", sql.BigInteger, nullable=False),
    sql.Column("settled_micro_usd", sql.BigInteger),
    sql.Column("state", sql.String(10), nullable=False),
    sql.Column("holder", sql.String(600), nullable=False),
    sql.Column("created", sql.String(32), nullable=False),
    sql.Column("expires", sql.String(32), nullable=False),
    sql.Index("lease_by_budget", "budget", "period_start"),
)
_HELD: Final = ("reserved", "running")


class LeaseStoreError(GpuledgerError):
    """The store of leases can't be reached or written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A reservation: `key` is the workload's uid, `holder` what a person calls it."""

    key: str
    budget: str
    period_start: str
    reserved_usd: Decimal
    settled_usd: Decimal | None
    state: State
    holder: str
    created: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class Reservation:
    """The answer to a reservation: whether it was granted, and what the budget had left before it."""

    granted: bool
    left_usd: Decimal


class Leases:
    """The store. Methods are for threads; each is one transaction. They raise LeaseStoreError."""

    def __init__(self, url: str = DEFAULT_URL, *, grace: timedelta = timedelta(hours=1)) -> None:
        self._grace = grace
        self._where = sql.make_url(url).render_as_string(hide_password=True)
        try:
            self._engine = _engine(url)
            with self._engine.begin() as con:
                _TABLES.create_all(con)
        except (SQLAlchemyError, OSError, ImportError) as error:
            raise self._failure(error) from error

    def reserve(
        self, key: str, holder: str, budget: Budget, amount_usd: Decimal, now: datetime
    ) -> Reservation:
        """Reserve dollars, if the budget has them left. Asking again with the same key reserves nothing more."""
        period = _period(budget, now)
        with self._transaction() as con:
            self._lock(con, budget.name, period)
            self._expire(con, now)
            left = _micro(budget.amount_usd) - self._used(con, budget.name, period)
            known = con.execute(sql.select(_LEASES.c.state).where(_LEASES.c.key == key)).scalar()
            if known in _HELD:
                return Reservation(granted=True, left_usd=_usd(left))
            amount = _micro(amount_usd)
            if amount > left:
                return Reservation(granted=False, left_usd=_usd(left))
            con.execute(sql.delete(_LEASES).where(_LEASES.c.key == key))
            con.execute(
                sql.insert(_LEASES).values(
                    key=key,
                    budget=budget.name,
                    period_start=period,
                    reserved_micro_usd=amount,
                    state="reserved",
                    holder=holder,
                    created=_moment(now),
                    expires=_moment(now + self._grace),
                )
            )
            return Reservation(granted=True, left_usd=_usd(left))

    def confirm(self, key: str) -> bool:
        """Note that the workload came into being: its lease doesn't expire any more. False where there is none."""
        with self._transaction() as con:
            done = con.execute(
                sql.update(_LEASES)
                .where(_LEASES.c.key == key, _LEASES.c.state.in_(("reserved", "expired")))
                .values(state="running")
            )
            return bool(done.rowcount)

    def settle(self, key: str, cost_usd: Decimal) -> bool:
        """Replace a reservation by what the workload cost in the end. False where there is no such lease."""
        with self._transaction() as con:
            done = con.execute(
                sql.update(_LEASES)
                .where(_LEASES.c.key == key)
                .values(state="settled", settled_micro_usd=_micro(cost_usd))
            )
            return bool(done.rowcount)

    def left(self, budget: Budget, now: datetime) -> Decimal:
        """Return what a budget has left in its current period."""
        with self._transaction() as con:
            self._expire(con, now)
            return _usd(_micro(budget.amount_usd) - self._used(con, budget.name, _period(budget, now)))

    def all(self, now: datetime) -> list[Lease]:
        """Return all leases, oldest first."""
        with self._transaction() as con:
            self._expire(con, now)
            rows = con.execute(sql.select(_LEASES).order_by(_LEASES.c.created, _LEASES.c.key)).mappings()
            return [_lease(row) for row in rows]

    def close(self) -> None:
        """Give up connections."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sql.Connection]:
        try:
            with self._engine.begin() as con:
                yield con
        except (SQLAlchemyError, OSError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> LeaseStoreError:
        told = str(getattr(error, "orig", None) or error).splitlines()[0][:300]
        return LeaseStoreError(
            f"leases can't be read or written: {told}",
            where=self._where,
            hint="Is the address right, and the database up? PostgreSQL needs `pip install gpuledger[postgres]`.",
        )

    def _lock(self, con: sql.Connection, budget: str, period: str) -> None:
        """Hold the budget's row until the transaction ends; SQLite's transactions hold the whole file."""
        values = {"budget": budget, "period_start": period}
        if con.dialect.name == "sqlite":
            con.execute(sql.insert(_PERIODS).prefix_with("OR IGNORE").values(values))
            return
        from sqlalchemy.dialects.postgresql import insert

        con.execute(insert(_PERIODS).values(values).on_conflict_do_nothing())
        con.execute(
            sql.select(_PERIODS)
            .where(_PERIODS.c.budget == budget, _PERIODS.c.period_start == period)
            .with_for_update()
        )

    @staticmethod
    def _expire(con: sql.Connection, now: datetime) -> None:
        con.execute(
            sql.update(_LEASES)
            .where(_LEASES.c.state == "reserved", _LEASES.c.expires <= _moment(now))
            .values(state="expired")
        )

    @staticmethod
    def _used(con: sql.Connection, budget: str, period: str) -> int:
        amount = sql.func.coalesce(_LEASES.c.settled_micro_usd, _LEASES.c.reserved_micro_usd)
        found = con.execute(
            sql.select(sql.func.sum(amount)).where(
                _LEASES.c.budget == budget, _LEASES.c.period_start == period, _LEASES.c.state != "expired"
            )
        ).scalar()
        return int(found or 0)


def _engine(url: str) -> sql.Engine:
    address = sql.make_url(url)
    if address.drivername == "postgresql":
        address = address.set(drivername="postgresql+pg8000")
    if address.get_backend_name() != "sqlite":
        return sql.create_engine(address, pool_pre_ping=True, pool_timeout=2, connect_args={"timeout": 2})
    engine = sql.create_engine(address, connect_args={"timeout": 2})

    @sql.event.listens_for(engine, "connect")
    def _connected(connection: Any, _: object) -> None:  # noqa: ANN401 - SQLite's own connection
        connection.isolation_level = None  # so that the line below begins transactions, not the driver
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    @sql.event.listens_for(engine, "begin")
    def _begin(connection: sql.Connection) -> None:
        # A writer from the beginning: two that both read first could both find the same dollar.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _lease(row: Any) -> Lease:  # noqa: ANN401 - SQLAlchemy's row
    settled = row["settled_micro_usd"]
    return Lease(
        row["key"],
        row["budget"],
        row["period_start"],
        _usd(row["reserved_micro_usd"]),
        None if settled is None else _usd(settled),
        row["state"],
        row["holder"],
        datetime.fromisoformat(row["created"]),
        datetime.fromisoformat(row["expires"]),
    )


def _period(budget: Budget, now: datetime) -> str:
    return period_of(budget.period, now)[0].date().isoformat()


def _moment(moment: datetime) -> str:
    """Write a time so that texts sort as times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _micro(amount: Decimal) -> int:
    return int((amount * _MICRO).to_integral_value(ROUND_CEILING))


def _usd(micro: int) -> Decimal:
    return Decimal(micro).scaleb(-6)
