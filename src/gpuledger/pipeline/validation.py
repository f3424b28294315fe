"""Conformance of files, folders or the ledger itself: makes a relation of them for `focus.validate`."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp

from gpuledger.core.deliveries import is_data
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import SourceError
from gpuledger.focus.report import ValidationReport
from gpuledger.focus.schema import quoted
from gpuledger.focus.validate import validate
from gpuledger.pipeline.headers import text_shape, truncated
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.locations import clear, open_tree
from gpuledger.pipeline.native import SCRATCH, csv_scan, rejects

DATASETS = {"CostAndUsage": "cost_and_usage", "ContractCommitment": "contract_commitment"}
_KEYS = {"CostAndUsage": "BilledCost", "ContractCommitment": "ContractCommitmentId"}


def validate_files(
    location: str,
    cache: Path,
    *,
    focus_version: str,
    dataset: str | None,
    capabilities: Iterable[str] | None = None,
) -> tuple[ValidationReport, list[Diagnostic]]:
    """Check the files at a path or address. `dataset` None is told from the columns.

    The Diagnostics name lines that can't be parsed, and so weren't checked.

    Raises SourceError when there is nothing to read, or a file is damaged.
    """
    tree = open_tree(location, cache)
    files = [file.path for file in tree.files if is_data(file.path)]
    if not files:
        raise SourceError("no data files here", where=location, hint="FOCUS data is CSV(.gz) or Parquet.")
    told: list[Diagnostic] = []
    scratch = Path(mkdtemp(prefix="gpuledger-"))
    con = duckdb.connect(memory_limit="700MB", keep_order=True, spill=scratch)
    try:
        relations = {
            path: _relation(
                con,
                tree.local(path),
                path if len(files) > 1 else location,
                scratch / f"{number}.parquet",
                told,
            )
            for number, path in enumerate(files)
        }
        kinds = {
            path: dataset or _dataset(list(duckdb.columns(con, f"({sql})")))
            for path, sql in relations.items()
        }
        wanted = dataset or ("CostAndUsage" if "CostAndUsage" in kinds.values() else "ContractCommitment")
        chosen = _union(sql for path, sql in relations.items() if kinds[path] == wanted)
        others = _union(
            sql for path, sql in relations.items() if kinds[path] == "ContractCommitment" != wanted
        )
        report = validate(
            con,
            chosen,
            focus_version=focus_version,
            dataset=wanted,
            capabilities=capabilities,
            commitments=others or None,
        )
        return report, told
    except duckdb.EngineError as error:
        raise truncated(location, str(error).splitlines()[0]) from error
    finally:
        con.close()
        clear(scratch)


def validate_ledger(
    ledger: Ledger, *, focus_version: str, dataset: str | None, capabilities: Iterable[str] | None = None
) -> ValidationReport:
    """Check what the ledger holds, in the columns of `focus_version`."""
    from gpuledger.focus.export import projection

    ledger.require()
    wanted = dataset or "CostAndUsage"
    con = ledger.connect(memory_limit="700MB")
    return validate(
        con,
        f"SELECT {projection(wanted, focus_version)} FROM {DATASETS[wanted]}",
        focus_version=focus_version,
        dataset=wanted,
        capabilities=capabilities,
        commitments=_commitments(con) if wanted == "CostAndUsage" else None,
    )


def _commitments(con: duckdb.Connection) -> str | None:
    """Return the ledger's commitments; a ledger without any can't say which ones charges may name."""
    table = DATASETS["ContractCommitment"]
    return table if con.execute(f"FROM {table} LIMIT 1").fetchone() else None


def _relation(con: duckdb.Connection, path: Path, shown: str, scratch: Path, told: list[Diagnostic]) -> str:
    """Return a query over a file's columns as they are, with `_file` and `_row`. Text goes through Parquet once."""
    scan = duckdb.literal(path)
    if not path.name.lower().endswith(".parquet"):
        shape = text_shape(path, shown, {}, ())
        if len(set(shape.header)) < len(shape.header):
            raise SourceError(
                "two columns have the same name", where=shown, hint="FOCUS columns are unique; rename one."
            )
        named = ", ".join(f"c{place} AS {quoted(name)}" for place, name in enumerate(shape.header))
        scan = duckdb.literal(scratch)
        con.execute(f"COPY (SELECT {named} FROM {csv_scan(path, shape, [''])}) TO {scan} ({SCRATCH})")
        told += rejects(con, shown, shape)
    read = f"read_parquet({scan}, file_row_number = true, hive_partitioning = false)"
    return f"SELECT * EXCLUDE (file_row_number), {duckdb.literal(shown)} AS _file, file_row_number + 1 AS _row FROM {read}"


def _dataset(names: list[str]) -> str:
    return (
        "ContractCommitment"
        if _KEYS["ContractCommitment"] in names and "BilledCost" not in names
        else "CostAndUsage"
    )


def _union(relations: Iterable[str]) -> str:
    return " UNION ALL BY NAME ".join(relations)
