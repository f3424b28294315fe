"""Decisions of the policy: each rule, each mode, and that nothing passes because something can't be told."""

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.policy import (
    Budget,
    Cards,
    Decision,
    History,
    Policy,
    Rate,
    Submission,
    Surroundings,
    decide,
    estimate,
    history_key,
)
from gpuledger.core.policy.decide import off_hours
from gpuledger.core.policy.model import Calendar, Exemption, Limit, Require, Scope, When
from gpuledger.core.policy.periods import period_of
from gpuledger.core.usage import Evidence

TUESDAY = datetime(2026, 11, 24, 12, tzinfo=UTC)
SATURDAY = datetime(2026, 11, 28, 12, tzinfo=UTC)
COST_CENTER = Require(dimension="cost_center", register="centers", default_from=("namespace",))
ENFORCED = Policy(mode="enforce", require=(COST_CENTER,))


def rates(card: Cards) -> Rate | None:
    return Rate(Decimal(2), "test") if card.model == "H100" else None


def around(
    now: datetime = TUESDAY, left: Decimal | None = None, history: History | None = None
) -> Surroundings:
    return Surroundings(
        now=now,
        rates=rates,
        history=history or History({}),
        registers={"centers": frozenset({"CC-1", "CC-2"})},
        left=lambda _: left,
    )


def job(**changes: Any) -> Submission:  # noqa: ANN401 - fields of a submission
    given = {
        "plane": "kubernetes", "kind": "Job", "name": "train", "namespace": "ml",
        "cards": (Cards(Fraction(8), "H100"),), "hours": Decimal(10),
        "fields": {"cost_center": "the label gpuledger.io/cost-center"},
    }  # fmt: skip
    return Submission(**{**given, **changes})


def said(**values: str) -> dict[str, Evidence]:
    return {name: Evidence(value, "label", 0) for name, value in values.items()}


def rules(decision: Decision) -> list[str]:
    return [reason.rule for reason in decision.reasons]


def test_a_missing_dimension_is_refused_with_what_to_add() -> None:
    decision = decide(ENFORCED, job(), around())
    assert (decision.outcome, rules(decision)) == ("deny", ["cost_center"])
    assert decision.reasons[0].text == (
        "cost_center is missing. Add the label gpuledger.io/cost-center (CC-1, CC-2)."
    )


def test_with_the_dimension_it_is_allowed_and_priced() -> None:
    decision = decide(ENFORCED, job(said=said(cost_center="CC-1")), around())
    assert (decision.outcome, decision.reasons) == ("allow", ())
    assert decision.estimate.usd_per_hour == Decimal("16.00")
    assert decision.estimate.cost_p50 == decision.estimate.cost_p90 == Decimal("160.00")


def test_a_value_that_the_register_lacks_is_refused_and_the_nearest_named() -> None:
    decision = decide(ENFORCED, job(said=said(cost_center="CC-11")), around())
    assert decision.outcome == "deny"
    assert "Did you mean CC-1?" in decision.reasons[0].text


def test_a_default_fills_what_is_missing_but_never_replaces_what_is_said() -> None:
    offered = {"namespace": {"cost_center": "CC-2"}}
    decision = decide(ENFORCED, job(offered=offered), around())
    assert (decision.outcome, decision.filled["cost_center"]) == ("allow", ("CC-2", "namespace"))
    decision = decide(ENFORCED, job(offered=offered, said=said(cost_center="CC-1")), around())
    assert (decision.outcome, decision.filled) == ("allow", {})


def test_a_default_is_checked_like_any_value() -> None:
    decision = decide(ENFORCED, job(offered={"namespace": {"cost_center": "CC-9"}}), around())
    assert decision.outcome == "deny"


def test_patterns_match_the_whole_value() -> None:
    policy = Policy(mode="enforce", require=(Require(dimension="team", pattern="[a-z]+"),))
    assert decide(policy, job(said=said(team="nlp")), around()).outcome == "allow"
    assert decide(policy, job(said=said(team="nlp2")), around()).outcome == "deny"


def test_what_a_workload_is_charged_to_can_not_be_changed_while_it_lives() -> None:
    changed = job(said=said(cost_center="CC-2"), before={"cost_center": "CC-1"})
    assert decide(ENFORCED, changed, around()).outcome == "deny"
    same = job(said=said(cost_center="CC-1"), before={"cost_center": "CC-1"})
    assert decide(ENFORCED, same, around()).outcome == "allow"


@pytest.mark.parametrize(
    ("mode", "outcome"), [("off", "allow"), ("audit", "allow"), ("warn", "warn"), ("enforce", "deny")]
)
def test_modes_are_milder_than_what_enforcing_would_say(mode: Any, outcome: str) -> None:  # noqa: ANN401 - a Mode
    decision = decide(Policy(mode=mode, require=(COST_CENTER,)), job(), around())
    assert decision.outcome == outcome
    assert decision.would == ("allow" if mode == "off" else "deny")


def test_the_first_scope_that_matches_says_the_mode() -> None:
    scopes = (
        Scope(name="lab", when=When(namespaces=("lab-*",)), mode="audit"),
        Scope(name="all", when=When(without_gpus=True), mode="enforce"),
    )
    policy = Policy(mode="off", require=(COST_CENTER,), scope=scopes)
    assert decide(policy, job(namespace="lab-a"), around()).scope == "lab"
    assert decide(policy, job(namespace="prod"), around()).outcome == "deny"


def test_a_scope_that_loosens_does_not_take_a_workload_whose_namespace_is_unknown() -> None:
    policy = Policy(
        mode="enforce",
        require=(COST_CENTER,),
        scope=(Scope(name="lab", when=When(namespaces=("lab",)), mode="off"),),
    )
    assert decide(policy, job(namespace=None), around()).outcome == "deny"


def test_a_rule_takes_a_workload_whose_namespace_or_number_of_cards_is_unknown() -> None:
    rule = Require(dimension="team", when=When(namespaces=("prod",), min_gpus=Decimal(4)))
    policy = Policy(mode="enforce", require=(rule,))
    assert decide(policy, job(namespace=None), around()).outcome == "deny"
    assert decide(policy, job(namespace="prod", cards=(Cards(None),)), around()).outcome == "deny"
    assert (
        decide(policy, job(namespace="prod", cards=(Cards(Fraction(2), "H100"),)), around()).outcome
        == "allow"
    )
    assert decide(policy, job(namespace="dev"), around()).outcome == "allow"


def test_what_asks_for_no_card_is_left_alone_unless_it_is_meant() -> None:
    assert decide(ENFORCED, job(cards=()), around()).outcome == "allow"
    every = Require(dimension="team", when=When(without_gpus=True))
    assert decide(Policy(mode="enforce", require=(every,)), job(cards=()), around()).outcome == "deny"


@pytest.mark.parametrize(
    ("limit", "changes", "words"),
    [
        (Limit(name="size", max_gpus=Decimal(4)), {}, "allows 4 cards, this takes 8"),
        (Limit(name="size", max_gpus=Decimal(8)), {"most_gpus": Fraction(16)}, "this takes 16"),
        (Limit(name="long", max_hours=Decimal(9)), {}, "allows 9 hours, this takes 10"),
        (Limit(name="long", max_hours=Decimal(9)), {"hours": None}, "can't be told"),
        (Limit(name="long", max_hours=Decimal(99)), {"serves": True}, "can't be told"),
        (Limit(name="work", max_gpu_hours=Decimal(79)), {}, "allows 79 card-hours, this takes 80"),
        (
            Limit(name="dear", max_cost_usd=Decimal(159)),
            {},
            "allows 159 USD expected (P90), this takes 160.00",
        ),
        (
            Limit(name="dear", max_cost_usd=Decimal(10**9)),
            {"cards": (Cards(Fraction(1), "X1"),)},
            "can't be told",
        ),
        (Limit(name="end", deadline="always"), {"hours": None}, "wants a deadline"),
    ],
)
def test_limits(limit: Limit, changes: dict[str, Any], words: str) -> None:
    decision = decide(Policy(mode="enforce", limit=(limit,)), job(**changes), around())
    assert decision.outcome == "deny"
    assert words in decision.reasons[0].text
    assert decision.reasons[0].fix


def test_a_deadline_may_be_wanted_only_while_nobody_is_there() -> None:
    policy = Policy(mode="enforce", limit=(Limit(name="end", deadline="off-hours"),))
    assert decide(policy, job(hours=None), around(TUESDAY)).outcome == "allow"
    assert decide(policy, job(hours=None), around(SATURDAY)).outcome == "deny"
    assert decide(policy, job(), around(SATURDAY)).outcome == "allow"


def test_off_hours_are_those_of_the_place() -> None:
    berlin = Calendar(timezone="Europe/Berlin", holidays=(date(2026, 11, 24),))
    seven = datetime(2026, 11, 25, 7, tzinfo=UTC)  # 08:00 in Berlin
    assert (off_hours(Calendar(), seven), off_hours(berlin, seven)) == (True, False)
    assert off_hours(berlin, TUESDAY)  # a holiday


@pytest.mark.parametrize(
    ("left", "outcome"), [(Decimal(160), "allow"), (Decimal("159.99"), "deny"), (None, "allow")]
)
def test_a_budget_is_never_overdrawn(left: Decimal | None, outcome: str) -> None:
    budget = Budget(name="pretraining", owner="ada", amount_usd=Decimal(1000), match={"team": "nlp"})
    decision = decide(Policy(mode="enforce", budget=(budget,)), job(said=said(team="nlp")), around(left=left))
    assert decision.outcome == outcome
    assert decision.draw is not None
    assert decision.draw.needs == Decimal("160.00")
    if outcome == "deny":
        assert decision.reasons[0].text == (
            "budget pretraining has 159.99 USD left, this needs 160.00 USD. Ask ada, or wait for the next month."
        )


def test_a_budget_may_only_warn_and_an_unknown_cost_is_no_small_one() -> None:
    budget = Budget(name="b", owner="ada", amount_usd=Decimal(1), on_exceed="warn")
    named = job(said=said(budget="b"), hours=None)
    decision = decide(Policy(mode="enforce", budget=(budget,)), named, around(left=Decimal(10**9)))
    assert (decision.outcome, decision.would) == ("warn", "warn")
    assert "can't be told" in decision.reasons[0].text
    unknown = decide(Policy(mode="enforce", budget=(budget,)), job(said=said(budget="c")), around())
    assert (unknown.outcome, unknown.reasons[0].text) == ("deny", "there is no budget 'c'. Use one of: b.")


def test_a_service_draws_what_it_costs_until_the_period_ends() -> None:
    budget = Budget(name="b", owner="ada", amount_usd=Decimal(1), period="week")
    served = job(said=said(budget="b"), serves=True)
    decision = decide(Policy(mode="enforce", budget=(budget,)), served, around(left=Decimal(10**9)))
    assert decision.draw is not None
    assert decision.draw.needs == Decimal(16) * (12 + 5 * 24)  # from Tuesday noon to Sunday's end


def test_exemptions_lift_what_they_name_until_they_expire() -> None:
    def exempt(rules_: tuple[str, ...], expires: date) -> Policy:
        one = Exemption(
            name="migration",
            when=When(names=("train",)),
            rules=rules_,
            reason="r",
            approved_by="ada",
            expires=expires,
        )
        return Policy(mode="enforce", require=(COST_CENTER,), exemption=(one,))

    decision = decide(exempt(("cost_center",), date(2026, 11, 24)), job(), around())
    assert (decision.outcome, decision.reasons[0].lifted_by) == ("allow", "migration")
    assert decide(exempt(("team",), date(2026, 11, 24)), job(), around()).outcome == "deny"
    expired = decide(exempt((), date(2026, 11, 23)), job(), around())
    assert (expired.outcome, expired.notes) == ("deny", ("the exemption migration expired on 2026-11-23",))


def test_hours_are_those_of_earlier_runs_and_never_more_than_the_deadline() -> None:
    runs = History({("Job", "ml", "train"): [Decimal(hours) for hours in (1, 2, 3, 4, 5, 6, 7, 8, 9, 20)]})
    known = estimate(job(hours=None), rates, runs)
    assert (known.hours_p50, known.hours_p90) == (Decimal(5), Decimal(9))
    assert (known.cost_p50, known.cost_p90) == (Decimal("80.00"), Decimal("144.00"))
    capped = estimate(job(hours=Decimal(4)), rates, runs)
    assert (capped.hours_p50, capped.hours_p90) == (Decimal(4), Decimal(4))
    few = History({("Job", "ml", "train"): [Decimal(1)] * 4})
    assert estimate(job(hours=None), rates, few).cost_p90 is None


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("llm-7b-ablate", "llm-7b-ablate"),
        ("nightly-29384710", "nightly"),
        ("train-x7k2p", "train"),
        ("train-3-x7k2p", "train"),
        ("sweep-12", "sweep"),
        ("resnet50", "resnet50"),
        ("train-", "train"),
    ],
)
def test_runs_of_one_job_have_one_key(name: str, key: str) -> None:
    assert history_key("Job", "ml", name) == ("Job", "ml", key)


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("week", "2026-11-23", "2026-11-30"),
        ("month", "2026-11-01", "2026-12-01"),
        ("quarter", "2026-10-01", "2027-01-01"),
        ("year", "2026-01-01", "2027-01-01"),
    ],
)
def test_periods(period: Any, start: str, end: str) -> None:  # noqa: ANN401 - a Period
    found = period_of(period, TUESDAY)
    assert [moment.date().isoformat() for moment in found] == [start, end]


VALUES = st.sampled_from(["CC-1", "CC-2", "CC-9", "", "x"])
CARDS = st.lists(
    st.builds(
        Cards,
        st.one_of(st.none(), st.fractions(0, 64, max_denominator=8)),
        st.sampled_from(["H100", "X1", None]),
    ),
    max_size=3,
).map(tuple)
SUBMISSIONS = st.builds(
    lambda cards, hours, serves, value, namespace: job(
        cards=cards,
        hours=hours,
        serves=serves,
        namespace=namespace,
        said=said(cost_center=value) if value else {},
    ),
    CARDS,
    st.one_of(st.none(), st.decimals("0.1", 1000, places=2)),
    st.booleans(),
    VALUES,
    st.sampled_from([None, "ml", "lab"]),
)


@given(SUBMISSIONS, st.one_of(st.none(), st.decimals(0, 10**6, places=2)))
def test_law_what_is_allowed_has_everything_that_was_asked(one: Submission, left: Decimal | None) -> None:
    budget = Budget(name="b", owner="ada", amount_usd=Decimal(1), match={"cost_center": "CC-1"})
    policy = Policy(
        mode="enforce",
        require=(COST_CENTER,),
        limit=(Limit(name="size", max_gpus=Decimal(16)),),
        budget=(budget,),
    )
    decision = decide(policy, one, around(left=left))
    if decision.outcome == "allow" and one.accelerated:
        assert one.said["cost_center"].value in {"CC-1", "CC-2"}
        assert one.gpus is not None
        assert one.gpus <= 16
        if one.said["cost_center"].value == "CC-1" and left is not None:
            assert decision.draw is not None
            assert decision.draw.needs is not None
            assert decision.draw.needs <= left
    assert decide(policy, one, around(left=left)) == decision


@given(SUBMISSIONS)
def test_law_a_stricter_mode_never_lets_more_through(one: Submission) -> None:
    severity = {"allow": 0, "warn": 1, "deny": 2}
    outcomes = [
        severity[decide(Policy(mode=mode, require=(COST_CENTER,)), one, around()).outcome]
        for mode in ("off", "audit", "warn", "enforce")
    ]
    assert outcomes == sorted(outcomes)


@given(SUBMISSIONS)
def test_law_an_estimate_is_never_below_what_it_stands_for(one: Submission) -> None:
    found = estimate(one, rates)
    if found.cost_p90 is not None:
        assert one.gpus is not None
        assert one.hours is not None
        assert found.cost_p90 >= one.gpus * 2 * Fraction(one.hours)
        assert found.cost_p50 is not None
        assert found.cost_p50 <= found.cost_p90
