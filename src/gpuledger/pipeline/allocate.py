"""Charges of machines and volumes split among the jobs that held them, and overhead shared: the table `allocated_cost`, unit by unit.

A unit is allocated anew when its bill, the telemetry of its days or the settings changed. Its parts are written in one
transaction; nothing of them is seen before. Rows keep all that their origin says, but for costs, quantities and, where
the job has them, cost centre, team, owner, project, environment, model and experiment.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gpuledger.config import AllocationSection
from gpuledger.core.allocation import UnitPrice
from gpuledger.core.contracts import Connection
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.focus.schema import ALLOCATED_COST, LEDGER_COST_AND_USAGE, MONEY, PARTITION_COLUMNS, quoted
from gpuledger.models import machines
from gpuledger.models.allocation import (
    DEFAULT,
    Inputs,
    allocate_all,
    focus_rows,
    list_price_ratios,
    share_idle,
    write_prices,
)
from gpuledger.models.usage import usage_current
from gpuledger.pipeline import allocation_state, overhead, views
from gpuledger.pipeline.allocation_state import UnitKey
from gpuledger.pipeline.built import Built
from gpuledger.pipeline.ingest import scratch_folder
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.locations import clear
from gpuledger.pipeline.store import DataFile, scan

# The job's dimension, and the column of a charge that says the same.
OWNED: Final = {
    "cost_center": "x_CostCenter", "team": "x_Team", "owner": "x_Owner", "project": "x_Project",
    "environment": "x_Environment", "model": "x_Model", "experiment": "x_Experiment",
}  # fmt: skip
_COLUMNS: Final = [column.name for column in ALLOCATED_COST if column.name not in PARTITION_COLUMNS]
_COSTS: Final = ("x_GpuCost", "x_CpuCost", "x_MemoryCost")
_OWNED: Final = ", ".join(
    f"coalesce(j.{quoted(name)}, f.{column}) AS {column}" for name, column in OWNED.items()
)


@dataclass(slots=True)
class _Split:
    """What came of one unit."""

    files: list[DataFile]
    charges: int
    overhead: int
    diagnostics: list[Diagnostic]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def detail(self) -> str:
        machine = f"{self.charges} charges of machines split among those who held them"
        if not self.overhead:
            return machine
        return f"{machine + ', ' if self.charges else ''}{self.overhead} charges of overhead shared as configured"


def allocate(
    ledger: Ledger, progress: Callable[[str], None] = lambda _: None
) -> Iterator[Built | Diagnostic]:
    """Allocate every unit whose bill, telemetry or settings changed since; yield what was written and found."""
    wanted = allocation_state.fingerprints(ledger.store, ledger.config.allocation)
    held = allocation_state.allocated(ledger.store)
    deliveries = {
        key: unit.delivery_id
        for table in allocation_state.CHARGES
        for key, unit in ledger.store.units(table).items()
    }
    for key in allocation_state.changed(wanted, held):
        source, period = key
        progress(f"allocating {source} {period}")
        folder = scratch_folder(ledger.store)
        try:
            made = _unit(ledger, key, folder) if key in wanted else _Split([], 0, 0, [])
            note = {"fingerprint": wanted.get(key, ""), "charges": made.charges, "rows": made.rows}
            ledger.store.replace(
                "allocated_cost",
                source,
                deliveries.get(key, "none"),
                made.files,
                orders={period: int(datetime.now(UTC).timestamp() * 1_000_000)},
                notes={period: note},
            )
        finally:
            clear(folder)
        yield from made.diagnostics
        if made.charges or made.overhead:
            yield Built(f"allocated_cost {source} {period}", "model", made.rows, "ok", made.detail)


def _unit(ledger: Ledger, key: UnitKey, folder: Path) -> _Split:
    """Split the charges of one unit into files below `folder`."""
    settings = ledger.config.allocation
    con = ledger.connect()
    try:
        _inputs(con, ledger.files(), key)
        if not machines.find(con) and not settings.overhead:
            return _Split([], 0, 0, [])
        scratch = folder / "charges.parquet"
        query = f"SELECT * FROM ({machines.charges()}) ORDER BY ChargePeriodStart"
        con.execute(f"COPY ({query}) TO {duckdb.literal(scratch)} ({duckdb.PARQUET})")
        con.execute(f"CREATE VIEW machine_charge AS FROM read_parquet({duckdb.literal(scratch)})")
        row = con.execute("SELECT count(*) FROM machine_charge").fetchone()
        charges = int(row[0]) if row else 0
        writer = _Writer(folder, settings, key[1], _told(con, "machine_charge"))
        found = _machines(con, settings, writer) if charges else []
        files = [str(file.path) for file in writer.files]
        parts = scan("allocated_cost", files) if files else overhead.NO_PARTS
        shared, untold = overhead.share(con, settings.overhead, parts, writer.write_overhead)
        return _Split(writer.files, charges, shared, [*found, *untold])
    finally:
        con.close()


def _machines(con: duckdb.Connection, settings: AllocationSection, writer: "_Writer") -> list[Diagnostic]:
    """Split the charges of machines and volumes."""
    node, usage = machines.relations(con)
    prices = write_prices(con, _prices(con, node, settings))
    inputs = Inputs("machine_charge", usage, node, prices, "job_owner")
    found = allocate_all(con, inputs, writer.write, by_resource=True)
    return [*_claimed_twice(con), *found]


def _inputs(con: duckdb.Connection, files: views.Files, key: UnitKey) -> None:
    """Create what `gpuledger.models.machines` reads, for one unit."""
    source, period = key
    days = {views.unit_of(file)[1] for file in files["node_interval"]}
    days |= {views.unit_of(file)[1] for table in ("job", "usage_interval") for file in files[table]}
    covered = [day for day in sorted(days) if allocation_state.covers(source, period, day)]
    within = f"x_BillingPeriod BETWEEN {duckdb.literal(covered[0])} AND {duckdb.literal(covered[-1])}"
    con.execute(
        f"CREATE VIEW charge AS SELECT * FROM {views.keyed(con, files)} "
        f"WHERE x_Source = {duckdb.literal(source)} AND x_BillingPeriod = {duckdb.literal(period)}"
    )
    con.execute(f"CREATE VIEW seen_node AS SELECT * FROM node_interval WHERE {within}")
    told = usage_current(con, f"(SELECT * FROM usage_interval WHERE {within})")
    con.execute(f"CREATE VIEW held_usage AS {told}")
    known = ", ".join(f"{{'key': '{name}', 'value': {quoted(name)}}}" for name in OWNED)
    con.execute(
        f"CREATE TABLE job_owner AS SELECT job_id, name, {', '.join(quoted(name) for name in OWNED)}, "
        f"map_from_entries(list_filter([{known}], lambda tag: tag.value IS NOT NULL)) AS tags "
        f"FROM ({views.latest_jobs(f'(SELECT * FROM job WHERE {within})')})"
    )


def _prices(con: duckdb.Connection, node: str, settings: AllocationSection) -> list[UnitPrice]:
    if settings.gpu is not None:
        return [UnitPrice(gpu=settings.gpu, cpu=settings.cpu, memory=settings.memory)]
    return [DEFAULT, *list_price_ratios(con, node)]


def _told(con: Connection, origin: str) -> list[str]:
    """Columns that some row of the origin has a value in: the others are left out of the files."""
    ours = {column.name for column in ALLOCATED_COST[len(LEDGER_COST_AND_USAGE) :]} | {
        *OWNED.values(),
        "x_Job",
    }
    ours |= {name for name in _COLUMNS if name.startswith("Allocated")} | {"x_OriginChargeId"}
    columns = [name for name in _COLUMNS if name not in ours]
    counts = con.execute(
        f"SELECT {', '.join(f'count({quoted(name)})' for name in columns)} FROM {origin}"
    ).fetchall()[0]
    empty = {name for name, count in zip(columns, counts, strict=True) if not count}
    return [name for name in _COLUMNS if name not in empty]


def _claimed_twice(con: duckdb.Connection) -> list[Diagnostic]:
    rows = con.execute(
        "SELECT count(*), min(ResourceId), arg_min(cluster, ResourceId) FROM machine WHERE clusters > 1"
    ).fetchall()
    return [
        Diagnostic(
            "machine-in-two-clusters", "warning", str(example),
            f"{count} machines are told of by several clusters; this one's cost goes to the jobs of {cluster}",
            "Does one cluster have two names in the telemetry settings?",
        )
        for count, example, cluster in rows
        if count
    ]  # fmt: skip


class _Writer:
    """Writes the batches of one unit, each as a file."""

    def __init__(self, folder: Path, settings: AllocationSection, period: str, columns: list[str]) -> None:
        self.files: list[DataFile] = []
        self._folder = folder
        self._settings = settings
        self._period = period
        self._columns = columns

    def write(self, con: Connection) -> None:
        """Complete the rows of the table `allocated` and write them."""
        if self._settings.idle != "none":
            self._share_idle(con)
        rows = f"""
            SELECT f.* REPLACE (
                {_OWNED},
                coalesce(j.name, f.x_Job) AS x_Job,
                CASE WHEN f.kind = 'machine' THEN f.x_Node END AS x_Node,
                CASE WHEN f.kind = 'volume' THEN '{machines.VOLUME_METHOD}' ELSE f.AllocatedMethodId END AS AllocatedMethodId,
                {", ".join(f"CASE WHEN f.kind = 'machine' THEN f.{name} END AS {name}" for name in _COSTS)}
            )
            FROM ({focus_rows(con, "machine_charge", "charge_id")}) AS f
            LEFT JOIN job_owner AS j ON j.job_id = f.x_JobId"""
        self._save(con, rows, self._columns)

    def write_overhead(self, con: Connection) -> None:
        """Complete the rows of the table `allocated`, of charges that `overhead_charge` has, and write them."""
        rows = f"""
            SELECT f.* REPLACE (
                {_OWNED},
                coalesce(j.name, f.x_Job) AS x_Job,
                coalesce(j.name, f.AllocatedResourceName) AS AllocatedResourceName
            )
            FROM ({focus_rows(con, "overhead_charge", "charge_id")}) AS f
            LEFT JOIN job_owner AS j ON j.job_id = f.x_JobId"""
        # No card, core or GiB is paid for.
        told = [name for name in _told(con, "overhead_charge") if name not in _COSTS]
        self._save(con, rows, told)

    def _save(self, con: Connection, rows: str, columns: list[str]) -> None:
        path = self._folder / f"{len(self.files)}.parquet"
        shown = ", ".join(quoted(name) for name in columns)
        con.execute(f"COPY (SELECT {shown} FROM ({rows})) TO {duckdb.literal(path)} ({duckdb.PARQUET})")
        written = con.execute("SELECT num_rows FROM parquet_file_metadata(?)", [str(path)]).fetchone()
        if written and written[0]:
            self.files.append(DataFile(path, int(written[0]), self._period))

    def _share_idle(self, con: Connection) -> None:
        """Share idle rows; their new holders get the parts of the idle cost in proportion, summing to them exactly."""
        con.execute(
            "CREATE OR REPLACE TEMP TABLE idle_part AS SELECT x_OriginChargeId, EffectiveCost AS whole, "
            f"{', '.join(_COSTS)} FROM allocated WHERE x_AllocationState = 'idle'"
        )
        share_idle(con, self._settings.idle, self._settings.shares)
        con.execute(f"CREATE OR REPLACE TEMP TABLE allocated AS {_PARTS_OF_IDLE}")


_PARTS_OF_IDLE: Final = f"""
    WITH shared AS (
        SELECT
            a.*, i.whole, i.x_GpuCost AS gpu, i.x_CpuCost AS cpu,
            alloc_int18(abs(i.whole)) AS n,
            alloc_int18(abs(a.EffectiveCost)) AS own,
            sum(alloc_int18(abs(a.EffectiveCost))) OVER (
                PARTITION BY a.x_OriginChargeId ORDER BY a.AllocatedResourceId NULLS FIRST ROWS UNBOUNDED PRECEDING
            ) AS upto
        FROM allocated AS a
        JOIN idle_part AS i USING (x_OriginChargeId)
        WHERE a.x_AllocationState = 'idle' AND i.whole <> 0
    ), parted AS (
        SELECT *, {{gpu}} AS g, {{cpu}} AS c FROM shared
    )
    SELECT * FROM allocated
    WHERE x_AllocationState IS DISTINCT FROM 'idle' OR coalesce(EffectiveCost, 0) = 0
    UNION ALL BY NAME
    SELECT
        * EXCLUDE (whole, gpu, cpu, n, own, upto, g, c)
        REPLACE (g AS x_GpuCost, c AS x_CpuCost, CAST(EffectiveCost - g - c AS {MONEY}) AS x_MemoryCost)
    FROM parted
""".format(
    **{
        part: f"CAST(sign({part}) * alloc_dec18(CAST("
        f"alloc_floor(alloc_int18(abs({part})) // n, alloc_int18(abs({part})) % n, CAST(upto AS HUGEINT), n) - "
        f"alloc_floor(alloc_int18(abs({part})) // n, alloc_int18(abs({part})) % n, CAST(upto - own AS HUGEINT), n) "
        f"AS HUGEINT)) AS {MONEY})"
        for part in ("gpu", "cpu")
    }
)
