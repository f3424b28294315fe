"""Public traces of GPU clusters as telemetry records and a bill at invented prices.

    found = traces.convert("openb", "out", usd_per_gpu_hour=Decimal(2))   # doctest: +SKIP
    found.telemetry, found.bill                                            # folders to ingest

Two traces of github.com/alibaba/clusterdata are known by their files: pods on GPU nodes (cluster-trace-gpu-v2023,
"openb") and inference services (cluster-trace-gpu-v2025, "dlrm"); CSV as published, or the same columns as Parquet.
Neither has a calendar: second 0 is declared to be a Monday, 00:00 UTC. Neither has prices: ours are synthetic. Data of
a trace is its publisher's; nothing of it is part of gpuledger.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpuledger.demo import files
from gpuledger.demo.trace_placement import CARD, Node, Pod, place
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError, UsageError

if TYPE_CHECKING:
    import duckdb

MONDAY: Final = datetime(2026, 6, 1, tzinfo=UTC)
USD_PER_GPU_HOUR: Final = Decimal("2.00")
USD_PER_CORE_HOUR: Final = Decimal("0.04")
_SUFFIXES: Final = (".parquet", ".csv", ".csv.gz")
_PARQUET: Final = "FORMAT parquet, COMPRESSION zstd"
# Files of each trace by table: what their names start with, and the columns that they can't be without.
_FILES: Final[Mapping[str, Mapping[str, tuple[tuple[str, ...], str]]]] = {
    "openb": {
        "pods": (
            ("pods", "openb_pod_list"),
            "name cpu_milli memory_mib num_gpu gpu_milli gpu_spec qos pod_phase creation_time deletion_time scheduled_time",
        ),
        "nodes": (("nodes", "openb_node_list"), "sn cpu_milli memory_mib gpu model"),
    },
    "dlrm": {
        "instances": (
            ("instances", "disaggregated_DLRM_trace"),
            "instance_sn role app_name cpu_request gpu_request memory_request creation_time scheduled_time deletion_time",
        ),
    },
}
_TEXT: Final = {"name", "gpu_spec", "qos", "pod_phase", "sn", "model", "instance_sn", "role", "app_name"}
_DECIMALS: Final = 4


@dataclass(frozen=True, slots=True)
class Converted:
    """A trace's records and bill on disk: folders `telemetry` and `bill`, rows written by table.

    `arrivals` are the moments, in seconds since 1970, at which pods of a role were made, where records can't say it: a
    job is a service there, and its pods have no moment of their own but their start.
    """

    kind: str
    telemetry: Path
    bill: Path
    rows: dict[str, int]
    diagnostics: list[Diagnostic] = field(default_factory=list)
    arrivals: dict[str, list[float]] = field(default_factory=dict)


def convert(
    path: str | Path,
    out: str | Path,
    *,
    usd_per_gpu_hour: Decimal = USD_PER_GPU_HOUR,
    usd_per_core_hour: Decimal = USD_PER_CORE_HOUR,
) -> Converted:
    """Write a trace's records and bill below `out`; `path` is its folder, or the file of its pods or instances.

    Prices are dollars with at most four decimals; a machine with cards costs its cards alone, any other its cores.
    Raises SourceError when there is no known trace, UsageError for a price that can't be one.
    """
    prices = {"--usd-per-gpu-hour": usd_per_gpu_hour, "--usd-per-core-hour": usd_per_core_hour}
    for option, price in prices.items():
        if not price.is_finite() or price < 0 or price != round(price, _DECIMALS):
            raise UsageError(
                f"not a price: {price}", where=option, hint="Dollars, with at most four decimals."
            )
    kind, found = _recognise(Path(path))
    target = Path(out) / kind
    empty(
        target,
        "Telemetry records made from a published trace, and a bill at invented prices. The trace's data is its "
        "publisher's: keep to its terms. Its seconds count from a Monday, 00:00 UTC, by decree.",
        ("telemetry", "bill"),
    )
    told: list[Diagnostic] = []
    import duckdb

    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET threads = 1")  # so that the same trace gives the same bytes
        con.execute(f"SET VARIABLE anchor = {int(MONDAY.timestamp()) * 1_000_000}::BIGINT")
        con.execute(
            "CREATE MACRO moment(s) AS make_timestamp((getvariable('anchor') + round(s * 1000000))::BIGINT)::TIMESTAMPTZ"
        )
        for table, file in found.items():
            _load(con, table, file, _FILES[kind][table][1].split())
        if kind == "openb":
            told += _place(con)
        con.execute(_sql(f"trace_{kind}"))
        rows = _write(con, kind, target, {"gpu_price": usd_per_gpu_hour, "core_price": usd_per_core_hour})
        arrivals = _arrivals(con) if kind == "dlrm" else {}
    return Converted(kind, target / "telemetry", target / "bill", rows, told, arrivals)


def _sql(name: str) -> str:
    return resources.files("gpuledger.demo").joinpath(f"{name}.sql").read_text("utf-8")


def _recognise(path: Path) -> tuple[str, dict[str, Path]]:
    """Return the trace's name and its files by table."""
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise SourceError("there is nothing here", where=str(path), hint="Name the folder of a trace.")
    listed = sorted(file for file in folder.iterdir() if file.name.endswith(_SUFFIXES))
    for kind, tables in _FILES.items():
        found: dict[str, list[Path]] = {
            table: [file for file in listed if file.name.startswith(starts)]
            for table, (starts, _) in tables.items()
        }
        if path.is_file():
            mine = next((table for table, some in found.items() if path in some), None)
            if mine is None:
                continue
            found[mine] = [path]
        if not all(found.values()):
            continue
        for table, some in found.items():
            if len(some) > 1:
                names = ", ".join(file.name for file in some[:4])
                raise SourceError(
                    f"several files of {table}: {names}", where=str(folder),
                    hint="Name the one to read, with its nodes beside it, or leave one of each in the folder.",
                )  # fmt: skip
        return kind, {table: some[0] for table, some in found.items()}
    known = "; ".join(
        f"{kind}: {' and '.join(f'{starts[-1]}*' for starts, _ in tables.values())}"
        for kind, tables in _FILES.items()
    )
    raise SourceError("no known trace", where=str(path), hint=f"Known are {known}; .csv or .parquet.")


def empty(target: Path, text: str, folders: Sequence[str]) -> None:
    """Make a folder with its SYNTHETIC marker, or empty it when an earlier run made it. Raises UsageError otherwise."""
    if target.is_dir() and any(target.iterdir()):
        if not (target / "SYNTHETIC").is_file():
            raise UsageError(
                "the folder is not empty and holds no SYNTHETIC marker", where=str(target),
                hint="Name a new folder with --out: a trace is never written among other files.",
            )  # fmt: skip
        shutil.rmtree(target)
    files.mark(target, text)
    for name in folders:
        (target / name).mkdir()


def _load(con: "duckdb.DuckDBPyConnection", table: str, file: Path, columns: list[str]) -> None:
    """Read a file's columns into a table; a number that can't be read is an error."""
    import duckdb

    reader = (
        "read_parquet($file)"
        if file.suffix == ".parquet"
        else "read_csv($file, header = true, all_varchar = true)"
    )
    given = {
        row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {reader}", {"file": str(file)}).fetchall()
    }
    if missing := [name for name in columns if name not in given]:
        raise SourceError(
            f"no column {', '.join(missing)}",
            where=str(file),
            hint=f"A trace's {table} have {', '.join(columns)}.",
        )
    whole = table != "instances"
    typed = ", ".join(
        f"nullif({name}::VARCHAR, '') AS {name}" if name in _TEXT
        else f"nullif({name}::VARCHAR, '')::DOUBLE{'::BIGINT' if whole else ''} AS {name}"
        for name in columns
    )  # fmt: skip
    try:
        con.execute(f"CREATE TABLE {table} AS SELECT {typed} FROM {reader}", {"file": str(file)})
    except duckdb.Error as error:
        text = str(error).splitlines()[0]
        raise SourceError(
            f"can't be read: {text}", where=str(file), hint="Is this file as published?"
        ) from error


def _place(con: "duckdb.DuckDBPyConnection") -> list[Diagnostic]:
    """Put pods on nodes: table `placement`."""
    nodes = [
        Node(name, cpu, memory, model, [CARD] * cards)
        for name, cpu, memory, cards, model in con.execute(
            "SELECT sn, cpu_milli, memory_mib, gpu, model FROM nodes ORDER BY rowid"
        ).fetchall()
    ]
    pods = [
        Pod(*row)
        for row in con.execute(
            "SELECT name, cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec, scheduled_time, deletion_time "
            "FROM pods WHERE deletion_time > scheduled_time"
        ).fetchall()
    ]
    placed, lost = place(pods, nodes)
    # What fits on no node still held what the trace says: it is told on a node that nobody is billed for.
    rows = [*placed, *((name, "unplaced", None) for name in lost)]
    con.execute("CREATE TABLE placement (name VARCHAR, node VARCHAR, card BIGINT)")
    con.execute(
        "INSERT INTO placement SELECT unnest($names), unnest($nodes), unnest($cards)",
        {
            "names": [row[0] for row in rows],
            "nodes": [row[1] for row in rows],
            "cards": [row[2] for row in rows],
        },
    )
    if not lost:
        return []
    return [
        Diagnostic(
            "trace-unplaced", "warning", "trace", f"{len(lost):,} pod(s) fit on no node of the trace, first {lost[0]}",
            "What they held is told on a node named 'unplaced' that has no cost. Is the list of nodes complete?",
        )
    ]  # fmt: skip


def _arrivals(con: "duckdb.DuckDBPyConnection") -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for role, moment in con.execute(
        "SELECT role, epoch(moment(creation_time)) FROM instances WHERE creation_time IS NOT NULL ORDER BY ALL"
    ).fetchall():
        found.setdefault(role, []).append(moment)
    return found


def _write(
    con: "duckdb.DuckDBPyConnection", kind: str, target: Path, prices: Mapping[str, Decimal]
) -> dict[str, int]:
    """Write the tables of records and the bill; return their rows."""
    con.execute(
        f"""
        CREATE TABLE node_interval AS
        SELECT
            '{kind}' AS cluster, node, start, "end", node AS provider_id, cores::DECIMAL(38, 14) AS cpu_cores,
            memory::DECIMAL(38, 14) AS memory_gib, model AS gpu_model, gpus::DECIMAL(38, 14) AS gpu_count
        FROM machine
        ORDER BY start, node
        """
    )
    rows = {}
    for table in ("job", "node_interval", "usage_interval"):
        rows[table] = _copy(con, f"FROM {table}", target / "telemetry" / f"{table}.parquet", {})
    given = {name: str(price) for name, price in prices.items()}
    rows["bill"] = _copy(
        con, _sql("trace_bill"), target / "bill" / "charges.parquet", {**given, "trace": kind}
    )
    return rows


def _copy(con: "duckdb.DuckDBPyConnection", query: str, path: Path, values: Mapping[str, str]) -> int:
    name = str(path).replace("'", "''")
    found = con.execute(f"COPY ({query}) TO '{name}' ({_PARQUET})", dict(values)).fetchone()
    return int(found[0]) if found else 0
