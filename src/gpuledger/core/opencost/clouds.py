"""What cloud costs and external ("custom") costs are grouped and filtered by, over FOCUS columns.

Every charge of the ledger is in exactly one of the two: charges of vendors that sell an API, a warehouse or a service
and no machines (`EXTERNAL_VENDORS`) are external, all others are cloud costs.
"""

import re
from collections.abc import Mapping
from typing import Final

from gpuledger.core.opencost import BadParameterError
from gpuledger.core.opencost.filter_sql import Lookup, Parameters, bind
from gpuledger.core.opencost.filters import Vocabulary
from gpuledger.core.opencost.properties import label, label_names

EXTERNAL_VENDORS: Final = (
    "anthropic", "openai", "databricks", "snowflake", "datadog", "mongodb", "mistral ai", "cohere",
)  # fmt: skip
EXTERNAL: Final = (
    "lower(coalesce(ServiceProviderName, ProviderName, '')) IN ("
    + ", ".join(f"'{vendor}'" for vendor in EXTERNAL_VENDORS)
    + ")"
)

CLOUD: Final[Mapping[str, str]] = {
    "invoiceEntityID": "coalesce(BillingAccountId, '')",
    "invoiceEntityName": "coalesce(BillingAccountName, '')",
    "accountID": "coalesce(SubAccountId, BillingAccountId, '')",
    "accountName": "coalesce(SubAccountName, BillingAccountName, '')",
    "regionID": "coalesce(RegionId, '')",
    "availabilityZone": "coalesce(AvailabilityZone, '')",
    "provider": "coalesce(ServiceProviderName, ProviderName, '')",
    "providerID": "coalesce(ResourceId, '')",
    "category": "coalesce(ServiceCategory, '')",
    "service": "coalesce(ServiceName, '')",
}
CLOUD_FIELDS: Final[Mapping[str, str | Lookup]] = {**CLOUD, "label": lambda name: label("Tags", name)}
CLOUD_KEYS: Final = {"label": label_names("Tags")}
CLOUD_VOCABULARY: Final = Vocabulary(fields={**dict.fromkeys(CLOUD, "text"), "label": "map"}, aliases={})
# Nothing asked for stands for the item: OpenCost's own order.
CLOUD_ITEM: Final = ("invoiceEntityID", "accountID", "provider", "providerID", "category", "service")
# OpenCost's five costs in FOCUS: cash is billed, amortised is effective; FOCUS has no cost before negotiated discounts
# that is amortised, so both amortised ones are the effective cost.
CLOUD_METRICS: Final = {
    "listCost": "ListCost",
    "netCost": "BilledCost",
    "amortizedNetCost": "EffectiveCost",
    "invoicedCost": "BilledCost",
    "amortizedCost": "EffectiveCost",
}

CUSTOM: Final[Mapping[str, str]] = {
    "zone": "coalesce(AvailabilityZone, RegionId, '')",
    "accountName": "coalesce(SubAccountName, SubAccountId, BillingAccountName, BillingAccountId, '')",
    "chargeCategory": "coalesce(lower(ChargeCategory), '')",
    "description": "coalesce(ChargeDescription, '')",
    "resourceName": "coalesce(ResourceName, ResourceId, x_AiModel, '')",
    "resourceType": "coalesce(ResourceType, ServiceName, '')",
    "providerId": "coalesce(ResourceId, SkuId, '')",
    "usageUnit": "coalesce(ConsumedUnit, PricingUnit, '')",
    "domain": "lower(coalesce(ServiceProviderName, ProviderName, ''))",
    "costSource": "coalesce(ServiceCategory, '')",
}
CUSTOM_VOCABULARY: Final = Vocabulary(fields=dict.fromkeys(CUSTOM, "text"), aliases={})
CUSTOM_COSTS: Final = {
    "blended": "CASE WHEN BilledCost <> 0 THEN BilledCost ELSE ListCost END",
    "list": "ListCost",
    "billed": "BilledCost",
}


def parse_properties(
    text: str | None, known: Mapping[str, str], *, labels: bool, parameter: str = "aggregate"
) -> tuple[str, ...]:
    """Read a comma list of properties in any case; OpenCost's page says `item` for none.

    Raises BadParameterError for a property that there isn't.
    """
    found = []
    folded = {name.lower(): name for name in known}
    for part in (part.strip() for part in (text or "").split(",")):
        if not part or part.lower() == "item":
            continue
        if labels and (match := re.fullmatch(r"label:(.+)", part, re.IGNORECASE)):
            found.append(f"label:{match[1].strip()}")
        elif part.lower() in folded:
            found.append(folded[part.lower()])
        else:
            raise BadParameterError(
                parameter,
                f"can't aggregate by {part!r}",
                hint=f"Use {', '.join(known)}{' or label:NAME' if labels else ''}.",
            )
    return tuple(found)


def expression(name: str, known: Mapping[str, str], parameters: Parameters) -> str:
    """SQL of a property of a charge, '' where there is none."""
    kind, colon, key = name.partition(":")
    return label("Tags", bind(key, parameters)) if colon else known[kind]
