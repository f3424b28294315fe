"""The ledger's tables on Delta Lake: atomic replacement of units, snapshots, history.

A *unit* is one billing period of one source. DuckDB writes a delivery's Parquet files; one Delta transaction adds
them and removes the files that the unit had before, so readers see the old state or the new one, and nothing in
between. The transaction carries an application id per unit with the delivery's moment as its version: Delta refuses
the second of two writers that start from the same state, even in a unit that had no files, and an older delivery
can be told from a newer one. (Delta protocol, "Transaction Identifiers".)
"""

import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gpuledger.core.usage_tables import TELEMETRY_TABLES
from gpuledger.errors import ConflictError, LedgerError
from gpuledger.focus.schema import (
    ALLOCATED_COST,
    LEDGER_CONTRACT_COMMITMENT,
    LEDGER_COST_AND_USAGE,
    PARTITION_COLUMNS,
    LedgerColumn,
    create_columns,
)
from gpuledger.pipeline.locations import is_remote, open_store

if TYPE_CHECKING:
    from arro3.core import Schema
    from deltalake import DeltaTable

TABLES: Mapping[str, tuple[LedgerColumn, ...]] = {
    "cost_and_usage": LEDGER_COST_AND_USAGE,
    "contract_commitment": LEDGER_CONTRACT_COMMITMENT,
    "estimated_cost": LEDGER_COST_AND_USAGE,
    "allocated_cost": ALLOCATED_COST,
    **TELEMETRY_TABLES,
}
_RETRIES = 20
# History and superseded files stay readable: `--as-of` and `ledger history` rest on them.
_FOREVER = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """The present state of one billing period of one source."""

    source: str
    billing_period: str
    delivery_id: str
    rows: int


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file in the making: local path, row count, and the billing period that it belongs to."""

    path: Path
    rows: int
    billing_period: str


def scan(table: str, files: Sequence[str], *, hive: bool = False, filename: bool = False) -> str:
    """SQL that reads data files of a table, in the types of its columns.

    Files hold the columns that their delivery says something about; others are null, as Delta has it. `hive` adds the
    partition columns, which the files' places tell.
    """
    names = [column for column in TABLES[table] if column.name not in PARTITION_COLUMNS]
    fields = ", ".join(
        f"'{column.name}': {{name: '{column.name}', type: '{column.sql_type}', default_value: NULL}}"
        for column in names
    )
    listed = "[" + ", ".join("'" + file.replace("'", "''") + "'" for file in files) + "]"
    options = f"hive_partitioning = {str(hive).lower()}, hive_types_autocast = false, filename = {str(filename).lower()}"
    return f"read_parquet({listed}, schema = MAP {{{fields}}}, {options})"


class Store:
    """The tables of one ledger, on a local folder or an object store."""

    def __init__(self, location: str) -> None:
        self.location = (
            location.rstrip("/") if is_remote(location) else str(Path(location).expanduser().absolute())
        )
        self.remote = is_remote(location)

    def uri(self, table: str) -> str:
        """Address of one table."""
        return f"{self.location}/{table}"

    def table(self, name: str, as_of: datetime | int | None = None) -> "DeltaTable | None":
        """Open a table at its newest state, or as it was at a moment or version; None when there is none yet."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        if not self.remote and not Path(self.uri(name), "_delta_log").is_dir():
            return None
        try:
            table = DeltaTable(self.uri(name))
            if isinstance(as_of, int) and as_of > table.version():
                raise LedgerError(
                    f"there is no version {as_of}: the newest is {table.version()}",
                    where=self.uri(name),
                    hint="`gpuledger ledger history` lists what there is.",
                )
            if as_of is not None:
                table.load_as_version(_version_at(table, as_of) if isinstance(as_of, datetime) else as_of)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise LedgerError(
                str(error).splitlines()[0],
                where=self.uri(name),
                hint="Check the address and credentials; for --as-of, `gpuledger ledger history` lists what there is.",
            ) from error
        return table

    def units(self, name: str) -> dict[tuple[str, str], Unit]:
        """Return the present units of a table, by (source, billing period)."""
        table = self.table(name)
        found: dict[tuple[str, str], Unit] = {}
        for add in _adds(table) if table is not None else ():
            key = (add["source"], add["period"])
            rows = add["rows"] + (found[key].rows if key in found else 0)
            found[key] = Unit(*key, add["delivery"], rows)
        return found

    def files(
        self,
        name: str,
        as_of: datetime | int | None = None,
        periods: Iterable[str] | None = None,
        source: str | None = None,
    ) -> list[str]:
        """Return addresses of the data files of a snapshot, optionally of some billing periods or one source only."""
        table = self.table(name, as_of)
        wanted = None if periods is None else set(periods)
        return [
            f"{self.uri(name)}/{add['path']}"
            for add in (_adds(table) if table is not None else ())
            if (wanted is None or add["period"] in wanted) and source in {None, add["source"]}
        ]

    def readable(
        self,
        name: str,
        as_of: datetime | int | None,
        cache: Path,
        periods: Iterable[str] | None = None,
        source: str | None = None,
    ) -> list[str]:
        """Return local paths of a snapshot's files. Remote files never change, so each is downloaded once."""
        files = self.files(name, as_of, periods, source)
        if not self.remote:
            return files
        import obstore

        store, prefix = open_store(self.uri(name))
        found = []
        for file in files:
            key = file.removeprefix(self.uri(name) + "/")
            target = cache / "ledger" / slug(self.uri(name)) / key
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_suffix(f".{os.getpid()}.part")
                with part.open("wb") as out:
                    for chunk in obstore.get(store, f"{prefix}/{key}" if prefix else key).stream():
                        out.write(memoryview(chunk))
                part.replace(target)
            found.append(str(target))
        return found

    def history(self, name: str = "cost_and_usage") -> list[dict[str, Any]]:
        """Return the deliveries ever committed, newest first, with what each said of itself."""
        table = self.table(name)
        if table is None:
            return []
        found = []
        for commit in table.history():
            for note in json.loads(commit.get("gpuledger", "[]")):
                moment = datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
                found.append({"version": commit["version"], "committed": moment, **note})
        return found

    def order(self, name: str, source: str, period: str) -> int | None:
        """Return the moment (µs since 1970) of the delivery that a unit holds, or None."""
        table = self.table(name)
        return None if table is None else table.transaction_version(_app_id(source, period))

    def replace(
        self,
        name: str,
        source: str,
        delivery_id: str,
        files: Sequence[DataFile],
        *,
        orders: Mapping[str, int],
        notes: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Make `files` the whole content of the units (source, period) for the periods in `orders`.

        `orders` gives each period's delivery moment in µs; `notes` is kept in the history. The files move into the
        table's folder. Raises ConflictError when a newer delivery of a unit was committed meanwhile.
        """
        from deltalake.exceptions import CommitFailedError

        table = self._open_or_create(name)
        placed = [(self._place(name, source, delivery_id, file), file) for file in files]
        for _ in range(_RETRIES):
            self._check_order(table, name, source, orders)
            try:
                self._commit(table, source, delivery_id, placed, orders, notes)
            except CommitFailedError:
                table = self._open_or_create(
                    name
                )  # another writer was first: look at its state and try again
                continue
            return
        raise ConflictError(
            f"another writer kept committing {source} first",
            where=self.uri(name),
            hint="Ingest again when it has finished.",
        )

    def _check_order(self, table: "DeltaTable", name: str, source: str, orders: Mapping[str, int]) -> None:
        for period, order in orders.items():
            held = table.transaction_version(_app_id(source, period))
            if held is not None and held > order:
                raise ConflictError(
                    f"a newer delivery of {source} {period} was committed meanwhile",
                    where=self.uri(name),
                    hint="Nothing to do.",
                )

    def _commit(
        self,
        table: "DeltaTable",
        source: str,
        delivery_id: str,
        placed: Sequence[tuple[tuple[str, int], DataFile]],
        orders: Mapping[str, int],
        notes: Mapping[str, Mapping[str, Any]],
    ) -> None:
        from deltalake import CommitProperties, Transaction
        from deltalake.transaction import AddAction, RemoveAction

        actions: list[AddAction | RemoveAction] = [
            AddAction(
                path=path,
                size=size,
                partition_values=dict(
                    zip(PARTITION_COLUMNS, (source, file.billing_period, delivery_id), strict=True)
                ),
                modification_time=int(datetime.now(UTC).timestamp() * 1000),
                data_change=True,
                stats=json.dumps({"numRecords": file.rows}),
            )
            for (path, size), file in placed
        ]
        note = [
            {"source": source, "billing_period": period, "delivery_id": delivery_id, **notes[period]}
            for period in orders
        ]
        table.create_write_transaction(
            actions,
            "overwrite",
            table.schema(),
            partition_by=list(PARTITION_COLUMNS),
            partition_filters=[("x_Source", "=", source), ("x_BillingPeriod", "in", list(orders))],
            commit_properties=CommitProperties(
                custom_metadata={"gpuledger": json.dumps(note)},
                app_transactions=[
                    Transaction(_app_id(source, period), order) for period, order in orders.items()
                ],
            ),
        )

    def _open_or_create(self, name: str) -> "DeltaTable":
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        table = self.table(name)
        if table is not None:
            return table
        try:
            if not self.remote:
                Path(self.uri(name)).mkdir(parents=True, exist_ok=True)
            return DeltaTable.create(
                self.uri(name),
                _arrow_schema(TABLES[name]),
                mode="ignore",
                partition_by=list(PARTITION_COLUMNS),
                configuration=_FOREVER,
            )
        except (DeltaError, OSError) as error:
            if (table := self.table(name)) is not None:
                return table  # another writer created it at the same moment
            raise LedgerError(
                f"can't create the ledger ({error})",
                where=self.uri(name),
                hint="Check that the place can be written to.",
            ) from error

    def _place(self, name: str, source: str, delivery_id: str, file: DataFile) -> tuple[str, int]:
        """Move or upload a file into the table's folder; nobody sees it before the commit."""
        parts = zip(PARTITION_COLUMNS, (source, file.billing_period, delivery_id), strict=True)
        key = (
            "/".join(f"{column}={quote(value, safe='')}" for column, value in parts)
            + f"/{uuid.uuid4().hex}.parquet"
        )
        size = file.path.stat().st_size
        if not self.remote:
            target = Path(self.uri(name), key)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.path.replace(target)
        else:
            import obstore

            store, prefix = open_store(self.uri(name))
            obstore.put(store, f"{prefix}/{key}" if prefix else key, file.path)
            file.path.unlink()
        return key, size


def _app_id(source: str, period: str) -> str:
    return f"gpuledger/{source}/{period}"


def _version_at(table: "DeltaTable", moment: datetime) -> datetime | int:
    """Return the version of a moment as the commits tell theirs; the moment itself where it is before all of them.

    Left to itself Delta looks at when the commit's file was written, which is a little later than `history` says.
    """
    latest = round(moment.timestamp() * 1_000_000) // 1000  # milliseconds, as commits have them
    known = [commit["version"] for commit in table.history() if commit["timestamp"] <= latest]
    return max(known, default=moment)


def _adds(table: "DeltaTable") -> list[dict[str, Any]]:
    batch = table.get_add_actions(flatten=True)
    names = {
        "path": "path",
        "rows": "num_records",
        "source": "partition.x_Source",
        "period": "partition.x_BillingPeriod",
    }
    names["delivery"] = "partition.x_DeliveryId"
    columns = {key: batch.column(name).to_pylist() for key, name in names.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _arrow_schema(columns: Sequence[LedgerColumn]) -> "Schema":
    """Let DuckDB say what Arrow types our columns have, so that the two never differ."""
    from arro3.core import RecordBatchReader

    from gpuledger.engines import duckdb

    con = duckdb.connect()
    con.execute(f"CREATE TABLE shape ({create_columns(columns)})")
    return RecordBatchReader.from_stream(con.sql("FROM shape")).schema


def slug(text: str) -> str:
    """Return a name fit for a partition value: lower case letters, digits, dot, dash, underscore."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-") or "source"
