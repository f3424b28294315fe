"""Who holds a card: what a scheduler says, joined to cards that an exporter measured."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from tests.telemetry.slurm_cluster import SlurmCluster, slurm

from gpuledger.core.usage import Evidence, Job, NodeInterval, UsageInterval
from gpuledger.core.zombies import Holding, Observation, judge, members, reclaim
from gpuledger.pipeline.zombie_holders import Known, Machine, joined, known_of
from gpuledger.pipeline.zombie_prices import card_price, wasted
from gpuledger.pipeline.zombies import Inputs, Settings, scan

__all__ = ["slurm"]

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TRAIN = Holding(job="train", kind="Job", namespace="ml", pod="train-a", live=True)
OTHER = replace(TRAIN, job="other", pod="other-a")


def cards(count: int) -> list[Observation]:
    return [
        Observation(gpu=f"GPU-{place}", now=NOW, node="n1", activity=Decimal(0)) for place in range(count)
    ]


def known(*held: tuple[Holding, int]) -> Known:
    found = Known(machines={"n1": Machine(cards=Decimal(4))})
    for holding, count in held:
        found.held["n1"].append((holding, Decimal(count)))
        found.pods[holding.namespace, holding.pod or ""] = holding
    return found


def test_nobody_has_what_the_scheduler_gave_nobody() -> None:
    found = joined(cards(2), known(), NOW)
    assert [(one.holders_known, one.holdings) for one in found] == [(True, ())] * 2


def test_a_full_node_is_held_by_those_on_it() -> None:
    found = joined(cards(2), known((TRAIN, 1), (OTHER, 1)), NOW)
    maybe = (replace(TRAIN, certain=False), replace(OTHER, certain=False))
    assert [one.holdings for one in found] == [maybe] * 2
    first, _ = judge(found)
    assert "one of 2 holders" in first.evidence
    assert reclaim(first, members([first])) is None  # nobody's job is stopped on a guess
    assert joined(cards(2), known((TRAIN, 2)), NOW)[0].holdings == (TRAIN,)


def test_where_nobody_says_which_card_is_held_nobody_is_accused() -> None:
    found = joined(cards(4), known((TRAIN, 1)), NOW)
    assert [(one.holders_known, one.holdings) for one in found] == [(False, ())] * 4


def test_what_is_mapped_is_taken_off() -> None:
    mapped = [replace(cards(1)[0], holdings=(replace(TRAIN, live=None, job=None, kind=None),)), *cards(2)[1:]]
    first, second = joined(mapped, known((TRAIN, 1)), NOW)
    assert first.holdings == (TRAIN,)
    assert (second.holders_known, second.holdings) == (True, ())


def test_records_of_slurm() -> None:
    node = NodeInterval(
        "c", "n1", NOW - timedelta(minutes=5), NOW, gpu_count=Decimal(2), labels={"slurm/gres": "gpu:2"}
    )
    job = Job("c/slurm/7@1", "c", "job", "train", "nlp", {"owner": Evidence("amy", "user", 1)}, started=NOW)
    gone = replace(job, job_id="c/slurm/6@1", ended=NOW)
    usage = UsageInterval(
        "c", "n1", job.job_id, "gpu", NOW - timedelta(minutes=5), NOW, Decimal(1), pod="7", pod_uid="8@1"
    )
    found, notes = known_of([node, job, gone, usage, replace(usage, job_id=gone.job_id, pod="6")], NOW, {})
    assert notes == []
    held = found.slurm["7"]
    assert found.holding(Holding(slurm_job="8")) == held
    assert (held.slurm_job, held.owner, held.kind, held.live) == ("7", "amy", "Slurm", True)
    assert found.machines["n1"].slurm
    assert found.holding(Holding(slurm_job="6")).live is False


DAY = NOW.date()
H100 = replace(cards(1)[0], gpu_model="H100", model_name="NVIDIA H100 80GB HBM3")


@pytest.mark.parametrize(
    ("machine", "basis"),
    [
        (Machine(instance_type="p5.48xlarge", region="us-east-1"), "on-demand list price of p5.48xlarge"),
        (
            Machine(instance_type="p5.48xlarge", region="mars-1"),
            "at least: ",
        ),  # another region's isn't borrowed
        (None, "at least: "),
    ],
)
def test_prices(machine: Machine | None, basis: str) -> None:
    price = card_price(H100, machine, None, DAY)
    assert (price.basis or "").startswith(basis)
    assert price.usd_per_hour is not None
    assert Decimal(1) < price.usd_per_hour < Decimal(20)


def test_typed_prices_slices_and_unknowns() -> None:
    assert card_price(H100, None, Decimal("2.5"), DAY).usd_per_hour == Decimal("2.5")
    assert card_price(replace(H100, share=None), None, Decimal("2.5"), DAY).usd_per_hour is None
    assert card_price(replace(H100, gpu_model=None, model_name="New"), None, None, DAY).basis is None
    assert wasted(Decimal("2.5"), 5400) == Decimal("3.75")
    assert wasted(None, 5400) is None
    assert wasted(Decimal("2.5"), None) is None


@pytest.mark.server
def test_a_real_slurm(slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node, whose only job an exporter maps to one card; the other cards are nobody's."""
    job = slurm.submit("sleep 120", "--gres=gpu:1", "-w", "gpu1", "-J", "train")
    slurm.wait_for(job, "RUNNING")
    page = tmp_path / "page"
    lines = [(0, f',hpc_job="{job}"'), (1, ',hpc_job="999999"'), (2, "")]
    page.write_text(
        "".join(
            f'DCGM_FI_DEV_GPU_UTIL{{gpu="{gpu}",UUID="GPU-{gpu}",Hostname="gpu1",modelName="Tesla T4"{more}}} 0\n'
            for gpu, more in lines
        )
    )
    environ: Mapping[str, str] = slurm.env
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, environ[name])
    try:
        found = scan(Inputs(slurm=True, dcgm=(str(page),)), Settings(show_all=True))
    finally:
        slurm.command("scancel", str(job))
    assert not found.failed, found.diagnostics
    rows = {row["gpu"]: row for row in found.rows if row["node"] == "gpu1"}
    assert {gpu: row["state"] for gpu, row in rows.items()} == {
        "GPU-0": "held-idle",
        "GPU-1": "orphan",
        "GPU-2": "unallocated",
    }
    assert (rows["GPU-0"]["job"], rows["GPU-0"]["guard"]) == (str(job), "started 0 min ago, may still load")
    others = [row for row in found.rows if row["node"] == "gpu2"]
    assert {(row["state"], row["reclaim"]) for row in others} == {
        ("unallocated", "scontrol update NodeName=gpu2 State=POWER_DOWN")
    }
