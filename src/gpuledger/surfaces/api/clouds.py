"""Cloud costs: the bills by account, service, category and so on, per set of the window, and the page's views of them."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.money import total
from gpuledger.core.opencost import UNALLOCATED, one_currency
from gpuledger.core.opencost.clouds import (
    CLOUD,
    CLOUD_FIELDS,
    CLOUD_ITEM,
    CLOUD_KEYS,
    CLOUD_METRICS,
    CLOUD_VOCABULARY,
    EXTERNAL,
    expression,
    parse_properties,
)
from gpuledger.core.opencost.filter_sql import Parameters, condition
from gpuledger.core.opencost.filters import Filter
from gpuledger.core.opencost.items import Json, exact_text, number
from gpuledger.core.opencost.requests import IGNORED, filters, parse_choice, parse_count
from gpuledger.core.opencost.windows import Span, parse_accumulate, parse_window, sets, stamp
from gpuledger.engines.duckdb import Connection
from gpuledger.surfaces.api.allocation import set_number

V1: Final = {
    "filterInvoiceEntityIDs": "invoiceEntityID", "filterAccountIDs": "accountID", "filterProviders": "provider",
    "filterProviderIDs": "providerID", "filterCategories": "category", "filterServices": "service",
    "filterLabels": "label",
}  # fmt: skip
KNOWN: Final = frozenset({
    "window", "aggregate", "accumulate", "filter", "costMetric", "limit", "offset", "sortBy", "sortByOrder", "format",
    "currency", *V1, *IGNORED,
})  # fmt: skip
_COSTS: Final = ("ListCost", "BilledCost", "EffectiveCost")
_CHART_ITEMS: Final = 10


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants to know of the bills."""

    span: Span
    sets: tuple[Span, ...]
    aggregate: tuple[str, ...]
    filter: Filter
    metric: str
    currency: str | None
    limit: int | None
    offset: int
    sort_by: str
    descending: bool


@dataclass(slots=True)
class Row:
    """One name in one set: its costs by FOCUS column, and the effective cost that machines of clusters have of it."""

    set_no: int
    name: str
    properties: Json
    costs: dict[str, Decimal | None]
    clustered: Decimal | None

    @property
    def kubernetes_percent(self) -> float | None:
        """Share of the cost that clusters caused, 0 to 1; None where no cost is known."""
        whole = self.costs["EffectiveCost"]
        if whole is None:
            return None
        return float((self.clustered or Decimal(0)) / whole) if whole > 0 else 0.0


def parse(given: Mapping[str, str], now: datetime) -> Request:
    """Read the parameters of /cloudCost and its views."""
    span = parse_window(given.get("window", ""), now)
    accumulate = parse_accumulate(given.get("accumulate"))
    metrics = {name.lower(): name for name in CLOUD_METRICS}
    fields = {"cost": "cost", "name": "name", "kubernetespercent": "kubernetesPercent"}
    order = parse_choice(given.get("sortByOrder"), {"asc": "asc", "desc": "desc"}, "sortByOrder", "desc")
    return Request(
        span=span,
        sets=tuple(sets(span, None, accumulate or "day", "accumulate")),
        aggregate=parse_properties(given.get("aggregate"), CLOUD, labels=True) or CLOUD_ITEM,
        filter=filters(given, CLOUD_VOCABULARY, V1),
        metric=parse_choice(given.get("costMetric"), metrics, "costMetric", "amortizedNetCost"),
        currency=given.get("currency", "").strip().upper() or None,
        limit=parse_count(given.get("limit"), "limit") or None,
        offset=parse_count(given.get("offset"), "offset"),
        sort_by=parse_choice(given.get("sortBy"), fields, "sortBy", "cost"),
        descending=order == "desc",
    )


def currency_of(
    con: Connection, where: str, parameters: Mapping[str, object], wanted: str | None
) -> str | None:
    """Return the one currency of the charges. Raises BadParameterError when there are several and none was chosen."""
    if wanted is not None:
        return wanted
    codes = [
        row[0]
        for row in con.execute(
            f"SELECT DISTINCT coalesce(BillingCurrency, '') FROM cost_and_usage WHERE {where} ORDER BY 1 LIMIT 20",
            dict(parameters),
        ).fetchall()
    ]
    return one_currency(codes)


def during(span: Span) -> tuple[str, dict[str, object]]:
    """Return the condition, and its parameters, that a charge is of a window: its period starts there."""
    return "ChargePeriodStart >= $since AND ChargePeriodStart < $until", {
        "since": span.start,
        "until": span.end,
    }


def _rows(con: Connection, request: Request) -> tuple[list[Row], str | None]:
    parameters: Parameters = {}
    shown = condition(request.filter, CLOUD_FIELDS, CLOUD_KEYS, parameters)
    within, times = during(request.span)
    where = f"{within} AND NOT {EXTERNAL} AND ({shown})"
    currency = currency_of(con, where, {**times, **parameters}, request.currency)
    times["currency"] = currency or ""
    where += " AND coalesce(BillingCurrency, '') = $currency"
    names = [expression(name, CLOUD, parameters) for name in request.aggregate]
    keys = ", ".join(f"{name} AS k{n}" for n, name in enumerate(names))
    by = ", ".join(f"k{n}" for n in range(len(names)))
    number_of = set_number(request.sets, "ChargePeriodStart")
    found = con.execute(
        f"""WITH billed AS (
    SELECT {number_of} AS set_no, {keys}, {", ".join(f"sum({cost}) AS {cost}" for cost in _COSTS)}
    FROM cost_and_usage WHERE {where} GROUP BY ALL
), clustered AS (
    SELECT {number_of} AS set_no, {keys}, sum(EffectiveCost) AS clustered
    FROM allocated WHERE x_Cluster IS NOT NULL AND {where} GROUP BY ALL
)
SELECT set_no, {by}, {", ".join(_COSTS)}, clustered FROM billed LEFT JOIN clustered USING (set_no, {by})""",
        {**times, **parameters},
    ).fetchall()
    rows = []
    for row in found:
        values = row[1 : 1 + len(names)]
        costs = dict(zip(_COSTS, row[1 + len(names) : -1], strict=True))
        name = "/".join(value or UNALLOCATED for value in values)
        rows.append(Row(row[0], name, _properties(request.aggregate, values), costs, row[-1]))
    return rows, currency


def _properties(names: Sequence[str], values: Sequence[str]) -> Json:
    found: Json = {}
    for name, value in zip(names, values, strict=True):
        kind, colon, key = name.partition(":")
        if value and colon:
            found.setdefault("labels", {})[key] = value
        elif value:
            found[kind] = value
    return found


def answer(con: Connection, request: Request) -> Json:
    """Return the sets of cloud costs."""
    rows, currency = _rows(con, request)
    cut: list[Json] = [
        {"cloudCosts": {}, "window": span.json(), "aggregationProperties": list(request.aggregate)}
        for span in request.sets
    ]
    for row in rows:
        metrics = {
            name: {"cost": number(row.costs[column]), "kubernetesPercent": row.kubernetes_percent}
            for name, column in CLOUD_METRICS.items()
        }
        exact = {column: None if cost is None else exact_text(cost) for column, cost in row.costs.items()}
        cut[row.set_no]["cloudCosts"][row.name] = {
            "properties": row.properties,
            "window": request.sets[row.set_no].json(),
            **metrics,
            "gpuledger": {"currency": currency or None, **exact},
        }
    return {"sets": cut, "window": request.span.json()}


def graph(con: Connection, request: Request) -> list[Json]:
    """Return the ten largest names of each set; the rest is added to the tenth, which is then called Other."""
    rows, _ = _rows(con, request)
    if not rows:
        return []
    found = []
    for number_, span in enumerate(request.sets):
        costs = [(row.name, _metric(row, request)) for row in rows if row.set_no == number_]
        costs.sort(key=lambda pair: (-pair[1], pair[0]))
        if len(costs) > _CHART_ITEMS:
            rest = total(cost for _, cost in costs[_CHART_ITEMS - 1 :])
            costs = [*costs[: _CHART_ITEMS - 1], ("Other", rest)]
        items = [{"name": name, "value": float(cost)} for name, cost in costs]
        found.append({"start": stamp(span.start), "end": stamp(span.end), "items": items})
    return found


def totals(con: Connection, request: Request) -> Json:
    """Return the sum over all names, and how many there are."""
    rows, currency = _rows(con, request)
    combined = _combined(rows)
    whole = total(row.costs[CLOUD_METRICS[request.metric]] or Decimal(0) for row in rows)
    return {
        "numResults": len(combined),
        "combined": {
            "name": "Totals",
            "labels": None,
            "kubernetesPercent": _percent(rows),
            "cost": float(whole),
            "gpuledger": {"currency": currency or None, "cost": exact_text(whole)},
        },
    }


def table(con: Connection, request: Request) -> list[Json]:
    """Return one row per name over the whole window, sorted and paged."""
    rows, _ = _rows(con, request)
    found: list[Json] = [
        {
            "name": name,
            "labels": of_name[0].properties.get("labels"),
            "kubernetesPercent": _percent(of_name),
            "cost": float(total(_metric(row, request) for row in of_name)),
        }
        for name, of_name in _combined(rows).items()
    ]
    found.sort(key=lambda row: row["name"])
    found.sort(
        key=lambda row: (row[request.sort_by] is not None, row[request.sort_by]), reverse=request.descending
    )
    last = None if request.limit is None else request.offset + request.limit
    return found[request.offset : last]


def as_csv(rows: Sequence[Json], span: Span) -> str:
    """Return a table's rows as CSV, under OpenCost's headings."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["Name", "K8s Utilization", "Total", "Window"])
    window = f"{stamp(span.start)},{stamp(span.end)}"
    for row in rows:
        writer.writerow([_harmless(row["name"]), row["kubernetesPercent"], row["cost"], window])
    return out.getvalue()


def _harmless(text: str) -> str:
    """Keep spreadsheets from taking a name for a formula."""
    return "'" + text if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def _metric(row: Row, request: Request) -> Decimal:
    return row.costs[CLOUD_METRICS[request.metric]] or Decimal(0)


def _combined(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.name, []).append(row)
    return found


def _percent(rows: Sequence[Row]) -> float | None:
    known = [row for row in rows if row.costs["EffectiveCost"] is not None]
    whole = total(row.costs["EffectiveCost"] or Decimal(0) for row in known)
    if not known:
        return None
    return float(total(row.clustered or Decimal(0) for row in known) / whole) if whole > 0 else 0.0


def status(units: Sequence[Any]) -> list[Json]:
    """Return the sources of bills in the form of OpenCost's integrations."""
    found: dict[str, Json] = {}
    for unit in units:
        there = found.setdefault(
            unit.source,
            {
                "key": unit.source,
                "source": unit.source,
                "provider": None,
                "active": True,
                "valid": True,
                "coverage": unit.billing_period,
                "connectionStatus": "Connection Successful",
            },
        )
        there["coverage"] = f"{there['coverage'].partition(',')[0]},{unit.billing_period}"
    return list(found.values())
