"""The three utilisations of provisioned throughput: deployed of reserved, processed of deployed, processed of reserved.

A bill charges deployed units by the hour, used or not, and a reservation pays for some of them; what was processed is in
token telemetry, whose `deployment` is the resource on the bill, or `<resource>/<deployment>`.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.commitments import Commitment, ratio
from gpuledger.core.windows import Window
from gpuledger.engines import duckdb
from gpuledger.prices.provisioned import unit_capacity

_TOKENS: Final = """
SELECT split_part(lower(deployment), '/', 1) AS resource, model,
    sum(input_tokens) - coalesce(sum(cached_input_tokens), 0) AS uncached, sum(output_tokens) AS output
FROM token_interval
WHERE deployment IS NOT NULL AND "start" >= $since AND "start" < $until AND input_tokens IS NOT NULL AND output_tokens IS NOT NULL
GROUP BY ALL
"""
# Units of each deployment, and those of them that a reservation paid for.
_PAID: Final = """
SELECT concat_ws('#', coalesce(ResourceId, SubAccountId), SkuMeter) AS id, CommitmentDiscountId AS reservation, sum(PricingQuantity) AS quantity
FROM window_charge
WHERE x_ServiceTier = 'provisioned' AND ChargeCategory = 'Usage' AND contains(lower(PricingUnit), 'hour')
    AND CommitmentDiscountStatus IS DISTINCT FROM 'Unused'
GROUP BY ALL
"""


def processed(con: duckdb.Connection, window: Window) -> dict[str, Decimal]:
    """Return unit hours that tokens took, by resource in lower case; a resource with a model that isn't known is left out."""
    told = con.execute(_TOKENS, {"since": window.start, "until": window.end}).fetchall()
    found: dict[str, Decimal] = {}
    unknown = set()
    for resource, model, uncached, output in told:
        capacity = unit_capacity(model) if model else None
        if capacity is None:
            unknown.add(resource)
        else:
            found[resource] = found.get(resource, Decimal(0)) + capacity.unit_hours(uncached, output)
    return {resource: hours for resource, hours in found.items() if resource not in unknown}


def fill(
    con: duckdb.Connection, window: Window, commitments: Sequence[Commitment]
) -> dict[str, dict[str, Any]]:
    """Fill what telemetry says of the use of provisioned throughput; return the three utilisations by commitment id.

    The costs of used and unused units follow the unit hours.
    """
    deployments = [one for one in commitments if one.kind == "throughput"]
    if not deployments:
        return {}
    seen = processed(con, window)
    reserved = {one.id: one for one in commitments if one.kind == "discount"}
    paid: dict[str, list[tuple[str | None, Decimal]]] = {}
    for key, reservation, quantity in con.execute(_PAID).fetchall():
        paid.setdefault(key, []).append((reservation, quantity))
    told = {}
    for one in deployments:
        name = one.id.partition("#")[0].rstrip("/").rpartition("/")[2].casefold()
        used = seen.get(name)
        if used is not None and one.committed is not None:
            one.used = min(used, one.committed).quantize(Decimal("1e-14"))
            one.used_cost = (
                (one.cost * one.used / one.committed).quantize(Decimal("1e-12"))
                if one.committed
                else Decimal(0)
            )
            one.unused_cost = one.cost - one.used_cost
        told[one.id] = _three(one, paid.get(one.id, []), reserved)
    return told


def _three(
    one: Commitment, paid: Sequence[tuple[str | None, Decimal]], reserved: Mapping[str, Commitment]
) -> dict[str, Any]:
    ids = {key for key, _ in paid if key is not None}
    units = [reserved[key].committed or Decimal(0) for key in ids if key in reserved]
    whole = sum(units, Decimal(0)) if ids and len(units) == len(ids) else None
    covered = sum((quantity for key, quantity in paid if key is not None), Decimal(0))
    return {
        "deployed_of_reserved": ratio(covered, whole),
        "processed_of_deployed": one.utilization,
        "processed_of_reserved": ratio(min(one.used, covered), whole) if one.used is not None else None,
    }
