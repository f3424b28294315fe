"""GPU pools as the ledger's bills show them: the most cards seen at once, and what one costs on demand."""

from collections.abc import Mapping
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from gpuledger.core.calendar import WorkingHours
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import UsageError
from gpuledger.pipeline.blast_idle import Placed, absorbed
from gpuledger.pipeline.blast_radius import Written
from gpuledger.pipeline.ledger import Ledger
from gpuledger.prices import gpu_type, price_at

# Charges of one provider, region and instance type that cover the same time are added up; cards at once are their
# GPU-hours over its length. The price is of the newest such time with a list price that isn't spot or committed.
_POOLS: Final = """
WITH charge AS (
    SELECT coalesce(ServiceProviderName, HostProviderName, 'unknown') AS provider,
           coalesce(RegionId, 'no region') AS region,
           coalesce(x_InstanceType, x_GpuModel, 'GPU') AS type,
           ChargePeriodStart AS began, ChargePeriodEnd AS ended,
           x_GpuHours AS gpu_hours, ListCost AS list_cost, EffectiveCost AS paid, x_GpuModel AS gpu_model,
           PricingCategory IS NOT DISTINCT FROM 'Dynamic' AND CommitmentDiscountId IS NULL AND EffectiveCost > 0 AS spot,
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
           sum(paid) FILTER (spot) AS spot_cost, sum(gpu_hours) FILTER (spot) AS spot_hours, any_value(gpu_model) AS gpu_model,
           string_agg(DISTINCT source, ', ' ORDER BY source) AS sources
    FROM charge GROUP BY ALL
)
SELECT provider, region, type,
       max(ceil(gpu_hours * 3600 / seconds))::BIGINT AS gpus,
       arg_max(began, gpu_hours * 3600 / seconds) AS seen,
       arg_max(list_cost, began) FILTER (priced_hours > 0) AS list_cost,
       arg_max(priced_hours, began) FILTER (priced_hours > 0) AS priced_hours,
       max(began) FILTER (priced_hours > 0) AS priced,
       arg_max(spot_cost, began) FILTER (spot_hours > 0) AS spot_cost,
       arg_max(spot_hours, began) FILTER (spot_hours > 0) AS spot_hours,
       max(began) FILTER (spot_hours > 0) AS spot_priced,
       any_value(gpu_model) AS gpu_model,
       arg_max(sources, began) AS sources
FROM moment GROUP BY ALL ORDER BY ALL
"""
_MICRO: Final = Decimal("0.000001")


def pools_of(ledger: Ledger, hours: WorkingHours, today: date) -> tuple[list[Written], list[Diagnostic]]:
    """Return one pool per provider, region and instance type on the bills, and what could not be told.

    The cards are those seen at once, not the quota: the ledger doesn't know how many more could be started. What idle
    commitments would absorb of them is the median of the off-hours. Raises LedgerError without a ledger and UsageError
    when no charge counts GPU-hours.
    """
    ledger.require()
    con = ledger.connect()
    found = con.execute(_POOLS)
    names = [column[0] for column in found.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    priced = [(row, price) for row in rows if row["gpus"] and (price := _price(row, today)) is not None]
    known = [row for row, _ in priced]
    diagnostics = [
        Diagnostic(
            "blast-radius-unpriced", "warning", row["sources"],
            f"neither the bills nor the price files have a price of {row['type']} in {row['region']}: {row['gpus']} GPUs are left out",
            "Add this pool by --pool with its price.",
        )
        for row in rows if row not in known and row["gpus"]
    ]  # fmt: skip
    if not priced:
        raise UsageError(
            "no charge of the ledger has GPU-hours with a known price",
            where=ledger.location,
            hint="Give --pool name=…,gpus=…,usd_per_gpu_hour=….",
        )
    diagnostics.append(
        Diagnostic(
            "blast-radius-quota-unknown", "info", ledger.location,
            "GPUs of the ledger's pools are the most seen at once on the bills; a quota may allow more",
            "Add --aws, --kube or --slurm, or pools by --pool with gpus=… as your quota's headroom.",
        )
    )  # fmt: skip
    placed = [
        Placed(_written(row, *price), row["provider"], row["region"], row["gpu_model"])
        for row, price in priced
    ]
    written, notes = absorbed(con, placed, hours)
    return written, diagnostics + notes


def _price(row: Mapping[str, Any], today: date) -> tuple[Decimal, str] | None:
    """Price of a GPU-hour and its origin: on demand on the bills, in the price files, else what spot cost."""
    source = f"ledger, {row['sources']}"
    if row["priced_hours"]:
        price = (row["list_cost"] / row["priced_hours"]).quantize(_MICRO, ROUND_HALF_UP)
        return price, f"{source}: list price on demand of {row['priced']:%Y-%m-%d}"
    point, kind = price_at(row["type"], row["region"], today), gpu_type(row["type"])
    if point is not None and point.on_demand is not None and kind is not None and kind.gpu_count:
        price = point.on_demand * kind.gpu_count.denominator / kind.gpu_count.numerator
        origin = f"price file {point.cloud}.csv, list price of {point.region} as of {point.as_of}: the bills have none on demand"
        return price.quantize(_MICRO, ROUND_HALF_UP), origin
    if row["spot_hours"]:
        price = (row["spot_cost"] / row["spot_hours"]).quantize(_MICRO, ROUND_HALF_UP)
        return (
            price,
            f"{source}: what spot cost on {row['spot_priced']:%Y-%m-%d}; the bills have no price on demand",
        )
    return None


def _written(row: Mapping[str, Any], price: Decimal, origin: str) -> Written:
    values = {
        "name": f"{row['provider']} {row['type']} {row['region']}"[:60].replace(",", " ").replace(";", " "),
        "gpus": str(row["gpus"]),
        "usd_per_gpu_hour": format(price, "f"),
    }
    origins = {
        "name": f"ledger, {row['sources']}",
        "gpus": f"ledger, {row['sources']}: most at once on the bills, {row['seen']:%Y-%m-%d %H:%M} UTC",
        "usd_per_gpu_hour": origin,
    }
    return Written(values, origins)
