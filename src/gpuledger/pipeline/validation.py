"""Conformance of files, folders or the ledger itself: makes a relation of them for `focus.validate`."""

from collections.abc import Iterable
from pathlib import Path

from gpuledger.core.deliveries import is_data
from gpuledger.engines import duckdb
from gpuledger.errors import SourceError
from gpuledger.focus.report import ValidationReport
from gpuledger.focus.schema import quoted
from gpuledger.focus.validate import validate
from gpuledger.pipeline.headers import text_shape, truncated
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.locations import open_tree

DATASETS = {"CostAndUsage": "cost_and_usage", "ContractCommitment": "contract_commitment"}
_KEYS = {"CostAndUsage": "BilledCost", "ContractCommitment": "ContractCommitmentId"}


def validate_files(
    location: str,
    cache: Path,
    *,
    focus_version: str,
    dataset: str | None,
    capabilities: Iterable[str] | None = None,
) -> ValidationReport:
    """Check the files at a path or address. `dataset` None is told from the columns.

    Raises SourceError when there is nothing to read, or a file is damaged.
    """
    tree = open_tree(location, cache)
    files = [file.path for file in tree.files if is_data(file.path)]
    if not files:
        raise SourceError("no data files here", where=location, hint="FOCUS data is CSV(.gz) or Parquet.")
    con = duckdb.connect(memory_limit="700MB")
    try:
        relations = {
            path: _relation(tree.local(path), path if len(files) > 1 else location) for path in files
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
        return validate(
            con,
            chosen,
            focus_version=focus_version,
            dataset=wanted,
            capabilities=capabilities,
            commitments=others or None,
        )
    except duckdb.EngineError as error:
        raise truncated(location, str(error).splitlines()[0]) from error


def validate_ledger(
    ledger: Ledger, *, focus_version: str, dataset: str | None, capabilities: Iterable[str] | None = None
) -> ValidationReport:
    """Check what the ledger holds, in the columns of `focus_version`."""
    from gpuledger.focus.export import projection

    ledger.require()
    wanted = dataset or "CostAndUsage"
    con = ledger.connect(memory_limit="700MB")
    relation = f"SELECT {projection(wanted, focus_version)} FROM {DATASETS[wanted]}"
    return validate(con, relation, focus_version=focus_version, dataset=wanted, capabilities=capabilities)


def _relation(path: Path, shown: str) -> str:
    if path.name.lower().endswith(".parquet"):
        scan = f"read_parquet({duckdb.literal(path)}, file_row_number = true, hive_partitioning = false)"
        return f"SELECT * EXCLUDE (file_row_number), {duckdb.literal(shown)} AS _file, file_row_number + 1 AS _row FROM {scan}"
    shape = text_shape(path, shown, {}, ())
    names = list(dict.fromkeys(shape.header))
    if len(names) < len(shape.header):
        raise SourceError(
            "two columns have the same name", where=shown, hint="FOCUS columns are unique; rename one."
        )
    columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in names)
    scan = (
        f"read_csv({duckdb.literal(path)}, auto_detect = false, header = true, skip = {shape.skip}, columns = {{{columns}}}, "
        f"delim = {duckdb.literal(shape.delimiter)}, quote = '\"', escape = '\"', encoding = '{shape.encoding}', "
        "max_line_size = 16777216)"
    )
    return f"SELECT *, {duckdb.literal(shown)} AS filename FROM {scan}"


def _dataset(names: list[str]) -> str:
    return (
        "ContractCommitment"
        if _KEYS["ContractCommitment"] in names and "BilledCost" not in names
        else "CostAndUsage"
    )


def _union(relations: Iterable[str]) -> str:
    return " UNION ALL BY NAME ".join(relations)
