"""Oracle Cloud Infrastructure cost reports, Oracle's own form: `reports/cost-csv/…csv.gz` in the tenancy's bucket.

Columns are documented at docs.oracle.com/en-us/iaas/Content/Billing/Concepts/costusagereportsoverview.htm. A new file
comes about every six hours and none is ever rewritten, so a month is *all* files together: ingest the folder. Oracle's
FOCUS reports (`FOCUS Reports/…`) are read by the connector `focus`.

Corrections are lines of their own (`lineItem/isCorrection`, with the corrected line's number) and are added to the
others. One that is about an earlier month than its report is billed with the report's month, ChargeClass Correction.

Missing in the reports: list prices (ListCost and ListUnitPrice are null), the shape of an instance (GPUs are known by
their part number and description), credits, tax and invoice ids. `cost/myCost` is the value at the contract's rate,
overage included, whether paid by Universal Credits or not; the part beyond the commitment is in x_Native.
`cost/attributedCost`, a split of a cluster's cost over its databases, is in x_Native and never added.
"""

import re
from collections import defaultdict

from gpuledger.core.contracts import Delivery, SourceFile, Tree
from gpuledger.core.deliveries import is_data
from gpuledger.diagnostics import Diagnostic

TYPE = "oci"
TITLE = "OCI cost report"
PROVIDER = "Oracle"
VERSION = "OCI cost report"
COLUMNS = {
    "reference_no": ("lineItem/referenceNo",),
    "tenant_id": ("lineItem/tenantId",),
    "usage_start": ("lineItem/intervalUsageStart",),
    "usage_end": ("lineItem/intervalUsageEnd",),
    "service": ("product/service",),
    "resource": ("product/resource",),
    "compartment_id": ("product/compartmentId",),
    "compartment_name": ("product/compartmentName",),
    "region": ("product/region",),
    "availability_domain": ("product/availabilityDomain",),
    "resource_id": ("product/resourceId",),
    "billed_quantity": ("usage/billedQuantity",),
    "billed_quantity_overage": ("usage/billedQuantityOverage",),
    "subscription_id": ("cost/subscriptionId",),
    "product_sku": ("cost/productSku",),
    "description": ("product/Description",),
    "unit_price": ("cost/unitPrice",),
    "my_cost": ("cost/myCost",),
    "my_cost_overage": ("cost/myCostOverage",),
    "currency": ("cost/currencyCode",),
    "sku_unit": ("cost/skuUnitDescription",),  # took the place of billingUnitReadable
    "billing_unit": ("cost/billingUnitReadable",),
    "overage_flag": ("cost/overageFlag",),
    "is_correction": ("lineItem/isCorrection",),
    "corrects": ("lineItem/backreferenceNo", "lineItem/backReference", "lineItem/backreferenceNumber"),
    "attributed_cost": ("cost/attributedCost",),
    "attributed_usage": ("usage/attributedUsage",),
}
REQUIRED = ("usage_start", "my_cost", "currency")
PREFIXES = {"tags": ("tags/",)}
TOTAL = "sum(money(my_cost))"

_PART = re.compile(r"^(?P<report>.*\d)-(?P<part>\d{5})(?P<end>\.csv(?:\.gz)?)$")
_OTHER_REPORTS = ("focus reports/", "usage-csv/")


def discover(tree: Tree) -> list[Delivery]:
    """Take all cost reports of the tree as one delivery; a report with a missing part makes it incomplete."""
    files = [file for file in tree.files if is_data(file.path)]
    wanted = tuple(file for file in files if not any(name in file.path.lower() for name in _OTHER_REPORTS))
    if not wanted:
        return []
    diagnostics = []
    if len(wanted) < len(files):
        diagnostics.append(
            Diagnostic(
                "other-reports", "info", tree.location,
                f"{len(files) - len(wanted)} file(s) are FOCUS or usage reports and were not read",
                "FOCUS reports have the same charges: ingest either them (--type focus) or the cost reports.",
            )
        )  # fmt: skip
    if len(wanted) == 1 and re.search(r"\d{8,}(-\d{5})?\.csv", wanted[0].path):
        diagnostics.append(
            Diagnostic(
                "part-of-a-month", "warning", f"{tree.location}: {wanted[0].path}",
                "this is one of many files of its month, and takes the place of what the ledger has of that month",
                "A cost report covers about six hours: ingest the folder with all of them.",
            )
        )  # fmt: skip
    return [Delivery(files=wanted, missing=_missing(wanted), diagnostics=tuple(diagnostics))]


def _missing(files: tuple[SourceFile, ...]) -> tuple[str, ...]:
    """Name the parts that must exist, since later parts of the same report do."""
    parts: dict[tuple[str, str], set[int]] = defaultdict(set)
    for file in files:
        if found := _PART.match(file.path):
            parts[found["report"], found["end"]].add(int(found["part"]))
    return tuple(
        f"{report}-{part:05}{end}"
        for (report, end), have in sorted(parts.items())
        for part in range(1, max(have))
        if part not in have
    )
