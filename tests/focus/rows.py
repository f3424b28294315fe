"""Small inputs for the rules: rows as dicts, text (as from CSV) or typed, and one conformant charge."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb

from gpuledger.focus.report import ValidationReport
from gpuledger.focus.validate import validate

# One conformant FOCUS 1.3 usage charge, synthetic, as CSV text.
CHARGE: Mapping[str, str | None] = {
    "AvailabilityZone": None,
    "BilledCost": "12.5",
    "BillingAccountId": "0012",
    "BillingAccountName": "Example",
    "BillingCurrency": "USD",
    "BillingPeriodEnd": "2026-11-01T00:00:00Z",
    "BillingPeriodStart": "2026-10-01T00:00:00Z",
    "ChargeCategory": "Usage",
    "ChargeClass": None,
    "ChargeDescription": "8 GPU-hours",
    "ChargeFrequency": "Usage-Based",
    "ChargePeriodEnd": "2026-10-02T00:00:00Z",
    "ChargePeriodStart": "2026-10-01T00:00:00Z",
    "ConsumedQuantity": "5",
    "ConsumedUnit": "Hours",
    "ContractedCost": "12.5",
    "ContractedUnitPrice": "2.5",
    "EffectiveCost": "12.5",
    "HostProviderName": "Cloud",
    "InvoiceId": "INV-1",
    "InvoiceIssuerName": "Cloud",
    "ListCost": "15",
    "ListUnitPrice": "3",
    "PricingCategory": "Standard",
    "PricingQuantity": "5",
    "PricingUnit": "Hours",
    "ProviderName": "Cloud",
    "PublisherName": "Cloud",
    "RegionId": "r-1",
    "RegionName": "Region 1",
    "ResourceId": "i-1",
    "ResourceName": "node",
    "ResourceType": "Instance",
    "ServiceCategory": "Compute",
    "ServiceName": "Compute Engine",
    "ServiceProviderName": "Cloud",
    "ServiceSubcategory": "Virtual Machines",
    "SkuId": "SKU-1",
    "SkuMeter": "GPU",
    "SkuPriceDetails": '{"GpuCount": 8, "InstanceType": "g8", "x_Tier": "a"}',
    "SkuPriceId": "PRICE-1",
    "SubAccountId": "0001",
    "SubAccountName": "research",
    "Tags": '{"team": "vision"}',
}

COMMITMENT: Mapping[str, str | None] = {
    "BillingCurrency": "USD",
    "ContractCommitmentCategory": "Spend",
    "ContractCommitmentCost": "1000",
    "ContractCommitmentDescription": "one year",
    "ContractCommitmentId": "term-1",
    "ContractCommitmentPeriodEnd": "2027-01-01T00:00:00Z",
    "ContractCommitmentPeriodStart": "2026-01-01T00:00:00Z",
    "ContractCommitmentQuantity": None,
    "ContractCommitmentType": "Savings Plan",
    "ContractCommitmentUnit": None,
    "ContractId": "contract-1",
    "ContractPeriodEnd": "2027-01-01T00:00:00Z",
    "ContractPeriodStart": "2026-01-01T00:00:00Z",
}


def charge(**changes: str | None) -> dict[str, str | None]:
    return {**CHARGE, **changes}


def without(row: Mapping[str, str | None], *columns: str) -> dict[str, str | None]:
    return {name: value for name, value in row.items() if name not in columns}


def text_literal(value: str | None) -> str:
    return "NULL::VARCHAR" if value is None else "'" + value.replace("'", "''") + "'"


def text_rows(*rows: Mapping[str, str | None]) -> str:
    """A relation of text columns, as `read_csv(..., all_varchar = true)` gives."""
    selects = [
        "SELECT " + ", ".join(f'{text_literal(value)} AS "{name}"' for name, value in row.items())
        for row in rows
    ]
    return " UNION ALL ".join(selects)


def typed(row: Mapping[str, str | None], **expressions: str) -> str:
    """A relation of one row with some cells as typed SQL expressions, the others text."""
    cells = {name: text_literal(value) for name, value in row.items()} | expressions
    return "SELECT " + ", ".join(f'{sql} AS "{name}"' for name, sql in cells.items())


def check(
    relation: str,
    version: str = "1.3",
    dataset: str = "CostAndUsage",
    capabilities: Iterable[str] | None = None,
    commitments: str | None = None,
) -> ValidationReport:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    return validate(
        con,
        relation,
        focus_version=version,
        dataset=dataset,
        capabilities=capabilities,
        commitments=commitments,
    )


def failed(report: ValidationReport) -> dict[str, int]:
    return {result.rule.id: result.failed for result in report.failed}


def failing(
    *rows: Mapping[str, str | None], version: str = "1.3", dataset: str = "CostAndUsage"
) -> dict[str, int]:
    """Failed rules of text rows: id to number of rows or cells."""
    return failed(check(text_rows(*rows), version, dataset))


def ran(report: ValidationReport) -> set[str]:
    return {result.rule.id for result in report.results}


def skipped(report: ValidationReport, reason: str) -> set[str]:
    return {entry.rule.id for entry in report.skipped if entry.reason == reason}


def ids(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["rule_id"] for row in results]
