"""States, guards and commands of the zombie finder, one card at a time."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from gpuledger.core.zombies import (
    KEEP_UNTIL,
    PROTECTED,
    Finding,
    Holding,
    Limits,
    Load,
    Observation,
    history,
    judge,
    keep_until,
    members,
    reclaim,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
POD = Holding(job="train", kind="Deployment", namespace="ml", pod="train-0", live=True)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def card(**more: Any) -> Observation:  # noqa: ANN401 - fields of an observation
    """Return an idle A100 that was looked at for a day."""
    base = Observation(
        gpu="GPU-1", now=NOW, node="n1", gpu_model="A100", measured_from=ago(1440), measured_to=NOW,
        activity=Decimal(0), memory_used_mib=Decimal(30_000), holdings=(POD,), holders_known=True,
    )  # fmt: skip
    return replace(base, **more)


def told(**more: Any) -> Finding:  # noqa: ANN401 - fields of an observation
    return judge([card(**more)])[0]


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, "held-idle"),
        ({"activity": Decimal("0.01")}, "held-idle"),
        ({"activity": Decimal("0.0101")}, "busy"),
        ({"activity": None}, "unknown"),
        ({"measured_to": ago(11)}, "unknown"),
        ({"holdings": ()}, "orphan"),  # memory in use, and the scheduler knows nobody
        ({"holdings": (), "memory_used_mib": Decimal(0)}, "unallocated"),
        ({"holdings": (), "memory_used_mib": Decimal(0), "processes": (7,)}, "orphan"),
        ({"holdings": (), "holders_known": False}, "held-idle"),  # nobody was asked: no accusation
        ({"holdings": (replace(POD, live=False),)}, "orphan"),
        ({"holdings": (), "activity": None, "memory_used_mib": None}, "unallocated"),
    ],
)
def test_state(more: Mapping[str, Any], state: str) -> None:
    assert told(**more).state == state


FULL = Load(900, Decimal(1), Decimal(90), Decimal(0))


@pytest.mark.parametrize(
    ("load", "state"),
    [
        (FULL, "stalled"),
        (replace(FULL, power_watts=Decimal(300)), "busy"),  # memory-bound work leaves the tensor cores alone
        (replace(FULL, tensor=Decimal("0.3")), "busy"),
        (replace(FULL, tensor=None), "stalled"),
        (replace(FULL, power_watts=None), "stalled"),
        (replace(FULL, power_watts=None, tensor=None), "busy"),  # utilisation alone proves nothing
        (replace(FULL, utilisation=Decimal("0.9")), "busy"),
    ],
)
def test_a_card_that_looks_busy(load: Load, state: str) -> None:
    assert told(activity=Decimal(1), loads=(load,)).state == state


def test_board_power_differs_by_form() -> None:
    load = replace(FULL, power_watts=Decimal(120))
    assert told(activity=Decimal(1), loads=(load,), model_name="NVIDIA A100-SXM4-80GB").state == "stalled"
    assert told(activity=Decimal(1), loads=(load,), model_name="NVIDIA A100-PCIE-40GB").state == "busy"


def test_how_long_it_stalls_is_the_longest_stretch() -> None:
    found = told(activity=Decimal(1), loads=(FULL, replace(FULL, seconds=3600)))
    assert (found.idle, found.verdict, found.advice) == (timedelta(hours=1), True, "reclaim")


def test_one_look_names_a_candidate_only() -> None:
    found = told(measured_from=None, measured_to=None)
    assert (found.verdict, found.candidate, found.since, found.idle) == (False, True, None, None)
    assert "one look only" in found.evidence


@pytest.mark.parametrize(
    ("minutes", "notebook", "state", "advice"),
    [
        (14, False, "busy", "none"),
        (15, False, "held-idle", "warn"),
        (59, False, "held-idle", "warn"),
        (60, False, "held-idle", "reclaim"),
        (59, True, "busy", "none"),
        (60, True, "held-idle", "warn"),
        (120, True, "held-idle", "reclaim"),
    ],
)
def test_thresholds(minutes: int, state: str, advice: str, *, notebook: bool) -> None:
    found = told(last_busy=ago(minutes), holdings=(replace(POD, notebook=notebook),))
    assert (found.state, found.advice, found.verdict) == (state, advice, state == "held-idle")


def test_idleness_begins_with_the_present_holder() -> None:
    assert told(holdings=(replace(POD, started=ago(45)),)).since == ago(45)
    # A clock ahead of ours doesn't make idleness negative.
    found = told(holdings=(replace(POD, started=NOW + timedelta(hours=1)),))
    assert (found.idle, found.state) == (timedelta(0), "busy")


def test_what_just_started_may_still_load() -> None:
    young = replace(POD, started=ago(25))
    assert (told(holdings=(young,)).guard or "").startswith("started 25 min ago")
    assert told(holdings=(young,), last_busy=ago(20)).guard is None  # it worked, and stopped
    assert told(holdings=(replace(POD, started=ago(31)),)).guard is None


def gang(kind: str, **more: Any) -> Finding:  # noqa: ANN401 - fields of an observation
    other = card(gpu="GPU-2", activity=Decimal("0.9"), holdings=(replace(POD, kind=kind, pod="train-1"),))
    return judge([card(holdings=(replace(POD, kind=kind),), **more), other])[0]


def test_a_rank_that_waits_for_others_is_excused() -> None:
    assert (gang("PyTorchJob", last_busy=ago(90)).guard or "").startswith("other members")
    assert gang("PyTorchJob", measured_from=ago(40)).guard is not None
    assert gang("PyTorchJob").guard is None  # never worked in a day: a card too many
    assert gang("Deployment", last_busy=ago(90)).guard is None  # replicas don't wait for each other


def test_a_replica_that_serves_is_warm() -> None:
    assert told(holdings=(replace(POD, requests=Decimal(3)),)).guard is not None
    found = told(holdings=(replace(POD, requests=Decimal(0)),))
    assert (found.verdict, "no request served" in found.evidence) == (True, True)


@pytest.mark.parametrize(
    ("marks", "kept"),
    [
        ({PROTECTED: "true"}, True),
        ({PROTECTED: "false"}, False),
        ({KEEP_UNTIL: "2026-11-24"}, True),
        ({KEEP_UNTIL: "2026-11-23"}, False),
        ({KEEP_UNTIL: "2026-11-24T12-01Z"}, True),
        ({KEEP_UNTIL: "2026-11-24T11:59:00Z"}, False),
        ({KEEP_UNTIL: "next week"}, True),  # nothing is taken from whoever meant to keep it
    ],
)
def test_keep_marks(marks: Mapping[str, str], *, kept: bool) -> None:
    found = told(holdings=(replace(POD, marks=marks),))
    assert (found.guard is not None, found.verdict) == (kept, not kept)
    assert (reclaim(found, members([found])) is None) == kept
    # A mark of something that is gone protects nobody.
    assert told(holdings=(replace(POD, marks=marks, live=False),)).verdict


def test_keep_until_is_a_moment() -> None:
    assert keep_until("2026-12-01") == datetime(2026, 12, 2, tzinfo=UTC)
    assert keep_until("2026-12-01T10:00:00+02:00") == datetime(2026, 12, 1, 8, tzinfo=UTC)
    assert keep_until("9999-12-31") is None


def test_a_trough_is_no_zombie() -> None:
    assert told(idle_share=Fraction(1, 2), last_busy=ago(60)).pattern == "trough"
    assert told(idle_share=Fraction(96, 100)).pattern == "zombie"
    assert told(idle_share=Fraction(1), measured_from=ago(300)).pattern is None  # too short to say


def command(kind: str | None, *, busy_too: bool = False, **more: Any) -> str | None:  # noqa: ANN401 - fields of a holding
    held = replace(POD, kind=kind, **more)
    cards = [card(holdings=(held,))]
    if busy_too:
        cards.append(card(gpu="GPU-2", activity=Decimal("0.9"), holdings=(replace(held, pod="train-1"),)))
    found = judge(cards)
    return reclaim(found[0], members(found))


@pytest.mark.parametrize(
    ("kind", "busy_too", "line"),
    [
        ("Deployment", False, "kubectl -n ml scale deployment/train --replicas=0"),
        ("Deployment", True, "kubectl -n ml scale deployment/train --replicas=1"),
        ("PyTorchJob", False, "kubectl -n ml delete pytorchjob/train"),
        ("PyTorchJob", True, "kubectl -n ml delete pod train-0"),
        ("Pod", False, "kubectl -n ml delete pod train-0"),
        (None, False, "kubectl -n ml delete pod train-0"),
        (
            "Notebook",
            False,
            "kubectl -n ml annotate notebook/train kubeflow-resource-stopped=2026-11-24T12:00:00Z",
        ),
    ],
)
def test_commands(kind: str | None, line: str, *, busy_too: bool) -> None:
    assert command(kind, busy_too=busy_too) == line


def test_other_commands() -> None:
    assert command("Slurm", pod=None, slurm_job="17_[3]") == "scancel '17_[3]'"
    orphan = told(holdings=(), processes=(4711, 12))
    assert reclaim(orphan, {}) == "kill 4711 12"
    assert reclaim(told(activity=Decimal(1)), {}) is None


def test_names_are_no_commands() -> None:
    assert command("Pod", pod="x; rm -rf /") == "kubectl -n ml delete pod 'x; rm -rf /'"


def test_runs_end_at_work_and_at_gaps() -> None:
    minutes = [0, 1, 2, 3, 10, 11, 12]
    samples = [(ago(60 - minute), Decimal(1 if minute == 2 else 0)) for minute in minutes]
    found = history(samples, Limits().idle)
    assert found is not None
    assert found.runs == (timedelta(minutes=1), timedelta(0), timedelta(minutes=2))
    assert (found.samples, found.idle_share, found.last_busy) == (7, Fraction(6, 7), ago(58))
    assert found.runs_of(timedelta(minutes=1)) == (timedelta(minutes=1), timedelta(minutes=2))
    assert history([], Limits().idle) is None
