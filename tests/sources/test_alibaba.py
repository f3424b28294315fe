"""Alibaba Cloud: which of the several forms of one bill is read, late lines, the console's Chinese export, tags."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpuledger import registry
from gpuledger.engines import duckdb
from gpuledger.pipeline.ingest import Options, Report, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store

HEADER = "BillingCycle,BillingDate,AccountID,ProductCode,ProductDetail,Item,Tag,PretaxAmount,Currency"


def bill(folder: Path, name: str, *lines: tuple[str, str]) -> None:
    """Write a file of (billing cycle, amount)."""
    folder.mkdir(exist_ok=True)
    body = [f"{cycle},{cycle}-01,1,ecs,ECS,PayAsYouGoBill,,{amount},USD" for cycle, amount in lines]
    (folder / name).write_text("\n".join([HEADER, *body]) + "\n")


def load(folder: Path) -> tuple[Report, list[dict[str, Any]]]:
    store = Store(str(folder.parent / "ledger"))
    report = ingest(store, open_tree(str(folder), folder), registry.source("alibaba"), Options())
    scan = f"read_parquet({duckdb.literals(store.files('cost_and_usage'))})"
    cursor = duckdb.connect().execute(f"SELECT * FROM {scan} ORDER BY x_SourceFile, x_SourceRow")
    names = [column[0] for column in cursor.description]
    return report, [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (("9_BillingItemDetail_202610.csv", "9_BillingItemDetail_20261001.csv"), 1),
        (("9_BillingItemDetail_20261001.csv", "9_BillingItemDetail_20261002.csv"), 2),
        (("9_BillingItemDetailMonthly_202610.csv", "9_InstanceDetail_202610.csv"), 1),
        (("9_InstanceDetail_202610.csv", "9_SplitItemDetailDaily_202610.csv"), 1),
        (("8_BillingItemDetail_202610.csv", "9_BillingItemDetail_202610.csv"), 2),
        (("9_BillingItemDetail_20261001_0001_01.csv", "9_BillingItemDetail_20261001_0001_02.csv"), 2),
    ],
)
def test_each_months_charges_are_read_in_one_form(tmp_path: Path, names: tuple[str, ...], read: int) -> None:
    folder = tmp_path / "bill"
    for number, name in enumerate(names):
        bill(folder, name, ("2026-10", str(10**number)))
    report, rows = load(folder)
    assert len(rows) == read
    assert rows[0]["BilledCost"] == 1
    assert ("other-form-of-the-same-bill" in {told.code for told in report.diagnostics}) == (
        read < len(names)
    )


def test_late_lines_of_a_month_that_came_whole_are_not_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    bill(folder, "9_BillingItemDetail_202609.csv", ("2026-09", "5"), ("2026-09", "2"))
    bill(folder, "9_BillingItemDetail_20261001.csv", ("2026-09", "2"), ("2026-10", "10"))
    report, _ = load(folder)
    assert {row.billing_period: row.billed_cost for row in report.rows} == {"2026-09": 7, "2026-10": 10}


def test_late_lines_of_a_month_in_daily_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    bill(folder, "9_BillingItemDetail_20260930.csv", ("2026-09", "5"))
    bill(folder, "9_BillingItemDetail_20261001.csv", ("2026-09", "2"), ("2026-10", "10"))
    report, _ = load(folder)
    assert {row.billing_period: row.billed_cost for row in report.rows} == {"2026-09": 7, "2026-10": 10}


def test_the_consoles_chinese_export(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    folder.mkdir()
    (folder / "账单明细.csv").write_text(
        "\ufeff账期,账号ID,账号,产品Code,产品,产品明细,消费类型,账单类型,实例ID,实例规格,实例标签,地域,原价,优惠金额,应付金额,币种\n"
        "2026-10,1,财务,ecs,云服务器ECS,云服务器ECS-包年包月,包年包月,订单,i-1,ecs.gn7i-c8g1.2xlarge,,华东1,100,10,90,CNY\n"
        "2026-10,1,财务,ecs,云服务器ECS,云服务器ECS-包年包月,包年包月,退款,i-1,ecs.gn7i-c8g1.2xlarge,,华东1,-50,0,-50,CNY\n",
        "utf-8",
    )
    _, rows = load(folder)
    assert [(row["ChargeCategory"], row["BilledCost"], row["ContractedCost"]) for row in rows] == [
        ("Purchase", 90, 90),
        ("Purchase", -50, -50),
    ]
    assert rows[0]["x_InstanceType"] == "ecs.gn7i-c8g1.2xlarge"
    assert rows[0]["ChargePeriodStart"].isoformat() == "2026-09-30T16:00:00+00:00"
    assert rows[0]["BillingPeriodStart"].isoformat() == "2026-10-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        ("key:team value:a b; key:url value:http://x:1", {"team": "a b", "url": "http://x:1"}),
        ("team:a;env:prod;", {"team": "a", "env": "prod"}),
        ("key:empty value:", {"empty": ""}),
        ("", None),
    ],
)
def test_both_tag_forms(tmp_path: Path, cell: str, tags: dict[str, str] | None) -> None:
    folder = tmp_path / "bill"
    folder.mkdir()
    (folder / "a.csv").write_text(f"{HEADER}\n2026-10,2026-10-01,1,ecs,ECS,PayAsYouGoBill,{cell},1,USD\n")
    _, rows = load(folder)
    assert rows[0]["Tags"] == tags
    assert rows[0]["x_DataIssues"] is None


def test_the_same_key_twice_is_told_and_costs_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "bill"
    folder.mkdir()
    (folder / "a.csv").write_text(
        f"{HEADER}\n2026-10,2026-10-01,1,ecs,ECS,PayAsYouGoBill,team:a;team:b,1,USD\n"
    )
    report, rows = load(folder)
    assert (rows[0]["Tags"], rows[0]["BilledCost"]) == (None, Decimal(1))
    assert [told.code for told in report.diagnostics if told.code != "focus-rules"] == ["unreadable-value"]
