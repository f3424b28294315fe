"""Small AWS bills for tests, and what the ledger makes of them. Synthetic throughout."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from gpuledger import registry
from gpuledger.engines import duckdb
from gpuledger.pipeline.ingest import Options, Report, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store

HERE = Path(__file__).parent
COSTS, COMMITMENTS = "cost_and_usage", "contract_commitment"
HOST = "i-0synthetic0000001"

Row = dict[str, Any]


def line(kind: str = "Usage", **cells: str) -> dict[str, str]:
    """A CUR 2.0 line of an instance's hour; cells by their names without `line_item_`, or by their full names."""
    full = {
        "bill_billing_entity": "AWS",
        "bill_billing_period_start_date": "2026-10-01T00:00:00.000Z",
        "bill_billing_period_end_date": "2026-11-01T00:00:00.000Z",
        "bill_payer_account_id": "999900001111",
        "line_item_currency_code": "USD",
        "line_item_line_item_type": kind,
        "line_item_product_code": "AmazonEC2",
        "line_item_usage_account_id": "111122223333",
        "line_item_usage_start_date": "2026-10-01T00:00:00.000Z",
        "line_item_usage_end_date": "2026-10-01T01:00:00.000Z",
        "line_item_usage_type": "BoxUsage:m5.xlarge",
        "line_item_usage_amount": "1",
        "line_item_unblended_cost": "0",
        "identity_line_item_id": "synthetic",
    }
    names = set(registry.source("aws-cur2").COLUMNS)
    for name, value in cells.items():
        full[
            name if name in names or name.startswith(("resource_tags_", "product_")) else f"line_item_{name}"
        ] = value
    return full


def pod(name: str, cost: str, idle: str = "0", **cells: str) -> dict[str, str]:
    """A line of AWS's split of HOST among pods."""
    given = {
        "operation": "EKSPod-EC2",
        "usage_type": "USE1-EKS-EC2-vCPU-Hours",
        "resource_id": f"arn:aws:eks:us-east-1:111122223333:pod/synthetic/ns/{name}/uid",
        "split_line_item_parent_resource_id": HOST,
        "split_line_item_split_cost": cost,
        "split_line_item_unused_cost": idle,
        "split_line_item_split_usage": "1",
    }
    return line(**(given | cells))


def write(path: Path, lines: Sequence[Mapping[str, str]]) -> Path:
    """Write lines as a CSV file with a header of all their columns."""
    header = list(dict.fromkeys(name for one in lines for name in one))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as text:
        out = csv.DictWriter(text, header, restval="")
        out.writeheader()
        out.writerows(lines)
    return path


def manifest(path: Path, content: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return path


def load(path: Path, work: Path, kind: str = "aws-cur2") -> tuple[Report, Store]:
    """Ingest a file or folder into the ledger below `work`."""
    store = Store(str(work / "ledger"))
    return ingest(store, open_tree(str(path), work), registry.source(kind), Options(source="aws")), store


def rows_of(store: Store, table: str = COSTS) -> list[Row]:
    """All rows of a ledger table, in native order."""
    files = store.files(table)
    if not files:
        return []
    scan = f"read_parquet({duckdb.literals(files)}, hive_partitioning = true, hive_types_autocast = false)"
    last = ", ChargeCategory, AllocatedResourceId" if table == COSTS else ""
    cursor = duckdb.connect().execute(f"SELECT * FROM {scan} ORDER BY x_SourceFile, x_SourceRow{last}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def mapped(lines: Sequence[Mapping[str, str]], work: Path, kind: str = "aws-cur2") -> list[Row]:
    """What these lines become. The delivery must be loaded, whatever is wrong in single cells."""
    report, store = load(write(work / "bill" / "bill.csv", lines), work, kind)
    assert [row.action for row in report.rows] == ["loaded"], report.diagnostics
    return rows_of(store)


def total(rows: Iterable[Row], column: str, **where: object) -> Decimal:
    """Sum of a column over the rows that have these values."""
    chosen = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return sum((row[column] for row in chosen if row[column] is not None), Decimal(0))


def invoiced(path: Path) -> Decimal:
    """The bill's own total, added up here: net cost where there is one, else unblended; unreadable cells are left out."""
    whole = Decimal(0)
    with path.open(encoding="utf-8", newline="") as text:
        for cells in csv.DictReader(text):
            named = {name.replace("/", "").replace("_", "").lower(): value for name, value in cells.items()}
            cost = Decimal(named.get("lineitemnetunblendedcost") or named["lineitemunblendedcost"] or "0")
            whole += cost if cost.is_finite() else 0
    return whole
