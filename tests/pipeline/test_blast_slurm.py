"""Limits of a real Slurm in `gpuledger blast-radius`: partitions, QOS and associations, enforced and not."""

from typing import Any

import pytest
from tests.surfaces.shell import gpuledger
from tests.telemetry.slurm_cluster import SlurmCluster, slurm

__all__ = ["slurm"]

pytestmark = [pytest.mark.server, pytest.mark.slow]
SPARE = "PartitionName=short Nodes=gpu1 MaxTime=02:00:00 State=UP\nPartitionName=long Nodes=gpu[1-2] MaxTime=3-00:00:00 State=UP\n"


def blast(cluster: SlurmCluster, *words: str) -> dict[str, Any]:
    environ = {"SLURM_CONF": cluster.env["SLURM_CONF"], "PATH": cluster.env["PATH"]}
    done = gpuledger("--format", "json", "blast-radius", "--slurm", *words, environ=environ)
    assert done.code == 0, done.err
    found: dict[str, Any] = done.document
    return found


def inputs(found: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str]]:
    return {(row["pool"], row["key"]): (row["value"], row["origin"]) for row in found["totals"]["inputs"]}


def set_up(cluster: SlurmCluster, text: str) -> None:
    """Start the controller with more in slurm.conf; the first partition is unlimited, so it goes."""
    path = cluster.root / "slurm.conf"
    lines = [
        line
        for line in path.read_text().splitlines()
        if not line.startswith(("PartitionName", "AccountingStorageEnforce"))
    ]
    path.write_text("\n".join(lines) + f"\n{text}")
    cluster.stop_daemon("slurmctld")
    cluster._spawn("slurmctld", "-D")
    cluster.until(
        lambda: set(cluster.command("sinfo", "-h", "-o", "%T").split()) == {"idle"}, 30, "idle nodes"
    )


@pytest.fixture(scope="module")
def limited(slurm: SlurmCluster) -> SlurmCluster:
    """A Slurm with two partitions, and limits that it enforces."""
    set_up(slurm, f"AccountingStorageEnforce=limits,qos\n{SPARE}")
    return slurm


def test_limits_that_slurm_does_not_enforce_are_said_to_be_none(slurm: SlurmCluster) -> None:
    found = blast(slurm, "--detect", "1h", "--price", "2")
    assert [(row["pool"], row["gpus"], row["loss_p99"]) for row in found["rows"]] == [
        ("slurm train h100", 16, "32")
    ]
    assert [one["code"] for one in found["diagnostics"]] == ["blast-radius-not-enforced"]
    facts = inputs(found)
    assert facts["slurm train h100", "obtainable"][1].startswith("Slurm: 2 nodes of partition train")
    assert ("slurm train h100", "max_hours") not in facts  # MaxTime=INFINITE


def test_partitions_and_what_the_accounts_may_hold(limited: SlurmCluster) -> None:
    limited.command(
        "sacctmgr", "-i", "modify", "account", "research", "set", "GrpTRES=gres/gpu=12", "MaxWall=1-00:00:00"
    )
    found = blast(limited)
    # The nodes of `short` are in `long` too, which allows more: they count there. Root's own account has no limit.
    facts = inputs(found)
    assert [row["pool"] for row in found["rows"]] == ["slurm long h100"]
    assert [one["code"] for one in found["diagnostics"]] == ["blast-radius-counted-before"]
    assert facts["slurm long h100", "price"][1].startswith("at least: ")
    assert facts["slurm long h100", "max_hours"] == ("72h", "Slurm: MaxTime of partition long")
    # The loosest counts: once the default account is closed to the partition, research's limits are what is left.
    limited.command("scontrol", "update", "PartitionName=long", "AllowAccounts=research")
    facts = inputs(blast(limited))
    assert facts["slurm long h100", "quota"] == (
        "12",
        "Slurm: GrpTRES of account research; no user may hold more",
    )
    assert facts["slurm long h100", "max_hours"][0] == "24h"
    assert "MaxWall of user " in facts["slurm long h100", "max_hours"][1]


def test_a_qos_of_the_partition_counts_before_the_accounts(limited: SlurmCluster) -> None:
    limited.command(
        "sacctmgr",
        "-i",
        "add",
        "qos",
        "small",
        "set",
        "GrpTRES=gres/gpu=6",
        "MaxWall=06:00:00",
        "MaxTRESPerUser=gres/gpu=5",
    )
    set_up(limited, f"AccountingStorageEnforce=limits,qos\n{SPARE.replace('State=UP', 'State=UP QOS=small')}")
    facts = inputs(blast(limited))
    assert facts["slurm long h100", "quota"] == (
        "5",
        "Slurm: MaxTRESPerUser of QOS small; no user may hold more",
    )
    assert facts["slurm long h100", "max_hours"] == ("6h", "Slurm: MaxWall of QOS small")
    job = limited.submit("sleep 60", "--gres=gpu:4", "--partition=long", "--mem=100")
    limited.wait_for(job, "RUNNING")
    second = limited.submit("sleep 60", "--gres=gpu:2", "--partition=long", "--mem=100")
    # Slurm itself keeps the user to five cards.
    limited.until(
        lambda: "QOSMaxGRESPerUser" in limited.command("squeue", "-h", "-j", str(second), "-o", "%r"),
        30,
        "a refusal",
    )
    limited.command("scancel", str(job), str(second))
