"""Slurm that is down, slow, silent, or half there: clear errors and what can still be told.

The commands here are stand-ins: shell scripts that print what the real ones print. Real ones: test_slurm_real.py.
"""

import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.telemetry.slurm_rows import T0, at, row, table

from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError
from gpuledger.telemetry import slurm

CONFIG = """Configuration data as of 1795533844
AccountingStorageTRES   = cpu,mem,energy,node,billing,fs/disk,vmem,pages,gres/gpu
AccountingStorageType   = accounting_storage/slurmdbd
AccountingStoreFlags    = job_comment
ClusterName             = lab
GresTypes               = gpu
PrivateData             = none
"""
NODE = "NodeName=gpu1 CPUTot=8 RealMemory=4000 Gres=gpu:h100:8 State=IDLE Partitions=train\n"
DOWN = "echo 'sacct: error: Sending PersistInit msg: Connection refused' >&2; exit 1"
SEPARATOR = "\x1f"


class Stage:
    """A folder of stand-in commands, the first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self.calls = folder / "calls"
        self.calls.touch()
        for name in ("sacct", "scontrol", "squeue"):
            self.script(name, "exit 0")
        fields = " ".join(("JobIDRaw", *table([]).split("|"))).strip()
        self.fields = f'[ "$1" = --helpformat ] && {{ echo "{fields}"; exit 0; }}'
        self.controller(CONFIG, NODE)

    def script(self, name: str, *lines: str) -> None:
        path = self.folder / name
        path.write_text("\n".join(("#!/bin/sh", f'echo "{name} $*" >> {self.calls}', *lines, "")))
        path.chmod(0o755)

    def text(self, name: str, content: str) -> str:
        """Keep a text and return the shell command that prints it."""
        path = self.folder.parent / name
        path.write_text(content)
        return f"cat {path}"

    def controller(self, config: str, nodes: str = NODE) -> None:
        show = f'case "$*" in *config*) {self.text("config", config)};; *) {self.text("nodes", nodes)};; esac'
        self.script("scontrol", show)

    def accounting(self, *lines: str) -> None:
        self.script("sacct", self.fields, *lines)

    def says(self, rows: list[dict[str, str]], name: str = "rows") -> str:
        return self.text(name, table(rows, SEPARATOR))

    def collect(
        self, since: int = 0, until: int = 1000, asked: int = 900, commands: slurm.Commands | None = None
    ) -> list[slurm.Record]:
        commands = commands or slurm.Commands(timeout=5)
        return list(slurm.collect(at(since), at(until), lambda: at(asked), commands=commands))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(tmp_path)
    monkeypatch.setenv("PATH", f"{made.folder}{os.pathsep}{os.environ['PATH']}")
    return made


def codes(records: list[slurm.Record]) -> list[str]:
    return [one.code for one in records if isinstance(one, Diagnostic)]


def pods(records: list[slurm.Record]) -> list[str | None]:
    return [one.pod for one in records if isinstance(one, UsageInterval) and one.resource == "gpu"]


def complete(records: list[slurm.Record]) -> list[bool]:
    return [one.complete for one in records if isinstance(one, slurm.Covered)]


def test_all_is_well(stage: Stage) -> None:
    stage.accounting(stage.says([row("1"), row("2", 700, None)]))
    stage.script("squeue", "echo '2                   0'")
    records = stage.collect()
    assert codes(records) == []
    assert complete(records) == [True]
    assert pods(records) == ["1", "2"]
    assert [(one.node, one.start, one.end) for one in records if isinstance(one, NodeInterval)] == [
        ("gpu1", at(0), at(900))
    ]
    assert {one.cluster for one in records if isinstance(one, Job)} == {"lab"}
    asked = [line for line in stage.calls.read_text().splitlines() if "-S" in line]
    assert len(asked) == 1
    day = at(0).strftime("%Y-%m-%dT%H:%M:%S")
    assert f"-S {day}" in asked[0]
    assert "-a -D -P --noconvert" in asked[0]


def test_days_are_asked_one_by_one(stage: Stage) -> None:
    stage.accounting(stage.says([row("1")]))
    records = stage.collect(-86_400 * 2, 86_400, asked=86_400 * 3)
    covered = [(one.since, one.until) for one in records if isinstance(one, slurm.Covered)]
    assert covered[0][0] == at(-86_400 * 2)
    assert [since.hour for since, _ in covered[1:]] == [0, 0, 0]
    assert [one[1] for one in covered[:-1]] == [one[0] for one in covered[1:]]
    assert pods(records) == ["1"]  # told by each day, held on one


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="can't run sacct") as caught:
        list(slurm.collect(at(0), at(1), lambda: at(1)))
    assert "file of sacct" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("sacct: error: Sending PersistInit msg: Connection refused", "Is slurmdbd up?"),
        ("Slurm accounting storage is disabled", "AccountingStorageType=accounting_storage/slurmdbd"),
        ("sacct: fatal: Could not establish a configuration source", "SLURM_CONF"),
        ("sacct: error: Munge encode failed: Failed to access", "Is munged running"),
        ("sacct: error: Access denied", "AdminLevel"),
        ("sacct: error: who knows", "Run `sacct` yourself."),
    ],
)
def test_what_helps(stage: Stage, said: str, hint: str) -> None:
    stage.accounting(f"echo '{said}' >&2; exit 1")
    stage.script("squeue", "exit 1")
    with pytest.raises(SourceError) as caught:
        stage.collect()
    assert said[:20] in caught.value.message
    assert hint in str(caught.value.hint)


def test_a_slow_slurm_is_not_waited_for(stage: Stage) -> None:
    stage.accounting(stage.text("header", table([], SEPARATOR)), "sleep 60")
    stage.script("squeue", "exit 1")
    begun = time.monotonic()
    with pytest.raises(SourceError, match=r"didn't answer within 0\.5 s") as caught:
        stage.collect(commands=slurm.Commands(timeout=0.5))
    assert time.monotonic() - begun < 5
    assert "shorter time" in str(caught.value.hint)


def test_one_day_fails_and_the_others_are_told(stage: Stage) -> None:
    day = at(0).strftime("%Y-%m-%d")
    stage.accounting(
        f'case "$*" in *"-S {day}T00"*) {DOWN};; esac', stage.says([row("1", -100_000, -99_000)])
    )
    records = stage.collect(-86_400 * 2, 86_400, asked=86_400 * 9)
    assert complete(records).count(False) == 1
    assert len(complete(records)) == 4
    assert "slurm-no-answer" in codes(records)
    assert pods(records) == ["1"]


def test_half_an_answer_is_told_and_is_not_complete(stage: Stage) -> None:
    stage.accounting(stage.says([row("1"), row("2")]), "sleep 60")
    records = stage.collect(commands=slurm.Commands(timeout=0.7))
    assert pods(records) == ["1", "2"]
    assert complete(records) == [False]
    stage.accounting(stage.text("cut", table([row("1"), row("2")], SEPARATOR)[:-60]))
    records = stage.collect()
    assert pods(records) == ["1"]
    assert complete(records) == [False]
    assert "slurm-truncated" in codes(records)


def test_an_error_with_exit_code_0_is_an_error(stage: Stage) -> None:
    stage.accounting(stage.says([row("1")]), "echo 'sacct: error: slurmdbd: went away' >&2")
    records = stage.collect()
    assert pods(records) == ["1"]
    assert complete(records) == [False]
    assert "slurm-no-answer" in codes(records)


def test_a_job_that_only_accounting_has_counts_nothing(stage: Stage) -> None:
    stage.accounting(
        stage.says([row("1", -500, None), row("2", -500, None), row("3", 880, None), row("4", 0, 50)])
    )
    stage.script("squeue", "echo '2   0'")
    records = stage.collect()
    assert pods(records) == ["2", "3", "4"]  # the third began just now: accounting may be ahead of the queue
    assert codes(records) == ["slurm-job-lost"]
    stage.script("squeue", "exit 1")
    assert pods(stage.collect()) == ["1", "2", "3", "4"]


def test_earlier_attempts_are_looked_up_where_they_may_exist(stage: Stage) -> None:
    second = row("7", 100, 200, submit=-4000)
    first = row("7", -9000, -4001, State="REQUEUED")
    today = [
        second,
        row("8", 50, 60, submit=40),
        row("9", 800, None, submit=750),
        row("5+1", 900, 950, JobIDRaw="6", submit=890),
    ]
    leader = row("5+0", 900, 910, submit=888, JobIDRaw="5")
    stage.accounting(
        f'case "$*" in *"-j "*) {stage.says([first, second, leader], "history")};; *) {stage.says(today)};; esac'
    )
    stage.script("squeue", "echo '9   0'")
    records = stage.collect(asked=990)
    (asked,) = (line for line in stage.calls.read_text().splitlines() if "-j " in line)
    assert asked.endswith("-j 5,6,7,8 -X")
    ids = {one.job_id: one.attempts for one in records if isinstance(one, Job)}
    assert ids[f"lab/slurm/7@{T0 - 9010}"] == 2
    assert f"lab/slurm/5@{T0 + 888}" in ids
    assert {one.attempt for one in records if isinstance(one, UsageInterval) and one.pod == "7"} == {2}
    assert sorted(set(filter(None, pods(records)))) == ["5+1", "7", "8", "9"]


def test_unknown_history_is_told(stage: Stage) -> None:
    stage.accounting(f'case "$*" in *"-j "*) {DOWN};; esac', stage.says([row("7", 100, 200, submit=-4000)]))
    records = stage.collect()
    assert codes(records) == ["slurm-no-history"]
    assert complete(records) == [True]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("gres/gpu", "gres/other"), "slurm-gpu-not-tracked"),
        (("PrivateData             = none", "PrivateData             = jobs,usage"), "slurm-private-data"),
        (("= job_comment", "= (null)"), "slurm-no-comments"),
        (("accounting_storage/slurmdbd", "accounting_storage/none"), "slurm-no-accounting"),
    ],
)
def test_settings_that_keep_cost_from_being_told(stage: Stage, change: tuple[str, str], code: str) -> None:
    stage.controller(CONFIG.replace(*change))
    stage.accounting(stage.says([row("1")]))
    assert codes(stage.collect()) == [code]


def test_the_controller_is_down_and_accounting_answers(stage: Stage) -> None:
    stage.script(
        "scontrol",
        "echo 'slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
    )
    stage.accounting(stage.says([row("1")]))
    records = stage.collect()
    assert pods(records) == ["1"]
    assert complete(records) == [True]
    assert codes(records) == ["slurm-no-controller", "slurm-nodes-unknown"]
    assert all("scontrol ping" in one.hint for one in records if isinstance(one, Diagnostic))


def test_fields_that_an_old_slurm_lacks_are_not_asked_for(stage: Stage) -> None:
    stage.accounting(stage.says([row("1")]))
    stage.collect()
    (asked,) = (line for line in stage.calls.read_text().splitlines() if "-S " in line)
    assert "Restarts" not in asked
    assert "JobName,Comment,AdminComment,JobIDRaw" in asked


def test_a_prefix_runs_them_elsewhere(stage: Stage) -> None:
    stage.script("ssh", 'shift; sh -c "$*"')
    stage.script("sudo", 'shift 3; "$@"')
    stage.accounting(stage.says([row("1")]), '[ "$TZ" = UTC ] && [ "$SLURM_TIME_FORMAT" = %s ] || exit 3')
    for prefix in (("ssh", "login1"), ("sudo", "-n", "-u", "slurm")):
        records = stage.collect(commands=slurm.Commands(prefix=prefix, timeout=10))
        assert pods(records) == ["1"]
        assert codes(records) == []


def test_nothing_is_left_behind(stage: Stage, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    stage.accounting(stage.says([row("1")]))
    stage.collect(commands=slurm.Commands(timeout=5, folder=spool))
    iterator = slurm.collect(at(0), at(1000), lambda: at(900), commands=slurm.Commands(folder=spool))
    next(iterator)
    del iterator
    assert list(spool.iterdir()) == []


def test_now_moves_on(stage: Stage) -> None:
    """The end of what runs is when each answer was asked for, not when reading began."""
    stage.accounting(stage.says([row("1", 0, None)]))
    stage.script("squeue", "echo '1   0'")
    moments = iter([at(100), at(300)])
    clock: Callable[[], datetime] = lambda: next(moments, at(500))  # noqa: E731
    records = list(slurm.collect(at(0), at(1000), clock, commands=slurm.Commands(timeout=5)))
    (gpu,) = (one for one in records if isinstance(one, UsageInterval) and one.resource == "gpu")
    assert gpu.end == at(300)
    assert gpu.end - gpu.start < timedelta(hours=1)
    assert gpu.start.tzinfo is UTC


def test_every_code_is_explained() -> None:
    root = Path(__file__).parents[2]
    sources = "".join(path.read_text() for path in (root / "src/gpuledger/telemetry/slurm").glob("*.py"))
    told = set(re.findall(r'"(slurm-[a-z-]+)"', sources))
    explained = set(re.findall(r"^\| `(slurm-[a-z-]+)`", (root / "docs/slurm.md").read_text(), re.MULTILINE))
    assert told == explained
