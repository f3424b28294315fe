"""Putting on-demand work onto idle commitments: which work, which hours, which commitment, so that most money is saved.

Work is a demand by hour at its on-demand cost; a commitment has idle amounts by hour, in a unit of its own, and each way
of a demand to it (`Option`) says how much of it a dollar, or a machine hour, of the demand takes. Where the work needs to
be started elsewhere, its ways have another `place`: a demand goes to one place only.

Without that last condition the hours are linear programs of their own, over classes of work that can go the same ways at
the same rates: their optimum bounds any plan from above. Then every demand is given one place, the programs are solved
again, and the distance to the bound is the proven gap. Solutions are in floating point; what they come to is priced
again in exact decimals, hour by hour, within what is idle and what the work costs.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Context, Decimal
from typing import Final, NamedTuple

_EXACT: Final = Context(prec=60, rounding=ROUND_DOWN)
_STEP: Final = Decimal("1e-10")
_ZERO: Final = Decimal(0)
_NEAR: Final = 1e-9
_COLUMNS: Final = 60_000  # of one linear program: hours are put together up to here


@dataclass(frozen=True, slots=True)
class Supply:
    """Idle amounts of a commitment by hour (any whole number that counts hours)."""

    id: str
    idle: Mapping[int, Decimal]


@dataclass(frozen=True, slots=True)
class Option:
    """A way to a supply (its index); a demand has at most one to each. `share` is what of it one unit takes: of cost, or of quantity if `by_quantity`."""

    supply: int
    share: Decimal
    place: str = ""
    by_quantity: bool = False
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Demand:
    """On-demand work by hour: cost in money, quantity in machine hours; `slack` hours that its start may be put off."""

    id: str
    hours: tuple[int, ...]
    cost: tuple[Decimal, ...]
    quantity: tuple[Decimal, ...]
    options: tuple[Option, ...]
    slack: int = 0


class Move(NamedTuple):
    """Work of one hour put onto a supply: `saved` of its cost for `amount` of the supply, in hour `at` (shifted or not)."""

    demand: int
    hour: int
    at: int
    option: Option
    saved: Decimal
    amount: Decimal
    quantity: Decimal


@dataclass(slots=True)
class Plan:
    """Moves, what they save, and what no plan without shifting in time could exceed."""

    moves: list[Move] = field(default_factory=list)
    saved: Decimal = _ZERO
    bound: Decimal = _ZERO
    shifted: Decimal = _ZERO

    @property
    def gap(self) -> Decimal:
        """Proven distance of the part in the same hours to its optimum, as a share of the bound."""
        return max(1 - (self.saved - self.shifted) / self.bound, _ZERO) if self.bound else _ZERO


def greedy(supplies: Sequence[Supply], demands: Sequence[Demand]) -> Plan:
    """Give the dearest work its best place first, each hour the first supply that has something left. No look ahead."""
    ledger = _Ledger(supplies, demands)
    for number in _by_cost(demands):
        best = max(
            _places(demands[number]), key=lambda place: (ledger.worth(number, place), place), default=None
        )
        if best is not None:
            _fill(ledger, number, best)
    return ledger.plan()


def rebalance(supplies: Sequence[Supply], demands: Sequence[Demand]) -> Plan:
    """Return the plan that saves most, and its proven bound: never less than `greedy` saves.

    What can be delayed is first put onto what is idle in its own hours; runs that are not covered there are then put
    off, whole, to where they are covered best within their slack.
    """
    program = _Program(supplies, demands)
    free = program.solve(None)
    places = _choose(supplies, demands, free)
    plans = [_priced(supplies, demands, program, places)]
    bound = Decimal(repr(free.value)).quantize(_STEP)
    simple = greedy(supplies, demands)
    if simple.saved > plans[0].saved * (1 - Decimal("1e-9")):
        chosen = {move.demand: move.option.place for move in simple.moves}
        plans += [_priced(supplies, demands, program, chosen), simple]
    best = max(plans, key=lambda plan: plan.saved)
    best.bound = max(bound, best.saved)
    if any(demand.slack for demand in demands):
        return _shift(supplies, demands, best)
    return best


def _by_cost(demands: Sequence[Demand]) -> list[int]:
    return sorted(range(len(demands)), key=lambda number: (-sum(demands[number].cost), demands[number].id))


def _places(demand: Demand) -> tuple[str, ...]:
    return tuple(dict.fromkeys(option.place for option in demand.options))


class _Ledger:
    """What is left of supplies and demands while work is put onto them, exactly."""

    def __init__(self, supplies: Sequence[Supply], demands: Sequence[Demand]) -> None:
        self.demands = demands
        self.left = [dict(supply.idle) for supply in supplies]
        self.open = [list(demand.cost) for demand in demands]
        self.moves: dict[int, list[Move]] = defaultdict(list)

    def need(self, number: int, position: int, option: Option) -> Decimal:
        """Return what of the supply the whole hour of the demand takes."""
        demand = self.demands[number]
        return option.share * (demand.quantity if option.by_quantity else demand.cost)[position]

    def room(self, number: int, position: int, option: Option, at: int) -> Decimal:
        """Return what of the hour's cost the supply could take in hour `at`."""
        left = self.left[option.supply].get(at, _ZERO)
        need = self.need(number, position, option)
        if left <= 0 or need <= 0:
            return _ZERO
        cost = self.demands[number].cost[position]
        return cost if need <= left else _EXACT.divide(cost * left, need).quantize(_STEP, context=_EXACT)

    def worth(self, number: int, place: str, shift: int = 0, run: Sequence[int] | None = None) -> Decimal:
        """Return what a place would save of a demand, or of a run of it."""
        demand = self.demands[number]
        options = [option for option in demand.options if option.place == place]
        worth = _ZERO
        for position in range(len(demand.hours)) if run is None else run:
            still = self.open[number][position]
            for option in options:
                if still <= 0:
                    break
                gain = min(still, self.room(number, position, option, demand.hours[position] + shift))
                worth += gain
                still -= gain
        return worth

    def take(self, number: int, position: int, option: Option, wanted: Decimal, shift: int = 0) -> Decimal:
        """Put up to `wanted` of an hour's cost onto a supply; return what it took."""
        demand = self.demands[number]
        at = demand.hours[position] + shift
        cost = demand.cost[position]
        saved = min(wanted, self.open[number][position], self.room(number, position, option, at))
        if saved <= 0:
            return _ZERO
        need, quantity = self.need(number, position, option), demand.quantity[position]
        if saved < cost:
            part = _EXACT.divide(saved, cost)
            need = min(need * part, self.left[option.supply][at])
            quantity = (quantity * part).quantize(_STEP, context=_EXACT)
        amount = min(need, self.left[option.supply][at])
        self.left[option.supply][at] -= amount
        self.open[number][position] -= saved
        self.moves[number].append(Move(number, demand.hours[position], at, option, saved, amount, quantity))
        return saved

    def undo(self, number: int, run: Sequence[int]) -> list[Move]:
        """Give back what the moves of a demand's run took, and return these."""
        hours = {self.demands[number].hours[position]: position for position in run}
        gone = [move for move in self.moves[number] if move.hour in hours]
        for move in gone:
            self.left[move.option.supply][move.at] += move.amount
            self.open[number][hours[move.hour]] += move.saved
        self.moves[number] = [move for move in self.moves[number] if move.hour not in hours]
        return gone

    def plan(self) -> Plan:
        """Return what was moved."""
        moves = [move for number in sorted(self.moves) for move in self.moves[number]]
        return Plan(moves, sum((move.saved for move in moves), _ZERO))


@dataclass(slots=True)
class _Solution:
    """Cost covered by class, hour and option, the value, and by supply and hour what one more unit would be worth."""

    value: float
    flows: dict[
        tuple[int, int], list[tuple[int, float]]
    ]  # (class, hour) -> (option's place in the class, cost)
    classes: list[tuple[Option, ...]]
    members: dict[tuple[int, int], list[tuple[int, int]]]  # (class, hour) -> (demand, position)
    prices: dict[tuple[int, int], float]


class _Program:
    """The linear programs of all hours."""

    def __init__(self, supplies: Sequence[Supply], demands: Sequence[Demand]) -> None:
        self.supplies = supplies
        self.demands = demands
        self.idle = [{hour: float(left) for hour, left in supply.idle.items()} for supply in supplies]

    def solve(self, places: Mapping[int, str] | None) -> _Solution:
        """Cover as much cost as possible; `places` are those that demands go to, None lets each hour choose."""
        known: dict[tuple[int, float], int] = {}
        signatures: dict[tuple[object, ...], int] = {}
        found = _Solution(0.0, {}, [], defaultdict(list), {})
        rates: list[tuple[float, ...]] = []
        volume: dict[tuple[int, int], float] = defaultdict(float)
        for number, demand in enumerate(self.demands):
            options = tuple(
                option
                for option in demand.options
                if places is None or option.place == places.get(number, "")
            )
            if not options:
                continue
            counted = any(option.by_quantity for option in options)
            ways = tuple((option.supply, option.share, option.by_quantity) for option in options)
            signature = signatures.setdefault(ways, len(signatures))
            idle = [self.idle[option.supply] for option in options]
            before, per_unit = (_ZERO, _ZERO), 1.0
            for position, hour in enumerate(demand.hours):
                pair = (demand.cost[position], demand.quantity[position])
                cost = float(pair[0])
                if cost <= 0 or not any(left.get(hour, 0.0) > 0 for left in idle):
                    continue
                if counted and pair != before:
                    before, per_unit = pair, round(float(pair[1]) / cost, 12)
                key = (signature, per_unit)
                if key not in known:
                    known[key] = len(found.classes)
                    found.classes.append(options)
                    rates.append(tuple(
                        float(option.share) * (per_unit if option.by_quantity else 1.0) for option in options
                    ))  # fmt: skip
                place = (known[key], hour)
                found.members[place].append((number, position))
                volume[place] += cost
        for hours in self._alike(volume):
            self._solve_hours(found, rates, volume, hours)
        return found

    def _alike(self, volume: Mapping[tuple[int, int], float]) -> Iterator[list[list[tuple[int, list[int]]]]]:
        """Yield batches of distinct hours, each with its classes and the hours that are the same as it."""
        by_hour: dict[int, list[int]] = defaultdict(list)
        for kind, hour in volume:
            by_hour[hour].append(kind)
        same: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for hour in sorted(by_hour):
            idle = tuple(round(left.get(hour, 0.0), 9) for left in self.idle)
            same[idle, tuple(sorted((kind, round(volume[kind, hour], 9)) for kind in by_hour[hour]))].append(
                hour
            )
        batch: list[list[tuple[int, list[int]]]] = []
        columns = 0
        for hours in same.values():
            batch.append([(kind, hours) for kind in sorted(by_hour[hours[0]])])
            columns += len(batch[-1])
            if columns > _COLUMNS // 4:
                yield batch
                batch, columns = [], 0
        if batch:
            yield batch

    def _solve_hours(
        self, found: _Solution, rates: Sequence[tuple[float, ...]], volume: Mapping[tuple[int, int], float],
        batch: Sequence[Sequence[tuple[int, list[int]]]],
    ) -> None:  # fmt: skip
        """Solve a batch of distinct hours as one sparse program and write its flows to every hour that is the same."""
        rows: list[int] = []
        columns: list[int] = []
        values: list[float] = []
        limits: list[float] = []
        variables: list[tuple[int, int, list[int]]] = []
        supplies: dict[tuple[int, int], int] = {}
        for group in batch:
            for kind, hours in group:
                row = len(limits)
                limits.append(volume[kind, hours[0]])
                for number, option in enumerate(found.classes[kind]):
                    idle = self.idle[option.supply].get(hours[0], 0.0)
                    if idle <= 0:
                        continue
                    at = (option.supply, hours[0])
                    if at not in supplies:
                        supplies[at] = len(limits)
                        limits.append(idle)
                    rows += [row, supplies[at]]
                    columns += [len(variables)] * 2
                    values += [1.0, rates[kind][number]]
                    variables.append((kind, number, hours))
        if not variables:
            return
        solution, duals = _maximum(rows, columns, values, limits, [len(one[2]) for one in variables])
        for (kind, number, hours), covered in zip(variables, solution, strict=True):
            if covered > _NEAR:
                found.value += covered * len(hours)
                for hour in hours:
                    found.flows.setdefault((kind, hour), []).append((number, covered))
        same = {hours[0]: hours for group in batch for _, hours in group}
        for (supply, hour), row in supplies.items():
            for one in same[hour]:
                found.prices[supply, one] = duals[row] / len(same[hour])


def _maximum(
    rows: list[int], columns: list[int], values: list[float], limits: list[float], worth: list[int]
) -> tuple[list[float], list[float]]:
    """Return the variables that make the most of `worth` within the limits, and what one more of each limit is worth."""
    import numpy as np
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    matrix = csr_array((values, (rows, columns)), shape=(len(limits), len(worth)))
    result = linprog(
        -np.asarray(worth, dtype=float), A_ub=matrix, b_ub=limits, bounds=(0, None), method="highs"
    )
    if result.status != 0:
        raise ArithmeticError(f"HiGHS found no optimum: {result.message}")
    return result.x.tolist(), (-result.ineqlin.marginals).tolist()


def _choose(supplies: Sequence[Supply], demands: Sequence[Demand], free: _Solution) -> dict[int, str]:
    """Give every demand one place: the one that is worth most by the free optimum's prices and what is left."""
    ledger = _Ledger(supplies, demands)
    chosen = {}
    several = []
    for number, demand in enumerate(demands):
        places = _places(demand)
        if len(places) == 1:
            chosen[number] = places[0]
        elif places:
            several.append(number)
    if not several:
        return chosen
    for number in _by_cost(demands):
        if number in chosen:
            _fill(ledger, number, chosen[number])
    reduced = {
        number: {place: _reduced(demands[number], place, free) for place in _places(demands[number])}
        for number in several
    }
    for number in sorted(several, key=lambda one: (-max(reduced[one].values()), demands[one].id)):
        chosen[number] = max(
            _places(demands[number]),
            key=lambda place: (ledger.worth(number, place), reduced[number][place], place),
        )
        _fill(ledger, number, chosen[number])
    return chosen


def _fill(ledger: _Ledger, number: int, place: str, shift: int = 0, run: Sequence[int] | None = None) -> None:
    """Put a demand, or a run of it, onto the supplies of a place, in their order."""
    demand, still = ledger.demands[number], ledger.open[number]
    ways = [(option, ledger.left[option.supply]) for option in demand.options if option.place == place]
    for position in range(len(demand.hours)) if run is None else run:
        at = demand.hours[position] + shift
        for option, left in ways:
            if left.get(at, _ZERO) > 0:
                ledger.take(number, position, option, still[position], shift)
                if still[position] <= 0:
                    break


def _reduced(demand: Demand, place: str, free: _Solution) -> float:
    """Return what a place is worth to a demand once the supplies are paid for at their prices."""
    worth = 0.0
    options = [option for option in demand.options if option.place == place]
    for position, hour in enumerate(demand.hours):
        cost, quantity = float(demand.cost[position]), float(demand.quantity[position])
        gains = [
            cost
            - float(option.share)
            * (quantity if option.by_quantity else cost)
            * free.prices.get((option.supply, hour), 0.0)
            for option in options
        ]
        worth += max([0.0, *gains])
    return worth


def _priced(
    supplies: Sequence[Supply], demands: Sequence[Demand], program: _Program, places: Mapping[int, str]
) -> Plan:
    """Solve with every demand at its place, and price the result exactly: the dearest work of a class comes first."""
    solved = program.solve(places)
    ledger = _Ledger(supplies, demands)
    order = {number: rank for rank, number in enumerate(_by_cost(demands))}
    for place, flows in solved.flows.items():
        members = sorted(solved.members[place], key=lambda member: order[member[0]])
        for choice, covered in flows:
            left = Decimal(repr(covered))
            for number, position in members:
                if left <= 0:
                    break
                wanted = solved.classes[place[0]][choice].supply
                option = next(one for one in demands[number].options if one.supply == wanted)
                left -= ledger.take(number, position, option, left + left * Decimal(repr(_NEAR)))
    return ledger.plan()


def _shift(supplies: Sequence[Supply], demands: Sequence[Demand], plan: Plan) -> Plan:
    """Put off runs that are not covered in their own hours to where most of them is, within their slack.

    The dearest run first; then each run that was put off is taken back and placed once more, now that all are known.
    """
    ledger = _Ledger(supplies, demands)
    positions = [{hour: position for position, hour in enumerate(demand.hours)} for demand in demands]
    for move in plan.moves:
        ledger.take(move.demand, positions[move.demand][move.hour], move.option, move.saved)
    before = ledger.plan().saved
    runs = [(number, run) for number, demand in enumerate(demands) if demand.slack for run in _runs(demand)]
    runs.sort(key=lambda one: (-sum(ledger.open[one[0]][position] for position in one[1]), one))
    for _ in range(2):
        for number, run in runs:
            _place(ledger, number, run)
    result = ledger.plan()
    result.bound = plan.bound
    result.shifted = result.saved - before
    return result


def _runs(demand: Demand) -> list[list[int]]:
    """Positions of hours that follow each other without a break."""
    found: list[list[int]] = []
    for position, hour in enumerate(demand.hours):
        if found and demand.hours[found[-1][-1]] == hour - 1:
            found[-1].append(position)
        else:
            found.append([position])
    return found


def _place(ledger: _Ledger, number: int, run: Sequence[int]) -> None:
    """Put one run where it saves most: as it is, or later as a whole, the sooner the better."""
    demand = ledger.demands[number]
    whole = sum((demand.cost[position] for position in run), _ZERO)
    if sum((ledger.open[number][position] for position in run), _ZERO) <= 0:
        return
    mine = ledger.undo(number, run)
    best, when, where = sum((move.saved for move in mine), _ZERO), 0, ""
    for place in _places(demand):
        for shift in range(1, demand.slack + 1):
            worth = ledger.worth(number, place, shift, run)
            if worth > best:
                best, when, where = worth, shift, place
            if best >= whole:
                break
    if when:
        _fill(ledger, number, where, when, run)
        return
    positions = {demand.hours[position]: position for position in run}
    for move in mine:
        ledger.take(number, positions[move.hour], move.option, move.saved, move.at - move.hour)
