"""What the ledger holds of each telemetry source: how fresh it is, what its last delivery was, what is unknown."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from gpuledger.engines import duckdb
from gpuledger.pipeline.collect import held_days
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.record_files import TABLES
from gpuledger.pipeline.store import scan


@dataclass(frozen=True, slots=True)
class Health:
    """One telemetry source. `until` is the end of its last interval; `unknown` is the part of its last day without word."""

    source: str
    days: int
    rows: int
    last_day: str
    until: datetime | None
    delivery_id: str
    committed: datetime
    unknown: timedelta


def health(ledger: Ledger) -> Iterator[Health]:
    """Yield what the ledger holds of telemetry, by source."""
    days: dict[str, dict[str, int]] = {}
    newest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for table in TABLES:
        for (source, day), unit in ledger.store.units(table).items():
            counts = days.setdefault(source, {})
            counts[day] = counts.get(day, 0) + unit.rows
        for note in ledger.store.history(table):
            key = (note["source"], note["billing_period"])
            if key not in newest or note["committed"] > newest[key]["committed"]:
                newest[key] = note
    con = duckdb.connect()
    for source, counts in sorted(days.items()):
        last = max(counts)
        latest = max(
            (one for (name, _), one in newest.items() if name == source), key=lambda one: one["committed"]
        )
        held = held_days(ledger.store, source).get(date.fromisoformat(last))
        gaps = held.gaps if held is not None else ()
        yield Health(
            source, len(counts), sum(counts.values()), last, _until(con, ledger, source, last),
            latest["delivery_id"], latest["committed"], sum((end - start for start, end in gaps), timedelta(0)),
        )  # fmt: skip
    con.close()


def _until(con: duckdb.Connection, ledger: Ledger, source: str, day: str) -> datetime | None:
    ends = []
    for table in ("usage_interval", "node_interval"):
        if files := ledger.store.readable(table, None, ledger.cache, [day], source):
            ends += con.execute(f'SELECT max("end") FROM {scan(table, files)}').fetchall()
    return max((end for (end,) in ends if end is not None), default=None)
