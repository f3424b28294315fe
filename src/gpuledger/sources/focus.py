"""FOCUS 1.0-1.4 files of any provider: Cost and Usage and Contract Commitment, CSV or Parquet, brought up to 1.3."""

from collections.abc import Mapping

from gpuledger.core.deliveries import by_manifest
from gpuledger.focus.schema import LEDGER_CONTRACT_COMMITMENT, LEDGER_COST_AND_USAGE

TYPE = "focus"
TITLE = "FOCUS"
PROVIDER = None
VERSION = "FOCUS"
COLUMNS = {c.name: () for c in (*LEDGER_COST_AND_USAGE, *LEDGER_CONTRACT_COMMITMENT) if not c.name.startswith("x_")}
REQUIRED = ("BilledCost|ContractCommitmentId",)
TYPED = True
TOTAL = "sum(money(BilledCost::VARCHAR))"
discover = by_manifest


def select(columns: Mapping[str, str], part: str) -> str:
    names = {c.name: c.sql_type for c in (LEDGER_CONTRACT_COMMITMENT if part else LEDGER_COST_AND_USAGE)}
    out = []
    for name, kind in names.items():
        if name not in columns:
            continue
        fn = {"DECIMAL(32,18)": "money", "DECIMAL(38,14)": "quantity", "TIMESTAMPTZ": "instant"}.get(kind)
        value = f'"{name}"'
        if kind.startswith("MAP"):
            value = f"tag_map({value})"
        elif fn:
            value = f"{fn}({value}::VARCHAR)"
        out.append(f'{value} AS "{name}"')
    where = "ContractCommitmentId IS NOT NULL" if part else "ContractCommitmentId IS NULL"
    return f"SELECT {', '.join(out)}, _file, _row FROM native WHERE {where}"
