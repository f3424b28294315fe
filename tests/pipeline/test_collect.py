"""Telemetry sources by name, end to end: a real Prometheus, a fake Kubernetes API server, a real Slurm where there is one."""

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from tests.core.kubernetes_objects import job, live_pod
from tests.telemetry.fake_api_server import FakeApiServer
from tests.telemetry.prometheus_server import Samples, serve
from tests.telemetry.slurm_cluster import CLUSTER, SlurmCluster, slurm
from tests.telemetry.test_prometheus import UTIL, card, node, on, pod

from gpuledger.config import Config
from gpuledger.core.telling import Asked
from gpuledger.errors import ConfigError, UsageError
from gpuledger.models.usage import usage_current
from gpuledger.pipeline import tellers
from gpuledger.pipeline.collect import collect, held_days
from gpuledger.pipeline.ingest import Report
from gpuledger.pipeline.ledger import Ledger

__all__ = ["slurm"]
pytestmark = pytest.mark.server

DAY = datetime(2026, 11, 2, tzinfo=UTC)
UID = "0c6fdd4e-1111"
UP = [*range(20), *range(30, 60)]  # nothing is scraped for ten minutes


def at(hours: float) -> datetime:
    return DAY + timedelta(hours=hours)


def ledger_of(folder: Path, **telemetry: dict[str, Any]) -> Ledger:
    return Ledger(str(folder / "ledger"), Config.model_validate({"telemetry": telemetry}))


def rows(ledger: Ledger, query: str) -> list[tuple[Any, ...]]:
    con = ledger.connect()
    try:
        return con.execute(query).fetchall()
    finally:
        con.close()


def told(report: Report) -> list[tuple[str | None, str]]:
    return [(row.billing_period, row.action) for row in report.rows]


def codes(report: Report) -> set[str]:
    return {one.code for one in report.diagnostics if one.severity != "info"}


# ---- Prometheus


def scene(name: str = "collect", minutes: range | list[int] = range(60)) -> Samples:
    made = Samples(name)
    node(made, "n1", minutes=minutes)
    pod(made, "train-0", "n1", minutes, owner=("Job", "train"), nvidia_com_gpu=1, cpu=8, memory=2.0**34)
    card(made, UTIL, 50, "GPU-a", minutes, **on("train-0"))
    made.add(
        "container_cpu_usage_seconds_total", lambda minute: minute * 180.0, minutes,
        job="cadvisor", namespace="ml", pod="train-0", container="main", id="/a",
    )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(tmp_path_factory.mktemp("prometheus"), [scene(), scene("gap", UP)]) as url:
        yield url


class Proxy:
    """Passes questions on to a Prometheus, and answers 503 once `allowed` of them were passed on."""

    def __init__(self, behind: str) -> None:
        self.allowed, self.asked = 10**9, list[str]()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Be silent."""

            def do_GET(self) -> None:
                proxy.asked.append(self.path)
                if len(proxy.asked) > proxy.allowed:
                    self.send_error(503)
                    return
                with urllib.request.urlopen(f"{behind}{self.path}") as answer:  # noqa: S310 - ours, on the loopback
                    body = answer.read()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def proxy(prometheus: str) -> Iterator[Proxy]:
    found = Proxy(prometheus)
    yield found
    found.server.shutdown()
    found.server.server_close()


def settings(url: str, **more: object) -> dict[str, Any]:
    return {
        "type": "prometheus",
        "url": url,
        "cluster": "east",
        "match": {"scene": "collect"},
        "tries": 1,
        **more,
    }


def test_prometheus_goes_on_where_it_stopped(tmp_path: Path, proxy: Proxy) -> None:
    ledger = ledger_of(tmp_path, prom=settings(proxy.url, steps=3))
    proxy.allowed = 60  # the clock, two batches of 19 questions, and half of the third
    report = collect(ledger, ["prom"], at(8), at(9))
    assert codes(report) == {"collect-failed"}
    assert told(report) == [("2026-11-02", "loaded"), (None, "rejected")]
    (held,) = held_days(ledger.store, "prom").values()
    assert held.covered == ((at(8), at(8.75)),)
    assert not held.complete

    proxy.allowed, before = 10**9, len(proxy.asked)
    report = collect(ledger, ["prom"], until=at(9))
    assert told(report) == [("2026-11-02", "replaced")]
    assert len(proxy.asked) - before == 20  # the clock and the one batch that was left
    (held,) = held_days(ledger.store, "prom").values()
    assert held.covered == ((at(8), at(9)),)

    whole = ledger_of(tmp_path / "whole", prom=settings(proxy.url, steps=3))
    collect(whole, ["prom"], at(8), at(9))
    query = """SELECT resource, device, job_id, sum(epoch("end" - "start")), sum(used * epoch("end" - "start")::DECIMAL(9))
               FROM usage_interval GROUP BY ALL ORDER BY ALL"""
    assert rows(ledger, query) == rows(whole, query)
    assert [row[3] for row in rows(ledger, query)] == [3600.0] * 3
    assert rows(ledger, 'SELECT min("start"), max("end"), count(DISTINCT node) FROM node_interval') == [
        (at(8), at(9), 1)
    ]
    assert rows(ledger, "SELECT job_id, kind, name FROM job") == [("east/ml/Job/train", "Job", "train")]


def test_a_gap_is_unknown_and_not_idle(tmp_path: Path, prometheus: str) -> None:
    ledger = ledger_of(tmp_path, prom=settings(prometheus, match={"scene": "gap"}))
    report = collect(ledger, ["prom"], at(8), at(9))
    assert "telemetry-gap" in codes(report)
    gap = "\"start\" < TIMESTAMPTZ '2026-11-02 08:30Z' AND \"end\" > TIMESTAMPTZ '2026-11-02 08:20Z'"
    for table in ("node_interval", "usage_interval"):
        assert rows(ledger, f"SELECT count(*), count(*) FILTER ({gap}) FROM {table}")[0][1] == 0
        assert rows(ledger, f"SELECT count(*) FROM {table}") > [(1,)]
    (held,) = held_days(ledger.store, "prom").values()
    assert held.gaps == ((at(8 + 1 / 3), at(8.5)),)


def test_a_window_that_is_asked_again_replaces_only_itself(tmp_path: Path, prometheus: str) -> None:
    ledger = ledger_of(tmp_path, prom=settings(prometheus))
    collect(ledger, ["prom"], at(8), at(9))
    query = 'SELECT resource, sum(epoch("end" - "start")) FROM usage_interval GROUP BY 1 ORDER BY 1'
    before = rows(ledger, query)
    collect(ledger, ["prom"], at(8.25), at(8.5))
    assert rows(ledger, query) == before
    (held,) = held_days(ledger.store, "prom").values()
    assert held.covered == ((at(8), at(9)),)


# ---- Kubernetes


def kubeconfig(folder: Path, url: str) -> str:
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "u", "user": {}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return str(path)


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def kube() -> Iterator[FakeApiServer]:
    with FakeApiServer().running() as server:
        meta = {"name": "n1", "uid": "node-n1", "creationTimestamp": stamp(at(-24)), "labels": {}}
        capacity = {"cpu": "96", "memory": "1Ti", "nvidia.com/gpu": "8"}
        server.put(
            "nodes",
            {"metadata": meta, "spec": {"providerID": "aws:///z/i-n1"}, "status": {"capacity": capacity}},
        )
        owner = job("Job", "train", stamp(at(7)))
        owner["metadata"]["uid"] = UID
        server.put("jobs", owner)
        server.put("pods", train(owner))
        yield server


def train(owner: dict[str, Any], ended: datetime | None = None) -> dict[str, Any]:
    run = (stamp(at(8)), stamp(ended) if ended else None)
    return live_pod(
        "train-0", stamp(at(8)), owner=owner, uid="uid-train-0", node="n1", scheduled=stamp(at(8)), runs=[run],
        phase="Succeeded" if ended else "",
    )  # fmt: skip


def kubernetes(folder: Path, server: FakeApiServer) -> dict[str, Any]:
    return {"type": "kubernetes", "kubeconfig": kubeconfig(folder, server.url), "cluster": "east"}


def test_days_of_a_cluster_are_cut_and_completed(tmp_path: Path, kube: FakeApiServer) -> None:
    ledger = ledger_of(tmp_path, k8s=kubernetes(tmp_path, kube))
    report = collect(ledger, ["k8s"], at(6), at(36))
    assert told(report) == [("2026-11-02", "loaded"), ("2026-11-03", "loaded")]
    hours = """SELECT x_BillingPeriod, sum(epoch("end" - "start")) / 3600 FROM usage_interval
               WHERE resource = 'gpu' GROUP BY 1 ORDER BY 1"""
    assert rows(ledger, hours) == [("2026-11-02", 16.0), ("2026-11-03", 12.0)]
    assert rows(ledger, "SELECT DISTINCT job_id, name FROM job") == [(f"east/{UID}", "train")]
    assert rows(ledger, "SELECT count(*) FROM jobs") == [(1,)]
    # The day is told again from its midnight, and the one before because it began in the middle.
    report = collect(ledger, ["k8s"], until=at(40))
    assert told(report) == [("2026-11-02", "replaced"), ("2026-11-03", "replaced")]
    assert rows(ledger, hours) == [("2026-11-02", 16.0), ("2026-11-03", 16.0)]


def test_own_spellings_of_tags_count_for_labels(tmp_path: Path, kube: FakeApiServer) -> None:
    labels = {"squad": "vision", "who": "amy"}
    kube.put(
        "pods",
        live_pod(
            "solo",
            stamp(at(8)),
            uid="solo",
            node="n1",
            scheduled=stamp(at(8)),
            runs=[(stamp(at(8)), None)],
            labels=labels,
        ),
    )
    tags = {"aliases": {"team": ["squad"]}, "providers": {"Kubernetes": {"owner": ["who"]}}}
    config = Config.model_validate({"telemetry": {"k8s": kubernetes(tmp_path, kube)}, "tags": tags})
    ledger = Ledger(str(tmp_path / "ledger"), config)
    collect(ledger, ["k8s"], at(8), at(9))
    assert rows(ledger, "SELECT team, owner FROM jobs WHERE name = 'solo'") == [("vision", "amy")]


def test_what_ended_since_stays_as_it_was_told(tmp_path: Path, kube: FakeApiServer) -> None:
    ledger = ledger_of(tmp_path, k8s=kubernetes(tmp_path, kube))
    collect(ledger, ["k8s"], at(0), at(10))
    kube.delete("pods", "train-0")
    kube.delete("jobs", "train")
    kube.put(
        "pods",
        live_pod(
            "next",
            stamp(at(11)),
            uid="uid-next",
            node="n1",
            scheduled=stamp(at(11)),
            runs=[(stamp(at(11)), None)],
        ),
    )
    collect(ledger, ["k8s"], until=at(12))
    pods = """SELECT pod, min("start"), max("end"), count(*) FROM usage_interval WHERE resource = 'gpu' GROUP BY 1 ORDER BY 2"""
    assert rows(ledger, pods) == [("train-0", at(8), at(10), 1), ("next", at(11), at(12), 1)]
    assert rows(ledger, "SELECT name FROM jobs ORDER BY 1") == [("next",), ("train",)]
    assert rows(ledger, 'SELECT sum(epoch("end" - "start")) / 3600 FROM node_interval') == [(12.0,)]


def test_an_end_that_was_learnt_later_corrects_what_was_stored(tmp_path: Path, kube: FakeApiServer) -> None:
    ledger = ledger_of(tmp_path, k8s=kubernetes(tmp_path, kube))
    collect(ledger, ["k8s"], at(0), at(10))
    owner = kube.objects["jobs"]["ml", "train"]
    kube.put("pods", train(owner, at(9.5)))  # it had ended before the first look, and nobody had said so yet
    collect(ledger, ["k8s"], until=at(12))
    gpu = """SELECT "start", "end" FROM usage_interval WHERE resource = 'gpu'"""
    assert rows(ledger, gpu) == [(at(8), at(9.5))]


def test_both_tell_of_the_same_pod_once(tmp_path: Path, kube: FakeApiServer, prometheus: str) -> None:
    ledger = ledger_of(tmp_path, k8s=kubernetes(tmp_path, kube), prom=settings(prometheus))
    assert codes(collect(ledger, ["k8s", "prom"], at(8), at(9))) == set()
    con = ledger.connect()
    found = con.execute(
        f"""SELECT resource, sum(requested * epoch("end" - "start")::DECIMAL(9)) / 3600,
                   round(sum(used * epoch("end" - "start")::DECIMAL(9)) / 3600, 2), count(DISTINCT job_id), any_value(job_id), any_value(device)
            FROM ({usage_current(con)}) GROUP BY 1 ORDER BY 1"""
    ).fetchall()
    job_id = f"east/{UID}"
    assert found == [
        ("cpu", 2.0, pytest.approx(3, abs=0.05), 1, job_id, None),
        ("gpu", 1.0, 0.5, 1, job_id, "GPU-a"),
        ("memory", 4.0, None, 1, job_id, None),
    ]


# ---- Slurm


def test_slurm_from_the_last_incomplete_day(
    tmp_path: Path, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(key, slurm.env[key])
    number = slurm.submit("sleep 2", "-J", "short", "--gpus=2", "-N1")
    slurm.wait_for(number, "COMPLETED")
    ledger = ledger_of(tmp_path, hpc={"type": "slurm", "timeout": 60})
    report = collect(ledger, ["hpc"])
    assert codes(report) <= {"slurm-gpu-untracked", "slurm-no-wckeys"}, report.diagnostics
    query = f"""SELECT round(epoch("end" - "start")), requested FROM usage_interval
                WHERE resource = 'gpu' AND starts_with(job_id, '{CLUSTER}/slurm/{number}@')"""
    first = rows(ledger, query)
    elapsed = int(slurm.command("sacct", "-n", "-X", "-P", "-o", "ElapsedRaw", "-j", str(number)).strip())
    assert [row[0] for row in first] == [float(elapsed)]
    assert sum(row[1] for row in first) == 2
    again = collect(ledger, ["hpc"])
    assert {action for _, action in told(again)} == {"replaced"}
    assert rows(ledger, query) == first


# ---- Cards of one host


def test_a_page_of_cards_is_a_snapshot(tmp_path: Path) -> None:
    page = tmp_path / "metrics"
    labels = 'gpu="{0}",UUID="GPU-{0}",modelName="NVIDIA H100 80GB HBM3",Hostname="h1"'
    page.write_text(
        f'DCGM_FI_DEV_GPU_UTIL{{{labels.format(0)},hpc_job="77"}} 40\n'
        f"DCGM_FI_DEV_GPU_UTIL{{{labels.format(1)}}} 0\n"
        f"DCGM_FI_DEV_GPU_UTIL{{{labels.format(2)}}} 95\n"
    )  # fmt: skip
    ledger = ledger_of(
        tmp_path, host={"type": "dcgm", "file": str(page), "node": "h1", "cluster": "lab", "interval": "5m"}
    )
    report = collect(ledger, ["host"], until=at(8), now=lambda: at(8))
    assert codes(report) == set()
    assert rows(ledger, 'SELECT gpu_count, gpu_model, "start", "end" FROM node_interval') == [
        (Decimal(3), "H100", at(8 - 1 / 12), at(8))
    ]
    found = rows(ledger, "SELECT device, job_id, used FROM usage_interval ORDER BY 1")
    assert found == [("GPU-0", "lab/slurm/77", Decimal("0.4")), ("GPU-2", "lab/h1/unknown", Decimal("0.95"))]
    collect(ledger, ["host"], until=at(8 + 1 / 60), now=lambda: at(8 + 1 / 60))  # sooner than the interval
    assert rows(ledger, 'SELECT sum(epoch("end" - "start")) FROM node_interval') == [(360.0,)]


# ---- What goes wrong


def test_a_source_that_fails_stops_no_other(tmp_path: Path, prometheus: str) -> None:
    ledger = ledger_of(tmp_path, down=settings("http://127.0.0.1:9", seconds=1), prom=settings(prometheus))
    report = collect(ledger, ["down", "prom"], at(8), at(9))
    assert [(row.source, row.action) for row in report.rows] == [("down", "rejected"), ("prom", "loaded")]
    (failed,) = [one for one in report.diagnostics if one.code == "collect-failed"]
    assert failed.hint


def test_names_types_and_settings_are_checked(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path, a={"type": "promtheus"}, b={"type": "prometheus", "url": "http://x", "clster": "c"}
    )
    with pytest.raises(UsageError, match="no telemetry source 'c'"):
        collect(ledger, ["c"])
    report = collect(ledger, ["a", "b"])
    assert "Did you mean prometheus?" in report.diagnostics[0].hint
    assert report.diagnostics[1].source == "telemetry.b.clster"
    assert "Did you mean cluster?" in report.diagnostics[1].hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", "soon"),
        ("step", 0),
        ("timeout", -1),
        ("tries", "many"),
        ("match", ["a"]),
        ("clear_text", 1),
        ("url", 7),
    ],
)
def test_settings_have_types(key: str, value: object) -> None:
    asked = Asked("p", at(8), at(9), {"url": "http://127.0.0.1:9", "cluster": "c", key: value})
    with pytest.raises(ConfigError, match=f"telemetry.p.{key}"):
        next(tellers.find("prometheus").tell(asked))


def test_the_command_line_takes_telemetry_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prometheus: str
) -> None:
    from click.testing import CliRunner

    from gpuledger.surfaces.cli import cli

    monkeypatch.chdir(tmp_path)
    Path("gpuledger.toml").write_text(
        f'[telemetry.prom]\ntype = "prometheus"\nurl = "{prometheus}"\ncluster = "east"\nmatch = {{ scene = "collect" }}\n'
    )
    words = ["--format", "json", "ingest", "prom", "--window", "2026-11-02"]
    done = CliRunner().invoke(cli, words)
    document = json.loads(done.stdout)
    (row,) = document["rows"]
    assert (row["source"], row["billing_period"], row["action"]) == ("prom", "2026-11-02", "loaded")
    assert row["delivery_id"].startswith("prometheus-")
    assert row["billed_cost"] is None
    assert row["rows"] >= 5  # job, node, GPU, CPU, memory
    assert done.exit_code == 0
    with pytest.raises(UsageError, match=r"Did you mean prom\?"):
        CliRunner().invoke(cli, ["ingest", "prm"], catch_exceptions=False)
