"""Real and sample files of others: each is ingested with the sum that its own cells add up to, or refused with a reason.

The sums here are made with the csv module and Decimal alone. The files lie outside the project, in $GPULEDGER_SHARED.
"""

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from pathlib import Path

import pytest

from gpuledger.errors import GpuledgerError
from gpuledger.pipeline.identify import candidates, header_of
from gpuledger.pipeline.ingest import Report
from gpuledger.pipeline.ledger import Ledger

SHARED = Path(os.environ.get("GPULEDGER_SHARED", Path(__file__).parents[3] / "shared"))
DATA = SHARED / "data"
FOLDERS = ("billing", "focus/samples")
_SCALE = Decimal("1e-18")  # decimals that the ledger stores; what is beyond them is rounded and told
Cells = dict[str, str]

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no sample data at {SHARED}: set GPULEDGER_SHARED"),
]


def anything(_: Cells) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Bill:
    """A bill: connector type, the native columns whose sum is billed, and which rows bill something.

    `effective` is the native column of the amortised cost, if the file has one; `credits` a column of JSON credits.
    `told` are the codes of what there is to say about the file beside cells that can't be read.
    """

    type: str
    cost: str
    billed: Callable[[Cells], bool] = anything
    effective: str | None = None
    credits: str | None = None
    told: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Commitments:
    """A FOCUS Contract Commitment dataset."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No bill: the type that somebody might try, and a part of the reason."""

    type: str
    reason: str


def on_demand(row: Cells) -> bool:
    """In Azure's amortised export, what a reservation or savings plan covers was billed elsewhere."""
    return row["PricingModel"] not in {"Reservation", "SavingsPlan"}


FOCUS = Bill("focus", "BilledCost", effective="EffectiveCost")
CUR = Bill("aws-cur", "lineItem/UnblendedCost")
GCP = Bill("gcp", "cost", credits="credits")
NO_AZURE_BILL = Refused("azure", "no column CostInBillingCurrency")
NO_FOCUS_BILL = Refused("focus", "no column BilledCost or ContractCommitmentId")
SYNTHETIC = {
    f"billing/focus/{provider}_1_{minor}_cost_and_usage_rows100_seed42.csv": FOCUS
    for provider in ("aws", "azure", "gcp") for minor in (2, 3)
}  # fmt: skip
SPEC_EXAMPLES = [
    "commitment_discount_purchase_scenario_1", "commitment_discount_purchase_scenario_2",
    "commitment_discount_purchase_scenario_3", "commitment_discount_usage_scenario_1",
    "commitment_discount_usage_scenario_2", "commitment_discount_usage_scenario_3",
    "commitment_discount_usage_scenario_4", "saas_spend_agreements_a1", "saas_spend_agreements_a2",
    "simple_saas_agreements_a1", "simple_saas_agreements_a2", "simple_saas_agreements_a3",
    "simple_saas_agreements_b", "simple_saas_agreements_c", "virtual_currency_pricing_model_a1",
    "virtual_currency_pricing_model_a2",
]  # fmt: skip
SCHEMAS = [
    "actualcost_c360-2025-04", "amortizedcost_c360-2025-04", "focuscost_1.0-preview(v1)", "focuscost_1.0",
    "focuscost_1.0r2", "focuscost_1.2-preview", "focuscost_1.2", "pricesheet_2023-05-01_ea",
    "pricesheet_2023-05-01_mca", "reservationdetails_2023-03-01", "reservationrecommendations_2023-05-01_ea",
    "reservationrecommendations_2023-05-01_mca", "reservationtransactions_2023-05-01_ea",
    "reservationtransactions_2023-05-01_mca",
]  # fmt: skip
TABLE: dict[str, Bill | Commitments | Refused] = {
    "billing/aws/koku_cur_2023-06-01_final.csv": CUR,
    "billing/aws/koku_cur_2023-06-01_not_final.csv": CUR,
    # Its header names a column more than its lines have: which of them, nobody can say.
    "billing/aws/koku_test_cur.csv.gz": Refused("aws-cur", "Expected Number of Columns: 131 Found: 130"),
    "billing/azure/PricingUnits.csv": NO_AZURE_BILL,
    "billing/azure/Regions.csv": NO_AZURE_BILL,
    "billing/azure/Services.csv": NO_AZURE_BILL,
    "billing/azure/azure_version_2.csv": Bill("azure", "CostInBillingCurrency"),
    "billing/azure/costreport_a243c6f2-199f-4074-9a2c-40e671cf1584.csv": Bill("azure", "PreTaxCost"),
    "billing/azure/ftk_EA_ActualCost_Small.csv": Bill("azure", "Cost", told=frozenset({"amortized-cost-missing"})),
    "billing/azure/koku_partitioned_manifest.json": Refused("azure", "that the manifest names are missing"),
    "billing/azure/opencost_VirtualMachine.csv": Bill("azure", "costinbillingcurrency"),
    "billing/azure/opencost_headersets/Enterprise.csv": Bill(
        "azure", "CostInBillingCurrency", told=frozenset({"amortized-cost-missing"})
    ),
    "billing/azure/opencost_headersets/EnterpriseCamel.csv": Bill("azure", "costInBillingCurrency"),
    "billing/azure/opencost_headersets/PayAsYouGo.csv": Bill("azure", "PreTaxCost"),
    **{f"billing/azure/schemas/{name}.json": NO_AZURE_BILL for name in SCHEMAS},
    **SYNTHETIC,
    **{f"billing/focus/{p}_1_3_contract_commitment_rows100_seed42.csv": Commitments() for p in ("aws", "azure", "gcp")},
    "billing/focus/focus10_sample_shared.csv": FOCUS,
    "billing/focus/scenarios_correction_set.csv": FOCUS,
    "billing/focus/scenarios_sca_equal.csv": FOCUS,
    "billing/focus/scenarios_sca_negative.csv": FOCUS,
    "billing/focus/scenarios_sca_weighted.csv": FOCUS,
    "billing/gcp/koku_2022-08-01_5.csv": GCP,
    "billing/gcp/opencost_skus.json": Refused("gcp", "no column billing_account_id"),
    "billing/gpu/aws_accelerated_instance_types.csv": Refused("aws-cur", "no column line_item_line_item_type"),
    "billing/nise/October-2026-gpu1-ocp_gpu_usage.csv": NO_FOCUS_BILL,
    "billing/nise/October-2026-gpu1-ocp_pod_usage.csv": NO_FOCUS_BILL,
    "billing/nise/aws_cur_nise.csv": CUR,
    "billing/nise/azure_nise.csv": Bill("azure", "CostInBillingCurrency"),
    "billing/nise/gcp_nise.csv": GCP,
    "billing/oci/prices_usd.json": Refused("oci", "no column usage_start, my_cost, currency"),
    "billing/oci/shape_part_numbers.json": Refused("oci", "no column usage_start, my_cost, currency"),
    "focus/samples/azure_ea_amortized_native.csv": Bill(
        "azure", "Cost", on_demand, effective="Cost", told=frozenset({"actual-cost-missing"})
    ),
    "focus/samples/azure_pricing_units.csv": NO_AZURE_BILL,
    "focus/samples/azure_regions.csv": NO_AZURE_BILL,
    "focus/samples/azure_schema_metadata_1_2_preview.json": NO_FOCUS_BILL,
    "focus/samples/azure_services_to_focus_category.csv": NO_AZURE_BILL,
    "focus/samples/focus_1_0_real_multicloud_a.csv": FOCUS,
    **{f"focus/samples/focus_1_3_synthetic_{p}_cost_and_usage.csv": FOCUS for p in ("aws", "azure", "gcp")},
    **{f"focus/samples/focus_1_3_synthetic_{p}_contract_commitment.csv": Commitments() for p in ("aws", "azure", "gcp")},
    "focus/samples/scenarios_sca_equal.csv": FOCUS,
    "focus/samples/scenarios_sca_weighted.csv": FOCUS,
    **{f"focus/samples/spec_examples/{name}.csv": FOCUS for name in SPEC_EXAMPLES},
}  # fmt: skip


def test_every_file_is_in_the_table() -> None:
    there = {
        path.relative_to(DATA).as_posix()
        for folder in FOLDERS for path in (DATA / folder).rglob("*")
        if path.is_file() and path.name != "README.md"
    }  # fmt: skip
    assert set(TABLE) == there


def read(path: Path) -> list[Cells]:
    with path.open(encoding="utf-8-sig", newline="") as text:
        return list(csv.DictReader(text))


def number(text: str | None) -> Decimal | None:
    """Read a cell: None for one that is empty or no number."""
    try:
        return Decimal(text or "").quantize(_SCALE, ROUND_HALF_UP)
    except InvalidOperation:
        return None


def numbers(rows: list[Cells], column: str) -> Iterator[Decimal]:
    return (value for row in rows if (value := number(row.get(column))) is not None)


def credits_of(text: str) -> Decimal:
    """Add up credits written as JSON, or as Python writes lists of dictionaries."""
    found = json.loads(text.replace("'", '"') or "[]")
    return sum((Decimal(str(credit["amount"])) for credit in found), Decimal(0))


def unreadable(rows: list[Cells], column: str) -> bool:
    return any(row[column] not in {"", "NULL", "null"} and number(row[column]) is None for row in rows)


def billed(rows: list[Cells], bill: Bill) -> Decimal:
    of_rows = [row for row in rows if bill.billed(row)]
    total = sum(numbers(of_rows, bill.cost), Decimal(0))
    return total + sum((credits_of(row[bill.credits]) for row in rows), Decimal(0)) if bill.credits else total


def of_kind(kind: type) -> list[str]:
    return [name for name, expected in TABLE.items() if isinstance(expected, kind)]


@pytest.mark.parametrize("name", of_kind(Bill))
def test_a_bill_ties_to_its_own_cells(tmp_path: Path, name: str) -> None:
    bill, rows = TABLE[name], read(DATA / name)
    assert isinstance(bill, Bill)
    assert candidates(header_of(DATA / name))[0] == bill.type
    ledger = Ledger(str(tmp_path / "ledger"))
    report = ledger.ingest(bill.type, str(DATA / name))
    assert {row.action for row in report.rows} == {"loaded"}, report.diagnostics
    found, effective = (
        sum((getattr(row, key) or Decimal(0) for row in report.rows), Decimal(0))
        for key in ("billed_cost", "effective_cost")
    )
    assert found == billed(rows, bill)
    assert found == (ledger.costs(["BillingCurrency"], metric="billed").total or Decimal(0))
    if bill.effective and bill.effective in rows[0]:
        assert effective == sum(numbers(rows, bill.effective), Decimal(0))
    if bill.type == "focus":
        assert sum(row.rows for row in report.rows) == len(rows)
    codes = {told.code for told in report.diagnostics}
    assert codes - {"unreadable-value", "focus-rules"} == bill.told
    if unreadable(rows, bill.cost):
        assert "unreadable-value" in codes
    assert traced(ledger) == len(rows)


def traced(ledger: Ledger) -> int:
    """Count the native rows that ledger rows lead back to."""
    row = ledger.connect().execute("SELECT count(DISTINCT x_SourceRow) FROM cost_and_usage").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("name", of_kind(Commitments))
def test_commitments_tie_to_their_own_cells(tmp_path: Path, name: str) -> None:
    rows = read(DATA / name)
    ledger = Ledger(str(tmp_path / "ledger"))
    report = ledger.ingest("focus", str(DATA / name))
    assert report.diagnostics == []
    sums = ledger.connect().execute(
        "SELECT count(*), sum(ContractCommitmentCost), sum(ContractCommitmentQuantity) FROM contract_commitment"
    )
    quantity = [
        Decimal(row["ContractCommitmentQuantity"]) for row in rows if row["ContractCommitmentQuantity"]
    ]
    cost = sum(numbers(rows, "ContractCommitmentCost"), Decimal(0))
    assert sums.fetchall() == [(len(rows), cost, sum(quantity) if quantity else None)]


def outcome(ledger: Ledger, type_name: str, path: Path) -> str:
    """Ingest something that must not get in, and return what was said."""
    try:
        report: Report = ledger.ingest(type_name, str(path))
    except GpuledgerError as error:
        return str(error)
    assert [row.action for row in report.rows] == ["rejected"]
    told = report.diagnostics[-1]
    assert (told.code, told.severity) == ("delivery-rejected", "error")
    assert told.hint
    assert path.name in told.source
    return told.message


@pytest.mark.parametrize("name", of_kind(Refused))
def test_what_is_no_bill_is_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    refused = TABLE[name]
    assert isinstance(refused, Refused)
    ledger = Ledger(str(tmp_path / "ledger"))
    assert refused.reason in outcome(ledger, refused.type, DATA / name)
    assert ledger.units() == []


@pytest.mark.parametrize("name", sorted(set(of_kind(Refused)) - {"billing/aws/koku_test_cur.csv.gz"}))
def test_what_is_no_bill_is_taken_for_none(name: str) -> None:
    assert candidates(header_of(DATA / name)) == []
