"""AWS CUR 2.0: what golden rows don't show. Laws of commitments and splits, formats, layouts, bad input."""

import csv
import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sources.aws_bills import (
    COMMITMENTS,
    HERE,
    HOST,
    Row,
    invoiced,
    line,
    load,
    manifest,
    mapped,
    pod,
    rows_of,
    total,
    write,
)

from gpuledger import registry
from gpuledger.demo import aws, files
from gpuledger.demo.company import Month
from gpuledger.demo.truth import Truth
from gpuledger.engines import duckdb
from gpuledger.pipeline.identify import candidates

GOLDEN = next((HERE / "aws_cur2" / "raw").rglob("*.csv"))
PLAN = "arn:aws:savingsplans::999900001111:savingsplan/00000000-0000-4000-8000-00000000000"
RESERVATION = "arn:aws:ec2:us-east-1:111122223333:reserved-instances/00000000-0000-4000-8000-00000000000c"
# Columns that say where a row came from, not what it is.
TRACE = {"x_SourceFile", "x_SourceRow", "x_DeliveryId"}
# Has native texts, which differ between CSV (1.50) and a typed file (1.5).
TEXTS = {"x_Native"}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    _, store = load(HERE / "aws_cur2" / "raw", tmp_path_factory.mktemp("golden"))
    return rows_of(store)


def test_billed_cost_is_the_invoice(golden: list[Row]) -> None:
    assert total(golden, "BilledCost") == invoiced(GOLDEN)


@pytest.mark.parametrize(
    ("commitment", "fee"),
    [
        (f"{PLAN}a", Decimal(10)),
        (f"{PLAN}b", Decimal("0.675") + Decimal("0.675")),  # recurring and amortised upfront, both net
        (RESERVATION, Decimal("756.0528") + Decimal("755.904")),
    ],
)
def test_used_and_unused_are_the_fee(golden: list[Row], commitment: str, fee: Decimal) -> None:
    rows = [row for row in golden if row["CommitmentDiscountId"] == commitment]
    assert total(rows, "EffectiveCost", ChargeCategory="Usage") == fee
    assert total(rows, "EffectiveCost", ChargeCategory="Purchase") == 0
    assert total(rows, "BilledCost", ChargeCategory="Usage") == 0
    # The quantity acquired is the quantity used plus the quantity left.
    recurring = [row for row in rows if row["ChargeFrequency"] == "Recurring"]
    if commitment != f"{PLAN}b":  # half of that one was acquired by the upfront payment
        assert total(recurring, "CommitmentDiscountQuantity") == total(
            rows, "CommitmentDiscountQuantity", ChargeCategory="Usage"
        )
    assert len({row["CommitmentDiscountUnit"] for row in rows} - {None}) == 1


def test_commitments_cost_their_whole_term(tmp_path: Path) -> None:
    _, store = load(HERE / "aws_cur2" / "raw", tmp_path)
    found = {row["ContractCommitmentId"]: row for row in rows_of(store, COMMITMENTS)}
    assert found[f"{PLAN}a"]["ContractCommitmentCost"] == 10 * 8760
    assert found[f"{PLAN}b"]["ContractCommitmentCost"] == Decimal("1.5") * 8760
    assert found[RESERVATION]["ContractCommitmentQuantity"] == 2 * 64 * 8760
    assert {row["x_BillingPeriod"] for row in found.values()} == {"2026-10"}


def test_applied_commitments_are_named_in_the_commitments(golden: list[Row], tmp_path: Path) -> None:
    _, store = load(HERE / "aws_cur2" / "raw", tmp_path)
    known = {row["ContractCommitmentId"] for row in rows_of(store, COMMITMENTS)}
    applied = {
        element["ContractCommitmentId"]
        for row in golden
        if row["ContractApplied"] and row["x_ChargeType"] != "Refund"
        for element in json.loads(row["ContractApplied"])["Elements"]
    }
    assert applied == known


def same_charges(rows: list[Row]) -> list[str]:
    return sorted(str({name: row[name] for name in row if name not in TRACE | TEXTS}) for row in rows)


def readable() -> list[dict[str, str]]:
    """Lines of the golden bill that a typed file can hold too."""
    with GOLDEN.open(newline="") as text:
        return [row for row in csv.DictReader(text) if row["line_item_unblended_cost"] != "NaN"]


def test_compressed_csv_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    lines = readable()
    plain = mapped(lines, tmp_path / "plain")

    packed = tmp_path / "packed" / "bill.csv.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress((tmp_path / "plain" / "bill" / "bill.csv").read_bytes()))
    _, store = load(packed, tmp_path / "gz")
    assert same_charges(rows_of(store)) == same_charges(plain)

    typed = tmp_path / "typed" / "bill.parquet"
    typed.parent.mkdir()
    nested = ("product", "resource_tags", "cost_category", "discount")
    numbers = [
        n for n in lines[0] if n.endswith(("_cost", "_amount", "_commitment", "_fee", "_quantity", "_period"))
    ]
    times = [name for name in lines[0] if name.startswith(("bill_", "line_item_")) and name.endswith("_date")]
    changes = [
        *(f"from_json({name}, '\"MAP(VARCHAR, VARCHAR)\"') AS {name}" for name in nested),
        *(f"CAST(nullif({name}, '') AS DOUBLE) AS {name}" for name in numbers),
        *(f"CAST({name} AS TIMESTAMP_MS) AS {name}" for name in times),
    ]
    duckdb.connect().execute(
        f"COPY (SELECT * REPLACE ({', '.join(changes)}) FROM read_csv({duckdb.literal(tmp_path / 'plain/bill/bill.csv')}, "
        f"all_varchar = true, nullstr = 'nothing')) TO {duckdb.literal(typed)} (FORMAT parquet)"
    )
    _, store = load(typed, tmp_path / "parquet")
    assert same_charges(rows_of(store)) == same_charges(plain)


def test_a_flattened_export_gives_the_same_rows(tmp_path: Path) -> None:
    lines = readable()
    flat = []
    for cells in lines:
        spread = dict(cells)
        for column, prefix in (
            ("product", "product_"),
            ("resource_tags", "resource_tags_"),
            ("cost_category", "cost_category_"),
        ):
            found = json.loads(spread.pop(column))
            spread |= {
                prefix + ("inference_type" if name == "inferenceType" else name): value
                for name, value in found.items()
            }
        flat.append(spread)
    assert same_charges(mapped(flat, tmp_path / "flat")) == same_charges(mapped(lines, tmp_path / "nested"))


def test_the_tags_column_keeps_sources_apart(tmp_path: Path) -> None:
    tags = {
        "resourceTags/user:team": "rag", "resourceTags/department": "A", "accountTag/team": "platform",
        "costCategory/unit": "research", "iamPrincipal/team": "agents", "userAttribute/team": "x",
    }  # fmt: skip
    (row,) = mapped([line(tags=json.dumps(tags), resource_tags=json.dumps({"user_team": "rag"}))], tmp_path)
    assert row["Tags"] == {
        "team": "rag", "department": "A", "accountTag/team": "platform", "costCategory/unit": "research",
        "iamPrincipal/team": "agents", "userAttribute/team": "x",
    }  # fmt: skip


def test_tags_that_would_share_a_key_are_kept_as_they_are(tmp_path: Path) -> None:
    tags = {"user_team": "a", "team": "b"}
    (row,) = mapped([line(resource_tags=json.dumps(tags))], tmp_path)
    assert row["Tags"] == tags


def test_half_a_pair_of_covered_usage_and_negation_is_not_lost(tmp_path: Path) -> None:
    plan = {"savings_plan_savings_plan_a_r_n": PLAN + "a"}
    rows = mapped(
        [
            line(
                "SavingsPlanCoveredUsage",
                unblended_cost="2",
                savings_plan_savings_plan_effective_cost="1",
                **plan,
            ),
            line("SavingsPlanNegation", unblended_cost="-2", **plan),
            line("SavingsPlanNegation", unblended_cost="-0.5", **plan),
        ],
        tmp_path,
    )
    residue = [row for row in rows if row["x_ChargeType"] == "SavingsPlanNegation"]
    assert [(row["BilledCost"], row["ChargeCategory"]) for row in residue] == [
        (Decimal("-0.5"), "Adjustment")
    ]
    assert "negation" in residue[0]["x_DataIssues"]
    assert total(rows, "BilledCost") == Decimal("-0.5")


def test_a_plan_whose_export_lacks_the_commitment_columns_says_so(tmp_path: Path) -> None:
    plan = {"savings_plan_savings_plan_a_r_n": PLAN + "a"}
    rows = mapped(
        [
            line("SavingsPlanCoveredUsage", unblended_cost="2", **plan),
            line("SavingsPlanNegation", unblended_cost="-2", **plan),
            line("SavingsPlanRecurringFee", unblended_cost="1", **plan),
        ],
        tmp_path,
    )
    assert [row["EffectiveCost"] for row in rows] == [None, 0]
    assert all("EffectiveCost" in row["x_DataIssues"] for row in rows)


def test_discount_lines_count_where_there_is_no_net_cost(tmp_path: Path) -> None:
    rows = mapped([line(unblended_cost="10"), line("EdpDiscount", unblended_cost="-1")], tmp_path / "gross")
    assert total(rows, "BilledCost") == 9
    net = {"net_unblended_cost": "9"}
    rows = mapped(
        [line(unblended_cost="10", **net), line("EdpDiscount", unblended_cost="-1", net_unblended_cost="0")],
        tmp_path / "net",
    )
    assert total(rows, "BilledCost") == 9
    assert total(rows, "ListCost") == 10


def host(cost: str = "8", **cells: str) -> dict[str, str]:
    given = {
        "resource_id": HOST,
        "unblended_cost": cost,
        "pricing_public_on_demand_cost": "16",
        "pricing_unit": "Hrs",
    }
    return line(**(given | cells))


def test_a_container_host_is_replaced_by_its_pods_and_a_remainder(tmp_path: Path) -> None:
    rows = mapped([host(), pod("a", "4", "1"), pod("b", "2", "1")], tmp_path)
    shares = {row["AllocatedResourceName"]: row["EffectiveCost"] for row in rows}
    assert shares == {"ns/a": 4, "ns/b": 2, None: 2}
    assert {row["ResourceId"] for row in rows} == {HOST}
    assert {row["AllocatedMethodId"] for row in rows} == {"AWS split cost allocation"}
    assert {row["x_OriginChargeId"] for row in rows} == {"synthetic"}
    assert total(rows, "ListCost") == 16
    assert total(rows, "ConsumedQuantity") == 1


def test_a_covered_host_shares_its_effective_cost_and_is_billed_nothing(tmp_path: Path) -> None:
    plan = {"savings_plan_savings_plan_a_r_n": PLAN + "a"}
    covered = host("8", savings_plan_savings_plan_effective_cost="5", **plan)
    covered["line_item_line_item_type"] = "SavingsPlanCoveredUsage"
    rows = mapped(
        [covered, line("SavingsPlanNegation", unblended_cost="-8", **plan), pod("a", "2"), pod("b", "3")],
        tmp_path,
    )
    assert [(row["AllocatedResourceName"], row["EffectiveCost"]) for row in rows] == [
        ("ns/a", 2),
        ("ns/b", 3),
    ]
    assert total(rows, "BilledCost") == 0
    assert total(rows, "CommitmentDiscountQuantity", CommitmentDiscountStatus="Used") == 5
    applied = [
        json.loads(row["ContractApplied"])["Elements"][0]["ContractCommitmentAppliedCost"] for row in rows
    ]
    assert applied == [2, 3]


def test_only_the_instance_itself_is_shared(tmp_path: Path) -> None:
    traffic = line(resource_id=HOST, usage_type="DataTransfer-Out-Bytes", unblended_cost="1")
    rows = mapped([host(), traffic, pod("a", "8")], tmp_path)
    assert [(row["SkuMeter"], row["AllocatedMethodId"] is not None) for row in rows] == [
        ("BoxUsage:m5.xlarge", True),
        ("DataTransfer-Out-Bytes", False),
    ]


def test_accelerator_hours_follow_the_pods(tmp_path: Path) -> None:
    machine = host(
        usage_type="BoxUsage:p4d.24xlarge", product_instance_type="p4d.24xlarge", product='{"gpu":"8"}'
    )
    rows = mapped([machine, pod("a", "6", "2")], tmp_path)
    assert {row["AllocatedResourceName"]: row["x_GpuHours"] for row in rows} == {"ns/a": 6, None: 2}


def test_pods_without_their_host_carry_no_money(tmp_path: Path) -> None:
    other = line(resource_id="i-0other", unblended_cost="1")
    rows = mapped([other, pod("a", "4")], tmp_path)
    assert [row["ResourceId"] for row in rows] == ["i-0other"]


def test_a_split_line_with_a_cost_of_its_own_is_a_charge(tmp_path: Path) -> None:
    rows = mapped([pod("a", "4", unblended_cost="3")], tmp_path)
    assert [(row["BilledCost"], row["AllocatedMethodId"]) for row in rows] == [(3, None)]


AMOUNT = st.decimals(min_value=0, max_value=99, places=10).map(str)
SHARED_HOUR = st.tuples(
    st.lists(AMOUNT, min_size=1, max_size=2),  # the instance's charges: part of the hour may be covered
    st.lists(st.tuples(st.sampled_from("abcd"), AMOUNT, AMOUNT), max_size=6),
)


@settings(max_examples=3, deadline=None)
@given(hours=st.lists(SHARED_HOUR, min_size=1, max_size=24))
def test_shares_add_up_to_the_host_exactly(
    tmp_path_factory: pytest.TempPathFactory, hours: list[tuple[list[str], list[tuple[str, str, str]]]]
) -> None:
    lines, whole = [], {}
    for hour, (charges, pods) in enumerate(hours):
        when = {
            "usage_start_date": f"2026-10-01T{hour:02}:00:00Z",
            "usage_end_date": f"2026-10-01T{hour:02}:59:59Z",
        }
        for number, cost in enumerate(charges):
            whole[f"{hour}/{number}"] = Decimal(cost)
            lines.append(host(cost, identity_line_item_id=f"{hour}/{number}", **when))
        lines += [pod(*one, **when) for one in pods]
    rows = mapped(lines, tmp_path_factory.mktemp("split"))
    assert total(rows, "BilledCost") == sum(whole.values())
    shares: dict[str, list[Row]] = {}
    for row in rows:
        if row["AllocatedMethodId"]:
            shares.setdefault(row["x_OriginChargeId"], []).append(row)
    for origin, found in shares.items():
        assert total(found, "BilledCost") == whole[origin]
        assert total(found, "ListCost") == 16
        assert total(found, "ConsumedQuantity") == 1
        assert all(row["BilledCost"] >= 0 for row in found)
        details = [json.loads(row["AllocatedMethodDetails"], parse_float=Decimal) for row in found]
        assert sum(element["AllocatedRatio"] for one in details for element in one["Elements"]) == 1


def export(root: Path, execution: str, moment: str, cost: str, *, complete: bool = True) -> Path:
    """A refresh of an export that keeps every refresh."""
    data = f"export/data/BILLING_PERIOD=2026-10/{execution}/export-00001.csv"
    if complete:
        write(root / data, [line(unblended_cost=cost)])
    return manifest(
        root / "export/metadata/BILLING_PERIOD=2026-10" / execution / "export-Manifest.json",
        {
            "executionId": execution,
            "createdAt": moment,
            "exportName": "export",
            "dataFiles": [f"s3://bucket/{data}"],
        },
    )


def test_the_newest_refresh_wins_whatever_the_order(tmp_path: Path) -> None:
    export(tmp_path / "bill", "b", "2026-11-05T00:00:00.000Z", "2")
    export(tmp_path / "bill", "a", "2026-11-06T00:00:00.000Z", "3")
    _, store = load(tmp_path / "bill", tmp_path)
    assert [row["BilledCost"] for row in rows_of(store)] == [3]


def test_a_refresh_that_is_still_being_written_is_refused(tmp_path: Path) -> None:
    export(tmp_path / "bill", "a", "2026-11-05T00:00:00.000Z", "2")
    export(tmp_path / "bill", "b", "2026-11-06T00:00:00.000Z", "3", complete=False)
    report, store = load(tmp_path / "bill", tmp_path)
    assert [row.action for row in report.rows] == ["loaded", "rejected"]
    assert [row["BilledCost"] for row in rows_of(store)] == [2]


def test_a_file_without_line_item_types_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bill" / "other.csv"
    path.parent.mkdir()
    path.write_text("BilledCost,ChargePeriodStart\n1,2026-10-01\n")
    report, _ = load(path, tmp_path)
    assert [row.action for row in report.rows] == ["rejected"]
    assert "line_item_line_item_type" in report.diagnostics[-1].message


def test_each_report_is_recognised_as_itself() -> None:
    legacy = next((HERE / "aws_cur" / "raw").rglob("*.csv"))
    for path, kind in ((GOLDEN, "aws-cur2"), (legacy, "aws-cur")):
        with path.open(newline="") as text:
            assert candidates(next(csv.reader(text)))[0] == kind


def test_both_connectors_read_the_same_columns() -> None:
    assert registry.source("aws-cur").COLUMNS == registry.source("aws-cur2").COLUMNS


def test_the_example_company_ties_to_its_truth(tmp_path: Path) -> None:
    month = Month.parse("2026-10")
    truth = Truth(month, 7)
    aws.write(files.Setting(tmp_path / "example", month, 7), truth, None)
    _, store = load(tmp_path / "example" / "aws", tmp_path)
    rows = rows_of(store)
    known = truth.as_dict()
    assert total(rows, "BilledCost") == Decimal(known["providers"]["aws"]["billed"])
    assert total(rows, "EffectiveCost") == Decimal(known["providers"]["aws"]["effective"])
    for commitment, facts in known["commitments"].items():
        mine = [row for row in rows if row["CommitmentDiscountId"] == commitment]
        assert total(mine, "EffectiveCost", CommitmentDiscountStatus="Used") == Decimal(facts["used"])
        assert total(mine, "EffectiveCost", CommitmentDiscountStatus="Unused") == Decimal(facts["stranded"])
    for model, hours in known["gpu_hours"]["aws"].items():
        assert total(rows, "x_GpuHours", x_GpuModel=model) == Decimal(hours)
