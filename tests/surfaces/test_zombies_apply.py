"""`gpuledger zombies --apply`: a y per row on a real terminal, the shown command and no other, a log; else nothing."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.test_zombies import cluster
from tests.telemetry.fake_api_server import FakeApiServer
from tests.telemetry.prometheus_server import Samples, serve

from gpuledger.errors import ConfigError, UsageError
from gpuledger.pipeline.zombie_apply import Log, chosen, run
from gpuledger.pipeline.zombies import Inputs

CODE = "import sys; from gpuledger.surfaces.cli import main; main(sys.argv[1:])"


def row(gpu: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - a row
    found = {
        "gpu": gpu, "node": "n1", "state": "held-idle", "job": "Job/train", "owner": None, "evidence": "idle",
        "usd_per_hour": None, "verdict": True, "candidate": False, "guard": None,
        "reclaim": f"kubectl -n ml delete pod {gpu}",
    }  # fmt: skip
    return {**found, **more}


@pytest.mark.parametrize(
    ("more", "inputs", "why"),
    [
        ({}, Inputs(kube=True), None),
        ({"reclaim": "scancel 7"}, Inputs(slurm=True), None),
        ({"reclaim": "aws ec2 stop-instances --instance-ids i-1"}, Inputs(aws=("",)), None),
        ({"verdict": False, "candidate": True}, Inputs(kube=True), "only verdicts"),
        ({"verdict": False, "state": "unknown"}, Inputs(kube=True), "only verdicts"),
        ({"guard": "protected"}, Inputs(kube=True), "only verdicts"),
        ({"reclaim": None}, Inputs(kube=True), "no command"),
        ({}, Inputs(prometheus="http://x"), "add --kube"),
        ({"reclaim": "scancel 7"}, Inputs(kube=True), "add --slurm"),
        ({"reclaim": "aws ec2 stop-instances"}, Inputs(kube=True), "add --aws"),
        ({"reclaim": "kill 4711"}, Inputs(nvidia_smi=""), "is for you to run"),
        ({"reclaim": "rm -rf /"}, Inputs(kube=True), "is for you to run"),
    ],
)
def test_what_may_be_applied(more: dict[str, Any], inputs: Inputs, why: str | None) -> None:
    may, refused = chosen([row("a", **more)], inputs, ())
    assert len(may) == (why is None)
    if why is None or (more.get("reclaim", "x") is None and not more.get("verdict", True)):
        assert refused == []
    else:
        assert why in refused[0][1]


def test_rows_are_named_in_full_and_all_or_none() -> None:
    rows = [row("a"), row("b"), row("c", guard="kept", verdict=False)]
    may, _ = chosen(rows, Inputs(kube=True), ["b"])
    assert [one["gpu"] for one in may] == ["b"]
    for named in (["b", "c"], ["b", "nobody"], ["B"]):
        with pytest.raises(UsageError):
            chosen(rows, Inputs(kube=True), named)


def test_cards_of_one_command_are_asked_about_once() -> None:
    same = "kubectl -n ml delete job/train"
    may, _ = chosen([row("a", reclaim=same), row("b", reclaim=same)], Inputs(kube=True), ())
    assert [one["gpu"] for one in may] == ["a"]


def test_no_shell_and_a_line_before_and_after(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def runner(command: list[str], **_more: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        lines = (tmp_path / "log").read_text().splitlines()
        assert json.loads(lines[-1])["event"] == "confirmed"
        return subprocess.CompletedProcess(command, 3, "", "denied")

    done = run(row("a", reclaim="kubectl delete pod 'x; rm -rf /'"), Log(tmp_path / "log"), "y", runner)
    assert asked == [["kubectl", "delete", "pod", "x; rm -rf /"]]
    assert (done.result, done.detail) == ("failed", "denied")
    before, after = (json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    assert (before["event"], before["answer"], before["command"][3]) == ("confirmed", "y", "x; rm -rf /")
    assert (after["event"], after["exit_code"], after["output"]) == ("result", 3, "denied")
    assert before["who"]
    assert datetime.fromisoformat(before["at"]).tzinfo


def test_what_can_not_be_logged_is_not_done(tmp_path: Path) -> None:
    def runner(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        pytest.fail("it ran")

    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="nothing was done"):
        run(row("a"), Log(tmp_path / "file" / "log"), "y", runner)


def test_a_command_that_hangs_or_is_not_there(tmp_path: Path) -> None:
    def hangs(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired("kubectl", 120)

    done = run(row("a"), Log(tmp_path / "log"), "y", hangs)
    assert (done.result, "may or may not" in done.detail) == ("failed", True)
    done = run(row("a", reclaim="/nonexistent/kubectl x"), Log(tmp_path / "log"), "y")
    assert (done.result, "No such file" in done.detail) == ("failed", True)


@dataclass
class Place:
    """An idle job of two cards in a cluster and its Prometheus, a kubectl that notes what it is asked, and a log."""

    words: list[str]
    environ: dict[str, str]
    folder: Path

    @property
    def asked(self) -> list[str]:
        noted = self.folder / "asked"
        return noted.read_text().splitlines() if noted.exists() else []

    @property
    def log(self) -> list[dict[str, Any]]:
        path = self.folder / "state/gpuledger/zombies.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def plain(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Run it without a terminal."""
        return subprocess.run(
            [sys.executable, "-c", CODE, *self.words, *more],
            env=self.environ, cwd=self.folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def typed(self, answer: str, *more: str) -> tuple[int, str]:
        """Run it on a terminal and type an answer to its question."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", CODE, *self.words, *more],
            env=self.environ, cwd=self.folder, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
        ) as process:  # fmt: skip
            os.close(theirs)
            said, until = b"", time.monotonic() + 60
            while time.monotonic() < until:
                if select.select([ours], [], [], 0.2)[0]:
                    try:
                        part = os.read(ours, 4096)
                    except OSError:
                        break
                    said += part
                    if part and said.count(b"[y/N]") > said.count(b"ANSWERED"):
                        os.write(ours, answer.encode())
                        said += b"ANSWERED"
                elif process.poll() is not None:
                    break
            code = process.wait(10)
        os.close(ours)
        return code, said.decode()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    scene = Samples("apply")
    now = datetime.now(UTC)
    for card in (0, 1):
        labels = f'UUID="GPU-{card}",gpu="{card}",Hostname="n1",modelName="NVIDIA A100-SXM4-80GB",namespace="ml",pod="train-a"'
        for minute in range(180, -1, -1):
            when = (now - timedelta(minutes=minute)).timestamp()
            scene.lines["DCGM_FI_PROF_GR_ENGINE_ACTIVE"].append(
                f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{labels}}} 0 {when:.0f}"
            )
    with serve(tmp_path_factory.mktemp("apply"), [scene]) as url:
        yield url


@pytest.fixture
def place(prometheus: str, tmp_path: Path) -> Iterator[Place]:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "kubectl").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\necho deleted\n')
    (tools / "kubectl").chmod(0o755)
    kubeconfig = str(tmp_path / "config")
    with FakeApiServer().running() as server:
        cluster(server, kubeconfig)
        environ = {
            **os.environ,
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "KUBECONFIG": kubeconfig,
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PROMETHEUS_URL": "",
        }
        words = ["--format", "table", "zombies", "--prometheus", prometheus, "--kube"]
        yield Place(words, environ, tmp_path)


SHOWN = "-n ml delete job/train"


@pytest.mark.server
def test_a_y_on_a_terminal_runs_the_shown_command(place: Place) -> None:
    code, said = place.typed("y\n", "--apply")
    assert code == 0, said
    assert f"kubectl {SHOWN}" in said
    assert place.asked == [SHOWN]
    assert [(line["event"], line.get("exit_code")) for line in place.log] == [
        ("confirmed", None),
        ("result", 0),
    ]


@pytest.mark.server
@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_anything_else_runs_nothing(place: Place, answer: str) -> None:
    code, said = place.typed(answer, "--apply")
    assert code == 0, said
    assert place.asked == []
    assert [line["event"] for line in place.log] == ["declined"]


@pytest.mark.server
def test_without_a_terminal_only_named_rows(place: Place) -> None:
    refused = place.plain("--apply")
    assert (refused.returncode, "nobody is here to confirm" in refused.stderr) == (2, True)
    assert place.asked == []
    wrong = place.plain("--apply", "--yes", "GPU-")
    assert (wrong.returncode, place.asked) == (2, [])
    done = place.plain("--apply", "--yes", "GPU-0")
    assert done.returncode == 0, done.stderr
    assert place.asked == [SHOWN]
    assert place.log[0]["answer"] == "--yes"


@pytest.mark.server
def test_a_dry_run_runs_nothing(place: Place) -> None:
    done = place.plain("--dry-run")
    assert done.returncode == 0
    assert f"would run: kubectl {SHOWN}" in done.stderr
    assert (place.asked, place.log) == ([], [])


@pytest.mark.server
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--apply", "--watch", "5"), "don't go together"),
        (("--yes", "GPU-0"), "--yes is a y to --apply"),
        (("--apply", "--at", "2026-01-01T00:00:00Z"), "is the past"),
    ],
)
def test_options_that_do_not_go_together(place: Place, more: tuple[str, ...], words: str) -> None:
    done = place.plain(*more)
    assert (done.returncode, words in done.stderr) == (2, True)
    assert place.asked == []
