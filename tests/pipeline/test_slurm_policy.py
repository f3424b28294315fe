"""A real Slurm with the rendered job_submit.lua: refuses in the policy's words, reserves, and gets the final cost back."""

import random
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.core.test_policy_slurm import expected, policies, script
from tests.pipeline.allocation_world import World, charge
from tests.surfaces.shell import gpuledger
from tests.telemetry.slurm_cluster import NODES, SlurmCluster, slurm

from gpuledger.core.policy import Surroundings, decide
from gpuledger.core.policy.model import Require
from gpuledger.core.policy.render import Setting
from gpuledger.core.policy.render.slurm import render
from gpuledger.core.policy.sbatch import submission_of_script
from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.pipeline import policy_files
from gpuledger.pipeline.policy_prices import rates
from gpuledger.pipeline.slurm_report import comment_with
from gpuledger.pipeline.telemetry import store_records
from gpuledger.telemetry import slurm as telemetry

__all__ = ["slurm"]
pytestmark = pytest.mark.server

POLICY = """\
mode = "enforce"
[registers.centers]
values = ["research", "CC-4200"]
[[require]]
dimension = "cost_center"
register = "centers"
[[require]]
dimension = "project"
default = "apollo"
[[budget]]
name = "lab"
owner = "ada@example.com"
amount_usd = 100
match = { team = "research" }
[[price]]
gpu_model = "H100"
usd_per_gpu_hour = "2.10"
"""
GPUS = "#SBATCH --gres=gpu:h100:4\n#SBATCH --time=60\n"


class Lab:
    """The cluster, its policy, and a ledger beside it."""

    def __init__(self, cluster: SlurmCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.world = World(folder)
        self.policy = folder / "policy.toml"
        self.policy.write_text(POLICY)
        self.environ = {**cluster.env, "GPULEDGER_LEDGER": str(folder / "ledger")}

    def render(self, text: str | None = None) -> None:
        """Write the script and the policy beside slurm.conf."""
        if text is not None:
            self.policy.write_text(text)
        loaded = policy_files.load(self.policy)
        made = render(loaded.policy, Setting(now=datetime.now(UTC), registers=loaded.registers))
        for name, body in made.files.items():
            assert isinstance(body, str)
            (self.cluster.root / name).write_text(body)

    def cache(self) -> list[dict[str, Any]]:
        target = self.cluster.root / "gpuledger-cache.lua"
        done = gpuledger(
            "--format", "json", "slurm", "cache", target, "--policy", self.policy, environ=self.environ
        )
        assert done.code == 0, done.err
        rows: list[dict[str, Any]] = done.document["rows"]
        return rows

    def report(self, *words: str) -> list[dict[str, Any]]:
        done = gpuledger("--format", "json", "slurm", "report", *words, environ=self.environ)
        assert done.code == 0, done.err
        rows: list[dict[str, Any]] = done.document["rows"]
        return rows

    def restart(self) -> None:
        self.cluster.stop_daemon("slurmctld")
        self.cluster.start_slurmctld()

    def sbatch(self, text: str, *options: str) -> tuple[int, list[str], str]:
        """Submit a script; return the exit code, what gpuledger said, and the job's id."""
        path = self.cluster.root / "run.sh"
        path.write_text(text)
        done = subprocess.run(
            ["sbatch", "--parsable", f"--output={self.cluster.root}/out-%j", *options, str(path)],
            env=self.cluster.env, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        told = [line[line.index("gpuledger:") :] for line in done.stderr.splitlines() if "gpuledger:" in line]
        return done.returncode, told, done.stdout.strip()

    def admin_comment(self, job: str) -> str:
        """Return what the controller, or else accounting, has as the administrators' comment."""
        return self.cluster.command("sacct", "-n", "-P", "-X", "-j", job, "-o", "AdminComment").strip()


@pytest.fixture(scope="module")
def lab(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab(slurm, tmp_path_factory.mktemp("lab"))
    made.render()
    conf = slurm.root / "slurm.conf"
    conf.write_text(conf.read_text() + "JobSubmitPlugins=lua\n")
    made.cache()
    made.restart()
    for number, node in enumerate(NODES):
        slurm.command("scontrol", "update", f"NodeName={node}", f"Comment=instance_id=i-{number}")
    return made


def test_without_an_account_it_is_refused_in_the_words_of_check(lab: Lab) -> None:
    text = f"#!/bin/sh\n{GPUS}true\n"
    code, told, _ = lab.sbatch(text)
    assert code == 1
    assert told == [
        "gpuledger: cost_center is missing. Add #SBATCH --account=… (CC-4200, research).",
        "gpuledger: 4 × H100, 8.40 USD an hour, 8.40 USD by its deadline",
    ]
    path = lab.folder / "run.sbatch"
    path.write_text(text)
    done = gpuledger("--format", "json", "check", path, "--policy", lab.policy, environ=lab.environ)
    assert done.code == 1
    assert told[0] == "gpuledger: " + " ".join(done.document["rows"][0]["reasons"])


def test_with_one_it_runs_and_its_cost_comes_back(lab: Lab) -> None:
    """4 of 8 cards of a machine at 3600 USD an hour, a dollar a second: half a dollar for each second that it ran."""
    since = datetime.now(UTC) - timedelta(seconds=1)
    text = f"#!/bin/sh\n{GPUS}#SBATCH --account=research\nsleep 2\n"
    code, told, job = lab.sbatch(text)
    assert (code, told) == (0, ["gpuledger: 4 × H100, 8.40 USD an hour, 8.40 USD by its deadline; budget lab had 100.00 USD left"])  # fmt: skip
    array = lab.sbatch(text.replace("sleep 2", "sleep 1"), "--array=0-1", "--gres=gpu:h100:1")[2]
    again = lab.sbatch(text.replace("sleep 2", '[ -n "$SLURM_RESTART_COUNT" ] && exec sleep 1; sleep 60'))[2]
    lab.cluster.wait_for(again, "RUNNING")
    one_card = ("--account=research", "--gres=gpu:h100:1", "--time=60")
    het = lab.sbatch(text.replace("sleep 2", "sleep 1"), *one_card, ":", *one_card)[2]
    waiting = [lab.sbatch(text, "--hold")[2] for _ in range(2)]
    time.sleep(1)
    lab.cluster.command("scontrol", "requeue", again)
    time.sleep(2)  # the first attempt's credential is revoked, and the second mustn't look like it
    lab.cluster.until(
        lambda: "JobState=PENDING" in lab.cluster.command("scontrol", "show", "job", again), 20, "requeue"
    )
    lab.cluster.command("scontrol", "update", f"JobId={again}", "StartTime=now")
    lab.cluster.until(lambda: len(lab.cluster.states(again)) == 2, 30, "the second attempt")
    for one in (job, array, again, het):
        lab.cluster.wait_for(one, "COMPLETED", "REQUEUED")
    assert lab.admin_comment(job) == "gpuledger:decision=allow;project=apollo;draws_on=lab;reserved_usd=8.40"
    # What isn't priced yet keeps its reservation: 8.40, 2 × 2.10, 8.40, twice 2.10, and twice 8.40 for those that wait.
    assert [Decimal(row["left"]) for row in lab.cache()] == [Decimal("58.00")]
    lab.cluster.command("scancel", *waiting)
    for one in waiting:
        lab.cluster.wait_for(one, "CANCELLED")
    assert [Decimal(row["left"]) for row in lab.cache()] == [Decimal("74.80")]

    build(lab, since)
    would = lab.report("--dry-run")
    assert {row["state"] for row in would} == {"would be written"}
    assert lab.admin_comment(job).endswith("reserved_usd=8.40")
    rows = {row["job"]: row for row in lab.report()}
    assert set(rows) == {job, f"{array}_0", f"{array}_1", again, f"{het}+0", f"{het}+1"}
    assert {row["state"] for row in rows.values()} == {"written"}
    for one, cards in (
        (job, 4),
        (f"{array}_0", 1),
        (f"{array}_1", 1),
        (again, 4),
        (f"{het}+0", 1),
        (f"{het}+1", 1),
    ):
        seconds = sum(
            map(
                int,
                lab.cluster.command("sacct", "-D", "-n", "-P", "-X", "-j", one, "-o", "ElapsedRaw").split(),
            )
        )
        cost = Decimal(seconds * cards) / 8
        hours = (Decimal(seconds * cards) / 3600).quantize(Decimal("0.0001"))
        assert Decimal(rows[one]["cost_usd"]) == cost, one
        stands = lab.admin_comment(one).splitlines()[-1]
        assert stands.startswith("gpuledger:decision=allow;project=apollo;draws_on=lab;reserved_usd=")
        assert stands.endswith(f"; gpuledger:cost_usd={cost.normalize():f};gpu_hours={hours.normalize():f}")
    assert {row["state"] for row in lab.report()} == {"unchanged"}
    spent = sum(Decimal(row["cost_usd"]) for row in rows.values())
    assert [Decimal(row["left"]) for row in lab.cache()] == [100 - spent]


def build(lab: Lab, since: datetime) -> None:
    """Bring what Slurm tells and a bill of two machines into the ledger."""
    until = datetime.now(UTC) + timedelta(seconds=1)
    commands = telemetry.Commands(environment=dict(lab.cluster.env), timeout=60, folder=lab.cluster.root)
    told = list(telemetry.collect(since, until, lambda: datetime.now(UTC), commands=commands))
    records = [one for one in told if isinstance(one, (Job, NodeInterval, UsageInterval))]
    for day in sorted({since.date(), until.date()}):
        store_records(lab.world.ledger.store, "slurm", day, records, delivery_id="d1", order=1)
    hour = since.replace(minute=0, second=0, microsecond=0)
    times = [hour + timedelta(hours=number) for number in range(3)]
    lab.world.bill(
        *(
            charge(
                "3600", f"i-{number}", BillingPeriodStart=f"{hour:%Y-%m}-01T00:00:00Z",
                ChargePeriodStart=start.isoformat(), ChargePeriodEnd=end.isoformat(),
            )
            for number in range(len(NODES))
            for start, end in pairwise(times)
        )
    )  # fmt: skip
    lab.world.build()


def test_real_submissions_are_decided_as_the_policy_does(lab: Lab) -> None:
    """Also what sbatch makes of options: the comparison without Slurm relies on it."""
    whole = policies()[3]
    require = (*whole.require, Require(dimension="owner"))  # the submitter, whom Slurm names
    policy = replace(whole, require=require, budget=(), exemption=(), limit=whole.limit[:2])
    registers = {"centers": frozenset({"CC-4100", "CC-4200", "CC-4300", "research"})}
    now = datetime.now(UTC)
    for name, body in render(policy, Setting(now=now, registers=registers)).files.items():
        assert isinstance(body, str)
        (lab.cluster.root / name).write_text(body)
    lab.restart()
    rng = random.Random(22)
    around = Surroundings(now=now, rates=rates(policy, {}, now.date()), registers=registers)
    user = lab.cluster.command("id", "-un").strip()
    seen, own = set(), 0
    for _ in range(60):
        text = script(rng).replace("debug", "train").replace("shard:4", "gpu:h100:1")  # what this cluster has
        submission = submission_of_script(text, "run.sh", user)
        assert submission is not None
        code, lines = expected(decide(policy, submission, around), submission)
        found, told, job = lab.sbatch(text, "--hold")
        if found and not told:
            own += 1  # sbatch itself refuses some combinations of options, before anybody is asked
            continue
        assert told == lines, text
        assert found == 1 or code == 0, text
        seen.add((found, code))
        if job:
            lab.cluster.command("scancel", job)
    assert seen >= {(0, 0), (1, -1)}
    assert own < 10


def test_a_comment_keeps_what_stood_there() -> None:
    cost, hours = Decimal("1.2500004"), Decimal("0.25")
    ours = "gpuledger:cost_usd=1.25;gpu_hours=0.25"
    assert comment_with("", cost, hours) == ours
    assert comment_with(ours, cost, hours) == ours
    assert comment_with("ticket 7", cost, None) == "ticket 7; gpuledger:cost_usd=1.25"
    assert comment_with("gpuledger:cost_usd=9;gpu_hours=1", cost, hours) == ours
    assert comment_with("a=b; gpuledger:cost_usd=9;gpu_hours=1; c=d", cost, hours) == f"a=b; c=d; {ours}"
    assert comment_with("a=b", Decimal(100), Decimal(20)) == "a=b; gpuledger:cost_usd=100;gpu_hours=20"
