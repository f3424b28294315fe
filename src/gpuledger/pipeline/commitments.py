"""Commitments in the ledger: how much of each was used, what stayed idle, what that cost, and when it ends.

`read` gives the commitments of a window from the views of a ledger connection; `utilization` is what the command shows.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

from gpuledger.core import commitments as core
from gpuledger.core.commitment_terms import terms_of
from gpuledger.core.commitments import Commitment, Place, ratio
from gpuledger.core.money import total
from gpuledger.core.windows import Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.models import commitments as models
from gpuledger.pipeline import commitment_throughput, costs
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.report import window_of
from gpuledger.prices.points import price_at

BY: Final = ("hour", "account", "region", "family", "gpu_model")
_PLACE: Final = ("account", "region", "zone", "instance_type", "gpu_model", "meter", "tenancy", "platform")
_SUMS: Final = f"""
SELECT commitment_id, kind, status, any_value(provider) AS provider, any_value(currency) AS currency,
    any_value(type) AS type, any_value(category) AS category, any_value(name) AS name, any_value(unit) AS unit,
    any_value(offering) AS offering, any_value(payer) AS payer, {", ".join(_PLACE)},
    bool_or(uncounted) OR count(DISTINCT unit) > 1 AS uncounted, sum(quantity) AS quantity, sum(cost) AS cost, sum(fee) AS fee,
    CASE WHEN bool_and(on_demand IS NOT NULL) THEN sum(on_demand) END AS on_demand, bool_or(contracted) AS contracted,
    sum(hours) AS hours, max(start) AS start
FROM commitment_charge
GROUP BY commitment_id, kind, status, {", ".join(_PLACE)}
"""
_CONTRACTS: Final = """
SELECT ContractCommitmentId AS id, ContractCommitmentType AS type, ContractCommitmentCategory AS category,
    ContractCommitmentDescription AS description, ContractCommitmentCost AS cost, ContractCommitmentQuantity AS quantity,
    ContractCommitmentUnit AS unit, BillingCurrency AS currency, ServiceProviderName AS provider,
    ContractCommitmentPeriodStart AS starts, ContractCommitmentPeriodEnd AS ends,
    x_Native['offering_class'] AS class, x_Native['instance_type_family'] AS family, x_Native['region'] AS region
FROM contract_commitment
WHERE ContractCommitmentId IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY lower(ContractCommitmentId) ORDER BY x_BillingPeriod DESC, x_SourceRow DESC) = 1
"""
_APPLIED: Final = """
SELECT lower(element ->> '$.ContractCommitmentId') AS id,
    sum(TRY_CAST(element ->> '$.ContractCommitmentAppliedCost' AS DECIMAL(38, 14))) AS cost,
    sum(TRY_CAST(element ->> '$.ContractCommitmentAppliedQuantity' AS DECIMAL(38, 14))) AS quantity,
    CASE WHEN bool_and(coalesce(nullif(ListCost, 0), nullif(ContractedCost, 0)) IS NOT NULL) THEN sum(coalesce(nullif(ListCost, 0), ContractedCost)) END AS on_demand
FROM (
    SELECT unnest(CAST(ContractApplied -> '$.Elements' AS JSON[])) AS element, ListCost, ContractedCost
    FROM window_charge WHERE ContractApplied IS NOT NULL AND ChargeCategory = 'Usage' AND CommitmentDiscountId IS NULL
)
GROUP BY 1
"""
_THREE: Final = ("deployed_of_reserved", "processed_of_deployed", "processed_of_reserved")
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_CENT: Final = Decimal("1e-14")


@dataclass(slots=True)
class Found:
    """Commitments of a window, the on-demand usage beside them, and findings."""

    window: Window
    commitments: list[Commitment] = field(default_factory=list)
    on_demand: list[tuple[Place, dict[str, Any]]] = field(default_factory=list)
    throughput: dict[str, dict[str, Any]] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


@dataclass(slots=True)
class Utilization:
    """Rows by commitment (or group), totals, the steps of the expiry ladder, and whether one is below the line."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    below: int = 0


def define(con: duckdb.Connection, window: Window, where: Sequence[str] = ()) -> None:
    """Create the tables of `gpuledger.models.commitments` over a ledger connection: temporary, of a window's charges."""
    charged = costs.predicate(costs.Question(where=where, window=window))
    con.execute(f"CREATE OR REPLACE TEMP VIEW window_charge AS SELECT * FROM cost_and_usage WHERE {charged}")
    con.execute(models.query("macros"))
    for name in models.MODELS:
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {models.query(name)}")


def idle_hours(con: duckdb.Connection, window: Window) -> list[dict[str, Any]]:
    """Return what each commitment left idle in each hour of a window; columns as in models/commitments/idle_hours.sql."""
    define(con, window)
    return records(con, "SELECT * FROM idle_hours ORDER BY commitment_id, kind, hour")


def records(con: duckdb.Connection, query: str) -> list[dict[str, Any]]:
    """Rows of a query by column."""
    cursor = con.execute(query)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def read(con: duckdb.Connection, window: Window, where: Sequence[str] = ()) -> Found:
    """Return the commitments of a window, largest cost first, with the on-demand usage that they could have covered."""
    define(con, window, where)
    found = Found(window)
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in records(con, _SUMS):
        grouped[row["commitment_id"], row["kind"]].append(row)
    contracts = {row["id"].casefold(): row for row in records(con, _CONTRACTS)}
    known = {key[0].casefold() for key in grouped}
    found.commitments = [_commitment(rows, contracts) for rows in grouped.values()]
    applied = (
        {row["id"]: row for row in records(con, _APPLIED) if row["id"]} if set(contracts) - known else {}
    )
    for key, row in contracts.items():
        if key not in known and (contract := _contract(row, applied.get(key), window)):
            found.commitments.append(contract)
    found.throughput = commitment_throughput.fill(con, window, found.commitments)
    found.commitments.sort(key=lambda one: (-one.cost, one.id, one.kind))
    query = models.query("on_demand").replace("{keys}", "").replace("{charges}", "window_charge")
    for row in records(con, query):
        place = Place(**{name: row[name] for name in Place.__dataclass_fields__})
        found.on_demand.append((place, row))
    return found


def _commitment(rows: list[dict[str, Any]], contracts: Mapping[str, Mapping[str, Any]]) -> Commitment:
    first = rows[0]
    used = [row for row in rows if row["status"] == "Used"]
    unused = [row for row in rows if row["status"] == "Unused"]
    deployed = [row for row in rows if row["status"] == "Deployed"]
    contract = contracts.get(first["commitment_id"].casefold(), {})
    counted = not any(row["uncounted"] for row in used + unused + deployed) and core.one_of(
        row["unit"] for row in rows
    )
    amount = "quantity" if counted else "cost"
    unit = counted or first["currency"]
    words = " ".join(
        str(row[name]) for row in rows for name in ("type", "offering", "meter", "name") if row[name]
    )
    words = f"{words} {contract.get('description') or ''}"
    terms = terms_of(
        first["kind"], first["provider"], first["category"], words, flexible=unit == "Normalized Hours"
    )
    one = Commitment(
        id=first["commitment_id"], kind=first["kind"], terms=terms, place=_place(rows, contract), category=first["category"],
        type=first["type"], name=core.one_of(row["name"] for row in rows), unit=unit,
        accounts=frozenset(row["account"] for row in used or deployed),
        started=contract.get("starts"), expires=contract.get("ends"), offering_class=contract.get("class"),
    )  # fmt: skip
    fee = total(row["fee"] for row in rows if row["fee"] is not None)
    one.cost = total(row["cost"] for row in rows if row["cost"] is not None) + fee
    one.committed = total(row[amount] for row in used + unused + deployed if row[amount] is not None)
    if not deployed:
        one.used = total(row[amount] for row in used if row[amount] is not None)
        _costs(one, used, unused, fee)
    return one


def _costs(one: Commitment, used: list[dict[str, Any]], unused: list[dict[str, Any]], fee: Decimal) -> None:
    """Fill costs and the on-demand price; a fee of its own goes to used and unused by their amounts."""
    share = _EXACT.divide(one.used or Decimal(0), one.committed) if one.committed else Decimal(1)
    of_used = (fee * share).quantize(Decimal("1e-18"), context=_EXACT)
    one.used_cost = total(row["cost"] for row in used if row["cost"] is not None) + of_used
    one.unused_cost = total(row["cost"] for row in unused if row["cost"] is not None) + fee - of_used
    # Reserved capacity costs what the machine costs: only a fee of its own is paid instead of something.
    if one.kind == "capacity" and not fee:
        one.on_demand, one.price = one.used_cost, "reserved at the on-demand price"
        return
    prices, sources, by_type = [], set(), defaultdict(list)
    for row in used:
        price, source = _price(row)
        if price is None:
            return
        prices.append(price)
        sources.add(source)
        by_type[row["instance_type"]].append((row["cost"] or Decimal(0), price))
    if prices:
        one.on_demand, one.price = total(prices), ", ".join(sorted(sources))
        one.by_type = {
            kind: (total(cost for cost, _ in pairs), total(price for _, price in pairs))
            for kind, pairs in by_type.items()
        }


def _price(row: Mapping[str, Any]) -> tuple[Decimal | None, str]:
    """Return what used hours would have cost on demand, and from where that is known."""
    if row["on_demand"] is not None and row["kind"] != "capacity":
        return row["on_demand"], "contracted price" if row["contracted"] else "list price"
    point = price_at(row["instance_type"], row["region"], row["start"]) if row["instance_type"] else None
    if point is None or point.on_demand is None or row["hours"] is None or row["currency"] != "USD":
        return None, ""
    return point.on_demand * row["hours"], f"list price of {point.as_of}"


def _place(rows: list[dict[str, Any]], contract: Mapping[str, Any]) -> Place:
    """Where a commitment is good: what its contract says, else the one place and type that its charges have."""
    found: dict[str, Any] = {
        name: core.one_of(row[name] for row in rows if row["status"] != "Fee") for name in _PLACE
    }
    found["region"] = contract.get("region") or found["region"]
    provider = core.one_of(row["provider"] for row in rows)
    wanted = contract.get("family")
    if wanted and core.family(provider, found["instance_type"]) != wanted:
        found["instance_type"] = f"{wanted}."
    types = {
        core.family(provider, row["instance_type"]): row["instance_type"]
        for row in rows
        if row["instance_type"]
    }
    if found["instance_type"] is None and len(types) == 1:
        found["instance_type"] = next(iter(types.values()))
    meters = [row["meter"] for row in rows if row["status"] == "Used"]
    found["meter"] = meters[0] if len({core.resource(meter) for meter in meters}) == 1 else None
    return Place(
        provider=provider, currency=core.one_of(row["currency"] for row in rows),
        payer=core.one_of(row["payer"] for row in rows), **found,
    )  # fmt: skip


def _contract(row: Mapping[str, Any], applied: Mapping[str, Any] | None, window: Window) -> Commitment | None:
    """Return a commitment that no charge names as a discount, by its part of the window; None when it is outside of it."""
    starts, ends = row["starts"], row["ends"]
    if starts is not None and ends is not None and (starts >= window.end or ends <= window.start):
        return None
    money = row["category"] != "Usage" or row["quantity"] is None
    whole = row["cost"] if money else row["quantity"]
    one = Commitment(
        id=row["id"], kind="contract", terms=terms_of("contract", row["provider"], row["category"], "", flexible=False),
        place=Place(provider=row["provider"], currency=row["currency"]), category=row["category"], type=row["type"],
        name=row["description"], unit=row["currency"] if money else row["unit"], started=starts, expires=ends,
        committed=_part(whole, row, window), cost=_part(row["cost"], row, window) or Decimal(0),
    )  # fmt: skip
    if applied is None or one.committed is None:
        return one
    one.used = applied["cost" if money else "quantity"]
    if one.used is not None and one.committed:
        share = _EXACT.divide(min(one.used, one.committed), one.committed)
        one.used_cost = (one.cost * share).quantize(_CENT, context=_EXACT)
        one.unused_cost = one.cost - one.used_cost
        one.on_demand, one.price = (
            applied["on_demand"],
            "list price" if applied["on_demand"] is not None else None,
        )
    return one


def _part(whole: Decimal | None, row: Mapping[str, Any], window: Window) -> Decimal | None:
    """Return a promise's part of the window, by time; None where its term isn't known."""
    starts, ends = row["starts"], row["ends"]
    if whole is None or starts is None or ends is None or ends <= starts:
        return None
    inside = (min(ends, window.end) - max(starts, window.start)).total_seconds()
    share = _EXACT.divide(Decimal(int(inside)), Decimal(int((ends - starts).total_seconds())))
    return (whole * share).quantize(_CENT, context=_EXACT)


def coverage(commitment: Commitment, found: Found) -> Decimal | None:
    """Return committed usage over eligible usage, both at on-demand prices; None where a price isn't known.

    Eligible is what this commitment covered, what others of the same kind of place covered, and the on-demand usage that
    fits it but for the account that it is in.
    """
    if commitment.on_demand is None:
        return None
    parts = [commitment.on_demand]
    for other in found.commitments:
        if other is not commitment and other.kind == commitment.kind and _alike(commitment, other):
            if other.on_demand is None:
                return None
            parts.append(other.on_demand)
    parts += [
        row["cost"]
        for place, row in found.on_demand
        if set(core.mismatches(commitment, place)) <= {"account"}
    ]
    return ratio(commitment.on_demand, total(parts))


def _alike(one: Commitment, other: Commitment) -> bool:
    """Say whether another commitment's usage would have been eligible for this one."""
    return set(core.mismatches(one, other.place)) <= {"account", "tenancy", "platform"}


def utilization(
    ledger: Ledger,
    window: str | None = None,
    *,
    by: str | None = None,
    where: Sequence[str] = (),
    alert: Decimal = core.ALERT,
) -> Utilization:
    """Return how the commitments of a window were used; `by` is one of `BY`, or None for one row per commitment.

    The window is the newest billing period if none is told. Raises LedgerError without a ledger.
    """
    ledger.require()
    _, span = window_of(ledger, window)
    con = ledger.connect()
    try:
        found = read(con, span, where)
        answer = Utilization(diagnostics=found.diagnostics)
        whole = [row(one, found, alert) for one in found.commitments]
        answer.below = sum(1 for one in whole if one["below_threshold"])
        answer.rows = whole if by is None else grouped(con, found, by)
    finally:
        con.close()
    answer.totals = totals(found, alert) | {"below_threshold": answer.below}
    answer.diagnostics += _untold(found)
    return answer


def row(one: Commitment, found: Found, alert: Decimal = core.ALERT) -> dict[str, Any]:
    """One commitment as the command shows it. Money is of the window; unknown is None."""
    used = one.utilization
    return {
        "commitment_id": one.id, "provider": one.place.provider, "category": one.category, "committed": one.committed,
        "used": one.used, "unused": one.unused, "unit": one.unit, "utilization": used, "coverage": coverage(one, found),
        "break_even": one.break_even, "break_even_from": one.price, "threshold": alert,
        "below_threshold": None if used is None else used < alert,
        "stranded_cost": one.unused_cost, "net_loss": one.net_loss, "esr": one.esr, "cost": one.cost,
        "on_demand_equivalent": one.on_demand, "currency": one.place.currency, "kind": one.terms.title, "type": one.type,
        "name": one.name, "region": one.place.region, "family": one.place.family, "gpu_model": one.place.gpu_model,
        "accounts": sorted(account for account in one.accounts if account), "expires": one.expires,
        **found.throughput.get(one.id, dict.fromkeys(_THREE)),
    }  # fmt: skip


def totals(found: Found, alert: Decimal) -> dict[str, Any]:
    """Sums over commitments of one currency; capacity isn't added where a discount already counts the same charge."""
    currency = core.one_of(one.place.currency for one in found.commitments)
    single = len({one.place.currency for one in found.commitments}) <= 1
    counted = [one for one in found.commitments if one.kind in {"discount", "contract"}]
    known = [one for one in counted if one.used_cost is not None and one.unused_cost is not None]
    cost, used = total(one.cost for one in known), total(one.used_cost or Decimal(0) for one in known)
    priced = [one for one in known if one.on_demand is not None]
    on_demand = total(one.on_demand or Decimal(0) for one in priced)
    capacity = [
        one.unused_cost for one in found.commitments if one.kind == "capacity" and one.unused_cost is not None
    ]
    return {
        "commitments": len(found.commitments),
        "cost": cost if single else None, "used_cost": used if single else None,
        "utilization": ratio(used, cost) if single else None,
        "stranded_cost": total(one.unused_cost or Decimal(0) for one in known) if single else None,
        "idle_capacity_cost": total(capacity) if single else None,
        "net_loss": total(one.net_loss or Decimal(0) for one in priced) if single else None,
        "esr": (share := ratio(total(one.cost for one in priced), on_demand)) and 1 - share if single else None,
        "currency": currency if single else None, "threshold": alert,
    }  # fmt: skip


def _untold(found: Found) -> list[Diagnostic]:
    """Say what of the commitments nobody can tell."""
    told = []
    unknown = [one.id for one in found.commitments if one.used is None]
    if unknown:
        told.append(Diagnostic(
            "commitment-use-unknown", "info", unknown[0],
            f"{len(unknown)} commitment(s) are paid for, and the bill doesn't say what of them was used",
            "For provisioned throughput ingest token telemetry; for contracts let charges name them in ContractApplied.",
        ))  # fmt: skip
    unpriced = [one.id for one in found.commitments if one.used_cost and one.break_even is None]
    if unpriced:
        told.append(Diagnostic(
            "commitment-price-unknown", "info", unpriced[0],
            f"break-even of {len(unpriced)} commitment(s) is unknown: no on-demand price is on the bill or in the price file",
        ))  # fmt: skip
    return told


def grouped(con: duckdb.Connection, found: Found, by: str) -> list[dict[str, Any]]:
    """Rows by hour (of each commitment), or by place over all commitments, in money.

    What stayed unused has no place of use: it is counted where the commitment itself is, or under null.
    """
    if by not in BY:
        raise UsageError(f"commitments can't be grouped by {by!r}", hint=f"There are: {', '.join(BY)}.")
    if by == "hour":
        rows = records(con, """
            SELECT commitment_id, hour, committed, used, idle AS unused, unit, idle_cost AS stranded_cost, even AS spread
            FROM idle_hours ORDER BY hour, commitment_id""")  # fmt: skip
        return [one | {"utilization": ratio(one["used"], one["committed"])} for one in rows]
    return [
        {by: key[0], "currency": key[1], **sums}
        for key, sums in sorted(_by_place(con, found, by).items(), key=_dearest)
    ]


def _dearest(item: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[Decimal, str]:
    return -item[1]["committed"], str(item[0])


def _by_place(con: duckdb.Connection, found: Found, by: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    places = {(one.id, one.kind): one for one in found.commitments}
    parts: dict[tuple[Any, ...], dict[str, list[Decimal]]] = defaultdict(lambda: defaultdict(list))
    for line in records(con, _SUMS):
        if line["status"] not in {"Used", "Unused"} or line["kind"] != "discount":
            continue
        mine = places[line["commitment_id"], line["kind"]]
        own = line["status"] == "Used"
        if by == "family":
            told = (
                core.family(line["provider"], line["instance_type"], line["meter"])
                if own
                else mine.place.family
            )
        else:
            told = line[by] if own or by == "account" else getattr(mine.place, by)
        key = (told, line["currency"])
        parts[key]["used" if own else "unused"].append(line["cost"] or Decimal(0))
        parts[key]["ids"].append(line["commitment_id"])
    return {key: _sums(found_parts) for key, found_parts in parts.items()}


def _sums(parts: Mapping[str, Iterable[Any]]) -> dict[str, Any]:
    used, unused = total(parts.get("used", ())), total(parts.get("unused", ()))
    return {
        "committed": used + unused, "used": used, "unused": unused, "utilization": ratio(used, used + unused),
        "stranded_cost": unused, "commitments": len(set(parts.get("ids", ()))),
    }  # fmt: skip


def ladder(ledger: Ledger, window: str | None = None) -> list[dict[str, Any]]:
    """Return which commitments end in which quarter, and their share of the window's committed cost."""
    ledger.require()
    _, span = window_of(ledger, window)
    con = ledger.connect()
    try:
        found = read(con, span)
    finally:
        con.close()
    now = datetime.now(UTC)
    return [
        {
            "quarter": step.quarter, "currency": step.currency, "commitments": list(step.commitments), "cost": step.cost,
            "share": step.share,
            "ended": sum(1 for one in found.commitments if one.id in step.commitments and one.expires and one.expires <= now),
        }
        for step in core.ladder(found.commitments)
    ]  # fmt: skip
