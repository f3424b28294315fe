"""FOCUS 1.0-1.4 files of any provider: Cost and Usage and Contract Commitment, CSV or Parquet, brought up to 1.3.

Both data sets may lie in one folder: a row with a ContractCommitmentId is a Contract Commitment. Columns that FOCUS
doesn't know are kept in x_Native. (FOCUS specification, focus.finops.org, (c) FinOps Foundation / JDF, CC BY 4.0.)
"""

from collections.abc import Mapping

from gpuledger.core.deliveries import by_manifest
from gpuledger.focus.schema import LEDGER_CONTRACT_COMMITMENT, LEDGER_COST_AND_USAGE, quoted
from gpuledger.focus.upconvert import detect_version, ledger_expressions

TYPE = "focus"
TITLE = "FOCUS"
PROVIDER = None
VERSION = "FOCUS"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    **{
        column.name: ()
        for column in (*LEDGER_COST_AND_USAGE, *LEDGER_CONTRACT_COMMITMENT)
        if not column.name.startswith("x_")
    },
    "x_SkuDetails": (),  # Microsoft's: fills its gaps in SkuPriceDetails and CapacityReservationId
}
REQUIRED = ("BilledCost|ContractCommitmentId",)
TYPED = True
SPARSE = True
KEEP_UNKNOWN = True
TOTAL = "sum(money(BilledCost::VARCHAR))"
discover = by_manifest

_PLACES = {"_file", "_row", "_label", "_unknown"}
_READ = {"DECIMAL": "money", "TIMESTAMPTZ": "instant"}


def label(columns: list[str]) -> str:
    """Return the version of a file with these columns, such as 'FOCUS 1.2'."""
    charges, commitments = (
        {column.name for column in ledger} & set(columns)
        for ledger in (LEDGER_COST_AND_USAGE, LEDGER_CONTRACT_COMMITMENT)
    )
    if len(charges) > len(commitments):
        return f"FOCUS {detect_version(charges - {'ContractCommitmentId'})}"
    return f"FOCUS {detect_version(commitments, 'ContractCommitment')}"


def select(columns: Mapping[str, str], part: str) -> str:
    """Return the mapping of `native`, whose columns and DuckDB types are given, to one of the two tables."""
    dataset, ledger, other = ("ContractCommitment", LEDGER_CONTRACT_COMMITMENT, "BilledCost")
    if not part:
        dataset, ledger, other = ("CostAndUsage", LEDGER_COST_AND_USAGE, "ContractCommitmentId")
    given = {name: kind for name, kind in columns.items() if name not in _PLACES | {other}}
    found = ledger_expressions(given, dataset=dataset)
    if not part:  # tags stay text: the pipeline parses each distinct text once
        found |= {name: quoted(name) for name in ("Tags", "AllocatedTags") if given.get(name) == "VARCHAR"}
    values = [f"{value} AS {quoted(name)}" for name, value in found.items()]
    kinds = {column.name: column.sql_type.partition("(")[0] for column in ledger}
    read = {
        name: "quantity" if "Quantity" in name else reader
        for name, kind in given.items()
        if kind == "VARCHAR" and (reader := _READ.get(kinds.get(name, "")))
    }
    if read:
        values.append(f"{_issues(read)} AS x_DataIssues")
    values.append("_label AS x_SourceVersion")
    if "_unknown" in columns:
        values.append("_unknown AS x_Native")
    kind = "IS NOT NULL" if part else "IS NULL"
    return f"SELECT {', '.join(values)}, _file, _row FROM native WHERE ContractCommitmentId {kind}"


def _issues(read: Mapping[str, str]) -> str:
    """SQL of x_DataIssues for columns of text and the macros that read them."""
    told = [f"issue('{name}', {quoted(name)}, {macro}({quoted(name)}))" for name, macro in read.items()]
    # Hardly any row has an issue. So two cheap tests first: a cell that can't be read, or more digits than are stored.
    unread = [
        f"{quoted(name)} IS NOT NULL AND {macro}({quoted(name)}) IS NULL" for name, macro in read.items()
    ]
    long = [
        f"length({quoted(name)}) > 19 AND length({quoted(name)}) - instr({quoted(name)}, '.') > 18"
        for name, macro in read.items()
        if macro != "instant"
    ]
    return (
        f"CASE WHEN {' OR '.join([*unread, *long])} THEN nullif(concat_ws('; ', {', '.join(told)}), '') END"
    )
