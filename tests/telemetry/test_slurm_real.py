"""A real Slurm: what we say of its jobs agrees with sacct, to the second and to the GPU."""

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from tests.telemetry.slurm_cluster import CLUSTER, CPUS, GPUS, MEMORY_MIB, NODES, SlurmCluster, slurm

from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.diagnostics import Diagnostic
from gpuledger.telemetry import slurm as telemetry

__all__ = ["slurm"]
pytestmark = pytest.mark.server

COMMENT = "gpuledger:team=nlp;model=llama-3-8b;owner=amy"
AGAIN = '[ -n "$SLURM_RESTART_COUNT" ] && exec sleep 2; sleep 60'


@dataclass
class Told:
    """What `collect` said, sorted by kind."""

    jobs: dict[str, Job]
    usage: list[UsageInterval]
    nodes: list[NodeInterval]
    diagnostics: list[Diagnostic]
    covered: list[telemetry.Covered]

    def job(self, job: int) -> Job:
        (found,) = (one for key, one in self.jobs.items() if key.startswith(f"{CLUSTER}/slurm/{job}@"))
        return found

    def of(self, job: int, resource: str = "gpu") -> list[UsageInterval]:
        return [row for row in self.usage if row.job_id == self.job(job).job_id and row.resource == resource]


@dataclass
class History:
    """Jobs of every kind, ended but for one that waits for what it can't get."""

    ids: dict[str, int]
    since: datetime
    told: Told


def environment(cluster: SlurmCluster) -> telemetry.Commands:
    return telemetry.Commands(environment=dict(cluster.env), timeout=60, folder=cluster.root)


def ask(cluster: SlurmCluster, since: datetime, step: timedelta = timedelta(days=1)) -> Told:
    found = Told({}, [], [], [], [])
    until = datetime.now(UTC) + timedelta(seconds=1)
    for record in telemetry.collect(
        since, until, lambda: datetime.now(UTC), commands=environment(cluster), step=step
    ):
        if isinstance(record, Job):
            found.jobs[record.job_id] = record
        elif isinstance(record, UsageInterval):
            found.usage.append(record)
        elif isinstance(record, NodeInterval):
            found.nodes.append(record)
        elif isinstance(record, Diagnostic):
            found.diagnostics.append(record)
        else:
            found.covered.append(record)
    return found


def submit_all(cluster: SlurmCluster) -> dict[str, int]:
    """Submit one job of each kind. Those that something is done to run long enough for a busy machine."""
    submit = cluster.submit
    return {
        "again": submit(AGAIN, "-J", "again", "--gpus=2", "-N1"),
        "resized": submit("sleep 15", "-J", "resized", "-N2", "--gpus-per-node=2"),
        "suspended": submit("sleep 12", "-J", "suspended", "--gpus=1"),
        "cancelled": submit("sleep 60", "-J", "cancelled", "--gpus=1"),
        "two": submit("srun sleep 2", "-J", "train-two", "-N2", "--gres=gpu:h100:2", f"--comment={COMMENT}"),
        "uneven": submit("sleep 1", "-J", "uneven", "-N2", "--gpus=3", "--wckey=other"),
        "array": submit(
            "sleep 1; exit $((SLURM_ARRAY_TASK_ID == 2))", "-J", "array", "-a", "0-2", "--gpus=1"
        ),
        "het": submit("sleep 1", "-J", "het", "-N1", "--gpus=1", ":", "-N1", "--gres=gpu:2"),
        "odd": submit("exit 3", "-J", "lr=0.1|seed=7", "--gpus=1", "--comment=two\nlines | of=it"),
        "busy": submit("timeout 3 sh -c 'while :; do :; done'; true", "-J", "busy", "-c", "2"),
        "never": submit("true", "-J", "never", "--gpus=16", "-N2", "-c", str(CPUS + 1)),
        "unwanted": submit("true", "-J", "unwanted", "--gpus=16", "-N2", "-c", str(CPUS + 1)),
    }


@pytest.fixture(scope="module")
def history(slurm: SlurmCluster) -> Iterator[History]:
    since = datetime.now(UTC) - timedelta(seconds=1)
    ids = submit_all(slurm)
    for name in ("again", "resized", "suspended", "cancelled"):
        slurm.wait_for(ids[name], "RUNNING")
    time.sleep(1)
    slurm.command("scancel", str(ids["cancelled"]))
    slurm.command("scancel", str(ids["unwanted"]))
    slurm.command("scontrol", "suspend", str(ids["suspended"]))
    slurm.command("scontrol", "update", f"JobId={ids['resized']}", "NumNodes=1")
    slurm.command("scontrol", "requeue", str(ids["again"]))
    time.sleep(2)
    slurm.command("scontrol", "resume", str(ids["suspended"]))
    slurm.until(
        lambda: "JobState=PENDING" in slurm.command("scontrol", "show", "job", str(ids["again"])),
        20,
        "requeue",
    )
    # A requeued job waits for two minutes, unless told otherwise.
    slurm.command("scontrol", "update", f"JobId={ids['again']}", "StartTime=now")
    for name, job in ids.items():
        if name != "never":
            slurm.wait_for(job, "COMPLETED", "FAILED", "CANCELLED", "REQUEUED", "RESIZING")
    slurm.until(lambda: len(slurm.states(ids["again"])) == 2, 20, "the second attempt")
    slurm.wait_for(ids["again"], "COMPLETED", "REQUEUED")
    slurm.command(
        "sacctmgr",
        "-i",
        "modify",
        "job",
        "where",
        f"jobid={ids['two']}",
        "set",
        "admincomment=gpuledger:cc=1234",
    )
    yield History(ids, since, ask(slurm, since))
    slurm.command("scancel", str(ids["never"]))


def gpu_seconds(rows: list[UsageInterval]) -> dict[str, Fraction]:
    """GPU-seconds while running, by the id that people see."""
    sums: dict[str, Fraction] = defaultdict(Fraction)
    for row in rows:
        if row.resource == "gpu" and row.state == "running":
            assert row.requested is not None
            assert row.pod is not None
            sums[row.pod] += Fraction(row.requested) * int((row.end - row.start).total_seconds())
    return dict(sums)


def by_sacct(cluster: SlurmCluster) -> dict[str, Fraction]:
    """GPU-seconds as sacct has them: elapsed seconds times gres/gpu, every attempt, steps left out."""
    columns = ("JobID", "ElapsedRaw", "AllocTRES", "State")
    rows = cluster.command("sacct", "-a", "-D", "-X", "-n", "-P", "-S", "now-1day", "-o", ",".join(columns))
    sums: dict[str, Fraction] = defaultdict(Fraction)
    for row in rows.splitlines():
        job, elapsed, tres, _ = row.split("|")
        gpus = dict(item.split("=") for item in tres.split(",") if item).get("gres/gpu")
        if gpus and int(elapsed):
            sums[job] += Fraction(gpus) * int(elapsed)
    return dict(sums)


def test_gpu_seconds_are_those_of_sacct(slurm: SlurmCluster, history: History) -> None:
    ours, theirs = gpu_seconds(history.told.usage), by_sacct(slurm)
    resized = str(history.ids["resized"])
    assert len(ours) > 9
    # Slurm starts a resized job's new record when the job started, and so counts that time twice.
    assert ours.pop(resized) < theirs.pop(resized)
    assert ours == theirs


def test_a_resized_job_counts_each_second_once(history: History) -> None:
    rows = history.told.of(history.ids["resized"])
    first, second = min(row.start for row in rows), max(row.end for row in rows)
    change = min(row.end for row in rows)
    held = {(row.node, row.start, row.end): row.requested for row in rows}
    assert list(held.values()) == [2, 2, 2]
    assert sorted(key[1:] for key in held) == [(first, change), (first, change), (change, second)]
    assert history.told.job(history.ids["resized"]).attempts == 1


def test_a_requeued_job_is_one_job_with_two_attempts(history: History) -> None:
    job = history.told.job(history.ids["again"])
    rows = sorted(history.told.of(history.ids["again"]), key=lambda row: row.start)
    assert (job.attempts, job.state, job.labels["slurm/attempts"]) == (2, "COMPLETED", "REQUEUED,COMPLETED")
    assert [row.attempt for row in rows] == [1, 2]
    assert rows[0].end < rows[1].start
    assert job.started == rows[0].start
    assert job.ended == rows[1].end


def test_an_attempt_before_the_window_is_looked_up(slurm: SlurmCluster, history: History) -> None:
    job = history.told.job(history.ids["again"])
    second = max(history.told.of(history.ids["again"]), key=lambda row: row.start)
    later = ask(slurm, second.start + timedelta(seconds=1))
    assert later.job(history.ids["again"]).job_id == job.job_id
    (row,) = later.of(history.ids["again"])
    assert (row.attempt, row.start, row.end) == (2, second.start + timedelta(seconds=1), second.end)


def test_each_node_of_a_job_has_its_part(history: History) -> None:
    assert {row.node: row.requested for row in history.told.of(history.ids["two"])} == {"gpu1": 2, "gpu2": 2}
    uneven = {row.node: row.requested for row in history.told.of(history.ids["uneven"])}
    assert sorted(uneven.values(), key=str) == [1, 2]
    memory = [row.requested for row in history.told.of(history.ids["two"], "memory")]
    assert memory == [Decimal(100) / 1024] * 2


def test_an_array_and_a_heterogeneous_job_are_one_job_each(history: History) -> None:
    told, array, het = history.told, history.ids["array"], history.ids["het"]
    assert told.job(array).kind == "SlurmArray"
    assert told.job(array).labels["slurm/states"] == "COMPLETED=2,FAILED=1"
    assert told.job(array).state == "FAILED"
    assert sorted(row.pod or "" for row in told.of(array)) == [f"{array}_0", f"{array}_1", f"{array}_2"]
    assert told.job(het).kind == "SlurmHetJob"
    assert {row.pod: row.requested for row in told.of(het)} == {f"{het}+0": 1, f"{het}+1": 2}


def test_a_suspended_job_holds_its_gpu(history: History) -> None:
    rows = {row.state: row for row in history.told.of(history.ids["suspended"])}
    assert rows["held"].start == rows["running"].end
    assert 1 <= (rows["held"].end - rows["held"].start).total_seconds() <= 4
    assert {row.state for row in history.told.of(history.ids["suspended"], "cpu")} == {"running"}


def test_what_waits_or_never_started_costs_nothing(history: History) -> None:
    assert history.told.job(history.ids["never"]).state == "PENDING"
    for name in ("never", "unwanted"):
        assert [row for row in history.told.usage if row.pod == str(history.ids[name])] == []


def test_the_evidence_says_who_said_it(history: History) -> None:
    told = history.told.job(history.ids["two"]).dimensions
    assert {name: (one.value, one.source) for name, one in told.items()} == {
        "cost_center": ("1234", "slurm admin comment: cc"),
        "team": ("nlp", "slurm comment: team"),
        "owner": ("amy", "slurm comment: owner"),
        "model": ("llama-3-8b", "slurm comment: model"),
        "project": ("exp42", "slurm wckey (default)"),
        "workload_type": ("training", "slurm job name"),
    }
    assert [name for name, one in told.items() if one.inferred] == ["workload_type"]
    other = history.told.job(history.ids["uneven"]).dimensions
    assert (other["project"].value, other["project"].source) == ("other", "slurm wckey")
    assert other["cost_center"].value == other["team"].value == "research"


def test_separators_and_line_breaks_in_free_text(history: History) -> None:
    job = history.told.job(history.ids["odd"])
    assert (job.name, job.state, job.labels.get("of")) == ("lr=0.1|seed=7", "FAILED", "it")
    assert [one for one in history.told.diagnostics if one.code == "slurm-bad-row"] == []


def test_cpu_use_is_measured(history: History) -> None:
    (row,) = history.told.of(history.ids["busy"], "cpu")
    assert row.requested == 2
    assert row.used is not None
    assert Decimal("0.3") < row.used < Decimal("1.2")
    assert all(row.used is None for row in history.told.usage if row.resource == "gpu")


def test_nodes(history: History) -> None:
    assert sorted(node.node for node in history.told.nodes) == list(NODES)
    for node in history.told.nodes:
        assert (node.cluster, node.gpu_model, node.gpu_count) == (CLUSTER, "H100", Decimal(GPUS))
        assert (node.cpu_cores, node.memory_gib) == (Decimal(CPUS), Decimal(MEMORY_MIB) / 1024)
        assert node.pool == "train"


def test_the_whole_time_is_covered(history: History) -> None:
    assert [one for one in history.told.diagnostics if one.severity != "info"] == []
    assert history.told.covered[0].since == history.since
    assert all(one.complete for one in history.told.covered)


def test_shorter_steps_sum_to_the_same(slurm: SlurmCluster, history: History) -> None:
    pieces = ask(slurm, history.since, step=timedelta(seconds=4))
    assert len(pieces.covered) > 2
    assert gpu_seconds(pieces.usage) == gpu_seconds(history.told.usage)
    assert set(pieces.jobs) == set(history.told.jobs)


def test_a_day_that_is_not_over_can_be_asked_for(slurm: SlurmCluster, history: History) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=2)
    records = list(
        telemetry.collect(history.since, tomorrow, lambda: datetime.now(UTC), commands=environment(slurm))
    )
    usage = [record for record in records if isinstance(record, UsageInterval)]
    assert gpu_seconds(usage) == gpu_seconds(history.told.usage)
    assert [record.complete for record in records if isinstance(record, telemetry.Covered)] == [True]


def test_json_says_the_same(slurm: SlurmCluster, history: History, tmp_path: Path) -> None:
    path = tmp_path / "sacct.json"
    path.write_text(slurm.command("sacct", "-a", "-D", "-S", "now-1day", "--json"))
    assert json.loads(path.read_text())["jobs"]
    rows = list(telemetry.read_jobs([path], datetime.now(UTC), since=history.since))
    jobs = {row.job_id: row for row in rows if isinstance(row, Job)}
    usage = [row for row in rows if isinstance(row, UsageInterval)]
    assert gpu_seconds(usage) == gpu_seconds(history.told.usage)
    for key, job in history.told.jobs.items():
        assert jobs[key].dimensions == job.dimensions
        assert (jobs[key].state, jobs[key].attempts) == (job.state, job.attempts)


def test_accounting_is_down_and_the_controller_answers(slurm: SlurmCluster, history: History) -> None:
    running = slurm.submit("sleep 20", "-J", "live", "-N2", "--gpus=3")
    slurm.wait_for(running, "RUNNING")
    time.sleep(2)
    slurm.stop_daemon("slurmdbd")
    try:
        told = ask(slurm, history.since)
    finally:
        slurm.start_slurmdbd()
    codes = {one.code: one for one in told.diagnostics}
    assert "Is slurmdbd up?" in codes["slurm-no-answer"].hint
    assert "slurm-live-only" in codes
    assert not any(one.complete for one in told.covered)
    # The controller says each node's part exactly.
    assert {row.node: row.requested for row in told.of(running)} == {"gpu1": 2, "gpu2": 1}
    slurm.command("scancel", str(running))


def test_ids_that_start_again_are_other_jobs(slurm: SlurmCluster, history: History) -> None:
    """Last, since the controller forgets everything."""
    slurm.command("scancel", str(history.ids["never"]))
    slurm.stop_daemon("slurmctld")
    shutil.rmtree(slurm.root / "ctld")
    (slurm.root / "ctld").mkdir()
    slurm.start_slurmctld()
    job = slurm.submit("sleep 1", "-J", "first-again", "--gpus=1")
    by_name = ("sacct", "-n", "-X", "-P", "-o", "State", "--name", "first-again")
    slurm.until(lambda: "COMPLETED" in slurm.command(*by_name), 30, "the new job")
    told = ask(slurm, history.since)
    same = [one for key, one in told.jobs.items() if key.startswith(f"{CLUSTER}/slurm/{job}@")]
    assert {one.name: one.attempts for one in same} == {"again": 2, "first-again": 1}
