"""GPU pools as the ledger's bills show them: the most cards seen at once, and what one costs on demand."""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import UsageError
from gpuledger.pipeline.blast_radius import Written
from gpuledger.pipeline.ledger import Ledger

# Charges of one provider, region and instance type that cover the same time are added up; cards at once are their
# GPU-hours over its length. The price is of the newest such time with a list price that isn't spot or committed.
_POOLS: Final = """
WITH charge AS (
    SELECT coalesce(ServiceProviderName, HostProviderName, 'unknown') AS provider,
           coalesce(RegionId, 'no region') AS region,
           coalesce(x_InstanceType, x_GpuModel, 'GPU') AS type,
           ChargePeriodStart AS began, ChargePeriodEnd AS ended,
           x_GpuHours AS gpu_hours, ListCost AS list_cost,
           coalesce(PricingCategory, 'Standard') = 'Standard' AND CommitmentDiscountId IS NULL AS on_demand,
           x_Source AS source
    FROM cost_and_usage
    WHERE ChargeCategory = 'Usage' AND x_GpuHours > 0 AND BillingCurrency = 'USD'
      AND ChargePeriodEnd > ChargePeriodStart
),
moment AS (
    SELECT provider, region, type, began, ended,
           sum(gpu_hours) AS gpu_hours,
           epoch(ended - began)::BIGINT AS seconds,
           sum(list_cost) FILTER (on_demand AND list_cost > 0) AS list_cost,
           sum(gpu_hours) FILTER (on_demand AND list_cost > 0) AS priced_hours,
           string_agg(DISTINCT source, ', ' ORDER BY source) AS sources
    FROM charge GROUP BY ALL
)
SELECT provider, region, type,
       max(ceil(gpu_hours * 3600 / seconds))::BIGINT AS gpus,
       arg_max(began, gpu_hours * 3600 / seconds) AS seen,
       arg_max(list_cost, began) FILTER (priced_hours > 0) AS list_cost,
       arg_max(priced_hours, began) FILTER (priced_hours > 0) AS priced_hours,
       max(began) FILTER (priced_hours > 0) AS priced,
       arg_max(sources, began) AS sources
FROM moment GROUP BY ALL ORDER BY ALL
"""
_MICRO: Final = Decimal("0.000001")


def pools_of(ledger: Ledger) -> tuple[list[Written], list[Diagnostic]]:
    """Return one pool per provider, region and instance type on the bills, and what could not be told.

    The cards are those seen at once, not the quota: the ledger doesn't know how many more could be started. Raises
    LedgerError without a ledger and UsageError when no charge counts GPU-hours.
    """
    ledger.require()
    found = ledger.connect().execute(_POOLS)
    names = [column[0] for column in found.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    priced = [row for row in rows if row["priced_hours"] and row["gpus"]]
    diagnostics = [
        Diagnostic(
            "blast-radius-unpriced", "warning", row["sources"],
            f"no list price on demand is on the bills of {row['type']} in {row['region']}: {row['gpus']} GPUs are left out",
            "Add this pool by --pool with its price.",
        )
        for row in rows if row not in priced
    ]  # fmt: skip
    if not priced:
        raise UsageError(
            "no charge of the ledger has GPU-hours with an on-demand list price",
            where=ledger.location,
            hint="Give --pool name=…,gpus=…,usd_per_gpu_hour=….",
        )
    diagnostics.append(
        Diagnostic(
            "blast-radius-quota-unknown", "info", ledger.location,
            "GPUs of the ledger's pools are the most seen at once on the bills; a quota may allow more",
            "Add pools by --pool with gpus=… as your quota's headroom.",
        )
    )  # fmt: skip
    return [_written(row) for row in priced], diagnostics


def _written(row: Mapping[str, Any]) -> Written:
    price = (row["list_cost"] / row["priced_hours"]).quantize(_MICRO, ROUND_HALF_UP)
    values = {
        "name": f"{row['provider']} {row['type']} {row['region']}"[:60],
        "gpus": str(row["gpus"]),
        "usd_per_gpu_hour": format(price, "f"),
    }
    origins = {
        "name": f"ledger, {row['sources']}",
        "gpus": f"ledger, {row['sources']}: most at once on the bills, {row['seen']:%Y-%m-%d %H:%M} UTC",
        "usd_per_gpu_hour": f"ledger, {row['sources']}: list price on demand of {row['priced']:%Y-%m-%d}",
    }
    return Written(values, origins)
