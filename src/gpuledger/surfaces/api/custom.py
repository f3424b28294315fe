"""External costs: charges of vendors that sell no machines, in the form of OpenCost's custom costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gpuledger.core.money import total
from gpuledger.core.opencost import UNALLOCATED
from gpuledger.core.opencost.clouds import (
    CUSTOM,
    CUSTOM_COSTS,
    CUSTOM_VOCABULARY,
    EXTERNAL,
    parse_properties,
)
from gpuledger.core.opencost.filter_sql import Parameters, condition
from gpuledger.core.opencost.filters import Filter
from gpuledger.core.opencost.items import Json, exact_text, number
from gpuledger.core.opencost.requests import IGNORED, filters, parse_choice
from gpuledger.core.opencost.windows import Accumulate, Span, parse_accumulate, parse_window, sets
from gpuledger.engines.duckdb import Connection
from gpuledger.surfaces.api.allocation import set_number
from gpuledger.surfaces.api.clouds import currency_of, during

KNOWN: Final = frozenset({
    "window", "aggregate", "accumulate", "filter", "costType", "sortBy", "sortDirection", "currency", *IGNORED,
})  # fmt: skip
# The answer's name of each property.
_ANSWER: Final = {
    "zone": "zone", "accountName": "account_name", "chargeCategory": "charge_category", "description": "description",
    "resourceName": "resource_name", "resourceType": "resource_type", "providerId": "provider_id",
    "usageUnit": "usage_unit", "domain": "domain", "costSource": "cost_source",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants to know of external costs."""

    span: Span
    accumulate: Accumulate
    aggregate: tuple[str, ...]
    filter: Filter
    cost_type: str
    sort_by: str
    descending: bool
    currency: str | None


def parse(given: Mapping[str, str], now: datetime) -> Request:
    """Read the parameters of /customCost/total and /customCost/timeseries."""
    costs = {name: name for name in CUSTOM_COSTS}
    orders = {"asc": "asc", "desc": "desc"}
    fields = {"cost": "cost", "aggregate": "aggregate", "costtype": "costType"}
    return Request(
        span=parse_window(given.get("window", ""), now),
        accumulate=parse_accumulate(given.get("accumulate")) or "day",
        aggregate=parse_properties(given.get("aggregate"), CUSTOM, labels=False),
        filter=filters(given, CUSTOM_VOCABULARY, {}),
        cost_type=parse_choice(given.get("costType"), costs, "costType", "blended"),
        sort_by=parse_choice(given.get("sortBy"), fields, "sortBy", "cost"),
        descending=parse_choice(given.get("sortDirection"), orders, "sortDirection", "desc") == "desc",
        currency=given.get("currency", "").strip().upper() or None,
    )


def total_of(con: Connection, request: Request) -> Json:
    """Return the external costs of the whole window."""
    return _sets(con, request, (request.span,))[0]


def timeseries(con: Connection, request: Request) -> Json:
    """Return the external costs of each set of the window."""
    cut = tuple(sets(request.span, None, request.accumulate, "accumulate"))
    return {"window": request.span.json(), "timeseries": _sets(con, request, cut)}


def _sets(con: Connection, request: Request, cut: tuple[Span, ...]) -> list[Json]:
    parameters: Parameters = {}
    shown = condition(request.filter, {**CUSTOM}, {}, parameters)
    within, times = during(request.span)
    where = f"{within} AND {EXTERNAL} AND ({shown})"
    currency = currency_of(con, where, {**times, **parameters}, request.currency)
    cost = CUSTOM_COSTS[request.cost_type]
    name = ", ".join(f"coalesce(nullif({CUSTOM[one]}, ''), '{UNALLOCATED}')" for one in request.aggregate)
    one_each = ", ".join(
        f"CASE WHEN min({sql}) = max({sql}) THEN min({sql}) ELSE '' END" for sql in CUSTOM.values()
    )
    each = ", ".join(CUSTOM.values())
    rows = con.execute(
        f"""SELECT {set_number(cut, "ChargePeriodStart")} AS set_no,
    {f"concat_ws('/', {name})" if name else "''"} AS name, {one_each},
    sum({cost}), count(DISTINCT ConsumedUnit) <= 1, sum(ConsumedQuantity),
    CASE WHEN min(ListUnitPrice) = max(ListUnitPrice) THEN min(ListUnitPrice) END,
    bool_and({cost} IS NOT DISTINCT FROM BilledCost), bool_and({cost} IS NOT DISTINCT FROM ListCost)
FROM cost_and_usage WHERE {where} AND coalesce(BillingCurrency, '') = $currency
GROUP BY set_no, name{"" if name else ", " + each}""",
        {**times, **parameters, "currency": currency or ""},
    ).fetchall()
    found: list[list[Json]] = [[] for _ in cut]
    sums = [total(row[12] for row in rows if row[0] == n and row[12] is not None) for n in range(len(cut))]
    for row in rows:
        found[row[0]].append(_item(row, currency))
    return [
        {
            "window": span.json(),
            "totalCost": float(whole),
            "totalCostType": request.cost_type,
            "customCosts": _sorted(costs, request),
            "gpuledger": {"currency": currency or None, "totalCost": exact_text(whole)},
        }
        for span, whole, costs in zip(cut, sums, found, strict=True)
    ]


def _item(row: tuple[object, ...], currency: str | None) -> Json:
    names = dict(zip(_ANSWER.values(), row[2:12], strict=True))
    cost, one_unit, quantity, price, billed, listed = row[12:]
    return {
        "id": "",
        **names,
        "cost": number(cost),  # type: ignore[arg-type]  # DuckDB's rows have no types
        "list_unit_price": number(price),  # type: ignore[arg-type]
        "usage_quantity": number(quantity) if one_unit else None,  # type: ignore[arg-type]
        "aggregate": row[1],
        "cost_type": "billed" if billed else "list" if listed else "blended",
        "gpuledger": {"currency": currency or None, "cost": None if cost is None else exact_text(cost)},  # type: ignore[arg-type]
    }


def _sorted(costs: list[Json], request: Request) -> list[Json]:
    field = {"cost": "cost", "aggregate": "aggregate", "costType": "cost_type"}[request.sort_by]
    costs.sort(key=lambda one: one["aggregate"])
    return sorted(costs, key=lambda one: (one[field] is not None, one[field]), reverse=request.descending)
