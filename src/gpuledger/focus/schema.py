"""The columns of the two ledger tables: name, DuckDB type and meaning.

A ledger row is a superset of FOCUS 1.3 and 1.4 (columns keep the specification's names)
plus our own columns, which carry the `x_` prefix.  Every connector, model and export
speaks these names and types; nothing else in the code lists them.

Types: money and unit prices are ``DECIMAL(32,18)`` (real bills carry up to 17 decimals),
quantities ``DECIMAL(38,14)``, times ``TIMESTAMPTZ`` in UTC, tag columns
``MAP(VARCHAR,VARCHAR)``, other JSON columns JSON text in ``VARCHAR``.

Column meanings follow the FOCUS specification, (c) FinOps Foundation / Joint Development
Foundation, CC BY 4.0; the wording is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

MONEY: Final = "DECIMAL(32,18)"
QUANTITY: Final = "DECIMAL(38,14)"
INSTANT: Final = "TIMESTAMPTZ"
TAGS: Final = "MAP(VARCHAR, VARCHAR)"
TEXT: Final = "VARCHAR"


class LedgerColumn(NamedTuple):
    """One column of a ledger table; `sql_type` is a DuckDB type name."""

    name: str
    sql_type: str
    description: str


def _columns(*rows: tuple[str, str, str]) -> tuple[LedgerColumn, ...]:
    return tuple(LedgerColumn(*row) for row in rows)


_PROVENANCE: Final = _columns(
    ("x_Source", TEXT, "configured name of the source that delivered the row (partition)"),
    ("x_BillingPeriod", TEXT, "billing period as YYYY-MM (partition)"),
    ("x_DeliveryId", TEXT, "delivery that brought the row; replaced as a whole (partition)"),
    ("x_CostStatus", TEXT, "'Final' when it comes from a bill, 'Estimated' when metered by us"),
    ("x_SourceVersion", TEXT, "format and version of the native row, e.g. 'FOCUS 1.0'"),
    ("x_SourceFile", TEXT, "file that holds the native row"),
    ("x_SourceRow", "BIGINT", "row number of the native row in that file, from 1"),
    ("x_DataIssues", TEXT, "what could not be read in the native row; null when fine"),
)

_GPU_AND_AI: Final = _columns(
    ("x_ChargeType", TEXT, "the source's own charge or line item type"),
    ("x_OriginChargeId", TEXT, "links split charges to the charge they were split from"),
    ("x_InstanceType", TEXT, "instance type, shape or machine type as the vendor names it"),
    ("x_GpuModel", TEXT, "accelerator model; null when not known"),
    ("x_GpuCount", "DECIMAL(9,3)", "accelerators per instance; a fraction for shared cards"),
    ("x_GpuMemoryGiB", "DECIMAL(9,2)", "memory of one accelerator in GiB"),
    ("x_GpuHours", QUANTITY, "accelerator hours the row pays for"),
    ("x_AiModel", TEXT, "model that was called, as the vendor names it"),
    ("x_TokenType", TEXT, "'input', 'output', 'cache_read' or 'cache_write'"),
    ("x_ServiceTier", TEXT, "'standard', 'batch', 'priority', 'flex', 'provisioned' or other"),
)

_CANONICAL_TAGS: Final = _columns(
    ("x_CostCenter", TEXT, "cost centre from the configured tag aliases"),
    ("x_Team", TEXT, "team from the configured tag aliases"),
    ("x_Owner", TEXT, "owner from the configured tag aliases"),
    ("x_Project", TEXT, "project from the configured tag aliases"),
    ("x_Environment", TEXT, "environment from the configured tag aliases"),
    ("x_Model", TEXT, "model under development or served, from the configured tag aliases"),
    ("x_Experiment", TEXT, "experiment from the configured tag aliases"),
    ("x_Job", TEXT, "job from the configured tag aliases"),
)

# What allocation adds to a charge that it splits; null in rows that nobody split.
_ALLOCATION: Final = _columns(
    ("x_JobId", TEXT, "job that holds this part of the charge"),
    ("x_AllocationState", TEXT, "'running', 'held', 'idle', 'unknown' or 'overhead'"),
    ("x_Cluster", TEXT, "cluster of the machine"),
    ("x_Node", TEXT, "node name of the machine"),
    ("x_Attempt", "BIGINT", "attempt of the job, from 1"),
    ("x_Namespace", TEXT, "Kubernetes namespace of the holder"),
    ("x_Pod", TEXT, "pod of the holder"),
    ("x_Container", TEXT, "container of the holder, where told apart"),
    ("x_GpuCost", MONEY, "part of EffectiveCost that pays for accelerators"),
    ("x_CpuCost", MONEY, "part of EffectiveCost that pays for cores"),
    ("x_MemoryCost", MONEY, "part of EffectiveCost that pays for memory"),
    ("x_HeldGpuHours", QUANTITY, "accelerator hours held, as telemetry saw them"),
    ("x_MeasuredGpuHours", QUANTITY, "of these, hours whose use was measured"),
    ("x_UsedGpuHours", QUANTITY, "accelerator hours used; null when nobody measured"),
    ("x_OverCapacity", "BOOLEAN", "claims exceeded the machine and were scaled down"),
)

_NATIVE: Final = _columns(
    ("x_Native", TAGS, "native columns worth keeping that FOCUS has no column for"),
)

_FOCUS_COST_AND_USAGE: Final = _columns(
    ("AllocatedMethodDetails", TEXT, "JSON: ratios and usage behind a split"),
    ("AllocatedMethodId", TEXT, "method that split the origin charge; null = not a split row"),
    ("AllocatedResourceId", TEXT, "job, pod or object that receives the split cost"),
    ("AllocatedResourceName", TEXT, "readable name of that object"),
    ("AllocatedTags", TAGS, "tags of the object that receives the split cost"),
    ("AvailabilityZone", TEXT, "isolated site within a region"),
    ("BilledCost", MONEY, "cash-basis amount that ends on an invoice"),
    ("BillingAccountId", TEXT, "account that the invoice issuer bills"),
    ("BillingAccountName", TEXT, "readable name of the billed account"),
    ("BillingAccountType", TEXT, "issuer's word for the kind of billed account"),
    ("BillingCurrency", TEXT, "currency of the cost columns (ISO 4217)"),
    ("BillingPeriodEnd", INSTANT, "exclusive end of the invoice cycle"),
    ("BillingPeriodStart", INSTANT, "inclusive start of the invoice cycle"),
    ("CapacityReservationId", TEXT, "reserved capacity that the row used or left idle"),
    ("CapacityReservationStatus", TEXT, "'Used' or 'Unused'"),
    ("ChargeCategory", TEXT, "'Usage', 'Purchase', 'Tax', 'Credit' or 'Adjustment'"),
    ("ChargeClass", TEXT, "'Correction' of an already invoiced period, else null"),
    ("ChargeDescription", TEXT, "self-contained sentence on what was charged"),
    ("ChargeFrequency", TEXT, "'One-Time', 'Recurring' or 'Usage-Based'"),
    ("ChargePeriodEnd", INSTANT, "exclusive end of the time the charge covers"),
    ("ChargePeriodStart", INSTANT, "inclusive start of the time the charge covers"),
    ("CommitmentDiscountCategory", TEXT, "'Spend' or 'Usage'"),
    ("CommitmentDiscountId", TEXT, "reservation, savings plan or committed use discount"),
    ("CommitmentDiscountName", TEXT, "readable name of that commitment"),
    ("CommitmentDiscountQuantity", QUANTITY, "amount bought, used or left unused"),
    ("CommitmentDiscountStatus", TEXT, "'Used' or 'Unused'"),
    ("CommitmentDiscountType", TEXT, "provider's product name for the commitment"),
    ("CommitmentDiscountUnit", TEXT, "unit of CommitmentDiscountQuantity"),
    ("CommitmentProgramEligibilityDetails", TEXT, "JSON: programs that could cover it (1.4)"),
    ("ConsumedQuantity", QUANTITY, "metered usage, independent of pricing units"),
    ("ConsumedUnit", TEXT, "unit of ConsumedQuantity"),
    ("ContractApplied", TEXT, "JSON: contract commitments that the charge burns down"),
    ("ContractedCost", MONEY, "cost at the negotiated rate before commitment discounts"),
    ("ContractedUnitPrice", MONEY, "negotiated unit price before commitment discounts"),
    ("EffectiveCost", MONEY, "accrual-basis cost after discounts and amortised prepayments"),
    ("HostProviderName", TEXT, "who runs the infrastructure under the service"),
    ("InvoiceDetailId", TEXT, "invoice line that the charge rolls into (1.4)"),
    ("InvoiceId", TEXT, "invoice that bills the row"),
    ("InvoiceIssuerName", TEXT, "who sends the invoice"),
    ("ListCost", MONEY, "cost at the public list price"),
    ("ListUnitPrice", MONEY, "public unit price before any discount"),
    ("PricingCategory", TEXT, "'Standard', 'Committed', 'Dynamic' or 'Other'"),
    ("PricingCurrency", TEXT, "currency or credit unit of the price list"),
    ("PricingCurrencyContractedUnitPrice", MONEY, "negotiated unit price in pricing currency"),
    ("PricingCurrencyEffectiveCost", MONEY, "effective cost in pricing currency"),
    ("PricingCurrencyListUnitPrice", MONEY, "list unit price in pricing currency"),
    ("PricingQuantity", QUANTITY, "quantity that the unit price multiplies"),
    ("PricingUnit", TEXT, "unit of PricingQuantity"),
    ("ProviderName", TEXT, "seller or platform (deprecated in 1.3, gone in 1.4)"),
    ("PublisherName", TEXT, "maker of the service (deprecated in 1.3, gone in 1.4)"),
    ("RegionId", TEXT, "provider's id of the region"),
    ("RegionName", TEXT, "readable region name"),
    ("ResourceId", TEXT, "provisioned resource that caused the charge"),
    ("ResourceName", TEXT, "readable name of the resource"),
    ("ResourceType", TEXT, "kind of resource"),
    ("ServiceCategory", TEXT, "normalised top-level service class"),
    ("ServiceName", TEXT, "provider's name of the service"),
    ("ServiceProviderName", TEXT, "who makes the service available"),
    ("ServiceSubcategory", TEXT, "normalised second-level service class"),
    ("SkuId", TEXT, "provider's priceable item"),
    ("SkuMeter", TEXT, "function of the SKU that is metered"),
    ("SkuPriceDetails", TEXT, "JSON: properties that fix the price"),
    ("SkuPriceId", TEXT, "exact price point of the SKU"),
    ("SubAccountId", TEXT, "account, subscription or project inside the billing account"),
    ("SubAccountName", TEXT, "readable sub account name"),
    ("SubAccountType", TEXT, "provider's word for the kind of sub account"),
    ("Tags", TAGS, "finalised resource tags"),
)

_FOCUS_CONTRACT_COMMITMENT: Final = _columns(
    ("BillingCurrency", TEXT, "currency of the commitment's cost"),
    ("ContractCommitmentApplicability", TEXT, "JSON: what the term applies to (1.4)"),
    ("ContractCommitmentBenefitCategory", TEXT, "what the customer gains (1.4)"),
    ("ContractCommitmentCategory", TEXT, "'Spend' or 'Usage'"),
    ("ContractCommitmentCost", MONEY, "money promised under the term"),
    ("ContractCommitmentCreated", INSTANT, "when the term's record appeared (1.4)"),
    ("ContractCommitmentDescription", TEXT, "plain summary of the term"),
    ("ContractCommitmentDiscountPercentage", QUANTITY, "discount the term grants (1.4)"),
    ("ContractCommitmentDurationType", TEXT, "length of the term (1.4)"),
    ("ContractCommitmentFulfillmentInterval", TEXT, "how often it must be met (1.4)"),
    ("ContractCommitmentId", TEXT, "key of one term; join target of ContractApplied"),
    ("ContractCommitmentLastUpdated", INSTANT, "when the record last changed (1.4)"),
    ("ContractCommitmentLifecycleStatus", TEXT, "stage in the term's life (1.4)"),
    ("ContractCommitmentModel", TEXT, "how the promise is measured (1.4)"),
    ("ContractCommitmentOfferCategory", TEXT, "public offer or private deal (1.4)"),
    ("ContractCommitmentPaymentInterval", TEXT, "how often it is paid (1.4)"),
    ("ContractCommitmentPaymentModel", TEXT, "all, part or nothing upfront (1.4)"),
    ("ContractCommitmentPaymentUpfrontPercentage", QUANTITY, "share paid upfront (1.4)"),
    ("ContractCommitmentPeriodEnd", INSTANT, "exclusive end of the term"),
    ("ContractCommitmentPeriodStart", INSTANT, "inclusive start of the term"),
    ("ContractCommitmentQuantity", QUANTITY, "usage promised under the term"),
    ("ContractCommitmentType", TEXT, "provider's name for this kind of term"),
    ("ContractCommitmentUnit", TEXT, "unit of the promised usage"),
    ("ContractId", TEXT, "parent contract"),
    ("ContractPeriodEnd", INSTANT, "exclusive end of the parent contract"),
    ("ContractPeriodStart", INSTANT, "inclusive start of the parent contract"),
    ("InvoiceIssuerName", TEXT, "who sends the invoice (1.4)"),
    ("PricingCurrency", TEXT, "currency or credit unit of the price list (1.4)"),
    ("PricingCurrencyContractCommitmentCost", MONEY, "promise in pricing currency (1.4)"),
    ("ServiceProviderName", TEXT, "who makes the service available (1.4)"),
)

LEDGER_COST_AND_USAGE: Final = _FOCUS_COST_AND_USAGE + _PROVENANCE + _GPU_AND_AI + _CANONICAL_TAGS + _NATIVE
ALLOCATED_COST: Final = LEDGER_COST_AND_USAGE + _ALLOCATION
LEDGER_CONTRACT_COMMITMENT: Final = _FOCUS_CONTRACT_COMMITMENT + _PROVENANCE + _NATIVE

# Delta partition columns, in this order, for both tables.
PARTITION_COLUMNS: Final = ("x_Source", "x_BillingPeriod", "x_DeliveryId")


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def create_columns(columns: Iterable[LedgerColumn]) -> str:
    """The column list of a ``CREATE TABLE``, without parentheses."""
    return ",\n".join(f"  {quoted(column.name)} {column.sql_type}" for column in columns)


def select_list(
    columns: Iterable[LedgerColumn],
    expressions: Mapping[str, str] | Iterable[str] = (),
) -> str:
    """A select list giving every column with its ledger type, NULL where nothing is known.

    `expressions` maps a column name to an SQL expression over the input; a plain
    collection of names stands for "the input has this column under this name".
    Casts are strict: a value that does not fit the type raises in DuckDB instead of
    becoming NULL.  Raises ValueError for an expression whose column the table lacks,
    since dropping it silently would lose data.
    """
    given = (
        dict(expressions)
        if isinstance(expressions, Mapping)
        else {name: quoted(name) for name in expressions}
    )
    wanted = tuple(columns)
    stray = sorted(set(given) - {column.name for column in wanted})
    if stray:
        message = f"no such ledger column: {', '.join(stray)}"
        raise ValueError(message)
    return ",\n".join(
        f"  CAST({given.get(column.name, 'NULL')} AS {column.sql_type}) AS {quoted(column.name)}"
        for column in wanted
    )
