"""What a rule says when nobody told it what it needs: which telemetry is missing and how to get it, and no figure."""

import re
from decimal import Decimal
from pathlib import Path

import pytest
from tests.savings.world import World, bill, calls, job, machine, part

from gpuledger import registry

PAGE = Path(__file__).parents[2] / "docs" / "savings.md"
# Bills of everything, and jobs; nothing else.
BILLS = World(
    [
        part("2400"), machine("10", ResourceId="i-9", x_Owner="ada"), calls("5", "input", 100), calls("5", "output", 9),
        bill("7", CommitmentDiscountId="sp", CommitmentDiscountStatus="Unused"),
        bill("7", x_ServiceTier="provisioned", ResourceId="ptu", PricingQuantity=Decimal(7)),
    ],
    jobs=[job(kind="PyTorchJob", workload_type="training")],
)  # fmt: skip
# A word of what each says that it lacks.
LACKS = {
    "zombie-gpu": "how busy cards are",
    "memory-squatter": "how much memory jobs keep",
    "idle-endpoint": "requests of endpoints",
    "off-hours": "requests of endpoints",
    "over-replicated": "output tokens of replicas",
    "warm-pool": "which machines with cards there are",
    "idle-notebook": "how busy cards are",
    "pending-holder": "which jobs hold cards",
    "fragmented-nodes": "which machines with cards there are",
    "smaller-gpu": "output tokens of replicas",
    "newer-gpu": "output tokens of replicas",
    "mig-sharing": "how much memory jobs keep",
    "over-parallel": "how much memory models' weights take",
    "cpu-bound": "how busy cores are",
    "quantize": "precision of weights",
    "speculative-decoding": "speculative decoding",
    "prefix-cache": "prefix cache",
    "kv-thrash": "preempted requests",
    "low-batch": "output tokens of replicas",
    "pd-imbalance": "prefill and for decoding",
    "spot-training": "checkpoints of training runs",
    "checkpoint-interval": "checkpoints of training runs",
    "low-goodput": "made progress",
    "straggler": "step times of single ranks",
    "low-mfu": "operations per token",
    "discarded-run": "ever used",
    "early-stop": "loss of training runs",
    "duplicate-run": "fingerprint",
    "retry-storm": "which jobs hold cards",
    "under-commitment": "committed hours cost",
    "ptu-to-payg": "tokens of the deployments with provisioned throughput",
    "payg-to-ptu": "one provisioned unit",
    "model-downgrade": "cheaper model",
    "output-excess": "output tokens and requests",
    "context-bloat": "share of input",
    "duplicate-calls": "repeat a recent one",
    "failed-calls": "requests that failed",
}
# The bill alone is enough for these.
BILL_ONLY = {
    "orphan-job", "stranded-commitment", "on-demand-beside-idle", "expiring-commitment", "cheaper-region", "batch-api", "prompt-caching",
}  # fmt: skip


def test_there_are_44_rules_and_each_is_asked_here() -> None:
    assert set(registry.savings_names()) == set(LACKS) | BILL_ONLY
    assert len(registry.savings_names()) == 44


@pytest.mark.parametrize("rule", LACKS)
def test_a_rule_says_what_nobody_tells_and_guesses_nothing(rule: str) -> None:
    answer = BILLS.ask(rule, show_all=True)
    (row,) = answer.rows
    assert row["status"] == "unmeasured"
    assert LACKS[rule] in row["evidence"]
    assert row["action"], "it doesn't say how to get it"
    assert (row["saving_low"], row["saving_high"], row["scope"]) == (None, None, None)
    assert answer.totals["unmeasured_rules"] == [rule]
    assert {told.code for told in answer.diagnostics} == {"savings-unmeasured"}
    assert any(LACKS[rule] in told.message and told.source == rule for told in answer.diagnostics)


@pytest.mark.parametrize("rule", sorted(BILL_ONLY))
def test_a_rule_that_needs_only_the_bill_says_when_there_is_nothing_of_the_kind(rule: str) -> None:
    answer = World([bill("3")], jobs=[]).ask(rule, show_all=True)
    assert [row["status"] for row in answer.rows] == ["nothing of the kind"]
    assert answer.totals["unmeasured_rules"] == []
    assert answer.diagnostics == []


def test_what_several_rules_lack_is_told_once() -> None:
    answer = BILLS.ask()
    messages = [told.message for told in answer.diagnostics]
    assert len(messages) == len(set(messages))
    (busy,) = (told for told in answer.diagnostics if "how busy cards are" in told.message)
    assert "zombie-gpu" in busy.source
    assert "idle-notebook" in busy.source


@pytest.mark.parametrize("rule", registry.savings_names())
def test_a_rule_is_short_and_says_what_it_is(rule: str) -> None:
    module = registry.savings_rule(rule)
    path = Path(str(module.__file__))  # type: ignore[attr-defined]  # a rule is a module
    assert len(path.read_text("utf-8").splitlines()) <= 110
    assert module.RISK in {"low", "medium", "high"}
    assert 0 < module.CONFIDENCE < 1
    assert isinstance(module.CONFIDENCE, Decimal)
    assert module.TITLE
    assert re.search(r"cost|EffectiveCost|demand|tokens|saves", module.FORMULA)
