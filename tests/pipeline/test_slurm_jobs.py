"""From a real Slurm to money: `gpuledger jobs` agrees with sacct to the second and the cent."""

import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from tests.surfaces.shell import gpuledger
from tests.telemetry.slurm_cluster import CLUSTER, CPUS, GPUS, NODES, SlurmCluster, slurm

__all__ = ["slurm"]
pytestmark = pytest.mark.server

AGAIN = '[ -n "$SLURM_RESTART_COUNT" ] && exec sleep 2; sleep 60'  # until it is requeued, however busy the machine
PRICE = Decimal("0.01")  # of a card for a second, so that a cent is a second
HEADER = (
    "BilledCost,EffectiveCost,ListCost,ContractedCost,BillingAccountId,BillingCurrency,BillingPeriodStart,"
    "ChargePeriodStart,ChargePeriodEnd,ChargeCategory,ServiceName,ResourceId"
)
CONFIG = """[telemetry.hpc]
type = "slurm"
timeout = 60
[allocation]
gpu = 1
cpu = 0
memory = 0
"""


def submit_all(cluster: SlurmCluster) -> dict[str, int]:
    """Jobs that complete, wait, are requeued while they run, and are cancelled while they run or before."""
    ids = {
        "done": cluster.submit("sleep 3", "-J", "done", "--gpus=2", "-N1"),
        "both": cluster.submit("srun sleep 2", "-J", "both", "-N2", "--gres=gpu:h100:1"),
        "again": cluster.submit(AGAIN, "-J", "again", "--gpus=3", "-N1"),
        "cancelled": cluster.submit("sleep 60", "-J", "cancelled", "--gpus=1"),
        "never": cluster.submit("true", "-J", "never", "--gpus=16", "-N2", "-c", str(CPUS + 1)),
    }
    for name in ("again", "cancelled"):
        cluster.wait_for(ids[name], "RUNNING")
    time.sleep(1)
    cluster.command("scontrol", "requeue", str(ids["again"]))
    cluster.command("scancel", str(ids["cancelled"]))
    cluster.command("scancel", str(ids["never"]))
    time.sleep(2)  # credentials of the first attempt are revoked for a second
    cluster.until(
        lambda: "JobState=PENDING" in cluster.command("scontrol", "show", "job", str(ids["again"])),
        20,
        "requeue",
    )
    cluster.command("scontrol", "update", f"JobId={ids['again']}", "StartTime=now")
    for name in ("done", "both", "cancelled"):
        cluster.wait_for(ids[name], "COMPLETED", "CANCELLED")
    cluster.until(lambda: len(cluster.states(ids["again"])) == 2, 20, "the second attempt")
    cluster.wait_for(ids["again"], "COMPLETED", "REQUEUED")
    return ids


def by_sacct(cluster: SlurmCluster, ids: dict[str, int]) -> dict[str, int]:
    """Card-seconds of each job, every attempt counted: cards × elapsed seconds."""
    found: dict[str, int] = defaultdict(int)
    names = {str(number): name for name, number in ids.items()}
    wanted = ",".join(names)
    said = cluster.command(
        "sacct", "-n", "-X", "-D", "-P", "-o", "JobIDRaw,ElapsedRaw,AllocTRES", "-j", wanted
    )
    for line in said.splitlines():
        number, elapsed, resources = line.split("|")
        held = dict(part.split("=") for part in resources.split(",") if part)
        found[names[number]] += int(elapsed) * int(held.get("gres/gpu", 0))
    return dict(found)


def bill(path: Path, since: datetime, until: datetime) -> Path:
    """A charge for each node from before the first job until after the last."""
    cost = PRICE * GPUS * int((until - since).total_seconds())
    period = f"{since:%Y-%m}-01T00:00:00Z,{since:%Y-%m-%dT%H:%M:%SZ},{until:%Y-%m-%dT%H:%M:%SZ}"
    lines = [f"{cost},{cost},{cost},{cost},1,USD,{period},Usage,Compute,{CLUSTER}/{node}" for node in NODES]
    path.write_text("\n".join([HEADER, *lines, ""]), "utf-8")
    return path


def test_jobs_agree_with_sacct_to_the_second_and_the_cent(
    tmp_path: Path, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(key, slurm.env[key])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpuledger.toml").write_text(CONFIG, "utf-8")
    since = datetime.now(UTC).replace(microsecond=0)
    ids = submit_all(slurm)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    time.sleep(2)
    path = bill(tmp_path / "bill.csv", since, until)
    for words in (("ingest", "--type", "focus", path), ("ingest", "hpc"), ("build",)):
        done = gpuledger(*words)
        assert done.code == 0, (done.out, done.err)
    rows = gpuledger("jobs").document["rows"]
    numbers = {row["job_id"].rsplit("/", 1)[1].partition("@")[0]: row for row in rows}
    seconds = by_sacct(slurm, ids)
    for name, number in ids.items():
        row = numbers[str(number)]
        assert Decimal(row["gpu_hours"] or 0) * 3600 == pytest.approx(
            Decimal(seconds[name]), abs=Decimal("1e-5")
        )
        assert Decimal(row["cost"] or 0).quantize(Decimal("0.01")) == PRICE * seconds[name]
    assert numbers[str(ids["again"])]["attempts"] == 2
    assert seconds["never"] == 0
    whole = sum(Decimal(row["cost"]) for row in gpuledger("costs", "--allocated").document["rows"])
    assert whole == len(NODES) * PRICE * GPUS * int((until - since).total_seconds())
