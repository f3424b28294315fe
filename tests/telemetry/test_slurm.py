"""Jobs out of `sacct -P`: attempts, ids that come again, odd text, cut answers, clocks. All rows are synthetic."""

import csv
import gzip
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.telemetry.slurm_rows import T0, Told, at, read, row, table

from gpuledger.core.usage import Evidence
from gpuledger.errors import SourceError
from gpuledger.telemetry import slurm

SAMPLES = Path(os.environ.get("GPULEDGER_SHARED", "../shared")) / "data" / "k8s" / "slurm"


@pytest.mark.shared
@pytest.mark.parametrize("name", ["sacct_22.05_duplicates.psv", "sacct_22.05.json"])
def test_a_real_cluster_s_gpu_seconds(name: str) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("no sample data: GPULEDGER_SHARED names its folder")
    expected: dict[str, int] = {}
    with (SAMPLES / "sacct_22.05_duplicates.psv").open() as lines:
        for line in csv.DictReader(lines, delimiter="|"):
            if "." not in line["JobID"]:
                gpus = dict(item.split("=") for item in line["AllocTRES"].split(","))["gres/gpu"]
                expected[line["JobID"]] = expected.get(line["JobID"], 0) + int(gpus) * int(line["ElapsedRaw"])
    told = Told(list(slurm.read_jobs([SAMPLES / name], at(0))))
    found: dict[str, int] = {}
    for pod, _, cards, start, end in told.gpus():
        found[pod] = found.get(pod, 0) + int(cards) * (end - start)
    assert found == expected
    assert told.diagnostics == []
    assert len(told.jobs) == 7  # an array of three among them


def test_a_job(tmp_path: Path) -> None:
    told = read(tmp_path, table([row("7", WCKey="*exp42", Comment="team=nlp", State="TIMEOUT")]))
    (job,) = told.jobs
    assert job.job_id == f"slurm/slurm/7@{T0 - 10}"
    assert (job.kind, job.name, job.namespace, job.state, job.attempts) == (
        "SlurmJob",
        "job",
        "research",
        "TIMEOUT",
        1,
    )
    assert (job.submitted, job.started, job.ended) == (at(-10), at(0), at(100))
    assert job.dimensions == {
        "cost_center": Evidence("research", "slurm account", 2),
        "team": Evidence("nlp", "slurm comment: team", 1),
        "owner": Evidence("amy", "slurm user", 2),
        "project": Evidence("exp42", "slurm wckey (default)", 3),
    }
    rows = {one.resource: one for one in told.usage}
    assert {name: one.requested for name, one in rows.items()} == {"gpu": 1, "cpu": 4, "memory": 8}
    assert {(one.node, one.pod, one.pod_uid, one.namespace, one.state) for one in told.usage} == {
        ("gpu1", "7", f"7@{T0 - 10}", "research", "running")
    }
    assert (rows["gpu"].sharing, rows["gpu"].share, rows["gpu"].used) == ("whole", Fraction(1), None)


def test_what_waits_or_never_ran_costs_nothing(tmp_path: Path) -> None:
    rows = [
        row("1", None, None, State="PENDING"),
        row("2", 50, 50, State="CANCELLED by 1000", AllocTRES="", NodeList="None assigned"),
        row("3_[4-9%2]", None, None, State="PENDING", JobIDRaw="3"),
        row("4", State="REVOKED"),
    ]
    told = read(tmp_path, table(rows))
    assert told.usage == []
    assert [(job.state, job.kind) for job in told.jobs] == [
        *(
            ("PENDING", "SlurmJob"),
            ("CANCELLED", "SlurmJob"),
            ("REVOKED", "SlurmJob"),
            ("PENDING", "SlurmArray"),
        ),
    ]
    assert told.jobs[1].labels["slurm/cancelled-by"] == "1000"
    assert told.jobs[0].ended is None


def test_steps_are_never_added(tmp_path: Path) -> None:
    steps = [
        row(f"7.{name}", JobIDRaw=f"7.{name}", AllocTRES="cpu=4,gres/gpu=1")
        for name in ("batch", "extern", "0")
    ]
    assert read(tmp_path, table([row("7"), *steps])).gpus() == [("7", "gpu1", 1, 0, 100)]


def attempts(
    folder: Path, second: dict[str, str], first: dict[str, str], more: Sequence[str] = ()
) -> list[tuple[str, int | None]]:
    """Return each job's first submission after T0 and number of attempts."""
    told = read(folder, table([first, second], more=more))
    return sorted((str(int(job.job_id.rpartition("@")[2]) - T0), job.attempts) for job in told.jobs)


@pytest.mark.parametrize("state", ["REQUEUED", "PREEMPTED", "NODE_FAIL", "COMPLETED", "FAILED"])
def test_a_requeue_is_another_attempt_of_the_job(tmp_path: Path, state: str) -> None:
    first, second = row("7", 0, 100, State=state), row("7", 230, 300, submit=101)
    assert attempts(tmp_path, second, first) == [("-10", 2)]
    told = read(tmp_path, table([second, first]))  # in whatever order
    assert sorted((one.start, one.attempt) for one in told.usage if one.resource == "gpu") == [
        (at(0), 1),
        (at(230), 2),
    ]
    assert told.jobs[0].labels["slurm/attempts"] == f"{state},COMPLETED"
    assert told.jobs[0].state == "COMPLETED"


@pytest.mark.parametrize(
    "second",
    [
        row("7", 230, 300, submit=101, JobName="other"),
        row("7", 230, 300, submit=101, User="bob"),
        row("7", 90_200, 90_300),
    ],
)
def test_an_id_that_comes_again_is_another_job(tmp_path: Path, second: dict[str, str]) -> None:
    first = row("7", 0, 100)
    (one, _), (two, _) = attempts(tmp_path, second, first)
    assert (one, two) == ("-10", str(int(second["Submit"]) - T0))


def test_slurm_s_own_count_of_restarts_decides(tmp_path: Path) -> None:
    count = ("Restarts",)
    first = row("7", 0, 100, State="REQUEUED", Restarts=0)
    assert attempts(tmp_path, row("7", 230, 300, submit=101, Restarts=1, JobName="other"), first, count) == [
        ("-10", 2)
    ]
    assert attempts(tmp_path, row("7", 230, 300, submit=101, Restarts=0), first, count) == [
        ("-10", 1),
        ("101", 1),
    ]
    told = read(tmp_path, table([row("7", 230, 300, submit=101, Restarts=4)], more=count))
    assert [(job.attempts, {one.attempt for one in told.usage}) for job in told.jobs] == [(5, {5})]


def test_a_resized_job_s_second_record_begins_where_the_first_ends(tmp_path: Path) -> None:
    """As Slurm 22.05 tells it: the new record is submitted at the change and starts when the job did."""
    two = "cpu=4,gres/gpu=4,node=2"
    first = row("13", 0, 30, State="RESIZING", AllocTRES=two, NodeList="gpu[1-2]")
    second = row("13", 0, 200, submit=30, AllocTRES="cpu=2,gres/gpu=2,node=1")
    told = read(tmp_path, table([first, second]))
    assert told.gpus() == [("13", "gpu1", 2, 0, 30), ("13", "gpu2", 2, 0, 30), ("13", "gpu1", 2, 30, 200)]
    assert [(job.attempts, job.submitted) for job in told.jobs] == [(1, at(-10))]


def test_arrays_and_heterogeneous_jobs_are_one_job_each(tmp_path: Path) -> None:
    rows = [
        row("3_0", 0, 10, JobIDRaw="8", submit=-5),
        row("3_1", 0, 20, JobIDRaw="9", submit=-5, State="FAILED"),
        row("3_2", 30, None, JobIDRaw="3", submit=-5),
        row("5+0", 0, 50, JobIDRaw="5", submit=-3),
        row("5+1", 0, 60, JobIDRaw="6", submit=-2),
    ]
    told = read(tmp_path, table(rows))
    assert told.ids == [f"slurm/slurm/3@{T0 - 5}", f"slurm/slurm/5@{T0 - 3}"]
    array, het = sorted(told.jobs, key=lambda job: job.job_id)
    assert (array.state, array.ended, array.labels["slurm/states"]) == (
        "RUNNING",
        None,
        "COMPLETED=1,FAILED=1,RUNNING=1",
    )
    assert (het.state, het.ended, het.kind) == ("COMPLETED", at(60), "SlurmHetJob")
    assert ("3_2", "gpu1", 1, 30, 1000) in told.gpus()  # until Slurm was asked


def test_an_array_s_task_that_was_requeued_stays_in_its_array(tmp_path: Path) -> None:
    rows = [
        row("3_0", 0, 10, JobIDRaw="8", submit=-5),
        row("3_1", 0, 20, JobIDRaw="3", submit=-5, State="REQUEUED"),
        row("3_1", 200, 300, JobIDRaw="3", submit=20),
    ]
    told = read(tmp_path, table(rows))
    assert [(job.job_id, job.attempts) for job in told.jobs] == [(f"slurm/slurm/3@{T0 - 5}", 2)]


def test_files_that_overlap_tell_each_record_once(tmp_path: Path) -> None:
    first = [
        row("1", 0, None),
        row("2", None, None, State="PENDING"),
        row("3_[0-1]", None, None, JobIDRaw="3", State="PENDING"),
    ]
    second = [
        row("1", 0, 500),
        row("2", 300, 400, submit=-10),
        row("3_0", 350, 360, JobIDRaw="4", submit=-10),
    ]
    for texts in (table(first), table(second)), (table(second), table(second)):
        told = read(tmp_path, *texts)
        assert sorted(told.gpus()) == [
            ("1", "gpu1", 1, 0, 500),
            ("2", "gpu1", 1, 300, 400),
            ("3_0", "gpu1", 1, 350, 360),
        ]
        assert {job.state for job in told.jobs} == {"COMPLETED"}


def test_a_window_cuts_and_pieces_sum_to_the_whole(tmp_path: Path) -> None:
    text = table(
        [row("1", 0, 500), row("2", -400, None), row("3", 100, 300, Suspended="00:01:00", ElapsedRaw=140)]
    )
    whole = sorted(read(tmp_path, text).gpus())
    pieces = [
        read(tmp_path, text, since=at(start), until=at(start + 170)).gpus()
        for start in range(-510, 1100, 170)
    ]
    assert all(len(piece) < 5 for piece in pieces)
    for pod in ("1", "2", "3"):
        seconds = [end - start for piece in pieces for one, _, _, start, end in piece if one == pod]
        assert sum(seconds) == sum(end - start for one, _, _, start, end in whole if one == pod)
    assert read(tmp_path, text, since=at(600), until=at(700)).gpus() == [("2", "gpu1", 1, 600, 700)]


def test_suspended_time_holds_gpus_and_memory_but_no_cpus(tmp_path: Path) -> None:
    told = read(tmp_path, table([row("3", 0, 200, Suspended="00:01:00", ElapsedRaw=140)]))
    assert {(one.resource, one.state, one.start, one.end) for one in told.usage} == {
        ("gpu", "running", at(0), at(140)),
        ("gpu", "held", at(140), at(200)),
        ("memory", "running", at(0), at(140)),
        ("memory", "held", at(140), at(200)),
        ("cpu", "running", at(0), at(140)),
    }


@pytest.mark.parametrize("delimiter", ["|", "\x1f", ";;"])
def test_any_separator_and_line_breaks_in_comments(tmp_path: Path, delimiter: str) -> None:
    rows = [row("1", Comment="two\vlines\v\vof it"), row("2", JobName="a b")]
    plain = table(rows, delimiter)
    for text in (plain, plain.replace("\n", f"{delimiter}\n"), plain.replace("\n", "\r\n")):
        told = read(tmp_path, text.replace("\v", "\n"))
        assert [job.name for job in told.jobs] == ["job", "a b"]
        assert told.diagnostics == []


def test_a_line_break_at_the_end_of_a_record_costs_no_other(tmp_path: Path) -> None:
    told = read(tmp_path, table([row("1", AdminComment="two\nlines"), row("2")]))
    assert [pod for pod, *_ in told.gpus()] == ["1", "2"]
    assert told.codes == ["slurm-bad-row"]


def test_separators_in_one_free_text_are_given_to_it(tmp_path: Path) -> None:
    told = read(tmp_path, table([row("1", JobName="lr=0.1|seed=7|x"), row("2", Comment="team=a|b")]))
    assert len(told.gpus()) == 2
    assert told.diagnostics == []
    assert {job.namespace for job in told.jobs} == {"research"}


def test_a_line_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    rows = [
        row("1"),
        row("2", AllocTRES="gres/gpu=many"),
        row("3", Submit="soon"),
        row("4", NodeList="gpu[1-"),
        row("5"),
    ]
    told = read(tmp_path, table(rows))
    assert [pod for pod, *_ in told.gpus()] == ["1", "5"]
    assert set(told.codes) == {"slurm-bad-row"}
    assert "3 times" in told.diagnostics[0].message
    assert {one.severity for one in told.diagnostics} == {"error"}


def test_a_job_that_held_something_nowhere_is_told(tmp_path: Path) -> None:
    assert read(tmp_path, table([row("1", NodeList="Unknown")])).codes == ["slurm-job-nowhere"]


def test_a_cut_answer_tells_what_is_whole(tmp_path: Path) -> None:
    text = table([row("1"), row("2"), row("3")])
    told = read(tmp_path, text[:-80])
    assert [pod for pod, *_ in told.gpus()] == ["1", "2"]
    assert told.codes == ["slurm-truncated"]
    first, second, third = text.splitlines()[1:]
    told = read(tmp_path, "\n".join((text.splitlines()[0], first, second[:50], third, "")))
    assert [pod for pod, *_ in told.gpus()] == ["1", "3"]
    assert told.codes == ["slurm-bad-row"]


def test_gzip_and_gzip_that_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "sacct.gz"
    packed = gzip.compress(table([row(str(number)) for number in range(1, 400)]).encode())
    path.write_bytes(packed)
    assert len(Told(list(slurm.read_jobs([path], at(1000)))).jobs) == 399
    path.write_bytes(packed[: len(packed) // 2])
    told = Told(list(slurm.read_jobs([path], at(1000))))
    assert "slurm-truncated" in told.codes
    assert len(told.jobs) < 399


@pytest.mark.parametrize("text", ["", "hello\n", "JobID|State\n1|RUNNING\n", "7|COMPLETED|x\n"])
def test_another_kind_of_file_is_refused_with_the_command_to_make_one(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match="sacct") as caught:
        read(tmp_path, text)
    assert "sacct -a -D -P" in str(caught.value.hint)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        list(slurm.read_jobs([tmp_path / "none"], at(0)))


def test_clocks_that_do_not_agree(tmp_path: Path) -> None:
    rows = [
        row("1", 100, 50, ElapsedRaw=0),  # ended before it started
        row("2", 2000, None),  # starts after we asked
        row("3", 0, 5000),  # ended after we asked
        row("4", 50, 60, submit=70),  # started before it was submitted: nothing hangs on it
    ]
    told = read(tmp_path, table(rows))
    assert told.gpus() == [("3", "gpu1", 1, 0, 5000), ("4", "gpu1", 1, 50, 60)]
    assert told.codes == ["slurm-clock"] * 3
    assert {one.severity for one in told.diagnostics} == {"warning"}


def test_the_hour_that_comes_twice_is_told_by_the_elapsed_time(tmp_path: Path) -> None:
    zone = ZoneInfo("Europe/Berlin")
    local = row(
        "1",
        Submit="2026-10-25T01:00:00",
        Start="2026-10-25T01:30:00",
        End="2026-10-25T02:30:00",
        ElapsedRaw=7200,
    )
    told = read(
        tmp_path, table([local]), options=slurm.Options(zone=zone), asked=datetime(2026, 11, 1, tzinfo=UTC)
    )
    (gpu,) = (one for one in told.usage if one.resource == "gpu")
    assert (gpu.start, gpu.end) == (
        datetime(2026, 10, 24, 23, 30, tzinfo=UTC),
        datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    )
    assert told.codes == ["slurm-clock"]


def test_use_is_told_where_the_steps_tell_it(tmp_path: Path) -> None:
    def step(name: str, use: str, **cells: Any) -> dict[str, str]:  # noqa: ANN401 - as row takes
        return row(f"7.{name}", JobIDRaw=f"7.{name}", TRESUsageInTot=use, **cells)

    steps = [
        step("batch", "cpu=00:02:30,mem=512M"),
        step("extern", "cpu=00:00:00,mem=0"),
        step("0", "cpu=00:00:50,mem=2G"),
    ]
    used = {one.resource: one.used for one in read(tmp_path, table([row("7"), *steps])).usage}
    assert used == {"gpu": None, "cpu": Decimal(2), "memory": Decimal(2)}
    running = [row("7"), steps[0], step("0", "", End="Unknown")]
    assert {one.used for one in read(tmp_path, table(running)).usage} == {None}
    wide = [row("7", NodeList="gpu[1-2]"), steps[0], step("0", "cpu=00:00:50,mem=2G", NodeList="gpu[1-2]")]
    assert {one.used for one in read(tmp_path, table(wide)).usage} == {None}


def test_evidence_is_ranked(tmp_path: Path) -> None:
    rows = [
        row(
            "1",
            Comment="team=c;cost_center=1;tm=own",
            AdminComment="gpuledger:team=a",
            JobName="sft-qwen2.5-7b",
        ),
        row("2", Comment="workload=evaluation", JobName="pretrain"),
        row("3", JobName="mistral-serve"),
    ]
    options = slurm.Options(
        aliases={"team": ("tm",)}, dimensions={"account": ("project",), "partition": ("team",)}
    )
    told = [job.dimensions for job in read(tmp_path, table(rows), options=options).jobs]
    assert told[0]["team"] == Evidence("a", "slurm admin comment: team", 0)
    assert told[0]["cost_center"] == Evidence("1", "slurm comment: cost_center", 1)
    assert told[0]["project"] == Evidence("research", "slurm account", 2)
    assert told[0]["workload_type"] == Evidence("fine-tuning", "slurm job name", 9, inferred=True)
    assert told[0]["model"] == Evidence("qwen2.5-7b", "slurm job name", 9, inferred=True)
    assert told[1]["workload_type"] == Evidence("evaluation", "slurm comment: workload", 1)
    assert told[2]["workload_type"] == Evidence("inference", "slurm job name", 9, inferred=True)
    assert "owner" not in told[2]
