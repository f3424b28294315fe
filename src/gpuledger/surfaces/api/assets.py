"""Assets: the machines and volumes of clusters, what they are and what they cost in a window.

A machine is there when telemetry or an allocated charge tells of it; without a charge its cost is null.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.opencost import BadParameterError
from gpuledger.core.opencost.filter_sql import Lookup, Parameters, bind, condition
from gpuledger.core.opencost.filters import Filter, Vocabulary
from gpuledger.core.opencost.items import Json, exact_text, number
from gpuledger.core.opencost.properties import label, label_names
from gpuledger.core.opencost.requests import IGNORED, filters
from gpuledger.core.opencost.windows import Span, parse_bool, parse_step, parse_window, stamp
from gpuledger.engines.duckdb import Connection

V1: Final = {
    "filterTypes": "assetType", "filterClusters": "cluster", "filterNames": "name", "filterProviders": "provider",
    "filterProviderIDs": "providerID", "filterProviderIds": "providerID", "filterCategories": "category",
    "filterServices": "service", "filterAccounts": "account", "filterProjects": "project", "filterLabels": "label",
}  # fmt: skip
KNOWN: Final = frozenset({
    "window", "aggregate", "accumulate", "step", "filter", "includeIdle", "currency", "form", *V1, *IGNORED,
})  # fmt: skip
TEXT: Final[Mapping[str, str]] = {
    "assetType": "a.type",
    "name": "a.name",
    "category": "a.category",
    "cluster": "a.cluster",
    "provider": "a.provider",
    "providerID": "a.provider_id",
    "account": "a.account",
    "project": "''",
    "service": "'Kubernetes'",
    "department": "''",
    "environment": "''",
    "owner": "''",
    "product": "''",
    "team": "''",
}
FIELDS: Final[Mapping[str, str | Lookup]] = {**TEXT, "label": lambda name: label("a.labels", name)}
KEYS: Final = {"label": label_names("a.labels")}
VOCABULARY: Final = Vocabulary(
    fields={**dict.fromkeys(TEXT, "text"), "label": "map"}, aliases={"type": "assetType"}
)
_COLUMNS: Final = (
    "type", "category", "cluster", "name", "provider", "provider_id", "account", "labels", "start", "end", "node_type",
    "pool", "region", "spot", "gpu_model", "hours", "cores", "memory", "cards", "total", "gpu", "cpu", "ram", "idle_cpu",
    "idle_ram",
)  # fmt: skip
_GIB: Final = 2**30

# Machines by cluster and node: what telemetry says, and what allocated charges cost. Machine time that several sources
# tell of counts once: the longest word of one source.
_ASSETS: Final = """WITH told AS (
    SELECT cluster, node, x_Source AS source,
        sum(epoch(least("end", $until) - greatest("start", $since)) / 3600) AS hours,
        min(greatest("start", $since)) AS "start", max(least("end", $until)) AS "end",
        sum(CAST(cpu_cores AS DOUBLE) * epoch(least("end", $until) - greatest("start", $since)) / 3600) AS cores,
        sum(CAST(memory_gib AS DOUBLE) * epoch(least("end", $until) - greatest("start", $since)) / 3600) AS memory,
        sum(CAST(gpu_count AS DOUBLE) * epoch(least("end", $until) - greatest("start", $since)) / 3600) AS cards,
        arg_max(instance_type, "start") AS node_type, arg_max(pool, "start") AS pool, arg_max(region, "start") AS region,
        arg_max(cloud, "start") AS cloud, arg_max(provider_id, "start") AS provider_id, arg_max(spot, "start") AS spot,
        arg_max(gpu_model, "start") AS gpu_model, arg_max(labels, "start") AS labels
    FROM node_interval WHERE "start" < $until AND "end" > $since AND "end" > "start" GROUP BY ALL
), machine AS (
    SELECT cluster, node, min("start") AS "start", max("end") AS "end", max(hours) AS hours, max(cores) AS cores,
        max(memory) AS memory, max(cards) AS cards, any_value(node_type) AS node_type, any_value(pool) AS pool,
        any_value(region) AS region, any_value(cloud) AS cloud, any_value(provider_id) AS provider_id,
        any_value(spot) AS spot, any_value(gpu_model) AS gpu_model, any_value(labels) AS labels
    FROM told GROUP BY ALL
), cost AS (
    SELECT h.cluster, h.node, CASE WHEN h.node = '' THEN h.provider_id ELSE '' END AS volume,
        any_value(h.provider) AS provider, any_value(h.provider_id) AS provider_id, h.currency,
        min(c."start") AS "start", max(c."end") AS "end", sum(c.total) AS total, sum(c.gpu) AS gpu, sum(c.cpu) AS cpu,
        sum(c.ram) AS ram, sum(c.pv) AS pv, sum(c.cpu) FILTER (h.kind = 'idle') AS idle_cpu,
        sum(c.ram) FILTER (h.kind = 'idle') AS idle_ram
    FROM api_cost AS c JOIN api_holder AS h ON c.holder = h.id
    WHERE c."start" >= $since AND c."start" < $until GROUP BY ALL
), found AS (
    SELECT
        CASE WHEN c.node IS NULL OR c.node <> '' THEN 'Node' WHEN c.pv IS NOT NULL THEN 'Disk' ELSE 'Cloud' END AS type,
        CASE WHEN c.node IS NULL OR c.node <> '' THEN 'Compute' WHEN c.pv IS NOT NULL THEN 'Storage' ELSE 'Other'
            END AS category,
        coalesce(c.cluster, m.cluster) AS cluster,
        coalesce(nullif(c.node, ''), m.node, c.volume) AS name,
        coalesce(nullif(c.provider, ''), m.cloud, '') AS provider,
        coalesce(nullif(c.provider_id, ''), m.provider_id, '') AS provider_id, '' AS account, m.labels,
        coalesce(m."start", c."start") AS "start", coalesce(m."end", c."end") AS "end", m.node_type, m.pool, m.region,
        m.spot, m.gpu_model, m.hours, m.cores, m.memory, m.cards, c.total, c.gpu, c.cpu, c.ram, c.idle_cpu, c.idle_ram,
        c.currency
    FROM (FROM cost) AS c FULL JOIN machine AS m USING (cluster, node)
)
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants to know of assets. `listed`: in Kubecost's form, a list of one map."""

    span: Span
    filter: Filter
    currency: str | None
    listed: bool


def parse(given: Mapping[str, str], now: datetime) -> Request:
    """Read the parameters of /assets. Clients of Kubecost, which has another form, are known by `filterTypes`."""
    parse_bool(given.get("accumulate"), "accumulate")
    parse_step(given.get("step"))
    form = given.get("form", "").strip().lower()
    if form not in {"", "map", "list"}:
        raise BadParameterError("form", f"no form {form!r}", hint="Use map (OpenCost) or list (Kubecost).")
    return Request(
        span=parse_window(given.get("window", ""), now),
        filter=filters(given, VOCABULARY, V1),
        currency=given.get("currency", "").strip().upper() or None,
        listed=form == "list" or (not form and "filterTypes" in given),
    )


def answer(con: Connection, request: Request) -> dict[str, Json] | list[dict[str, Json]]:
    """Return a map of key to asset, dearest first. `con` has the window's days in memory."""
    found = {}
    for row in _rows(con, request):
        values = dict(zip((*_COLUMNS, "currency"), row, strict=True))
        key = "/".join(
            [
                values["provider"] or "__undefined__",
                values["category"],
                values["cluster"],
                values["type"],
                "Kubernetes",
                values["provider_id"] or "__undefined__",
                values["name"] or "__undefined__",
            ]
        )
        found[key] = _asset(values, request.span)
    return [found] if request.listed else found


def names(con: Connection, request: Request, field: str) -> list[str]:
    """Return the distinct values of a field over the assets that the filter lets through."""
    parameters: Parameters = {}
    shown = condition(request.filter, FIELDS, KEYS, parameters)
    if field == "label":
        value = f"unnest({KEYS['label']})"
    elif field.startswith("label:"):
        value = label("a.labels", bind(field.partition(":")[2], parameters))
    else:
        value = TEXT[field]
    rows = con.execute(
        f"{_ASSETS} SELECT DISTINCT {value} FROM found AS a WHERE {shown}", {**parameters, **_times(request)}
    ).fetchall()
    return [row[0] for row in rows if row[0]]


def _times(request: Request) -> dict[str, object]:
    return {"since": request.span.start, "until": request.span.end}


def _rows(con: Connection, request: Request) -> list[tuple[Any, ...]]:
    parameters: Parameters = {}
    shown = condition(request.filter, FIELDS, KEYS, parameters)
    if request.currency is not None:
        shown = f"({shown}) AND a.currency = {bind(request.currency, parameters)}"
    columns = ", ".join(f'a."{name}"' for name in (*_COLUMNS, "currency"))
    rows = con.execute(
        f"{_ASSETS} SELECT {columns} FROM found AS a WHERE {shown} ORDER BY a.total DESC NULLS LAST, a.cluster, a.name",
        {**parameters, **_times(request)},
    ).fetchall()
    codes = sorted({row[-1] for row in rows if row[-1] is not None})
    if len(codes) > 1:
        raise BadParameterError(
            "currency",
            f"the assets are paid in {', '.join(code or 'no stated currency' for code in codes)}",
            hint=f"Add currency={codes[-1]}.",
        )
    return rows


def _asset(values: Mapping[str, Any], span: Span) -> Json:
    minutes = (values["end"] - values["start"]) / timedelta(minutes=1)
    total: Decimal | None = values["total"]
    found: Json = {
        "type": values["type"],
        "properties": {
            name: value
            for name, value in (
                ("category", values["category"]),
                ("provider", values["provider"]),
                ("service", "Kubernetes"),
                ("cluster", values["cluster"]),
                ("name", values["name"]),
                ("providerID", values["provider_id"]),
            )
            if value
        },
        "labels": _labels(values),
        "window": span.json(),
        "start": stamp(values["start"]),
        "end": stamp(values["end"]),
        "minutes": minutes,
    }
    if values["type"] == "Node":
        found.update(_node(values))
    found.update(
        {
            "adjustment": 0.0,
            "totalCost": number(total),
            "gpuledger": {
                "currency": values["currency"] or None,
                "totalCost": None if total is None else exact_text(total),
            },
        }
    )
    return found


def _labels(values: Mapping[str, Any]) -> dict[str, str]:
    labels = dict(values["labels"] or {})
    if values["region"]:
        labels.setdefault("topology_kubernetes_io_region", values["region"])
    return labels


def _node(values: Mapping[str, Any]) -> Json:
    hours = values["hours"]
    spot = values["spot"]
    return {
        "nodeType": values["node_type"] or "",
        **({"pool": values["pool"]} if values["pool"] else {}),
        "cpuCores": values["cores"] / hours if values["cores"] is not None and hours else None,
        "ramBytes": values["memory"] * _GIB / hours if values["memory"] is not None and hours else None,
        "cpuCoreHours": values["cores"],
        "ramByteHours": None if values["memory"] is None else values["memory"] * _GIB,
        "GPUHours": values["cards"],
        "cpuBreakdown": _breakdown(values["cpu"], values["idle_cpu"]),
        "ramBreakdown": _breakdown(values["ram"], values["idle_ram"]),
        "preemptible": None if spot is None else float(spot),
        "discount": None,
        "cpuCost": number(values["cpu"]),
        "gpuCost": number(values["gpu"]),
        "gpuCount": values["cards"] / hours if values["cards"] is not None and hours else None,
        "gpuModel": values["gpu_model"],
        "ramCost": number(values["ram"]),
    }


def _breakdown(cost: Decimal | None, idle: Decimal | None) -> Json | None:
    """Shares of a resource's cost: idle, and the rest, which is the holders'."""
    if not cost or cost < 0:
        return None
    share = float((idle or Decimal(0)) / cost)
    return {"idle": share, "other": 0.0, "system": 0.0, "user": 1.0 - share}
