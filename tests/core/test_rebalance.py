"""Work onto idle commitments: by hand, against every assignment there is, and the laws of any plan."""

from decimal import Decimal
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from gpuledger.core.rebalance import Demand, Option, Plan, Supply, greedy, rebalance

D = Decimal


def work(name: str, hours: dict[int, str], *options: Option, slack: int = 0) -> Demand:
    cost = tuple(D(value) for value in hours.values())
    return Demand(name, tuple(hours), cost, tuple(D(1) for _ in hours), options, slack)


def test_a_dollar_of_idle_commitment_buys_more_on_demand() -> None:
    """7 dollars idle at 70 % of the on-demand price pay for 10 dollars of work; the other 2 stay on demand."""
    plan = rebalance(
        [Supply("plan", {5: D(7)})], [work("train", {5: "12"}, Option(0, D("0.7"), steps=("account",)))]
    )
    assert (plan.saved, plan.gap) == (D(10), D(0))
    (move,) = plan.moves
    assert (move.hour, move.amount, move.option.steps) == (5, D(7), ("account",))
    assert move.quantity == D("0.8333333333")


def test_nothing_moves_between_hours_by_itself() -> None:
    plan = rebalance([Supply("plan", {5: D(100)})], [work("train", {4: "10", 6: "10"}, Option(0, D(1)))])
    assert plan.moves == []
    assert (plan.saved, plan.bound, plan.gap) == (D(0), D(0), D(0))


def test_looking_ahead_beats_the_dearest_first() -> None:
    """The dear job fits both commitments, the cheap one only the first: greedy gives that one away."""
    supplies = [Supply("a", {0: D(10)}), Supply("b", {0: D(10)})]
    jobs = [
        work("dear", {0: "10"}, Option(0, D(1)), Option(1, D(1))),
        work("cheap", {0: "8"}, Option(0, D(1))),
    ]
    assert greedy(supplies, jobs).saved == 10
    assert rebalance(supplies, jobs).saved == 18


def test_a_job_goes_to_one_place() -> None:
    """An hour idle in the east and another in the west: it can have only one of them, and the gap says so."""
    supplies = [Supply("east", {0: D(10)}), Supply("west", {1: D(6)})]
    job = work("train", {0: "10", 1: "10"}, Option(0, D(1), "east"), Option(1, D(1), "west"))
    plan = rebalance(supplies, [job])
    assert {move.option.place for move in plan.moves} == {"east"}
    assert (plan.saved, plan.bound) == (D(10), D(16))
    assert plan.gap == pytest.approx(D("0.375"))


def test_a_run_waits_for_the_first_trough_that_holds_it_whole() -> None:
    idle = {2: D(5), 4: D(5), 5: D(5), 6: D(5)}
    job = work("eval", {0: "5", 1: "5"}, Option(0, D(1)), slack=5)
    plan = rebalance([Supply("plan", idle)], [job])
    assert [(move.hour, move.at) for move in plan.moves] == [(0, 4), (1, 5)]
    assert (plan.saved, plan.shifted) == (D(10), D(10))
    late = rebalance([Supply("plan", idle)], [work("eval", {0: "5", 1: "5"}, Option(0, D(1)), slack=3)])
    assert [(move.hour, move.at) for move in late.moves] == [(1, 2)], "two hours later, its second hour fits"


def test_quantities_are_counted_in_hours_not_in_money() -> None:
    """Two reserved machine hours idle, three machines on demand at 4 dollars each."""
    job = Demand("train", (7,), (D(12),), (D(3),), (Option(0, D(1), by_quantity=True),))
    plan = rebalance([Supply("reservation", {7: D(2)})], [job])
    assert (plan.saved, plan.moves[0].amount, plan.moves[0].quantity) == (D(8), D(2), D(2))


amounts = st.integers(0, 40).map(lambda n: D(n) / 4)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Supply], list[Demand]]:
    hours = range(3)
    supplies = [
        Supply(f"s{n}", {hour: draw(amounts) for hour in hours}) for n in range(draw(st.integers(1, 3)))
    ]
    jobs = []
    for number in range(draw(st.integers(1, 4))):
        options = tuple(
            Option(
                supply, draw(st.sampled_from([D("0.5"), D("0.7"), D(1)])), draw(st.sampled_from(["", "west"])),
                by_quantity=draw(st.booleans()),
            )
            for supply in range(len(supplies)) if draw(st.booleans())
        )  # fmt: skip
        when = [hour for hour in hours if draw(st.booleans())]
        cost = tuple(draw(amounts) + D("0.01") for _ in when)
        slack = draw(st.sampled_from([0, 0, 2]))
        jobs.append(Demand(f"j{number}", tuple(when), cost, tuple(D(1) for _ in when), options, slack))
    return supplies, jobs


def within(supplies: list[Supply], jobs: list[Demand], plan: Plan) -> None:
    """No plan takes more than is idle, or saves more than the work costs; a job is in one place."""
    taken: dict[tuple[int, int], Decimal] = {}
    saved: dict[tuple[int, int], Decimal] = {}
    for move in plan.moves:
        assert move.saved > 0
        taken[move.option.supply, move.at] = taken.get((move.option.supply, move.at), D(0)) + move.amount
        saved[move.demand, move.hour] = saved.get((move.demand, move.hour), D(0)) + move.saved
        assert 0 <= move.at - move.hour <= jobs[move.demand].slack
    for (supply, hour), amount in taken.items():
        assert amount <= supplies[supply].idle[hour]
    for (number, hour), amount in saved.items():
        assert amount <= jobs[number].cost[jobs[number].hours.index(hour)]
    assert sum(saved.values(), D(0)) == plan.saved


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_never_less_than_greedy_never_more_than_there_is(world: tuple[list[Supply], list[Demand]]) -> None:
    supplies, jobs = world
    plan, simple = rebalance(supplies, jobs), greedy(supplies, jobs)
    within(supplies, jobs, plan)
    within(supplies, jobs, simple)
    assert plan.saved >= simple.saved
    assert plan.saved - plan.shifted <= plan.bound
    assert 0 <= plan.gap <= 1


def best_of_all(supplies: list[Supply], jobs: list[Demand]) -> float:
    """Try every place of every job, each with a linear program of its own that has a variable for all there is."""
    most = 0.0
    for places in product(*[sorted({option.place for option in job.options}) or [""] for job in jobs]):
        rows: list[tuple[int, int, float]] = []
        limits: list[Any] = []
        at: dict[tuple[int, int], int] = {}
        count = 0
        for job, place in zip(jobs, places, strict=True):
            for cost, hour in zip(job.cost, job.hours, strict=True):
                mine = len(limits)
                limits.append(float(cost))
                for option in job.options:
                    if option.place == place:
                        if (option.supply, hour) not in at:
                            at[option.supply, hour] = len(limits)
                            limits.append(float(supplies[option.supply].idle[hour]))
                        rate = float(option.share) / (float(cost) if option.by_quantity else 1)
                        rows += [(mine, count, 1.0), (at[option.supply, hour], count, rate)]
                        count += 1
        if count:
            matrix = np.zeros((len(limits), count))
            for row, column, value in rows:
                matrix[row, column] = value
            most = max(most, -linprog(-np.ones(count), A_ub=matrix, b_ub=limits).fun)
    return most


@given(worlds())
@settings(max_examples=25, deadline=None)
def test_the_bound_holds_for_the_best_of_all_assignments(world: tuple[list[Supply], list[Demand]]) -> None:
    supplies, jobs = world
    jobs = [Demand(job.id, job.hours, job.cost, job.quantity, job.options) for job in jobs]
    plan, best = rebalance(supplies, jobs), best_of_all(supplies, jobs)
    assert float(plan.saved) <= best + 1e-6
    assert best <= float(plan.bound) + 1e-6
    if all(len({option.place for option in job.options}) <= 1 for job in jobs):
        assert float(plan.saved) == pytest.approx(best, abs=1e-6)
