"""Unit economics of a small ledger, worked out by hand: joins, shares, sources that overlap, APIs, training, changes."""
# ruff: noqa: ANN401  # rows and records take any of their fields

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.allocation_world import HOUR, World, charge, hour, job, node, owned, pod

from gpuledger.core.token_usage import TokenInterval, TrainingInterval
from gpuledger.core.unit_economics import Basis, Weights
from gpuledger.errors import UsageError
from gpuledger.pipeline import unit_facts
from gpuledger.pipeline.unit_against import against
from gpuledger.pipeline.unit_change import change
from gpuledger.pipeline.unit_economics import unit_economics

D = Decimal
CARDS = {"x_GpuModel": "H100", "x_GpuHours": 8}


def machine(cost: str, first: int, resource: str = "i-1", **more: Any) -> dict[str, Any]:
    return charge(cost, resource, (first, first + 1), **CARDS, SkuId=f"{resource}/{first}", **more)


def told(first: float, output: int, length: float = 1, **more: Any) -> TokenInterval:
    where: dict[str, Any] = {"cluster": "east", "namespace": "ml", "deployment": "chat", "pod": "chat"}
    facts: dict[str, Any] = {
        "provider": "vllm",
        "model": "m",
        "output_tokens": D(output),
        "input_tokens": D(4 * output),
    }
    return TokenInterval(start=hour(first), end=hour(first) + length * HOUR, **(where | facts | more))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two hours of a machine with eight cards at $8 and $16; `chat` holds four, `train` two of them; two are idle."""
    made = World(tmp_path)
    made.bill(machine("8", 0), machine("16", 1))
    return made


HOLDERS = (
    node(), job("chat", dimensions=owned(team="nlp", owner="ann")), job("train", dimensions=owned(team="lab")),
    pod("chat", (0, 2), "4", used=D("2")), pod("train", (0, 2), "2"),
)  # fmt: skip


def rows(world: World, **question: Any) -> list[dict[str, Any]]:
    return unit_economics(world.ledger, **question).rows


def only(world: World, **question: Any) -> dict[str, Any]:
    (row,) = rows(world, **question)
    return row


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"job_id": "east/chat", "cluster": None, "namespace": None, "pod": None},
        {"pod": None},
        {"pod": None, "namespace": None, "cluster": None},
    ],
    ids=["pod", "job", "name in its namespace", "name alone"],
)
def test_tokens_find_their_cost(world: World, where: dict[str, Any]) -> None:
    world.telemetry(*HOLDERS, told(0, 36_000, **where), told(1, 7_200, **where))
    world.build()
    found = only(world)
    assert (found["deployment"], found["model"], found["gpu_model"], found["team"]) == (
        "chat",
        "m",
        "H100",
        "nlp",
    )
    assert (found["tokens"], found["cost"], found["gpu_hours"]) == (43_200, 12, 8)
    assert found["tokens_per_second"] == 6
    assert found["tps_per_dollar"] == 1
    assert found["peak_tps_per_dollar"] == D("2.5")  # the first hour: ten a second for $4
    assert found["load_efficiency"] == D("0.4")
    assert found["cost_per_gpu_hour"] == D("1.5")
    assert found["cost_per_busy_gpu_hour"] == 3
    assert (found["token_basis"], found["cost_basis"], found["flags"]) == ("output", "effective", [])


def test_hours_and_groups(world: World) -> None:
    world.telemetry(*HOLDERS, told(0, 36_000), told(1, 7_200))
    world.build()
    assert [(row["hour"][11:13], row["tps_per_dollar"]) for row in rows(world, group_by=["hour"])] == [("00", D("2.5")), ("01", D("0.25"))]  # fmt: skip
    assert [(row["team"], row["cost"]) for row in rows(world, group_by=["team"])] == [("nlp", 12)]
    assert [row["cost"] for row in rows(world, window="2026-10-05..2026-10-05")] == [12]
    assert rows(world, window="2026-11") == []
    assert rows(world, where=["team=lab"]) == []
    assert [row["cost"] for row in rows(world, where=["team!=lab"], limit=1)] == [12]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"group_by": ["tema"]}, "team"),
        ({"where": ["team"]}, "COLUMN=value"),
        ({"where": ["zzzzzz=red"]}, "There are"),
    ],
)
def test_questions_that_cannot_be_read(world: World, question: dict[str, Any], words: str) -> None:
    world.telemetry(*HOLDERS, told(0, 1))
    with pytest.raises(UsageError, match=words):
        rows(world, **question)


def test_fully_loaded_adds_idle_cards_and_unused_commitments(world: World) -> None:
    covered = {"CommitmentDiscountId": "sp", "CommitmentDiscountStatus": "Used"}
    unused = charge("3", "sp", (0, 2), CommitmentDiscountId="sp", CommitmentDiscountStatus="Unused")
    lonely = charge("5", "other", (0, 2), CommitmentDiscountId="other", CommitmentDiscountStatus="Unused")
    world.bill(machine("8", 0, **covered), machine("16", 1, **covered), unused, lonely)
    world.telemetry(*HOLDERS, told(0, 36_000), told(1, 7_200))
    world.build()
    found = unit_economics(world.ledger, basis=Basis(cost="fully_loaded"))
    # Two of eight cards are idle: $6, and $3 unused; chat has two thirds of what was held.
    (row,) = found.rows
    assert (row["cost"], row["idle_cost"], row["stranded_cost"]) == (18, 4, 2)
    assert found.totals["other_jobs_cost"] == 9
    assert found.totals["nobodys_cost"] == 5  # of a commitment that nothing used
    assert row["cost_basis"] == found.totals["cost_basis"] == "fully_loaded"


def test_list_cost_is_unknown_where_a_charge_has_no_list_price(world: World) -> None:
    world.bill(machine("8", 0, ListCost="10"), machine("16", 1, ListCost=None))
    world.telemetry(*HOLDERS, told(0, 36_000), told(1, 7_200))
    world.build()
    basis = Basis(cost="list")
    assert [row["cost"] for row in rows(world, basis=basis, group_by=["hour"])] == [5, None]
    assert only(world, basis=basis)["flags"] == ["cost-unknown"]


def test_a_model_and_an_idle_hour_share_nothing_but_the_denominator(world: World) -> None:
    world.telemetry(*HOLDERS, told(0, 0), told(1, 0))
    world.build()
    found = only(world)
    assert (found["tokens"], found["tps_per_dollar"], found["cost_per_mtok"], found["flags"]) == (
        0,
        0,
        None,
        ["no-tokens"],
    )


def test_hours_that_nobody_told_of_cost_all_the_same(world: World) -> None:
    world.telemetry(*HOLDERS, told(0, 36_000))
    world.build()
    found = only(world)
    assert (found["cost"], found["untold_cost"], found["flags"]) == (12, 8, ["telemetry-gaps"])


def test_tokens_without_a_charge_are_told_and_left_out(world: World) -> None:
    world.telemetry(*HOLDERS, told(0, 36_000), told(5, 999), told(5, 55, deployment="stray", pod="stray"))
    world.build()
    found = unit_economics(world.ledger)
    assert [(row["deployment"], row["tokens"], row["cost"]) for row in found.rows] == [
        ("chat", 36_000, 12),
        ("stray", 55, None),
    ]
    assert [(one.code, "1,054" in one.message) for one in found.diagnostics] == [("tokens-unpriced", True)]


def test_an_engine_and_a_gateway_that_tell_of_the_same_count_once(world: World) -> None:
    world.telemetry(*HOLDERS, told(0, 36_000), told(1, 7_200))
    gateway: dict[str, Any] = {"pod": None, "cluster": None, "namespace": None, "provider": "hosted_vllm"}
    world.telemetry(told(0, 35_999, **gateway), told(1, 7_999, **gateway), source="litellm")
    world.build()
    assert only(world)["tokens"] == 43_200


def test_prefill_and_decode_replicas_count_each_token_once(world: World) -> None:
    world.telemetry(
        node(), job("chat"), pod("chat", (0, 2), "4"), pod("pre", (0, 2), "2", job_id="east/chat"),
        told(0, 36_000, role="decode", requests=D(10)), told(0, 10, role="prefill", pod="pre", input_tokens=D(500_000), requests=D(10)),
    )  # fmt: skip
    world.build()
    found = only(world, basis=Basis("total"))
    assert (found["tokens"], found["requests"], found["gpu_hours"]) == (536_000, 10, 12)
    assert found["cost"] == 18  # prefill's cards are part of it


def test_two_models_of_one_job_share_its_hours_by_weight(world: World) -> None:
    # Weights are 50 x output + 10 x computed input + 1 x cached: 5,000 + 4,000 and 1,000 + 2,000.
    world.telemetry(
        *HOLDERS, told(0, 100, model="a", input_tokens=D(400)), told(0, 20, model="b", input_tokens=D(200), length=0.5),
        told(1, 0, model="a", input_tokens=D(0)),
    )  # fmt: skip
    world.build()
    found = {row["model"]: row["cost"] for row in rows(world, group_by=["model", "hour"])}
    costs = {row["model"]: row["cost"] for row in rows(world)}
    assert costs == {"a": 9, "b": 3}  # 3 : 1 of $4, and, in the hour without any, of $8 as over all
    assert found.keys() == costs.keys()


def test_the_share_of_requests_within_their_service_level(world: World) -> None:
    world.telemetry(
        *HOLDERS, told(0, 900, requests=D(10), good_requests=D(6), good_output_tokens=D(540)), told(1, 100, requests=D(90))
    )  # fmt: skip
    world.build()
    found = only(world)
    assert (found["slo_met_share"], found["requests"], found["cost_per_inference"]) == (
        D("0.6"),
        100,
        D("0.12"),
    )
    assert found["cost_per_good_inference"] is None  # of 90 nobody knows


def test_a_day_of_charge_is_spread_over_its_hours(world: World) -> None:
    world.bill(charge("24", hours=(0, 24), x_GpuModel="H100", x_GpuHours=192))
    world.telemetry(
        node(), job("chat"), pod("chat", (0, 24), "8"), *(told(number, 3_600) for number in range(24))
    )
    world.build()
    assert [row["cost"] for row in rows(world, group_by=["hour"])] == [1] * 24
    assert only(world)["tps_per_dollar"] == 1


def api_bill(**more: Any) -> list[dict[str, Any]]:
    base = {
        "x_AiModel": "gpt-x",
        "ConsumedUnit": "Tokens",
        "SubAccountId": "proj",
        "ServiceProviderName": "OpenAI",
    }
    parts = (("input", "6", 3_000), ("cache_read", "1", 5_000), ("output", "8", 1_000))
    return [
        charge(
            cost,
            "api",
            (0, 1),
            **{**base, "x_TokenType": kind, "ConsumedQuantity": amount, "SkuId": kind, **more},
        )
        for kind, cost, amount in parts
    ]


def test_a_model_behind_an_api_has_its_tokens_from_the_bill_and_requests_from_telemetry(world: World) -> None:
    world.bill(*api_bill())
    call: dict[str, Any] = {
        "cluster": None,
        "namespace": None,
        "pod": None,
        "deployment": "proj",
        "provider": "openai",
        "model": "GPT-X",
    }
    world.telemetry(told(0, 1_000, requests=D(5), **call))
    found = unit_economics(world.ledger, basis=Basis("computed"))
    (row,) = found.rows
    assert (row["deployment"], row["provider"], row["gpu_model"]) == ("proj", "OpenAI", None)
    assert (row["tokens"], row["cost"], row["requests"], row["cost_per_inference"]) == (4_000, 15, 5, 3)
    assert found.diagnostics == []
    weighted = only(world, basis=Basis("weighted", weights=Weights(D("0.5"), D("0.1"))))
    assert weighted["tokens"] == 1_000 + 1_500 + 500


def test_a_bill_and_a_gateway_that_count_differently_are_told(world: World) -> None:
    world.bill(*api_bill())
    call: dict[str, Any] = {
        "cluster": None,
        "namespace": None,
        "pod": None,
        "deployment": "proj",
        "provider": "openai",
        "model": "gpt-x",
    }
    world.telemetry(told(0, 900, **call))
    found = unit_economics(world.ledger)
    assert [row["tokens"] for row in found.rows] == [1_000]
    assert [one.code for one in found.diagnostics] == ["tokens-differ"]


def test_a_bill_that_counts_no_tokens_leaves_them_to_telemetry(world: World) -> None:
    world.bill(*api_bill(ConsumedUnit="Units"))
    assert (only(world)["tokens"], only(world)["flags"]) == (None, ["tokens-unknown"])
    call: dict[str, Any] = {
        "cluster": None,
        "namespace": None,
        "pod": None,
        "deployment": "proj",
        "provider": "openai",
        "model": "gpt-x",
    }
    world.telemetry(told(0, 900, **call))
    assert only(world)["tokens"] == 900


def test_self_hosting_against_the_price_of_the_bill(world: World) -> None:
    # The API takes 0.002 a token of input, 0.0002 of cached, 0.008 of output: with four computed to one out 0.016.
    world.bill(machine("8", 0), machine("16", 1), *api_bill())
    world.telemetry(*HOLDERS, told(0, 360), told(1, 90))
    world.build()
    found = against(world.ledger, "gpt-x")
    (row,) = found.rows
    assert found.totals["price_source"] == "bill"
    assert found.totals["price_per_mtok"] == {"input": 2000, "cached": 200, "output": 8000}
    assert (row["cost"], row["api_cost"], row["saving"], row["cheaper"]) == (12, D("7.2"), D("-4.8"), "api")
    assert row["replica_cost_per_hour"] == 6
    # $6 an hour is 375 tokens an hour; the best hour made 360.
    assert row["break_even_tokens_per_second"] == D("0.104166666667")
    assert row["break_even_share_of_peak"] == D("1.041666666667")
    assert row["note"].startswith("no load pays")


def test_an_api_model_that_nobody_has_a_price_for(world: World) -> None:
    world.telemetry(*HOLDERS, told(0, 360))
    world.build()
    with pytest.raises(UsageError, match="no price is known"):
        against(world.ledger, "nothing-9000")


def run(first: float, last: float, **more: Any) -> TrainingInterval:
    facts: dict[str, Any] = {"run_id": "r", "cluster": "east", "job_id": "east/train", "model": "m"}
    return TrainingInterval(start=hour(first), end=hour(last), **(facts | more))


def test_training_runs(world: World) -> None:
    gone = {"discarded": True, "checkpoint_used": False}
    world.telemetry(
        *HOLDERS,
        run(0, 1.5, tokens=D(3_000), useful_seconds=D(4_320), lost_seconds={"startup": D(540), "recovery": D(540)}, **gone),
    )  # fmt: skip
    world.build()
    found = unit_economics(world.ledger, training=True)
    (row,) = found.rows
    assert (row["run_id"], row["team"], row["cost"], row["tokens"]) == ("r", "lab", 6, 3_000)
    assert (row["run_hours"], row["useful_hours"], row["goodput"]) == (D("1.5"), D("1.2"), D("0.8"))
    assert (row["cost_per_useful_hour"], row["cost_per_mtok"]) == (5, 2_000)
    assert row["lost_cost"] == {"startup": D("0.6"), "recovery": D("0.6")}
    assert (row["discarded_cost"], row["discarded_share"]) == (6, 1)
    assert rows(world) == []  # training is no serving


def test_two_runs_of_a_job_share_it_by_their_time(world: World) -> None:
    world.telemetry(
        *HOLDERS,
        run(0, 1, run_id="a", discarded=False),
        run(1, 1.5, run_id="b"),
        run(1.5, 2, run_id="c", job_id=None, name="train"),
    )
    world.build()
    found = unit_economics(world.ledger, training=True)
    assert {row["run_id"]: row["cost"] for row in found.rows} == {"a": 2, "b": 2, "c": 2}
    assert (found.totals["cost"], found.totals["discarded_share"]) == (6, 0)


def test_a_log_and_a_tracker_of_the_same_run_count_once(world: World) -> None:
    world.telemetry(*HOLDERS, run(0, 2, tokens=D(1_000)))
    world.telemetry(run(0, 2, tokens=D(990)), source="wandb")
    world.build()
    assert [row["tokens"] for row in rows(world, training=True)] == [1_000]


def test_nothing_told_is_said(world: World) -> None:
    world.telemetry(*HOLDERS)
    world.build()
    assert [one.code for one in unit_economics(world.ledger).diagnostics] == ["no-token-telemetry"]
    assert [one.code for one in unit_economics(world.ledger, training=True).diagnostics] == [
        "no-training-telemetry"
    ]


def test_sums_of_two_currencies_are_refused(world: World) -> None:
    world.bill(machine("8", 0), machine("16", 1, BillingCurrency="EUR"))
    world.telemetry(*HOLDERS, told(0, 1), told(1, 1))
    world.build()
    with pytest.raises(UsageError, match="EUR, USD"):
        rows(world)


def test_written_facts_hold_until_the_ledger_changes(world: World) -> None:
    world.telemetry(*HOLDERS, told(0, 36_000), told(1, 7_200))
    world.build()
    before = rows(world)
    first, again = unit_facts.write(world.ledger), unit_facts.write(world.ledger)
    assert first == again
    assert first.rows > 0
    assert rows(world) == before
    world.telemetry(*HOLDERS, told(0, 36_000), told(1, 14_400))
    assert [row["tokens"] for row in rows(world)] == [50_400]


def test_changes_that_cannot_be_taken_apart(world: World) -> None:
    world.telemetry(*HOLDERS, told(0, 36_000), told(1, 18_000))
    world.build()
    with pytest.raises(UsageError, match="not two windows"):
        change(world.ledger, "2026-10-05")
    found = change(world.ledger, "2026-10-05,2026-10-06")
    assert found.rows[0]["change"] is None  # nothing on the sixth
    assert [one.code for one in found.diagnostics] == ["change-unknown"]


def test_a_change_has_its_parts_and_its_reasons(world: World) -> None:
    world.bill(machine("8", 0), machine("16", 24))
    holders = (
        node(hours=(0, 48)), job("chat"), pod("chat", (0, 1), "4"), pod("chat", (24, 25), "8"), told(0, 1_000_000), told(24, 1_000_000),
    )  # fmt: skip
    world.telemetry(*holders, days=2)
    world.build()
    found = change(world.ledger, "2026-10-05..2026-10-06")
    (row,) = found.rows
    # $1 a card-hour, 250,000 tokens of it, as much idle as held; then $2, 125,000 tokens and nothing idle.
    assert (row["before"], row["after"], row["change"]) == (8, 16, 8)
    parts = {name: row[name] for name in ("price", "load", "mix", "idle", "stranded")}
    # 1 x 4 x 2 becomes 2 x 8 x 1. Price alone does +8, after load +16, after idle +4, last +8: its mean over all orders
    # is 8/3 + 16/6 + 4/6 + 8/3 = 26/3, and load's the same; idle's is -4/3 - 8/6 - 8/6 - 16/3 = -28/3.
    third = D("0.000000000001")
    assert (parts["price"], parts["load"], parts["mix"], parts["stranded"]) == (
        D("8.666666666667"),
        D("8.666666666667"),
        0,
        0,
    )
    assert abs(parts["idle"] + D(28) / 3) <= third
    assert sum(parts.values()) == row["change"]
    assert any("from 1.000 to 2.000 dollars per GPU-hour (+100.0 %)" in reason for reason in row["reasons"])
    assert any("from 100.0 to 0.0 % of its own cost" in reason for reason in row["reasons"])
    effective = change(world.ledger, "2026-10-05..2026-10-06", basis=Basis())
    assert (effective.rows[0]["before"], effective.rows[0]["after"], effective.rows[0]["idle"]) == (4, 16, 0)
    of_cost = change(world.ledger, "2026-10-05..2026-10-06", of="cost", group_by=["model"])
    assert (of_cost.rows[0]["model"], of_cost.rows[0]["change"], of_cost.rows[0]["volume"]) == ("m", 8, 0)
