"""What could run on commitments that are idle: named jobs, dollars, what is in the way, and what to do about it.

Work is taken from the bills' on-demand charges and named by the jobs that held the machines; idle commitments are those
of the same hours. A commitment of a provider that applies it by itself is not applied for a reason: another account, or
another region. Those can be changed; another family, an interruptible machine, another platform can't, and are told as
what is in the way.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final

from gpuledger.core import commitments as core
from gpuledger.core import rebalance as solver
from gpuledger.core.commitments import Commitment, Place, mismatches
from gpuledger.core.money import total
from gpuledger.core.moves import Worker, action, slack_of, stays
from gpuledger.core.rebalance import Demand, Move, Option, Supply
from gpuledger.core.windows import Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.models import commitments as models
from gpuledger.pipeline import allocation_state, commitments, costs
from gpuledger.pipeline.jobs import trait
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.report import window_of

REMOVABLE: Final = ("account", "zone", "region")
_HOUR: Final = 3600
_ZERO: Final = Decimal(0)
_KEYS: Final = "ResourceId AS resource, coalesce(any_value(ResourceName), any_value(Tags['name'])) AS name, ChargePeriodStart AS start, ChargePeriodEnd AS \"end\", "
_PLACE: Final = tuple(Place.__dataclass_fields__)


@dataclass(slots=True)
class Rules:
    """What may be changed (of `REMOVABLE`), and which jobs may wait: conditions on their traits, and for how long."""

    allow: tuple[str, ...] = REMOVABLE
    deferrable: tuple[str, ...] = ()
    within: int = 24


@dataclass(slots=True)
class Rebalancing:
    """Rows by job and commitment, those with something to save first; totals with the proven gap and the next steps."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """On-demand work of one holder in one place."""

    id: str
    place: Place
    worker: Worker
    hours: list[int] = field(default_factory=list)
    cost: list[Decimal] = field(default_factory=list)
    quantity: list[Decimal] = field(default_factory=list)
    resources: set[str] = field(default_factory=set)


def rebalance(ledger: Ledger, window: str | None = None, rules: Rules | None = None) -> Rebalancing:
    """Return what on-demand work of a window fits its idle commitments. Raises LedgerError without a ledger."""
    ledger.require()
    _, span = window_of(ledger, window)
    con = ledger.connect()
    try:
        answer = ask(con, span, rules or Rules())
    finally:
        con.close()
    answer.diagnostics += allocation_state.stale(ledger.store, ledger.config.allocation)
    return answer


def ask(con: duckdb.Connection, window: Window, rules: Rules) -> Rebalancing:
    """Answer over the views of a ledger connection."""
    found = commitments.read(con, window)
    idle = _idle(con)
    supplies = [one for one in found.commitments if (one.id, one.kind) in idle]
    works = _works(con, window, sorted({one.place.provider or "" for one in supplies}), rules)
    hours = [set(idle[one.id, one.kind]) for one in supplies]
    options = [
        [_option(one, number, work, rules, hours[number]) for number, one in enumerate(supplies)]
        for work in works
    ]
    demands = [
        Demand(
            work.id, tuple(work.hours), tuple(work.cost), tuple(work.quantity),
            tuple(option for option in ways if isinstance(option, Option)), work.worker.slack,
        )
        for work, ways in zip(works, options, strict=True)
    ]  # fmt: skip
    amounts = [Supply(one.id, _amounts(one, idle[one.id, one.kind])) for one in supplies]
    plan = solver.rebalance(amounts, demands)
    answer = Rebalancing()
    used = _Used(supplies, idle)
    by_work: dict[int, dict[int, list[Move]]] = defaultdict(lambda: defaultdict(list))
    for move in plan.moves:
        by_work[move.demand][move.option.supply].append(move)
    for number, work in enumerate(works):
        for supply, moves in sorted(by_work[number].items()):
            answer.rows.append(_moved(work, supplies[supply], moves, used.cost(supply, moves)))
        if supplies and not by_work[number]:
            answer.rows.append(_stuck(work, supplies, options[number]))
    answer.rows.sort(key=lambda row: (-row["saved"], -row["on_demand_cost"], row["job_id"]))
    answer.totals = _totals(found, works, plan, used) | {"next_steps": _next(supplies, used)}
    return answer


def _idle(con: duckdb.Connection) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    """Idle amounts by commitment and hour since 1970, where there are any."""
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in commitments.records(con, "SELECT * FROM idle_hours WHERE idle > 0"):
        found[row["commitment_id"], row["kind"]][int(row["hour"].timestamp()) // _HOUR] = row
    return dict(found)


def _amounts(one: Commitment, idle: Mapping[int, Mapping[str, Any]]) -> dict[int, Decimal]:
    """Idle amounts by hour; of reserved machines whole ones only."""
    if not one.terms.whole:
        return {hour: row["idle"] for hour, row in idle.items()}
    return {
        hour: row["idle"].to_integral_value(ROUND_FLOOR) for hour, row in idle.items() if row["idle"] >= 1
    }


def _works(con: duckdb.Connection, window: Window, providers: Sequence[str], rules: Rules) -> list[_Work]:
    """Return the on-demand work of a window at these providers, the dearest first."""
    if not providers:
        return []
    charged = costs.predicate(costs.Question(window=window, allocated=True))
    con.execute(f"CREATE OR REPLACE TEMP VIEW window_allocated AS SELECT * FROM allocated WHERE {charged}")
    charges = models.query("on_demand").replace("{keys}", _KEYS).replace("{charges}", "window_charge")
    query = models.query("demand").replace("{on_demand}", charges)
    rows = con.execute(query.replace("{providers}", costs.tuple_of(providers))).fetchall()
    names = ("id", "job", "resource", "name", *_PLACE, "hour", "cost", "quantity")
    workers = _workers(con, {row[1] for row in rows if row[1]}, {row[2] for row in rows}, rules)
    found: dict[tuple[Any, ...], _Work] = {}
    last = len(names)
    for row in rows:
        if row[last - 1] is None:
            continue
        key = (row[0], *row[4 : last - 3])
        work = found.get(key)
        if work is None:
            job, machine = workers.get(row[1] or ""), workers.get(row[2], Worker())
            mine = job or replace(machine, name=machine.name or row[3])
            worker = replace(mine, slack=max(mine.slack, machine.slack), stays=mine.stays or machine.stays)
            work = found[key] = _Work(row[0], Place(*row[4 : last - 3]), worker)
        if work.hours and work.hours[-1] == row[last - 3]:  # another machine of the same job
            work.cost[-1] += row[last - 2]
            work.quantity[-1] += row[last - 1]
        else:
            work.hours.append(row[last - 3])
            work.cost.append(row[last - 2])
            work.quantity.append(row[last - 1])
        work.resources.add(row[2])
    return sorted(found.values(), key=lambda work: (-total(work.cost), work.id))


def _workers(con: duckdb.Connection, jobs: set[str], resources: set[str], rules: Rules) -> dict[str, Worker]:
    """What is known of the holders: of jobs what telemetry told, of resources their tags."""
    chosen = [_condition(text) for text in rules.deferrable]
    waits = " OR ".join(chosen) or "false"
    found = {}
    columns = "job_id, name, kind, namespace, team, owner, workload_type, labels"
    for *told, labels, may_wait in con.execute(
        f"SELECT {columns}, coalesce({waits}, false) FROM jobs WHERE job_id IN (SELECT unnest($jobs))", {"jobs": sorted(jobs)}
    ).fetchall():  # fmt: skip
        marks = labels or {}
        slack = max(slack_of(marks), rules.within if may_wait else 0)
        found[told[0]] = Worker(told[1], told[2], told[3], told[4], told[5], told[6], slack, stays(marks))
    for resource, tags, team, owner in con.execute(
        """SELECT ResourceId, any_value(Tags), any_value(x_Team), any_value(x_Owner) FROM window_charge
           WHERE ResourceId IN (SELECT unnest($resources)) GROUP BY 1""",
        {"resources": sorted(resources)},
    ).fetchall():
        marks = tags or {}
        found.setdefault(
            resource, Worker(marks.get("name"), None, None, team, owner, None, slack_of(marks), stays(marks))
        )
    return found


def _condition(text: str) -> str:
    name, sign, value = text.partition("=")
    if not sign or not value:
        raise UsageError(
            f"can't read the condition {text!r}", where="--deferrable", hint="Write workload_type=evaluation."
        )
    return f"{trait(name)}::VARCHAR = {duckdb.literal(value.strip())}"


def _option(
    one: Commitment, number: int, work: _Work, rules: Rules, idle: set[int]
) -> Option | tuple[str, ...]:
    """Return the way of work to a commitment, or what is in the way, the hardest first.

    Where nothing is in the way and the provider applies it by itself, it was used up in the hours of the work, which may
    then wait. If it wasn't, there is a reason that the bill doesn't tell: platform, licence or tenancy.
    """
    wrong = mismatches(one, work.place)
    if one.terms.automatic and not wrong and not idle.isdisjoint(work.hours):
        return ("not applied by the provider",)
    hard = tuple(name for name in wrong if name not in REMOVABLE or name not in rules.allow)
    if "region" in wrong and work.worker.stays:
        hard = (*hard, "bound to its region")
    probe = core.need(one, work.place, Decimal(1), Decimal(1))
    if hard or probe is None:
        return hard or ("rate unknown",)
    money = one.category == "Spend" or one.unit == one.place.currency
    elsewhere = one.place.region if "region" in wrong else one.place.zone if "zone" in wrong else ""
    return Option(number, probe, elsewhere or "", not money, wrong)


class _Used:
    """What moves take of the idle commitments, in their own unit and in what the idle part cost."""

    def __init__(
        self, supplies: Sequence[Commitment], idle: Mapping[tuple[str, str], Mapping[int, Mapping[str, Any]]]
    ) -> None:
        self.supplies = supplies
        self.hours = [idle[one.id, one.kind] for one in supplies]
        self.taken = [_ZERO for _ in supplies]

    def cost(self, supply: int, moves: Sequence[Move]) -> Decimal:
        """Count moves to a supply; return what the idle part that they take cost."""
        found = []
        for move in moves:
            row = self.hours[supply][move.at]
            found.append(row["idle_cost"] * move.amount / row["idle"])
        cost = total(found)
        self.taken[supply] += cost
        return cost


def _moved(work: _Work, one: Commitment, moves: Sequence[Move], stranded: Decimal) -> dict[str, Any]:
    shifted = [move for move in moves if move.at != move.hour]
    saved = total(move.saved for move in moves)
    steps = moves[0].option.steps
    first, last = min(move.at for move in moves), max(move.at for move in moves) + 1
    return _row(work) | {
        "commitment_id": one.id, "commitment": one.terms.title, "saved": saved, "hours": len({move.at for move in moves}),
        "machine_hours": total(move.quantity for move in moves), "stranded_used": stranded,
        "blocker": ", ".join(steps) or ("must be started in it" if not one.terms.automatic else "time"),
        "shifted_hours": len({move.at for move in shifted}),
        "from": _moment(first), "until": _moment(last), "to_region": one.place.region, "to_account": sorted(filter(None, one.accounts)),
        "action": action(_called(work), work.place, one, steps, _delays(shifted)),
        "source": one.terms.share.source if "account" in steps and one.terms.share else None,
    }  # fmt: skip


def _called(work: _Work) -> Worker:
    """The worker with a name to call it by: the end of its resource's id where it has none."""
    return work.worker if work.worker.name else replace(work.worker, name=work.id.rpartition("/")[2])


def _delays(shifted: Sequence[Move]) -> list[tuple[datetime, datetime]]:
    """Each new start beside the old one, a row per delayed run."""
    pairs: list[tuple[datetime, datetime]] = []
    before: Move | None = None
    for move in sorted(shifted, key=lambda move: move.hour):
        if before is None or move.hour > before.hour + 1 or move.at - move.hour != before.at - before.hour:
            pairs.append((_moment(move.hour), _moment(move.at)))
        before = move
    return pairs


def _moment(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * _HOUR, UTC)


def _row(work: _Work) -> dict[str, Any]:
    place, worker = work.place, work.worker
    return {
        "job_id": work.id, "name": worker.name, "team": worker.team, "owner": worker.owner, "provider": place.provider,
        "account": place.account, "region": place.region, "zone": place.zone, "instance_type": place.instance_type,
        "gpu_model": place.gpu_model, "resources": len(work.resources), "on_demand_cost": total(work.cost),
        "currency": place.currency,
    }  # fmt: skip


def _stuck(
    work: _Work, supplies: Sequence[Commitment], ways: Sequence[Option | tuple[str, ...]]
) -> dict[str, Any]:
    """A row of work that nothing was saved of, with what is in the way of the commitment that is nearest to it."""
    reasons: list[tuple[int, Decimal, str, Commitment, str]] = []
    for other, way in zip(supplies, ways, strict=True):
        most_idle = -(other.unused_cost or _ZERO)
        if isinstance(way, Option):
            reasons.append((0, most_idle, other.id, other, "nothing idle in its hours"))
        elif "provider" not in way and "currency" not in way:
            reasons.append((len(way), most_idle, other.id, other, way[0]))
    nearest = min(reasons, key=lambda reason: reason[:3], default=None)
    one = nearest[3] if nearest is not None else None
    detail = _detail(nearest[4] if nearest is not None else "no idle commitment of this provider", work, one)
    return _row(work) | {
        "commitment_id": None if one is None else one.id, "commitment": None if one is None else one.terms.title,
        "saved": _ZERO,
        "hours": 0, "machine_hours": _ZERO, "stranded_used": _ZERO, "blocker": detail, "shifted_hours": 0, "from": None,
        "until": None, "to_region": None, "to_account": [], "action": None, "source": None,
    }  # fmt: skip


def _detail(blocker: str, work: _Work, one: Commitment | None) -> str:
    if one is None:
        return blocker
    if blocker == "family":
        return (
            f"family: {work.place.family or 'unknown'}, the commitment is for {one.place.family or 'unknown'}"
        )
    if blocker == "instance type":
        return f"instance type: {work.place.instance_type}, the commitment is for {one.place.instance_type}"
    if blocker == "interruption":
        return "interruption: spot machines are never covered"
    return blocker


def _totals(
    found: commitments.Found, works: Sequence[_Work], plan: solver.Plan, used: _Used
) -> dict[str, Any]:
    currency = core.one_of(one.place.currency for one in found.commitments)
    moving = total(
        move.saved for move in plan.moves if set(move.option.steps) - {"account"} and move.at == move.hour
    )
    stranded = total(row["idle_cost"] for hours in used.hours for row in hours.values())
    return {
        "saved": plan.saved, "saved_by_sharing": plan.saved - moving - plan.shifted, "saved_by_moving": moving,
        "saved_by_waiting": plan.shifted, "on_demand_cost": total(total(work.cost) for work in works),
        "stranded_cost": stranded, "stranded_used": total(used.taken), "stranded_left": stranded - total(used.taken),
        "jobs": len(works), "bound": plan.bound, "gap": plan.gap.quantize(Decimal("1e-6")), "currency": currency,
    }  # fmt: skip


def _next(supplies: Sequence[Commitment], used: _Used) -> list[dict[str, Any]]:
    """What to do with what stays idle after the moves: share, exchange, resell, let lapse, in this order."""
    steps = []
    for number, one in enumerate(supplies):
        left = total(row["idle_cost"] for row in used.hours[number].values()) - used.taken[number]
        steps += [
            {
                "commitment_id": one.id, "step": name, "possible": _possible(name, one, way.possible), "text": way.text,
                "source": way.source or None, "stranded_left": left, "expires": one.expires,
            }
            for name, way in one.terms.ways()
        ]  # fmt: skip
    return steps


def _possible(step: str, one: Commitment, usual: bool | None) -> bool | None:  # noqa: FBT001  # what the terms say
    """Say whether a way is open to this one: AWS exchanges convertible reservations only, and sells standard ones only."""
    wanted = {"exchange": "convertible", "resell": "standard"}.get(step)
    if wanted and one.terms.key in {"aws-reservation", "aws-flexible-reservation"}:
        return None if one.offering_class is None else one.offering_class.casefold() == wanted
    return usual
