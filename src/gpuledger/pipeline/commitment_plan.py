"""What to commit to: levels by the quantile rule and by several offers at once, tested against the past, with their spread.

Demand is what no commitment covered, less what those that are idle could pay for once work is moved under them: dollars
an hour on demand by provider, region and family. Commitments that exist stay as they are. Or it is the cards that jobs held, by cluster. Levels are found with floating point numbers and priced
again in exact decimals.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import Any, Final

from gpuledger.core import commitments as core
from gpuledger.core import purchase_plan as solver
from gpuledger.core.commitments import Commitment, ratio
from gpuledger.core.money import total
from gpuledger.core.windows import Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.models import commitments as models
from gpuledger.models.usage import usage_current
from gpuledger.pipeline import commitments
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.report import window_of

DEMANDS: Final = ("bill", "cards")
_HOUR: Final = 3600
_CENT: Final = Decimal("0.01")
_MILLIONTH: Final = Decimal("0.000001")
_ZERO: Final = Decimal(0)
_MONTH: Final = 28 * 24
_YEAR: Final = 366
_MOST: Final = 30  # groups that are planned for, the dearest
_KEYS: Final = 'ChargePeriodStart AS start, ChargePeriodEnd AS "end", '


@dataclass(frozen=True, slots=True)
class Term:
    """An offer: its discount off the on-demand price, its length in days, and whether it is good for any family."""

    name: str
    discount: Decimal
    days: int | None = None
    any_family: bool = False

    @property
    def rate(self) -> Decimal:
        """Committed over on-demand price."""
        return 1 - self.discount


@dataclass(frozen=True, slots=True)
class Asked:
    """What to plan: demand of the `bill` or in `cards`, offers, sizes to look at, the price of a card, the seed."""

    demand: str = "bill"
    terms: tuple[Term, ...] = ()
    assumed: tuple[Decimal, ...] = ()
    card_price: Decimal | None = None
    seed: int = 0


@dataclass(slots=True)
class Planned:
    """Rows by group and offer, totals, findings."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


@dataclass(slots=True)
class _Group:
    """Hourly demand of one group, in `unit`, each unit costing `price` an hour on demand (None: unknown)."""

    key: dict[str, Any]
    levels: list[Decimal]
    unit: str
    step: Decimal
    price: Decimal | None
    provider: str | None = None

    @property
    def floats(self) -> list[float]:
        return [float(level) for level in self.levels]

    def money(self, amount: Decimal) -> Decimal | None:
        return None if self.price is None else amount * self.price


def plan(ledger: Ledger, window: str | None, asked: Asked) -> Planned:
    """Return what to commit to by the demand of a window. Raises UsageError when there is no demand of that sort."""
    ledger.require()
    _, span = window_of(ledger, window)
    con = ledger.connect()
    try:
        return ask(con, span, asked)
    finally:
        con.close()


def ask(con: duckdb.Connection, window: Window, asked: Asked) -> Planned:
    """Answer over the views of a ledger connection."""
    if asked.demand not in DEMANDS:
        raise UsageError(
            f"no demand {asked.demand!r}", where="--demand", hint=f"There are: {', '.join(DEMANDS)}."
        )
    answer = Planned()
    groups = _of_bill(con, window) if asked.demand == "bill" else _of_cards(con, window, asked.card_price)
    if not groups:
        raise UsageError(
            "nothing ran on demand in that window" if asked.demand == "bill" else "no job held cards in that window",
            where="--window", hint="Choose another --window, or the other --demand.",
        )  # fmt: skip
    left = groups[_MOST:]
    groups = groups[:_MOST]
    terms, told = (asked.terms, None) if asked.terms else _own_terms(con)
    if told is not None:
        answer.diagnostics.append(told)
    for group in groups:
        answer.rows += [_assumed(group, size) for size in asked.assumed]
        answer.rows += [_row(group, term, asked.seed) for term in terms if not term.any_family]
    if terms:
        rows, answer.totals = _joint(groups, terms, asked.seed)
        answer.rows += rows
    answer.diagnostics += _doubts(groups, left)
    hours = len(groups[0].levels)
    answer.totals |= {
        "demand": asked.demand, "hours": hours, "groups": len(groups), "existing": "kept: demand is what they neither covered nor could cover while idle"
        if asked.demand == "bill" else "not counted: demand is all cards held",
    }  # fmt: skip
    return answer


def _of_bill(con: duckdb.Connection, window: Window) -> list[_Group]:
    existing = commitments.read(con, window)
    charges = models.query("on_demand").replace("{keys}", _KEYS).replace("{charges}", "window_charge")
    rows = con.execute(models.query("demand_hour").replace("{on_demand}", charges)).fetchall()
    found: dict[tuple[str | None, ...], dict[int, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for provider, currency, region, instance_type, meter, hour, cost in rows:
        key = (provider, currency, region, core.family(provider, instance_type, meter))
        found[key][hour] += cost
    hours = _hours(window, (hour for levels in found.values() for hour in levels))
    groups = [
        _Group(
            {"provider": key[0], "region": key[2], "family": key[3], "currency": key[1]},
            [levels.get(hour, _ZERO) for hour in hours], f"{key[1]} an hour on demand", _CENT, Decimal(1), key[0],
        )
        for key, levels in found.items()
    ]  # fmt: skip
    groups.sort(key=lambda group: (-sum(group.levels), str(group.key)))
    _use_idle(groups, hours, existing.commitments, con)
    return sorted(
        (group for group in groups if any(group.levels)),
        key=lambda group: (-sum(group.levels), str(group.key)),
    )


def _use_idle(
    groups: Sequence[_Group], hours: range, existing: Sequence[Commitment], con: duckdb.Connection
) -> None:
    """Take off the demand what idle commitments of the same family and region would pay for, the dearest group first."""
    known = {(one.id, one.kind): one for one in existing if one.terms.automatic}
    idle = "SELECT * FROM idle_hours WHERE idle_cost > 0 AND covered_on_demand > 0 AND covered_cost > 0"
    for row in commitments.records(con, idle):
        one = known.get((row["commitment_id"], row["kind"]))
        hour = int(row["hour"].timestamp()) // _HOUR
        if one is None or hour not in hours:
            continue
        left = (row["idle_cost"] * row["covered_on_demand"] / row["covered_cost"]).quantize(_MILLIONTH)
        for group in groups:
            if _fits(one, group):
                taken = min(left, group.levels[hour - hours.start])
                group.levels[hour - hours.start] -= taken
                left -= taken


def _fits(one: Commitment, group: _Group) -> bool:
    wanted = {"provider": one.place.provider, "currency": one.place.currency}
    wanted |= {"family": one.place.family} if one.terms.family else {}
    wanted |= {"region": one.place.region} if one.terms.region else {}
    return all(group.key[name] == value for name, value in wanted.items())


def _of_cards(con: duckdb.Connection, window: Window, price: Decimal | None) -> list[_Group]:
    days = f"x_BillingPeriod BETWEEN '{window.start:%Y-%m-%d}' AND '{window.end:%Y-%m-%d}'"
    told = f"(SELECT * FROM usage_interval WHERE {days})"
    con.execute(f"CREATE OR REPLACE TEMP VIEW held_usage AS {usage_current(con, told)}")
    rows = con.execute(models.query("held_hour")).fetchall()
    found: dict[str, dict[int, Decimal]] = defaultdict(dict)
    for cluster, hour, cards in rows:
        found[cluster][hour] = Decimal(repr(round(float(cards), 9)))
    hours = _hours(window, (hour for levels in found.values() for hour in levels))
    groups = [
        _Group({"cluster": cluster}, [levels.get(hour, _ZERO) for hour in hours], "cards", Decimal(1), price)
        for cluster, levels in found.items()
    ]
    return sorted(groups, key=lambda group: (-sum(group.levels), str(group.key)))


def _hours(window: Window, seen: Any) -> range:  # noqa: ANN401  # any iterable of hours
    """Hours of the window from the first to the last that anything is known of: a month under way has no future yet."""
    known = list(seen)
    if not known:
        return range(0)
    start = int(window.start.timestamp()) // _HOUR
    end = -(-int(window.end.timestamp()) // _HOUR)
    first, last = min(known), max(known) + 1
    # A month's bill has its hours from the first to the last day; only its end may still be missing.
    return range(
        max(start, min(first, end)) if not window.billing_periods else start, max(min(last, end), start)
    )


def _own_terms(con: duckdb.Connection) -> tuple[tuple[Term, ...], Diagnostic | None]:
    """Return the discount that commitments of the ledger have, where no offer was named."""
    rows = commitments.records(
        con,
        """SELECT sum(cost) FILTER (status = 'Used' AND on_demand > 0) AS cost, sum(on_demand) FILTER (status = 'Used') AS on_demand
           FROM commitment_hour WHERE kind = 'discount'""",
    ) if _defined(con) else []  # fmt: skip
    mean = ratio(rows[0]["cost"], rows[0]["on_demand"]) if rows else None
    if mean is None:
        return (), Diagnostic(
            "commitment-plan-no-offer", "warning", "--term", "no offer is named and no commitment in the ledger says a discount",
            "Name offers, such as --term 1yr=28% --term 3yr=45%.",
        )  # fmt: skip
    term = Term("like yours", 1 - mean)
    return (term,), Diagnostic(
        "commitment-plan-own-offer", "info", "--term",
        f"no offer is named: planned with the mean discount of your own commitments, {1 - mean:.1%}",
        "Name offers, such as --term 1yr=28% --term 3yr=45%.",
    )  # fmt: skip


def _defined(con: duckdb.Connection) -> bool:
    found = con.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'commitment_hour'"
    ).fetchone()
    return bool(found and found[0])


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A level of a group, priced exactly: hours times units used, unused and beyond."""

    size: Decimal
    used: Decimal
    stranded: Decimal
    spill: Decimal
    demand: Decimal

    def cost(self, rate: Decimal) -> Decimal:
        return (self.used + self.stranded) * rate + self.spill


def _outcome(group: _Group, size: Decimal) -> _Outcome:
    used = total(min(level, size) for level in group.levels)
    demand = total(group.levels)
    return _Outcome(size, used, size * len(group.levels) - used, demand - used, demand)


def _assumed(group: _Group, size: Decimal) -> dict[str, Any]:
    """What a commitment of that size would have come to."""
    found = _outcome(group, size)
    return _common(group, found, "assumed") | {"term": None, "discount": None}


def _common(group: _Group, found: _Outcome, method: str) -> dict[str, Any]:
    hours = len(group.levels)
    return {
        **group.key, "method": method, "unit": group.unit, "size": found.size, "hours": hours,
        "utilization": ratio(found.used, found.used + found.stranded), "coverage": ratio(found.used, found.demand),
        "stranded": found.stranded, "spill": found.spill, "demand": found.demand, "peak": max(group.levels),
        "mean": (found.demand / hours).quantize(Decimal("1e-6")),
    }  # fmt: skip


def _row(group: _Group, term: Term, seed: int) -> dict[str, Any]:
    """The best level for one offer alone, its spread over resampled histories, and how it would have done so far."""
    rate, floats = float(term.rate), group.floats
    size = _stepped(group, solver.best_level(floats, rate, float(group.step) if group.step == 1 else None))
    found = _outcome(group, size)
    cost, without = found.cost(term.rate), found.demand
    statistics: list[Callable[[Sequence[float]], float]] = [
        partial(_level, rate=rate), partial(_saving, rate=rate, size=float(size)),
    ]  # fmt: skip
    spread = solver.resampled(floats, statistics, seed=seed)
    tested = solver.walk_forward(floats, rate)
    hours = len(group.levels)
    committed_a_day = size * 24 * term.rate
    used_a_day = found.used * 24 / hours
    return _common(group, found, "quantile") | {
        "term": term.name, "discount": term.discount, "cost": group.money(cost), "on_demand_cost": group.money(without),
        "saving": group.money(without - cost), "of_on_demand": ratio(cost, without),
        "relative_cost": cost,
        "size_p10": _stepped(group, spread[0].p10) if spread else None,
        "size_p50": _stepped(group, spread[0].p50) if spread else None,
        "size_p90": _stepped(group, spread[0].p90) if spread else None,
        "saving_p10": _money(group, spread[1].p10 if spread else None),
        "saving_p50": _money(group, spread[1].p50 if spread else None),
        "saving_p90": _money(group, spread[1].p90 if spread else None),
        "payback_days": _payback(term, committed_a_day, used_a_day),
        "backtest": _told(group, tested),
    }  # fmt: skip


def _level(levels: Sequence[float], *, rate: float) -> float:
    return solver.best_level(levels, rate)


def _saving(levels: Sequence[float], *, rate: float, size: float) -> float:
    return sum(levels) - solver.cost_of(levels, size, rate)


def _stepped(group: _Group, size: float) -> Decimal:
    return Decimal(repr(float(size))).quantize(group.step, ROUND_HALF_UP)


def _money(group: _Group, amount: float | None) -> Decimal | None:
    return None if amount is None else group.money(Decimal(repr(float(amount))).quantize(_CENT))


def _payback(term: Term, committed: Decimal, used: Decimal) -> Decimal | None:
    """Days until on demand would have cost as much as the whole term does, at the window's use; None beyond the term."""
    if term.days is None or used <= 0:
        return None
    days = (committed * term.days / used).quantize(Decimal("0.1"))
    return days if days <= term.days else None


def _told(group: _Group, tested: solver.Backtest | None) -> dict[str, Any] | None:
    if tested is None:
        return None
    return {
        "periods": tested.periods, "period_days": 7, "hindsight_cost": _money(group, tested.hindsight),
        "cost": {name: _money(group, spent) for name, spent in tested.cost.items()},
        "regret": {name: _money(group, more) for name, more in tested.regret.items()},
        "best": min(tested.cost, key=lambda name: (tested.cost[name], name)),
    }  # fmt: skip


def _joint(
    groups: Sequence[_Group], terms: Sequence[Term], seed: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of all offers together, whose levels cost least, and their totals; groups of one currency at a time.

    A term beyond a year is bought for the steadiest part only: nobody's window says what runs in three years.
    """
    rows: list[dict[str, Any]] = []
    totals: dict[str, Any] = {}
    saved, gaps = [], [0.0]
    by_currency: dict[str | None, list[_Group]] = defaultdict(list)
    for group in groups:
        by_currency[group.key.get("currency")].append(group)
    for mine in by_currency.values():
        offers, meant = _offers(mine, terms, seed)
        bought = solver.purchase([group.floats for group in mine], offers)
        gaps.append(bought.gap)
        for offer, (scope, term), size in zip(offers, meant, bought.levels, strict=True):
            if size > 0:
                rows.append(_bought(mine, offer, scope, term, size))
        demand = total(total(group.levels) for group in mine)
        price = mine[0].price
        if price is not None:
            saved.append((demand - Decimal(repr(round(bought.cost, 6)))) * price)
    if len(by_currency) == 1:
        totals = {
            "joint_saving": total(saved).quantize(_CENT) if saved else None,
            "currency": next(iter(by_currency)),
        }
    return rows, totals | {"joint_gap": Decimal(repr(round(max(gaps), 6)))}


def _offers(
    groups: Sequence[_Group], terms: Sequence[Term], seed: int
) -> tuple[list[solver.Offer], list[tuple[Mapping[str, Any], Term]]]:
    """Every offer for each group, or for all groups of a provider where it is good for any family."""
    offers: list[solver.Offer] = []
    meant: list[tuple[Mapping[str, Any], Term]] = []
    for term in terms:
        if not term.any_family:
            for number, group in enumerate(groups):
                most = _most(group, term, seed)
                offers.append(solver.Offer(term.name, float(term.rate), (number,), float(_step(group)), most))
                meant.append((group.key, term))
            continue
        providers: dict[str | None, list[int]] = defaultdict(list)
        for number, group in enumerate(groups):
            providers[group.provider].append(number)
        for provider, numbers in providers.items():
            key = {**groups[numbers[0]].key, "provider": provider, "region": None, "family": None}
            offers.append(
                solver.Offer(
                    term.name, float(term.rate), tuple(numbers), float(max(_step(groups[n]) for n in numbers))
                )
            )
            meant.append(({name: value for name, value in key.items() if name in groups[0].key}, term))
    return offers, meant


def _most(group: _Group, term: Term, seed: int) -> float:
    """Return the most of an offer: of one beyond a year, what nine in ten resampled histories would have bought at least."""
    if term.days is None or term.days <= _YEAR:
        return float("inf")
    spread = solver.resampled(group.floats, [partial(_level, rate=float(term.rate))], seed=seed)
    return spread[0].p10 if spread else 0.0


def _step(group: _Group) -> Decimal:
    """Step of a purchase: a card, or about a thousandth of the peak in money (programs stay small)."""
    if group.step == 1:
        return group.step
    return max(_CENT, (max(group.levels) / 1000).quantize(_CENT))


def _bought(
    groups: Sequence[_Group], offer: solver.Offer, scope: Mapping[str, Any], term: Term, size: float
) -> dict[str, Any]:
    whole = [
        total(levels) for levels in zip(*(groups[number].levels for number in offer.groups), strict=True)
    ]
    group = groups[offer.groups[0]]
    both = _Group(dict(scope), whole, group.unit, group.step, group.price, group.provider)
    found = _outcome(both, _stepped(both, size))
    return _common(both, found, "joint") | {"term": term.name, "discount": term.discount}


def _doubts(groups: Sequence[_Group], left: Sequence[_Group]) -> list[Diagnostic]:
    told = []
    hours = len(groups[0].levels)
    if hours < _MONTH:
        told.append(Diagnostic(
            "commitment-plan-short", "warning", "--window",
            f"planned from {hours} hours: less than four weeks say little about a year",
            "Plan from several months: --window 2026-08..2026-10.",
        ))  # fmt: skip
    if left:
        told.append(Diagnostic(
            "commitment-plan-small", "info", "ledger",
            f"{len(left)} smaller group(s) of on-demand usage are not planned for",
        ))  # fmt: skip
    return told
