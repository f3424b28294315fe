"""What holds of every card, however it is observed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.zombies import (
    IDLE_STATES,
    PROTECTED,
    Holding,
    HostLoad,
    Limits,
    Load,
    Observation,
    Progress,
    history,
    judge,
    members,
    reclaim,
)

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ratios = st.decimals(0, 1, places=3)
pasts = st.integers(0, 3000).map(lambda minutes: NOW - timedelta(minutes=minutes))
holdings = st.builds(
    Holding,
    job=st.sampled_from(["a", "b", None]),
    kind=st.sampled_from(["Job", "Deployment", "Slurm", None]),
    namespace=st.sampled_from(["x", None]),
    pod=st.sampled_from(["a-0", "a-1"]),
    started=st.none() | pasts,
    notebook=st.booleans(),
    marks=st.sampled_from([{}, {PROTECTED: "true"}]),
    requests=st.none() | st.sampled_from([Decimal(0), Decimal(9)]),
    live=st.sampled_from([None, True, False]),
    progress=st.none()
    | st.builds(
        Progress, st.just("steps"), st.integers(0, 300).map(lambda minutes: timedelta(minutes=minutes))
    ),
    command=st.none() | st.just(("aws", "ec2", "stop-instances")),
)
hosts = st.builds(
    HostLoad, st.sampled_from([600, 7200]), ratios, st.none() | st.sampled_from([Decimal(9), Decimal(10**6)])
)
loads = st.builds(
    Load,
    st.sampled_from([900, 3600]),
    st.none() | ratios,
    st.none() | st.just(Decimal(80)),
    st.none() | ratios,
)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """A card; a look-back has both ends, in order."""
    ends = draw(st.none() | st.tuples(pasts, pasts))
    return Observation(
        gpu=draw(st.uuids().map(str)),
        now=NOW,
        gpu_model=draw(st.sampled_from(["A100", None])),
        measured_from=min(ends) if ends else None,
        measured_to=max(ends) if ends else None,
        activity=draw(st.none() | ratios),
        last_busy=draw(st.none() | pasts) if ends else None,
        idle_share=draw(st.none() | st.fractions(0, 1)) if ends else None,
        loads=tuple(draw(st.lists(loads, max_size=2))) if ends else (),
        memory_used_mib=draw(st.none() | st.just(Decimal(9000))),
        holdings=tuple(draw(st.lists(holdings, max_size=2))),
        host=draw(st.none() | hosts),
        measure=draw(st.sampled_from(["engine", "requests"])),
        holders_known=draw(st.booleans()),
    )


fleets = st.lists(observations(), max_size=6)


@given(fleets)
def test_every_card_has_one_finding_and_no_verdict_without_proof(fleet: list[Observation]) -> None:
    limits = Limits()
    found = judge(fleet, limits)
    assert [one.observation for one in found] == fleet
    for one in found:
        assert not (one.verdict and one.candidate)
        assert one.evidence
        assert one.idle is None or one.idle >= timedelta(0)
        if one.verdict:
            assert one.state in IDLE_STATES
            assert one.guard is None
            assert one.idle is not None
            assert one.idle >= limits.warn
        if one.observation.activity is None:
            assert not one.verdict
            if one.state == "held-idle":  # by its host's load only
                assert one.observation.host is not None
                assert one.observation.host.cpu <= limits.host_cpu
            else:
                assert one.state == "unknown" or (one.state == "unallocated" and one.candidate)
        if one.observation.measured_from is None:
            assert not one.verdict


@given(fleets)
def test_a_live_protected_holder_keeps_its_card(fleet: list[Observation]) -> None:
    held = Holding(job="kept", kind="Job", pod="kept-0", marks={PROTECTED: "yes"}, live=True)
    found = judge([replace(one, holdings=(*one.holdings, held)) for one in fleet])
    for one in found:
        assert not one.verdict
        assert not one.candidate
        assert reclaim(one, members(found)) is None


@given(fleets, st.randoms(use_true_random=False))
def test_order_does_not_matter(fleet: list[Observation], random: Random) -> None:
    shuffled = list(fleet)
    random.shuffle(shuffled)
    by_name = {one.observation.gpu: one for one in judge(fleet)}
    assert {one.observation.gpu: one for one in judge(shuffled)} == by_name


@given(observations())
def test_more_patience_never_makes_more_verdicts(one: Observation) -> None:
    (soon,) = judge([one], Limits())
    (late,) = judge([one], Limits(warn=timedelta(hours=2)))
    assert soon.verdict or not late.verdict


@given(st.lists(st.tuples(st.integers(1, 300), ratios), min_size=1, max_size=60))
def test_runs_are_apart_and_within_what_was_measured(steps: list[tuple[int, Decimal]]) -> None:
    when, samples = NOW, []
    for seconds, value in steps:
        when += timedelta(seconds=seconds)
        samples.append((when, value))
    found = history(samples, Decimal("0.5"))
    assert found is not None
    assert sum(found.runs, timedelta(0)) <= found.end - found.start
    assert found.idle_share == Fraction(sum(value <= Decimal("0.5") for _, value in samples), len(samples))
    assert len(found.runs) <= found.idle_share * len(samples)
