"""What goes wrong on the way: each gives clear words and a partial answer, and nothing that fails is ever 'all fine'."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from tests.telemetry.prometheus_server import Samples, at, serve
from werkzeug import Request, Response

from gpuledger.core.zombies import Holding, Limits, Load, Observation, Progress, judge
from gpuledger.pipeline.zombies import Inputs, Scan, Settings, scan
from gpuledger.telemetry import nvidia_smi

MINUTES = range(180)
NOW = at(180)
CSV = "uuid, name, utilization.gpu [%], memory.used [MiB]\nGPU-z, Tesla T4, 0 %, 9000 MiB\n"


def card(scene: Samples, uuid: str, pod: str | None = None, *, watts: float = 0, engine: float = 0) -> None:
    said = {"UUID": uuid, "gpu": uuid[-1], "Hostname": "n1", "modelName": "NVIDIA A100-SXM4-80GB"}
    if pod:
        said |= {"namespace": "ml", "pod": pod}
    scene.add("DCGM_FI_PROF_GR_ENGINE_ACTIVE", engine, MINUTES, **said)
    scene.add("DCGM_FI_DEV_GPU_UTIL", engine * 100, MINUTES, **said)
    scene.add("DCGM_FI_DEV_POWER_USAGE", watts or 60, MINUTES, **said)


def progress() -> Samples:
    """Cards that are full and draw full power: a server without a token, one with, a training job by its own counter."""
    scene = Samples("progress")
    for number, (pod, metric, value) in enumerate(
        (
            ("stuck-0", "vllm:generation_tokens_total", lambda _: 900.0),
            ("serves-0", "vllm:generation_tokens_total", lambda minute: minute * 100.0),
            ("train-0", "train_steps_total", lambda minute: float(min(minute, 100))),
            ("evaluates-0", "train_steps_total", lambda minute: float(min(minute, 150))),
            ("silent-0", "kubelet_container_log_filesystem_used_bytes", lambda _: 4096.0),
        )
    ):
        card(scene, f"GPU-{number}", pod, watts=390, engine=1)
        scene.add(metric, value, MINUTES, namespace="ml", pod=pod, model_name="m")
    return scene


def servers() -> Samples:
    """Idle cards of replicas that served in the look-back, as four servers count it, and one that didn't."""
    scene = Samples("servers")
    for number, metric in enumerate(
        (
            "vllm:request_success_total",
            "sglang:num_requests_total",
            "tgi_request_success",
            "nv_inference_request_success",
        )
    ):
        card(scene, f"GPU-{number}", f"warm-{number}")
        scene.add(metric, lambda minute: float(minute // 60), MINUTES, namespace="ml", pod=f"warm-{number}")
    card(scene, "GPU-8", "cold-0")
    scene.add("vllm:request_success_total", 7, MINUTES, namespace="ml", pod="cold-0")
    card(scene, "GPU-9", "young-0")  # its only request came before its first scrape
    scene.add("vllm:request_success_total", 1, range(120, 180), namespace="ml", pod="young-0")
    return scene


def plain() -> Samples:
    """An exporter that maps no pods, and no kube-state-metrics."""
    scene = Samples("plain")
    card(scene, "GPU-0")
    return scene


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(tmp_path_factory.mktemp("faults"), [progress(), servers(), plain()]) as url:
        yield url


def looked(url: str, scene: str, **more: Any) -> Scan:  # noqa: ANN401 - settings
    settings = Settings(
        at=NOW, look_back=timedelta(hours=3), show_all=True, environ={}, match={"scene": scene}, **more
    )
    return scan(Inputs(prometheus=url), settings)


def states(found: Scan) -> dict[str, str]:
    return {row["pod"]: row["state"] for row in found.rows}


def test_full_cards_whose_counters_stand_still_are_stalled(server: str) -> None:
    found = looked(server, "progress")
    assert states(found) == {
        "stuck-0": "stalled",
        "serves-0": "busy",
        "train-0": "busy",  # nobody said what its counter is called
        "evaluates-0": "busy",
        "silent-0": "busy",
    }
    row = next(row for row in found.rows if row["pod"] == "stuck-0")
    assert row["verdict"]
    assert "vllm:generation_tokens_total stands still for 3 h" in row["evidence"]
    logs = looked(server, "progress", progress=("kubelet_container_log_filesystem_used_bytes",))
    assert states(logs)["silent-0"] == "stalled"
    named = looked(server, "progress", progress=("train_steps_total",))
    assert (states(named)["train-0"], states(named)["evaluates-0"]) == ("stalled", "busy")


def test_replicas_that_served_are_warm_whatever_serves(server: str) -> None:
    rows = {row["pod"]: row for row in looked(server, "servers").rows}
    for number in range(4):
        assert (rows[f"warm-{number}"]["guard"] or "").startswith("warm replica: "), number
    assert rows["cold-0"]["verdict"]
    assert "no request served" in rows["cold-0"]["evidence"]
    assert (rows["young-0"]["guard"] or "").startswith("warm replica: 1 ")


@pytest.mark.parametrize("look_back", [timedelta(minutes=20), timedelta(minutes=40), timedelta(days=7)])
def test_short_and_long_look_backs(server: str, look_back: timedelta) -> None:
    settings = Settings(at=NOW, look_back=look_back, show_all=True, environ={}, match={"scene": "plain"})
    (row,) = scan(Inputs(prometheus=server), settings).rows
    seconds = min(look_back, timedelta(hours=3)).total_seconds()
    assert (row["state"], row["verdict"]) == ("unallocated", True)
    step = max(300.0, look_back.total_seconds() / 288)  # how finely it is asked when a card came
    assert seconds - step - 60 <= row["idle_seconds"] <= seconds


def test_without_pod_labels_nobody_is_named_and_it_is_said(server: str) -> None:
    found = looked(server, "plain")
    (row,) = found.rows
    assert (row["job"], row["owner"], row["reclaim"]) == (None, None, None)
    assert "zombies-no-holders" in {told.code for told in found.diagnostics}


def test_an_empty_prometheus_is_not_all_fine(server: str) -> None:
    found = looked(server, "nothing")
    assert (found.seen, found.totals["gpus"], found.totals["zombies"]) == (False, 0, None)
    assert "zombies-no-cards" in {told.code for told in found.diagnostics}


def test_one_source_fails_and_the_other_answers(tmp_path: Path) -> None:
    path = tmp_path / "smi.csv"
    path.write_text(CSV)
    found = scan(Inputs(prometheus="http://127.0.0.1:1", nvidia_smi=str(path)), Settings(environ={}))
    assert (found.failed, [row["state"] for row in found.rows]) == (True, ["held-idle"])
    assert any("127.0.0.1:1" in told.source for told in found.diagnostics if told.severity == "error")


def test_a_prometheus_that_dies_half_way_is_no_answer(httpserver: HTTPServer) -> None:
    asked = 0

    def answer(_request: Request) -> Response:
        nonlocal asked
        asked += 1
        if asked > 2:
            return Response("", 400)
        data = (
            {"resultType": "vector", "result": []}
            if asked > 1
            else {"resultType": "scalar", "result": [1, "1e9"]}
        )
        return Response(json.dumps({"status": "success", "data": data}), mimetype="application/json")

    httpserver.expect_request("/api/v1/query").respond_with_handler(answer)
    found = scan(Inputs(prometheus=httpserver.url_for("/")), Settings(environ={}))
    assert (found.failed, found.seen, found.totals["zombies"]) == (True, False, None)


def test_a_clock_that_is_off_is_said(httpserver: HTTPServer) -> None:
    def answer(request: Request) -> Response:
        data: dict[str, Any] = {"resultType": "vector", "result": []}
        if request.args["query"] == "time()":
            data = {"resultType": "scalar", "result": [1.0, "1000000000"]}
        return Response(json.dumps({"status": "success", "data": data}), mimetype="application/json")

    httpserver.expect_request("/api/v1/query").respond_with_handler(answer)
    found = scan(Inputs(prometheus=httpserver.url_for("/")), Settings(environ={}))
    told = next(one for one in found.diagnostics if one.code == "clock-skew")
    assert "s off ours" in told.message


def tool(folder: Path, body: str) -> str:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_nvidia_smi_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", tool(tmp_path, "exec sleep 60"))
    read = nvidia_smi.read
    monkeypatch.setattr(nvidia_smi, "read", lambda: read(timeout=0.3))
    found = scan(Inputs(nvidia_smi=""), Settings())
    assert (found.failed, found.seen, found.totals["zombies"]) == (True, False, None)
    (told,) = found.diagnostics
    assert "0.3 s" in told.message
    assert told.hint


@pytest.mark.parametrize(
    "body",
    [
        "",
        "Failed to initialize NVML: Driver/library version mismatch\n",
        "uuid, name, utilization.gpu [%]\n",
        "uuid, name, utilization.gpu [%]\nGPU-z, Tesla T4, [N/A]\n",
        "uuid, name, utilization.gpu [%]\nGPU-z, Tesla T4, [Unknown Error]\n",
        "uuid, name, utilization.gpu [%]\nGPU-z, [GPU is lost]\n",
        '<?xml version="1.0" ?><nvidia_smi_log><gpu id="1"><uuid>GPU-z</uuid>',
    ],
)
def test_output_that_tells_nothing(tmp_path: Path, body: str) -> None:
    path = tmp_path / "smi"
    path.write_text(body)
    found = scan(Inputs(nvidia_smi=str(path)), Settings(environ={}))
    assert (found.seen, found.totals["zombies"]) == (False, None)
    assert found.failed or found.totals["unknown"] == found.totals["gpus"]


CARD = Observation(
    "GPU-1", NOW, gpu_model="A100", activity=Decimal(0), holders_known=True,
    measured_from=NOW - timedelta(hours=2), measured_to=NOW, holdings=(Holding(job="x", pod="x-0", live=True),),
)  # fmt: skip


def test_an_exporter_whose_clock_is_ahead_makes_nobody_idle_in_the_future() -> None:
    (found,) = judge([replace(CARD, measured_to=NOW + timedelta(hours=3))])
    assert found.idle == timedelta(hours=2)
    (found,) = judge([replace(CARD, measured_to=NOW - timedelta(hours=3))])
    assert found.state == "unknown"


@pytest.mark.parametrize(
    ("still", "seconds", "state"),
    [(59, 3600, "busy"), (60, 3600, "stalled"), (90, 3600, "stalled"), (90, 900, "busy"), (0, 3600, "busy")],
)
def test_standing_still_takes_an_hour_of_both(still: int, seconds: int, state: str) -> None:
    held = replace(CARD.holdings[0], progress=Progress("steps", timedelta(minutes=still)))
    loads = tuple(
        Load(span, Decimal(1), Decimal(390), Decimal("0.5")) for span in (900, 3600) if span <= seconds
    )
    full = replace(CARD, activity=Decimal(1), loads=loads, holdings=(held,))
    assert judge([full], Limits())[0].state == state
    # Someone else on the card may be at work, and nobody counts that.
    shared = replace(full, holdings=(held, Holding(job="y", pod="y-0", live=True)))
    assert judge([shared])[0].state == "busy"
