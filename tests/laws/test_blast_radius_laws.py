"""Laws of the blast radius: ordered quantiles, no loss above the worst case, and limits that never make it dearer."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from gpuledger.core.blast_lines import lines, money
from gpuledger.core.blast_radius import COUNTS, RATES, SUMS, TIMES, Guardrail, Pool, Radius, assess
from gpuledger.core.draws import Dist, fixed

SAMPLES = 200


def dists(low: int, high: int) -> st.SearchStrategy[Dist]:
    number = st.integers(low, high)
    return st.one_of(
        number.map(fixed),
        st.tuples(number, number).map(lambda two: Dist("uniform", (min(two), max(two)))),
        st.tuples(number, number, number).map(lambda three: Dist("triangular", tuple(sorted(three)))),
        st.tuples(st.integers(max(low, 1), high), st.integers(1, 10)).map(
            lambda two: Dist("lognormal", (two[0], two[0] * two[1]))
        ),
    )


@st.composite
def pools(draw: st.DrawFn, name: str = "a") -> Pool:
    inputs = {"gpus": draw(dists(1, 4000)), "price": draw(dists(1, 100_000_000))}
    for key in COUNTS[1:]:
        if draw(st.booleans()):
            inputs[key] = draw(dists(0, 4000))
    for key in (*SUMS, *RATES):
        if draw(st.booleans()):
            inputs[key] = draw(dists(0, 50_000_000))
    ends = draw(st.sets(st.sampled_from(TIMES), min_size=1))
    for key in (ends | {"max_hours"}) if ends == {"respond"} else ends:
        inputs[key] = draw(dists(0, 200_000))
    lease = draw(st.none() | st.integers(0, 10**10))
    return Pool(name, inputs, "gpu", draw(st.sampled_from([1, 4, 8])), draw(st.integers(0, 100)), lease)


guardrails = st.builds(
    Guardrail,
    name=st.just("rail"),
    detect=st.none() | st.integers(0, 90_000),
    respond=st.none() | st.integers(0, 9000),
    max_hours=st.none() | st.integers(0, 90_000),
    look=st.none() | st.integers(0, 90_000),
    lease_cap=st.none() | st.integers(0, 1000),
    lease_usd=st.none() | st.integers(0, 10**10),
    quota_percent=st.none() | st.integers(0, 100),
    autoscaler_percent=st.none() | st.integers(0, 100),
)


def figures(found: Radius) -> list[int]:
    return [found.same.p50, found.same.p90, found.same.p99, found.worst]


@settings(deadline=None, max_examples=60)
@given(pools("a"), pools("b"), st.integers(0, 2**53 - 1))
def test_quantiles_are_ordered_and_nothing_is_above_the_worst_case(one: Pool, other: Pool, seed: int) -> None:
    found = assess([one, other], seed=seed, samples=SAMPLES)
    assert figures(found) == sorted(figures(found))
    apart = [found.independent.p50, found.independent.p90, found.independent.p99, found.worst]
    assert apart == sorted(apart)
    for each in found.pools:
        ranks = [each.loss.p50, each.loss.p90, each.loss.p99, each.worst]
        assert ranks == sorted(ranks)
        assert min(ranks) >= 0
    assert found.worst == sum(each.worst for each in found.pools)


@settings(deadline=None, max_examples=60)
@given(pools("a"), pools("b"), st.lists(guardrails, min_size=2, max_size=4))
def test_no_guardrail_costs_and_all_of_them_take_at_least_as_much_as_the_best(
    one: Pool, other: Pool, rails: list[Guardrail]
) -> None:
    found = assess([one, other], rails, samples=SAMPLES)
    taken = [rail.removes_p99 for rail in found.guardrails]
    assert taken == sorted(taken, reverse=True)
    assert min(taken) >= 0
    assert found.together is not None
    assert found.same.p99 >= found.together.removes_p99 >= taken[0]


@settings(deadline=None, max_examples=60)
@given(pools(), st.sampled_from(["gpus", "price", *COUNTS[1:], *TIMES, *SUMS, *RATES]), st.integers(1, 50))
def test_more_of_anything_never_costs_less(pool: Pool, key: str, more: int) -> None:
    if key not in pool.inputs:
        return
    dist = pool.inputs[key]
    dearer = replace(
        pool,
        inputs={**pool.inputs, key: Dist(dist.shape, tuple(point * (1 + more) for point in dist.points))},
    )
    before, after = (assess([each], samples=SAMPLES) for each in (pool, dearer))
    assert all(less <= grown for less, grown in zip(figures(before), figures(after), strict=True))


@settings(deadline=None, max_examples=40)
@given(pools("a"), pools("b"), st.integers(0, 1000))
def test_answers_repeat_and_do_not_depend_on_the_order_of_pools(one: Pool, other: Pool, seed: int) -> None:
    first = assess([one, other], seed=seed, samples=SAMPLES)
    assert assess([one, other], seed=seed, samples=SAMPLES) == first
    turned = assess([other, one], seed=seed, samples=SAMPLES)
    assert (turned.same, turned.independent, turned.worst) == (first.same, first.independent, first.worst)


@settings(deadline=None, max_examples=40)
@given(pools("a"), pools("b"))
def test_the_arithmetic_ends_at_the_figures(one: Pool, other: Pool) -> None:
    found = assess([one, other], samples=SAMPLES)
    totals = [line for line in lines(found) if "all pools at once" in line]
    assert {money(found.same.p50), money(found.same.p99), money(found.worst)} == {
        line.rpartition(" = ")[2] for line in totals
    }
