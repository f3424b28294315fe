"""Rules about machines and who holds them. Each saving is worked out beside its case; amounts are dollars of one day."""

from dataclasses import replace
from decimal import Decimal

import pytest
from tests.savings.world import World, bill, check_found, check_sound, held, job, machine, node, part, served

# A job bears 2400 on one day, 100 an hour, for all eight cards of a machine.
DAY = part("2400")
NOTEBOOK = job(kind="StatefulSet", workload_type="notebook")
TRAINING = job(kind="PyTorchJob", workload_type="training")
MEMORY = {"j": {"gpu-memory-gib": 18}}

# Rule, world, scope, low, high.
FOUND = {
    # 6 of 24 hours at 0.2 of 8 cards, which is 2.5 %.
    "zombie-gpu: a job": (
        "zombie-gpu",
        World([DAY], usage=[held((0, 6), "0.2"), held((6, 24), "7")]),
        "Deployment c/ml/j", "600", "600",
    ),
    # The machine beside is free all day: 1200 of the idle day, and nobody held it.
    "zombie-gpu: machines nobody holds": (
        "zombie-gpu",
        World(
            [DAY, part("1200", job=None, x_Node="n2", ResourceId="i-2")],
            usage=[held()], nodes=[node(), node("n2")],
        ),
        "machines nobody holds, c/h100", "1200", "1200",
    ),
    # On committed capacity nothing is saved for sure.
    "zombie-gpu: committed": (
        "zombie-gpu",
        World(
            [part("2400", CommitmentDiscountId="sp", CommitmentDiscountStatus="Used", PricingCategory="Committed")],
            usage=[held((0, 6), "0.2"), held((6, 24), "7")],
        ),
        "Deployment c/ml/j", "0", "600",
    ),
    # 12 of 24 hours at 0.1 of 8 cards (1.25 %) with 18 GiB resident.
    "memory-squatter": (
        "memory-squatter",
        World([DAY], usage=[held((0, 12), "0.1"), held((12, 24), "7")], facts=MEMORY),
        "Deployment c/ml/j", "1200", "1200",
    ),
    # 18 of 24 hours with nothing used.
    "idle-notebook": (
        "idle-notebook",
        World([DAY], jobs=[NOTEBOOK], usage=[held((0, 18), "0"), held((18, 24), "4")]),
        "StatefulSet c/ml/j", "1800", "1800",
    ),
    # It ended at 12:00; from 12:10 on, 11 h 50 min of 24 h: what starts at 13:00 counts, 11 hours.
    "orphan-job: after its end": (
        "orphan-job",
        World([DAY], jobs=[job(ended=held((0, 12))["end"])], usage=[held((0, 13)), held((13, 24))]),
        "Deployment c/ml/j", "1100", "1100",
    ),
    # Nobody's tag, no scheduler: all of it or nothing.
    "orphan-job: unclaimed machines": (
        "orphan-job",
        World([machine("500"), machine("70", ResourceId="i-2", x_Owner="ada")], jobs=[]),
        "unclaimed p5.48xlarge in AWS 42", "0", "500",
    ),
    # Held for 10 hours without running: 1000, half an hour of which is forgiven in the low end: 9.5/10 of it.
    "pending-holder": (
        "pending-holder",
        World([part("1000", x_AllocationState="held")], usage=[held((0, 10), "0", state="held")]),
        "Deployment c/ml/j", "950", "1000",
    ),
    # Two machines with 4 of 8 cards free each all day: one whole machine; the idle half of both costs 2400.
    "fragmented-nodes": (
        "fragmented-nodes",
        World(
            [DAY, part("1200", job=None), part("1200", job=None, x_Node="n2", ResourceId="i-2")],
            usage=[held(requested=Decimal(4)), held(requested=Decimal(4), node="n2", pod="q")],
            nodes=[node(), node("n2")],
        ),
        "pool c/h100", "2400", "2400",
    ),
    # One machine is held all day, one half of it, one never: one is free in every hour. Idle are 12 + 24 = 36 machine-hours
    # for 3600; one machine's 24 of them are two thirds.
    "warm-pool": (
        "warm-pool",
        World(
            [
                DAY,
                part("1200", job=None, x_Node="n2", ResourceId="n2"),
                part("2400", job=None, x_Node="n3", ResourceId="n3"),
            ],
            usage=[held(), held((0, 12), node="n2", pod="q")],
            nodes=[node(), node("n2"), node("n3")],
        ),
        "pool c/h100",
        "2400",
        "2400",
    ),
    # 10 % busy with 18 GiB of 80: ⌊0.9/0.1⌋ = 9, ⌊80/18⌋ = 4, so k = 4: 3/4 of 2400; eight cards pack onto two: the same.
    "mig-sharing": (
        "mig-sharing",
        World([DAY], usage=[held(used="0.8")], facts=MEMORY),
        "Deployment c/ml/j", "1800", "1800",
    ),
    # A single card packs onto one: nothing for sure.
    "mig-sharing: one card": (
        "mig-sharing",
        World([DAY], usage=[held(used="0.1", requested=Decimal(1))], facts=MEMORY),
        "Deployment c/ml/j", "0", "1800",
    ),
    # Cores full, cards 20 % busy: 1 − 0.2/0.8 of 2400.
    "cpu-bound": (
        "cpu-bound",
        World([DAY], usage=[held(used="1.6"), held(used="16", resource="cpu", requested=Decimal(16))]),
        "Deployment c/ml/j", "0", "1800",
    ),
    # A failed job's second attempt for sure, its first at most; a repeated attempt of one that succeeded at most.
    "retry-storm": (
        "retry-storm",
        World(
            [
                part("100", job="run-1"), part("200", job="run-1", x_Attempt=2),
                part("40", job="run-2"), part("50", job="run-2", x_Attempt=2),
            ],
            jobs=[
                job("run-1", kind="Job", state="Failed", attempts=2), job("run-2", kind="Job", state="Succeeded", attempts=2),
            ],
            usage=[held(job_id="run-1")],
        ),
        "Job c/ml/run", "200", "340",
    ),
    # The second and third run with one fingerprint, in the order of their starts.
    "duplicate-run": (
        "duplicate-run",
        World(
            [part("100", job="a"), part("60", job="b"), part("70", job="d")],
            jobs=[
                job(name, started=held((hour, 24))["start"], labels={"gpuledger.io/run-hash": "9f"})
                for hour, name in ((2, "a"), (0, "b"), (3, "d"))
            ],
        ),
        "run-hash 9f", "0", "170",
    ),
}  # fmt: skip
# Nothing to save: the same worlds, with the waste taken out.
SOUND = {
    "zombie-gpu: short": ("zombie-gpu", World([DAY], usage=[held((0, 0.5), "0"), held((0.5, 24), "7")])),
    "zombie-gpu: notebooks have their own rule": (
        "zombie-gpu", World([DAY], jobs=[NOTEBOOK], usage=[held(used="0")]),
    ),
    "zombie-gpu: not measured is not idle": (
        "zombie-gpu", World([DAY], usage=[held(used=None), held(used="7", job_id="k", pod="q")]),
    ),
    "memory-squatter": ("memory-squatter", World([DAY], usage=[held(used="7")], facts=MEMORY)),
    "idle-notebook": ("idle-notebook", World([DAY], jobs=[NOTEBOOK], usage=[held(used="1")])),
    "orphan-job": ("orphan-job", World([DAY, machine("5", x_Team="nlp")], usage=[held()])),
    "pending-holder": ("pending-holder", World([DAY], usage=[held()])),
    "fragmented-nodes": (
        "fragmented-nodes",
        World([DAY, part("300", job=None)], usage=[held(requested=Decimal(4))], nodes=[node()]),
    ),
    "warm-pool": (
        "warm-pool",
        World(
            [DAY, part("1200", job=None), part("1200", job=None, x_Node="n2", ResourceId="n2")],
            # By night both are free, by day neither.
            usage=[held((0, 12)), held((0, 12), node="n2", pod="q")], nodes=[node(), node("n2")],
        ),
    ),
    "mig-sharing": ("mig-sharing", World([DAY], usage=[held(used="6")], facts=MEMORY)),
    "mig-sharing: memory": (
        "mig-sharing", World([DAY], usage=[held(used="0.8")], facts={"j": {"gpu-memory-gib": 60}}),
    ),
    "cpu-bound": (
        "cpu-bound",
        World([DAY], usage=[held(used="1.6"), held(used="4", resource="cpu", requested=Decimal(16))]),
    ),
    "retry-storm": (
        "retry-storm",
        World([part("100")], jobs=[job(kind="Job", state="Succeeded", attempts=1)], usage=[held()]),
    ),
    "retry-storm: restarts of a service": (
        "retry-storm", World([part("100")], jobs=[job(attempts=4)], usage=[held()]),
    ),
    "duplicate-run": (
        "duplicate-run",
        World([part("9", job="a"), part("8", job="b")], jobs=[job(n, labels={"gpuledger.io/run-hash": n}) for n in "ab"]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found(name: str) -> None:
    check_found(*FOUND[name])


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_where_nothing_is_wasted(name: str) -> None:
    check_sound(*SOUND[name])


def test_a_served_request_is_no_zombie() -> None:
    idle = World([DAY], usage=[held(used="0")])
    assert idle.ask("zombie-gpu").totals["saving_high"] == 2400
    warm = replace(idle, tokens=served((0, 24), requests=Decimal(5)))
    assert warm.ask("zombie-gpu").rows == []


def test_a_charge_of_storage_is_nothing_that_a_rule_speaks_of() -> None:
    answer = World([bill("100", ServiceCategory="Storage")], jobs=[]).ask()
    assert answer.rows == []
    assert answer.totals["spend"] == 0
