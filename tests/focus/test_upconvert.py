"""Older and newer FOCUS rows become ledger rows: what is derived, what stays null, and that no cost changes."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.focus.rows import charge, text_rows, without

from gpuledger.engines import duckdb
from gpuledger.focus.model import VERSIONS, model
from gpuledger.focus.schema import LEDGER_COST_AND_USAGE, select_list
from gpuledger.focus.upconvert import detect_version, ledger_expressions, missing_columns

COSTS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")


@pytest.fixture(scope="module")
def con() -> duckdb.Connection:
    return duckdb.connect()


def convert(con: duckdb.Connection, relation: str, dataset: str = "CostAndUsage") -> dict[str, Any]:
    columns = duckdb.columns(con, f"({relation})")
    found = ledger_expressions(columns, dataset=dataset)
    listed = ", ".join(f'{sql} AS "{name}"' for name, sql in found.items())
    row = con.execute(f"SELECT {listed} FROM ({relation})").fetchone() or ()
    return dict(zip(found, row, strict=True))


def old(**changes: str | None) -> Mapping[str, str | None]:
    """A row of 1.2."""
    return without(charge(**changes), "ServiceProviderName", "HostProviderName")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_is_told_by_its_columns(version: str) -> None:
    assert detect_version(model("CostAndUsage", version).columns) == version
    lower = [name.lower() for name in model("CostAndUsage", version).columns]
    assert detect_version(lower) == version


def test_versions_of_commitments_and_of_partial_files() -> None:
    for version in ("1.3", "1.4"):
        assert detect_version(model("ContractCommitment", version).columns, "ContractCommitment") == version
    assert detect_version(["BilledCost", "Tags"]) == "1.0"
    assert detect_version(["BilledCost", "InvoiceId"]) == "1.2"
    assert detect_version(["BilledCost", "ServiceProviderName"]) == "1.4"
    assert missing_columns(["billedcost"], "1.0")[:2] == ["AvailabilityZone", "BillingAccountId"]


# provider, publisher -> service provider, host
PROVIDERS = [
    ("AWS", "Amazon Web Services, Inc.", "AWS", "AWS"),
    ("AWS", "Red Hat Inc.", "Red Hat Inc.", "AWS"),
    ("Microsoft", "Microsoft Corporation", "Microsoft", "Microsoft"),
    ("Azure", "Databricks", "Databricks", "Azure"),
    ("Databricks", "Databricks", "Databricks", "Databricks"),
    ("Reseller Ltd", "Widgets Inc", "Widgets Inc", None),
    ("AWS", None, "AWS", "AWS"),
    (None, "Widgets Inc", "Widgets Inc", "Widgets Inc"),
    (None, None, None, None),
]


@pytest.mark.parametrize(("provider", "publisher", "service", "host"), PROVIDERS)
def test_service_and_host_provider(
    con: duckdb.Connection, provider: str | None, publisher: str | None, service: str | None, host: str | None
) -> None:
    row = convert(con, text_rows(old(ProviderName=provider, PublisherName=publisher)))
    assert (row["ServiceProviderName"], row["HostProviderName"]) == (service, host)
    assert (row["ProviderName"], row["PublisherName"]) == (provider, publisher)


def test_a_stated_service_provider_is_kept(con: duckdb.Connection) -> None:
    row = convert(con, text_rows(charge(ServiceProviderName="Given", PublisherName="Other Inc")))
    assert row["ServiceProviderName"] == "Given"


@pytest.mark.parametrize(
    ("service", "host", "issuer", "provider"),
    [
        ("ISV", "AWS", "Amazon Web Services, Inc.", "AWS"),
        ("ISV", "AWS", "ISV", "ISV"),
        ("AWS", "AWS", "AWS", "AWS"),
    ],
)
def test_provider_and_publisher_of_1_4_rows(
    con: duckdb.Connection, service: str, host: str, issuer: str, provider: str
) -> None:
    row = charge(ServiceProviderName=service, HostProviderName=host, InvoiceIssuerName=issuer)
    found = convert(con, text_rows(without(row, "ProviderName", "PublisherName")))
    assert (found["ProviderName"], found["PublisherName"]) == (provider, service)


def test_subcategory_only_where_it_agrees_with_the_category(con: duckdb.Connection) -> None:
    def sub(service: str, category: str) -> object:
        row = without(old(ServiceName=service, ServiceCategory=category), "ServiceSubcategory")
        return convert(con, text_rows(row))["ServiceSubcategory"]

    assert sub("Amazon Elastic Compute Cloud", "Compute") == "Virtual Machines"
    assert sub("Amazon Elastic Compute Cloud", "Storage") is None
    assert sub("Unheard Of", "Compute") is None


def test_what_an_older_version_lacks_is_left_out_or_null(con: duckdb.Connection) -> None:
    row = convert(con, text_rows(old()))
    assert not {"BillingAccountType", "AllocatedMethodId", "InvoiceDetailId", "x_Source"} & row.keys()


AZURE: Mapping[str, str | None] = {
    "ProviderName": "Microsoft", "PublisherName": "Microsoft", "ResourceId": "/RG/cr-1",
    "x_SkuDetails": '{"VMCapacityReservationId": "/rg/CR-1", "ServiceType": "Standard_ND96isr_H100_v5", "VCPUs": 96}',
}  # fmt: skip


def test_microsofts_capacity_reservations(con: duckdb.Connection) -> None:
    unused = convert(con, text_rows(old(**AZURE)))
    assert (unused["CapacityReservationId"], unused["CapacityReservationStatus"]) == ("/rg/CR-1", "Unused")
    used = convert(con, text_rows(old(**{**AZURE, "ResourceId": "/rg/vm-1"})))
    assert used["CapacityReservationStatus"] == "Used"
    bought = convert(con, text_rows(old(**{**AZURE, "ChargeCategory": "Purchase"})))
    assert bought["CapacityReservationStatus"] is None
    assert used["x_InstanceType"] == "Standard_ND96isr_H100_v5"
    none = convert(con, text_rows(old(**{**AZURE, "x_SkuDetails": "broken {"})))
    assert none["CapacityReservationId"] is None


def test_microsofts_price_details_get_keys_that_focus_allows(con: duckdb.Connection) -> None:
    row = convert(con, text_rows(without(old(**AZURE), "SkuPriceDetails")))
    expected = (
        '{"x_VMCapacityReservationId":"/rg/CR-1","InstanceType":"Standard_ND96isr_H100_v5","CoreCount":96}'
    )
    assert row["SkuPriceDetails"] == expected
    assert convert(con, text_rows(old(**AZURE)))["SkuPriceDetails"].startswith('{"GpuCount"')


def test_microsofts_spend_commitments_are_counted_in_money(con: duckdb.Connection) -> None:
    plan = {
        **AZURE,
        "CommitmentDiscountId": "sp",
        "CommitmentDiscountCategory": "Spend",
        "EffectiveCost": "7.25",
    }
    row = convert(con, text_rows(old(**plan)))
    assert (row["CommitmentDiscountQuantity"], row["CommitmentDiscountUnit"]) == (Decimal("7.25"), "USD")
    assert convert(con, text_rows(old(**{**plan, "CommitmentDiscountCategory": "Usage"})))[
        "CommitmentDiscountQuantity"
    ] is None  # fmt: skip
    assert (
        convert(con, text_rows(old(**{**plan, "ProviderName": "AWS"})))["CommitmentDiscountQuantity"] is None
    )


def test_contract_keys_are_respelled(con: duckdb.Connection) -> None:
    text = '{"Elements": [{"ContractID": "c", "ContractCommitmentID": "t", "ContractCommitmentAppliedCost": 1.10}]}'
    row = convert(con, text_rows(charge(ContractApplied=text)))
    assert row["ContractApplied"] == text.replace("ID", "Id")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('\'{"team": "a"}\'', {"team": "a"}),
        ("MAP {'team': 'a'}", {"team": "a"}),
        ("{'team': 'a'}", {"team": "a"}),
        ('\'{"team": "a"}\'::JSON', {"team": "a"}),
        ("NULL::VARCHAR", None),
    ],
)
def test_json_columns_in_any_shape(con: duckdb.Connection, sql: str, expected: object) -> None:
    assert convert(con, f"SELECT {sql} AS Tags, 1 AS BilledCost")["Tags"] == expected
    details = convert(con, f"SELECT {sql} AS SkuPriceDetails, 1 AS BilledCost")["SkuPriceDetails"]
    assert (details or "").replace(" ", "") == ('{"team":"a"}' if expected else "")


def test_commitment_terms(con: duckdb.Connection) -> None:
    row = convert(
        con,
        "SELECT 'c' AS ContractId, '12.50' AS ContractCommitmentCost, '2026-01-01' AS ContractPeriodStart",
        "ContractCommitment",
    )
    assert row["ContractCommitmentCost"] == Decimal("12.5")
    assert row["ContractPeriodStart"].isoformat() == "2026-01-01T00:00:00+00:00"


def test_every_expression_fits_the_ledger(con: duckdb.Connection) -> None:
    relation = text_rows(charge(**AZURE, ContractApplied=None, CommitmentDiscountCategory="Spend"))
    found = ledger_expressions(duckdb.columns(con, f"({relation})"))
    con.execute(f"SELECT {select_list(LEDGER_COST_AND_USAGE, found)} FROM ({relation})").fetchall()


def text_of(value: Decimal) -> str:
    return format(value, "f")


money = st.decimals(min_value=-(10**11), max_value=10**11, places=18, allow_nan=False)
KINDS = st.sampled_from(["text", "exponent", "decimal"])


@settings(max_examples=60, deadline=None)
@given(values=st.tuples(money, money, money, money), kind=KINDS, version=st.sampled_from(VERSIONS))
def test_no_cost_ever_changes(
    con: duckdb.Connection, values: tuple[Decimal, ...], kind: str, version: str
) -> None:
    columns = [name for name in model("CostAndUsage", version).columns if name not in COSTS]
    literals = {
        "text": [f"'{text_of(value)}'" for value in values],
        "exponent": [f"'{value:E}'" for value in values],
        "decimal": [f"'{text_of(value)}'::DECIMAL(38,18)" for value in values],
    }[kind]
    cells = [f'{sql} AS "{name}"' for name, sql in zip(COSTS, literals, strict=True)]
    cells += [f'NULL::VARCHAR AS "{name}"' for name in columns]
    row = convert(con, f"SELECT {', '.join(cells)}")
    assert tuple(row[name] for name in COSTS) == values


def test_floats_are_read_as_they_are_written(con: duckdb.Connection) -> None:
    row = convert(
        con, "SELECT 0.1::DOUBLE AS BilledCost, 1e-7::DOUBLE AS ListCost, 'nan'::DOUBLE AS EffectiveCost"
    )
    assert (row["BilledCost"], row["ListCost"], row["EffectiveCost"]) == (
        Decimal("0.1"),
        Decimal("1e-7"),
        None,
    )
