"""Allocations: who paid for the machines, by any property, per set of the window."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.opencost import IDLE, one_currency
from gpuledger.core.opencost.filter_sql import Parameters, bind, condition
from gpuledger.core.opencost.items import Json, Known, Usage, item, summary
from gpuledger.core.opencost.properties import FIELDS, KEYS, name_of
from gpuledger.core.opencost.requests import AllocationRequest
from gpuledger.core.opencost.sharing import Group, merged, share_idle, share_shared
from gpuledger.core.opencost.windows import Span
from gpuledger.engines.duckdb import Connection, literal

_PARTS: Final = ("gpu", "cpu", "ram", "pv", "network", "external")
_IN_PROPERTIES: Final = (
    "cluster", "node", "container", "controllerName", "controllerKind", "namespace", "pod", "providerID", "jobID",
)  # fmt: skip
_IN_ANSWER: Final = {"controllerName": "controller"}
_GROUP: Final = "name, kind, pool, shared_as, shown"
_NO_JOB: Final = "j.job_id = h.job_id AND h.job_id <> ''"


def answer(con: Connection, request: AllocationRequest) -> list[dict[str, Json]]:
    """Return one map of name to item for each set. `con` has the window's days in `api_cost` and `api_usage`."""
    currency = _currency(con, request)
    groups, known = _costs(con, request, currency)
    _usage(con, request, known)
    return [
        _set(number, span, request, groups.get(number, []), known, currency)
        for number, span in enumerate(request.sets)
    ]


def summaries(found: Sequence[Mapping[str, Json]], request: AllocationRequest) -> Json:
    """Return the summary's form of an answer."""
    first = request.sets[0]
    return {
        "step": int((first.end - first.start).total_seconds()) * 1_000_000_000,
        "sets": [
            {"allocations": {name: summary(full) for name, full in one.items()}, "window": span.json()}
            for one, span in zip(found, request.sets, strict=True)
        ],
        "window": request.span.json(),
    }


def set_number(sets: Sequence[Span], start: str = '"start"') -> str:
    """SQL of the number of the set that a moment within the window belongs to."""
    if len(sets) == 1:
        return "0"
    length = sets[0].end - sets[0].start
    micros = int(length.total_seconds()) * 1_000_000
    if all(one.end - one.start == length for one in sets[:-1]):
        began = f"epoch_us(TIMESTAMPTZ {literal(sets[0].start.isoformat())})"
        return f"CAST((epoch_us({start}) - {began}) // {micros} AS INTEGER)"
    cases = " ".join(
        f"WHEN {start} < TIMESTAMPTZ {literal(one.end.isoformat())} THEN {n}" for n, one in enumerate(sets)
    )
    return f"CASE {cases} END"


def _times(request: AllocationRequest) -> dict[str, datetime]:
    return {"since": request.span.start, "until": request.span.end}


def _currency(con: Connection, request: AllocationRequest) -> str | None:
    """Return the one currency of the answer. Raises BadParameterError when there are several."""
    if request.currency is not None:
        return request.currency
    found = con.execute("SELECT DISTINCT currency FROM api_holder ORDER BY 1 LIMIT 20").fetchall()
    if len(found) > 1:
        found = con.execute(
            """SELECT DISTINCT currency FROM api_holder WHERE id IN (
                SELECT holder FROM api_cost WHERE "start" >= $since AND "start" < $until) ORDER BY 1 LIMIT 20""",
            _times(request),
        ).fetchall()
    return one_currency([row[0] for row in found])


def _pool(request: AllocationRequest) -> str:
    by_node = "concat(h.cluster, ',', h.node)"
    if request.share_idle or request.proportional:
        return by_node if request.idle_by_node else "h.cluster"
    return "''"


def _name(request: AllocationRequest, parameters: Parameters) -> str:
    split = "''"
    if request.split_idle:
        split = "concat(h.cluster, '/', " + ("h.node, '/'" if request.idle_by_node else "''") + ")"
    return f"CASE WHEN h.kind = 'idle' THEN concat({split}, '{IDLE}') ELSE {name_of(request.aggregate, parameters)} END"


def _shared_as(request: AllocationRequest, parameters: Parameters) -> str:
    cases = " ".join(
        f"WHEN h.kind = 'holder' AND {condition(tree, FIELDS, KEYS, parameters)} THEN {bind(name, parameters)}"
        for name, tree in request.shared.items()
    )
    return f"CASE {cases} END" if cases else "CAST(NULL AS VARCHAR)"


def _labels(request: AllocationRequest) -> str:
    if not request.metadata:
        return "CASE WHEN min(n.job_id) = max(n.job_id) THEN any_value(n.labels) END"
    pairs = "list(coalesce(map_entries(n.labels), []))"
    return f"map_from_entries(list_reduce({pairs}, lambda some, more: list_intersect(some, more)))"


def _costs(
    con: Connection, request: AllocationRequest, currency: str | None
) -> tuple[dict[int, list[Group]], dict[tuple[int, str], Known]]:
    parameters: Parameters = {}
    sharing = bool(request.share_idle or request.shared or request.share_cost)
    shown = condition(request.filter, FIELDS, KEYS, parameters)
    kept = ["h.currency = " + bind(currency or "", parameters)]
    if not (request.include_idle or request.share_idle):
        kept.append("h.kind <> 'idle'")
    if not (sharing or request.proportional):
        kept.append(f"({shown})")
    properties = ", ".join(f"{FIELDS[name]} AS p_{name}" for name in _IN_PROPERTIES)
    rows = con.execute(
        f"""WITH named AS MATERIALIZED (
    SELECT h.id, h.kind, h.from_idle, {_name(request, parameters)} AS name, {_pool(request)} AS pool,
        {_shared_as(request, parameters)} AS shared_as,
        {shown if sharing or request.proportional else "true"} AS shown, h.job_id, j.labels, {properties}
    FROM api_holder AS h LEFT JOIN api_job AS j ON {_NO_JOB} WHERE {" AND ".join(kept)}
), grouping AS MATERIALIZED (
    SELECT *, row_number() OVER () AS group_no FROM (SELECT DISTINCT {_GROUP} FROM named)
), member AS MATERIALIZED (
    SELECT n.id, g.group_no, n.from_idle FROM named AS n JOIN grouping AS g
    ON n.name = g.name AND n.kind = g.kind AND n.pool = g.pool AND n.shown = g.shown
        AND n.shared_as IS NOT DISTINCT FROM g.shared_as
), amount AS (
    SELECT {set_number(request.sets)} AS set_no, m.group_no, min("start") AS "start", max("end") AS "end",
        sum(unpriced) AS unpriced, count(total) AS priced, {", ".join(f"sum({part}) AS {part}" for part in _PARTS)},
        {", ".join(f"sum({part}) FILTER (m.from_idle) AS idle_{part}" for part in ("gpu", "cpu", "ram"))}
    FROM api_cost AS c JOIN member AS m ON c.holder = m.id WHERE "start" >= $since AND "start" < $until GROUP BY ALL
), about AS (
    SELECT m.group_no, {_labels(request)} AS labels,
        {", ".join(f"CASE WHEN min(p_{name}) = max(p_{name}) THEN min(p_{name}) END" for name in _IN_PROPERTIES)}
    FROM named AS n JOIN member AS m USING (id)
    WHERE n.id IN (SELECT holder FROM api_cost WHERE "start" >= $since AND "start" < $until) GROUP BY m.group_no
)
SELECT a.set_no, g.name, g.kind, g.pool, g.shared_as, g.shown, a.* EXCLUDE (set_no, group_no), b.* EXCLUDE (group_no)
FROM amount AS a JOIN grouping AS g USING (group_no) JOIN about AS b USING (group_no)""",
        {**parameters, **_times(request)},
    ).fetchall()
    groups: dict[int, list[Group]] = {}
    known: dict[tuple[int, str], Known] = {}
    for row in rows:
        group = Group(row[1], row[2], row[3], row[4], row[5])
        group.parts = {
            part: amount for part, amount in zip(_PARTS, row[10:16], strict=True) if amount is not None
        }
        group.idle = {
            part: amount
            for part, amount in zip(("gpu", "cpu", "ram"), row[16:19], strict=True)
            if amount is not None
        }
        groups.setdefault(row[0], []).append(group)
        if group.shown:
            _learn(known, row)
    return groups, known


def _learn(known: dict[tuple[int, str], Known], row: Sequence[Any]) -> None:
    properties = {
        _IN_ANSWER.get(name, name): value
        for name, value in zip(_IN_PROPERTIES, row[20:], strict=True)
        if value
    }
    if row[19]:
        properties["labels"] = dict(row[19])
    there = known.get((row[0], row[1]))
    if there is None:
        known[row[0], row[1]] = Known(row[6], row[7], properties, int(row[8] or 0), bool(row[9]))
        return
    there.start, there.end = min(there.start, row[6]), max(there.end, row[7])
    there.unpriced += int(row[8] or 0)
    there.priced = there.priced or bool(row[9])
    there.properties = {
        name: value for name, value in there.properties.items() if properties.get(name) == value
    }


def _usage(con: Connection, request: AllocationRequest, known: dict[tuple[int, str], Known]) -> None:
    """Add what was asked for and used; names without any charge become items without a cost."""
    parameters: Parameters = {}
    by_container = con.execute("SELECT count(*) > 0 FROM api_holder WHERE container <> ''").fetchone()
    users = (
        "api_user"
        if by_container and by_container[0]
        else "(SELECT * REPLACE ('' AS container) FROM api_user)"
    )
    name = name_of(request.aggregate, parameters)
    shown = condition(request.filter, FIELDS, KEYS, parameters)
    rows = con.execute(
        f"""WITH named AS MATERIALIZED (
    SELECT h.id, {name} AS name FROM {users} AS h LEFT JOIN api_job AS j ON {_NO_JOB} WHERE {shown}
), grouping AS MATERIALIZED (
    SELECT name, row_number() OVER () AS group_no FROM (SELECT DISTINCT name FROM named)
), member AS MATERIALIZED (
    SELECT n.id, g.group_no FROM named AS n JOIN grouping AS g USING (name)
), fact AS (
    SELECT {set_number(request.sets)} AS set_no, m.group_no, resource, min("start") AS "start",
        max("start") + INTERVAL 1 HOUR AS "end", sum(held) AS held, sum(requested) AS requested, sum(used) AS used,
        sum(used_of) AS used_of, bool_or(unmeasured) AS unmeasured, bool_or(unrequested) AS unrequested
    FROM api_usage AS u JOIN member AS m ON u."user" = m.id
    WHERE "start" >= $since AND "start" < $until GROUP BY ALL
)
SELECT f.set_no, g.name, f.* EXCLUDE (set_no, group_no) FROM fact AS f JOIN grouping AS g USING (group_no)""",
        {**parameters, **_times(request)},
    ).fetchall()
    for row in rows:
        there = known.setdefault((row[0], row[1]), Known(row[3], row[4], priced=False))
        if not there.priced:
            there.start, there.end = min(there.start, row[3]), max(there.end, row[4])
        there.usage[row[2]] = Usage(*row[5:])


def _set(
    set_no: int,
    span: Span,
    request: AllocationRequest,
    groups: list[Group],
    known: Mapping[tuple[int, str], Known],
    currency: str | None,
) -> dict[str, Json]:
    totals = _totals(groups) if request.proportional else {}
    proportions = _proportions(groups, totals, by_node=request.idle_by_node) if request.proportional else {}
    if request.share_idle is not None:
        groups = share_idle(groups, request.share_idle)
    if request.shared or request.share_cost:
        extra = {"shareCost": request.monthly_share(span)} if request.share_cost else {}
        groups = share_shared(groups, request.share_split, extra)
    found = merged(groups)
    for number, name in known:
        if number == set_no and name not in found and not known[number, name].priced:
            found[name] = Group(name)
    ordered = sorted(found.values(), key=lambda group: (-group.cost, group.name))
    last = None if request.limit is None else request.offset + request.limit
    answers = {}
    for group in ordered[request.offset : last]:
        about = known[set_no, group.name]
        about.proportions = proportions.get(group.name, {}) if request.proportional else None
        answers[group.name] = item(
            group, about, span, currency, exact=request.exact, breakdown=request.breakdown
        )
    return answers


def _totals(groups: Sequence[Group]) -> dict[str, dict[str, Decimal]]:
    """Cost of each pool's machines by resource, and of all of them as 'all'."""
    found: dict[str, dict[str, Decimal]] = {}
    for group in groups:
        into = found.setdefault(group.pool, {})
        for part in ("gpu", "cpu", "ram"):
            amount = group.parts.get(part, Decimal(0))
            into[part] = into.get(part, Decimal(0)) + amount
            into["all"] = into.get("all", Decimal(0)) + amount
    return found


def _proportions(
    groups: Sequence[Group], totals: Mapping[str, Mapping[str, Decimal]], *, by_node: bool
) -> dict[str, Json]:
    """For each name, what part of each pool's machines it paid for."""
    spent: dict[tuple[str, str], dict[str, Decimal]] = {}
    for group in groups:
        into = spent.setdefault((group.name, group.pool), {})
        for part in ("gpu", "cpu", "ram"):
            into[part] = into.get(part, Decimal(0)) + group.parts.get(part, Decimal(0))
    found: dict[str, Json] = {}
    for (name, pool), parts in spent.items():
        whole = totals[pool]
        cluster, _, node = pool.partition(",")
        shares = {part: float(parts[part] / whole[part]) if whole[part] else None for part in parts}
        found.setdefault(name, {})[pool] = {
            "cluster": cluster,
            **({"name": node, "type": "Node"} if by_node else {}),
            **{f"{part}Percentage": share for part, share in shares.items()},
            "nodeResourceCostPercentage": float(sum(parts.values()) / whole["all"]) if whole["all"] else None,
        }
    return found
