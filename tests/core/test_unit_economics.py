"""Unit economics by hand: the definitions, bases, unknowns and flags."""

from collections.abc import Callable
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction

import pytest

from gpuledger.core.break_even import ApiPrice, Mix, api_cost, break_even
from gpuledger.core.training_economics import RunSums, training_figures
from gpuledger.core.unit_economics import (
    Basis,
    Sums,
    Weights,
    cost,
    cost_basis,
    figures,
    quotient,
    ranked,
    token_basis,
    tokens,
)
from gpuledger.errors import UsageError
from gpuledger.pipeline import unit_economics as pipeline

D = Decimal
# Ten hours of four cards at $2.50: 36 M tokens out, 90 M in, half of them from a cache.
SUMS = Sums(
    input_tokens=D(90_000_000), cached_tokens=D(45_000_000), output_tokens=D(36_000_000), requests=D(100_000),
    failed_requests=D(50), rated_requests=D(100_000), good_requests=D(80_000), rated_output=D(36_000_000),
    good_output=D(27_000_000), effective=D(100), list_cost=D(160), idle=D(20), stranded=D(5), gpu_hours=D(40),
    measured_gpu_hours=D(40), used_gpu_hours=D(10),
)  # fmt: skip


def test_figures_by_hand() -> None:
    found = figures(SUMS, 10, Basis(), (D(7_200_000), D(10)))
    assert found["tokens_per_second"] == 1000  # 36 M / 36,000 s
    assert found["tps_per_dollar"] == 100  # 1000 tokens/s for $10 an hour
    assert found["tokens_per_dollar"] == 360_000
    assert found["cost_per_mtok"] == D("2.777777777778")
    assert found["cost_per_inference"] == D("0.001")
    assert found["cost_per_good_inference"] == D("0.00125")
    assert found["cost_per_gpu_hour"] == D("2.5")
    assert found["cost_per_busy_gpu_hour"] == 10  # a quarter of 40 hours was used
    assert found["peak_tps_per_dollar"] == 200
    assert found["load_efficiency"] == D("0.5")
    assert found["slo_met_share"] == D("0.8")
    assert found["slo_tps_per_dollar"] == 75
    assert found["flags"] == []


@pytest.mark.parametrize(
    ("basis", "count"),
    [("output", 36_000_000), ("total", 126_000_000), ("computed", 81_000_000), ("weighted", 36_000_000 + 9_000_000 + 900_000)],
)  # fmt: skip
def test_token_bases(basis: str, count: int) -> None:
    assert tokens(SUMS, token_basis(basis)) == count


def test_weights_are_the_askers() -> None:
    assert tokens(SUMS, "weighted", Weights(D("0.5"), D(0))) == 36_000_000 + 22_500_000


@pytest.mark.parametrize(("basis", "spent"), [("list", 160), ("effective", 100), ("fully-loaded", 125)])
def test_cost_bases(basis: str, spent: int) -> None:
    assert cost(SUMS, cost_basis(basis)) == spent


@pytest.mark.parametrize("reader", [token_basis, cost_basis])
def test_other_bases_are_refused(reader: Callable[[str], str]) -> None:
    with pytest.raises(UsageError, match="basis 'tco'"):
        reader("tco")


def test_nothing_made_of_a_cost_is_zero_per_dollar_and_no_cost_per_token() -> None:
    found = figures(Sums(output_tokens=D(0), requests=D(0), effective=D(7)), 1, Basis())
    assert found["tps_per_dollar"] == 0
    assert found["cost_per_mtok"] is None
    assert found["cost_per_inference"] is None
    assert "no-tokens" in found["flags"]


def test_unknown_is_not_zero() -> None:
    found = figures(Sums(effective=D(7)), 1, Basis())
    assert (found["tokens"], found["tps_per_dollar"], found["slo_met_share"]) == (None, None, None)
    assert found["flags"] == ["tokens-unknown"]
    found = figures(Sums(output_tokens=D(7)), 1, Basis(cost="list"))
    assert (found["cost"], found["tps_per_dollar"], found["cost_per_mtok"]) == (None, None, None)
    assert found["flags"] == ["cost-unknown"]
    assert tokens(Sums(output_tokens=D(7)), "total") is None


def test_good_figures_need_all_requests_rated() -> None:
    partly = figures(SUMS + Sums(requests=D(1), output_tokens=D(1), list_cost=D(0)), 10, Basis())
    assert (partly["cost_per_good_inference"], partly["slo_tps_per_dollar"]) == (None, None)
    assert partly["slo_met_share"] == D("0.8")


def test_a_missing_list_price_makes_the_list_cost_of_the_whole_unknown() -> None:
    assert (SUMS + Sums(effective=D(1))).list_cost is None
    assert (Sums() + SUMS).list_cost == 160
    assert (SUMS + SUMS).list_cost == 320


def test_quotients_are_rounded_once_half_even() -> None:
    assert quotient(D(1), D(8), 2) == D("0.12")
    assert quotient(D(3), D(8), 2) == D("0.38")
    assert quotient(D(2), D(3)) == D("0.666666666667")
    assert quotient(D(10) ** 40 + 1, D(10) ** 20) == D("100000000000000000000.000000000000")
    assert quotient(D(1), D(0)) is None


def test_figures_of_different_bases_have_no_rank() -> None:
    rows = [figures(SUMS, 1, Basis()), figures(SUMS, 1, Basis(cost="list"))]
    with pytest.raises(ValueError, match="different"):
        ranked(rows)
    slow, none = figures(SUMS + SUMS, 1, Basis()), figures(Sums(), 1, Basis())
    best = figures(SUMS + Sums(output_tokens=D(1), list_cost=D(0)), 1, Basis())
    assert ranked([none, slow, best]) == [best, slow, none]


def test_the_question_reads_every_sum() -> None:
    assert {*pipeline._SUMMED, "list_cost"} == {one.name for one in fields(Sums)}


# A run: 20 hours on 8 cards at $2 a card-hour, 16 hours of which made progress.
RUN = RunSums(
    Sums(effective=D(320), gpu_hours=D(160), list_cost=D(320)), tokens=D(640_000_000), steps=D(100), seconds=D(72_000),
    useful_seconds=D(57_600), lost_seconds={"startup": D(3_600), "wasted_progress": D(7_200)},
    judged=Sums(effective=D(320), list_cost=D(320)),
)  # fmt: skip


def test_training_by_hand() -> None:
    found = training_figures(RUN, Basis())
    assert found["goodput"] == D("0.8")
    assert found["cost_per_mtok"] == D("0.5")
    assert found["cost_per_useful_hour"] == 20
    assert found["cost_per_useful_gpu_hour"] == D("2.5")
    assert found["lost_cost"] == {"startup": 16, "wasted_progress": 32}
    assert (found["discarded_cost"], found["discarded_share"]) == (0, 0)


def test_what_was_thrown_away_is_a_share_of_what_is_known_to_be_kept_or_not() -> None:
    gone = RunSums(RUN.money, seconds=D(3_600), thrown_away=RUN.judged, judged=RUN.judged)
    unjudged = RunSums(RUN.money)
    found = training_figures(RUN + gone + unjudged, Basis())
    assert (found["cost"], found["discarded_cost"], found["discarded_share"]) == (960, 320, D("0.5"))
    assert training_figures(unjudged, Basis())["discarded_share"] is None
    assert training_figures(unjudged, Basis())["goodput"] is None


# Each output token comes with 5 input tokens, of which 3 from the cache: 2 x 1 + 3 x 0.1 + 1 x 5 dollars per million.
MIX = Mix(D(5_000_000), D(3_000_000), D(1_000_000))
PRICE = ApiPrice(D("0.000001"), D("0.0000001"), D("0.000005"))


def test_what_an_api_would_take() -> None:
    assert api_cost(MIX, PRICE) == Fraction(73, 10)
    assert api_cost(MIX, ApiPrice(PRICE.input, None, PRICE.output)) == 10


def test_break_even_of_whole_replicas() -> None:
    # $26.28 an hour is what 1000 tokens a second cost there; a replica makes 1,400 at most.
    found = break_even(Fraction("26.28"), MIX, PRICE, Fraction(1400))
    assert found is not None
    assert (found.one, found.share_of_peak) == (D(1000), D("0.714285714286"))
    # 1400 < 2 x 1000 and 2800 < 3000, but 4200 >= 4000: from three replicas' break-even on there is no gap.
    assert (found.replicas, found.always) == (3, D(3000))


@pytest.mark.parametrize(("peak", "share"), [(1000, 1), (500, 2)])
def test_no_load_always_pays_when_a_replica_makes_no_more_than_it_has_to(peak: int, share: int) -> None:
    found = break_even(Fraction("26.28"), MIX, PRICE, Fraction(peak))
    assert found is not None
    assert (found.one, found.share_of_peak, found.replicas, found.always) == (D(1000), D(share), None, None)


def test_break_even_of_nothing() -> None:
    assert break_even(Fraction(1), Mix(D(1), D(0), D(0)), PRICE, Fraction(1)) is None
    assert break_even(Fraction(1), MIX, ApiPrice(D(0), D(0), D(0)), Fraction(1)) is None
