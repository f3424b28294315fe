"""Autocomplete: the distinct values of a field in a window, as OpenCost's page asks for them while one types."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from gpuledger.core.opencost import BadParameterError
from gpuledger.core.opencost.clouds import (
    CLOUD,
    CLOUD_FIELDS,
    CLOUD_KEYS,
    CLOUD_VOCABULARY,
    EXTERNAL,
)
from gpuledger.core.opencost.filter_sql import Parameters, bind, condition
from gpuledger.core.opencost.filters import Filter, parse
from gpuledger.core.opencost.items import Json
from gpuledger.core.opencost.properties import (
    FIELDS,
    KEYS,
    TEXT_FIELDS,
    VOCABULARY,
    label,
    label_names,
)
from gpuledger.core.opencost.requests import IGNORED, parse_count
from gpuledger.core.opencost.windows import Span, parse_window
from gpuledger.engines.duckdb import Connection
from gpuledger.surfaces.api import assets
from gpuledger.surfaces.api.clouds import during

KNOWN: Final = frozenset({"window", "field", "search", "limit", "filter", *IGNORED})
_DEFAULT: Final = 100
_MOST: Final = 1000


def allocation(con: Connection, given: Mapping[str, str], now: datetime) -> Json:
    """Answer /allocation/autocomplete. `con` has the window's days in memory."""
    span = window(given, now)
    field = _field(given, TEXT_FIELDS, ("label", "annotation", "namespacelabel"))
    parameters: Parameters = {}
    shown = condition(parse(given.get("filter"), VOCABULARY), FIELDS, KEYS, parameters)
    kind, _, key = field.partition(":")
    if kind == "namespacelabel":
        return _answer([], given)
    if kind in KEYS and not key:
        value = f"unnest({KEYS[kind]})"
    elif key:
        value = label("j.labels", bind(key, parameters))
    else:
        value = TEXT_FIELDS[field]
    rows = con.execute(
        f"""SELECT DISTINCT {value} FROM api_holder AS h
LEFT JOIN api_job AS j ON j.job_id = h.job_id AND h.job_id <> ''
WHERE h.kind = 'holder' AND ({shown}) AND h.id IN (
    SELECT holder FROM api_cost WHERE "start" >= $since AND "start" < $until)""",
        {**parameters, "since": span.start, "until": span.end},
    ).fetchall()
    return _answer((row[0] for row in rows), given)


def cloud(con: Connection, given: Mapping[str, str], now: datetime) -> Json:
    """Answer /cloudCost/autocomplete."""
    span = window(given, now)
    field = _field(given, CLOUD, ("label",))
    parameters: Parameters = {}
    shown = condition(parse(given.get("filter"), CLOUD_VOCABULARY), CLOUD_FIELDS, CLOUD_KEYS, parameters)
    kind, _, key = field.partition(":")
    if kind != "label":
        value = CLOUD[field]
    else:
        value = label("Tags", bind(key, parameters)) if key else f"unnest({label_names('Tags')})"
    within, times = during(span)
    rows = con.execute(
        f"SELECT DISTINCT {value} FROM cost_and_usage WHERE {within} AND NOT {EXTERNAL} AND ({shown})",
        {**parameters, **times},
    ).fetchall()
    return _answer((row[0] for row in rows), given)


def asset(con: Connection, given: Mapping[str, str], now: datetime) -> Json:
    """Answer /assets/autocomplete. `con` has the window's days in memory."""
    span = window(given, now)
    aliased = {**given, "field": {"type": "assetType"}.get(given.get("field", ""), given.get("field", ""))}
    field = _field(aliased, assets.TEXT, ("label",))
    tree: Filter = parse(given.get("filter"), assets.VOCABULARY)
    request = assets.Request(span, tree, None, listed=False)
    return _answer(assets.names(con, request, field), given)


def window(given: Mapping[str, str], now: datetime) -> Span:
    """Read the window of a request."""
    return parse_window(given.get("window", ""), now)


def _field(given: Mapping[str, str], known: Mapping[str, str], maps: Iterable[str]) -> str:
    text = given.get("field", "").strip()
    kind, colon, key = text.partition(":")
    if kind.lower() in maps:
        return f"{kind.lower()}{colon}{key}"
    names = {name.lower(): name for name in known} | {
        "controller": "controllerName",
        "service": "services" if "services" in known else "service",
    }
    found = names.get(text.lower())
    if not text or found not in known:
        raise BadParameterError(
            "field",
            f"no field {text!r}" if text else "a field is required",
            hint=f"Use {', '.join([*known, *(f'{name}:NAME' for name in maps)])}.",
        )
    return str(found)


def _answer(values: Iterable[str], given: Mapping[str, str]) -> Json:
    search = given.get("search", "").strip().lower()
    limit = parse_count(given.get("limit"), "limit") or _DEFAULT
    found = sorted({value for value in values if value and search in value.lower()})
    return {"data": found[: min(limit, _MOST)]}
