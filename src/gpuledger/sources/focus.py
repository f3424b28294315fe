"""FOCUS 1.0-1.4 files of any provider: Cost and Usage and Contract Commitment, CSV or Parquet, brought up to 1.3.

Both data sets may lie in one folder: a row with a ContractCommitmentId is a Contract Commitment. Columns that FOCUS
doesn't know are kept in x_Native. (FOCUS specification, focus.finops.org, (c) FinOps Foundation / JDF, CC BY 4.0.)
"""

from collections.abc import Mapping

from gpuledger.core.deliveries import by_manifest
from gpuledger.focus.schema import (
    INSTANT,
    LEDGER_CONTRACT_COMMITMENT,
    LEDGER_COST_AND_USAGE,
    MONEY,
    QUANTITY,
    TAGS,
    LedgerColumn,
    quoted,
)

TYPE = "focus"
TITLE = "FOCUS"
PROVIDER = None
VERSION = "FOCUS"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    column.name: ()
    for column in (*LEDGER_COST_AND_USAGE, *LEDGER_CONTRACT_COMMITMENT)
    if not column.name.startswith("x_")
}
REQUIRED = ("BilledCost|ContractCommitmentId",)
TYPED = True
KEEP_UNKNOWN = True
TOTAL = "sum(money(BilledCost::VARCHAR))"
discover = by_manifest

_READERS = {MONEY: "money", QUANTITY: "quantity", INSTANT: "instant", TAGS: "tag_map"}


def select(columns: Mapping[str, str], part: str) -> str:
    """Return the mapping of `native`, whose columns and DuckDB types are given, to one of the two tables."""
    ledger = LEDGER_CONTRACT_COMMITMENT if part else LEDGER_COST_AND_USAGE
    given = [column for column in ledger if column.name in columns]
    values = [f"{_value(column, columns[column.name])} AS {quoted(column.name)}" for column in given]
    issues = [
        f"issue('{column.name}', {quoted(column.name)}, {_value(column, 'VARCHAR')})"
        for column in given
        if columns[column.name] == "VARCHAR" and column.sql_type in _READERS
    ]
    values.append(f"nullif(concat_ws('; ', {', '.join(issues or ['NULL'])}), '') AS x_DataIssues")
    if "_unknown" in columns:
        values.append("_unknown AS x_Native")
    kind = "IS NOT NULL" if part else "IS NULL"
    return f"SELECT {', '.join(values)}, _file, _row FROM native WHERE ContractCommitmentId {kind}"


def _value(column: LedgerColumn, kind: str) -> str:
    name = quoted(column.name)
    reader = _READERS.get(column.sql_type)
    if kind == "VARCHAR":
        return f"{reader}({name})" if reader else name
    if column.sql_type == TAGS:
        return (
            f"{name}::MAP(VARCHAR, VARCHAR)"
            if kind.startswith("MAP")
            else f"tag_map(to_json({name})::VARCHAR)"
        )
    if kind in {"DOUBLE", "FLOAT"} and reader:
        return f"{reader}({name}::VARCHAR)"  # the shortest text of a float is what the producer meant
    if kind.startswith(("STRUCT", "MAP")) or kind.endswith("]"):
        return f"to_json({name})::VARCHAR"
    return f"{name}::{column.sql_type}"
