"""A day of a 1,000-node, 8,000-GPU cluster collected from a real Prometheus, and what its answers alone take.

The samples are synthetic, one a minute, as kube-state-metrics, cAdvisor and dcgm-exporter put them there: nodes of
eight cards, held by pods of eight, four or one that live two to fourteen hours. promtool makes them into blocks, and
`gpuledger ingest` collects the day. Then the questions that Prometheus' query log says we asked are asked again, one
after the other: by a bare client that throws the answers away, and by one that decodes them as JSON, as who reads them
must. The targets: in 70 % of our time a question is on its way, from sending it to its answer's last byte, and all of
it takes no longer than asking and decoding alone. The bare client's share is printed beside. A busy machine makes us
wait more than it makes Prometheus: run it alone. GPULEDGER_BENCH_NODES makes the cluster smaller.
"""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final

from benchmarks._measure import WORK, Run, line, measure

NODES = int(os.environ.get("GPULEDGER_BENCH_NODES", "1000"))
FOLDER = WORK / f"prometheus-{NODES}"
DAY = datetime(2025, 10, 6, tzinfo=UTC)
MINUTES: Final = 1440
BLOCK: Final = 120  # minutes
RATIO = 0.7
READ = 1.0
MEMORY_MB = 1000
_FIRST: Final = int(DAY.timestamp())
_PATTERNS: Final = 50
_ENDING: Final = 10  # minutes that a pod which ended is still listed
_PHASES: Final = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
_STATE: Final = 'instance="10.0.0.9:8080",job="kube-state-metrics"'


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that runs in minutes start…end (exclusive) on some cards of a node."""

    node: int
    name: str
    job: str
    cards: range
    start: int
    end: int


def pods() -> list[Pod]:
    """Return the day's pods: every second node has one of eight cards, every fourth two of four, the others eight of one."""
    chance = random.Random(NODES)
    found: list[Pod] = []
    for node in range(NODES):
        size = (8, 4, 8, 1)[node % 4]
        for first in range(0, 8, size):
            start = -chance.randrange(720)
            while start < MINUTES:
                end = start + chance.randrange(120, 840)
                job = f"train-{len(found):06}"
                found.append(
                    Pod(node, f"{job}-worker-0-{node}{first}", job, range(first, first + size), start, end)
                )
                start = end + chance.randrange(30)
    return [pod for pod in found if pod.end + _ENDING > 0]


class Block:
    """Two hours of samples on their way into a file in OpenMetrics' text form."""

    def __init__(self, first: int, out: IO[str]) -> None:
        self.first, self.past, self.out = first, first + BLOCK, out
        self.times = [f"{_FIRST + 60 * minute + 15}\n" for minute in range(first, self.past)]
        chance = random.Random(first)
        self.shares = [
            [f"{chance.randrange(55, 100) / 100} {when}" for when in self.times] for _ in range(_PATTERNS)
        ]
        self.percents = [
            [f"{chance.randrange(55, 100)} {when}" for when in self.times] for _ in range(_PATTERNS)
        ]
        self.bytes = [
            [f"{chance.randrange(10**9, 10**12)} {when}" for when in self.times] for _ in range(_PATTERNS)
        ]
        # A counter goes on where the block before stopped.
        self.seconds = [
            [
                f"{60 * (first + place) * (1 + pattern) + chance.randrange(59) + 10**6} {when}"
                for place, when in enumerate(self.times)
            ]
            for pattern in range(_PATTERNS)
        ]

    def family(self, name: str, kind: str = "gauge") -> None:
        """Begin the samples of a metric."""
        self.out.write(f"# TYPE {name.removesuffix('_total') if kind == 'counter' else name} {kind}\n")

    def add(self, series: str, values: str | Sequence[str], start: int = -MINUTES, end: int = 9999) -> None:
        """Write the samples of a series in minutes start…end; a text is the value of all of them."""
        begin, stop = max(start, self.first) - self.first, min(end, self.past) - self.first
        if begin >= stop:
            return
        if isinstance(values, str):
            values, series = self.times, f"{series} {values}"
        said = f"{series} "
        self.out.write(said + said.join(values[begin:stop]))

    def nodes(self) -> None:
        """Write what kube-state-metrics says of nodes."""
        names = range(NODES)
        self.family("kube_node_info")
        for n in names:
            self.add(
                f'kube_node_info{{{_STATE},kernel_version="6.8.0",kubelet_version="v1.31.2",node="gpu-{n}",'
                f'os_image="Ubuntu 24.04",provider_id="aws:///us-east-1a/i-{n:017x}"}}',
                "1",
            )
        self.family("kube_node_labels")
        for n in names:
            self.add(
                f'kube_node_labels{{{_STATE},node="gpu-{n}",label_node_kubernetes_io_instance_type="p5.48xlarge",'
                'label_topology_kubernetes_io_region="us-east-1",label_topology_kubernetes_io_zone="us-east-1a",'
                'label_nvidia_com_gpu_product="NVIDIA-H100-80GB-HBM3",label_nvidia_com_gpu_count="8"}',
                "1",
            )
        self.family("kube_node_status_capacity")
        for n in names:
            for resource, unit, size in (
                ("cpu", "core", "192"),
                ("memory", "byte", "2199023255552"),
                ("nvidia_com_gpu", "integer", "8"),
            ):
                self.add(
                    f'kube_node_status_capacity{{{_STATE},node="gpu-{n}",resource="{resource}",unit="{unit}"}}',
                    size,
                )

    def pods(self, listed: Sequence[Pod]) -> None:
        """Write what kube-state-metrics says of pods."""
        told = [(pod, _place(pod), pod.start, pod.end + _ENDING) for pod in listed]
        self.family("kube_pod_status_phase")
        for pod, place, start, end in told:
            for phase in _PHASES:
                series = f'kube_pod_status_phase{{{place},phase="{phase}"}}'
                spans = {"Pending": (start, start + 2), "Running": (start + 2, pod.end)}
                begin, stop = spans.get(phase, (pod.end, end) if phase == "Succeeded" else (end, end))
                self.add(series, "0", start, begin)
                self.add(series, "1", begin, stop)
                self.add(series, "0", stop, end)
        self.family("kube_pod_container_status_running")
        for pod, place, start, end in told:
            series = f'kube_pod_container_status_running{{{place},container="main"}}'
            for value, begin, stop in (
                ("0", start, start + 2),
                ("1", start + 2, pod.end),
                ("0", pod.end, end),
            ):
                self.add(series, value, begin, stop)
        self.family("kube_pod_container_resource_requests")
        for pod, place, start, end in told:
            cards = len(pod.cards)
            sizes = (
                ("cpu", "core", 20 * cards),
                ("memory", "byte", cards * 2**37),
                ("nvidia_com_gpu", "integer", cards),
            )
            for resource, unit, size in sizes:
                self.add(
                    f'kube_pod_container_resource_requests{{{place},container="main",node="gpu-{pod.node}",'
                    f'resource="{resource}",unit="{unit}"}}',
                    str(size),
                    start,
                    end,
                )
        self._pods_more(told)

    def _pods_more(self, told: Sequence[tuple[Pod, str, int, int]]) -> None:
        for name, kind, labels, value in (
            ("kube_pod_container_status_restarts_total", "counter", 'container="main"', "0"),
            ("kube_pod_info", "gauge", 'created_by_kind="Job",created_by_name="{job}",host_ip="10.1.0.1",node="gpu-{node}"', "1"),
            ("kube_pod_start_time", "gauge", "", "{began}"),
            ("kube_pod_labels", "gauge", 'label_team="team-{team}",label_app="train",label_job_name="{job}"', "1"),
            ("kube_pod_owner", "gauge", 'owner_kind="Job",owner_name="{job}-worker-0",owner_is_controller="true"', "1"),
        ):  # fmt: skip
            self.family(name, kind)
            for pod, place, start, end in told:
                facts = {
                    "job": pod.job,
                    "node": pod.node,
                    "team": pod.node % 20,
                    "began": _FIRST + 60 * start,
                }
                more = f",{labels.format(**facts)}" if labels else ""
                self.add(f"{name}{{{place}{more}}}", value.format(**facts), start, end)
        self.family("kube_pod_completion_time")
        for pod, place, _, end in told:
            self.add(f"kube_pod_completion_time{{{place}}}", str(_FIRST + 60 * pod.end), pod.end, end)
        self.family("kube_job_owner")
        for pod, _, start, end in told:
            self.add(
                f'kube_job_owner{{{_STATE},namespace="team-{pod.node % 20}",job_name="{pod.job}-worker-0",'
                f'owner_kind="JobSet",owner_name="{pod.job}",owner_is_controller="true"}}',
                "1",
                start,
                end,
            )

    def containers(self, listed: Sequence[Pod]) -> None:
        """Write what cAdvisor says."""
        for name, kind, patterns in (
            ("container_cpu_usage_seconds_total", "counter", self.seconds),
            ("container_memory_working_set_bytes", "gauge", self.bytes),
        ):
            self.family(name, kind)
            for number, pod in enumerate(listed):
                labels = (
                    f'container="main",endpoint="https-metrics",id="/kubepods.slice/pod{_uid(pod)}/main.scope",'
                    f'image="registry.example/train:1",instance="10.1.0.1:10250",job="kubelet",'
                    f'metrics_path="/metrics/cadvisor",name="main-{_uid(pod)}",namespace="team-{pod.node % 20}",'
                    f'node="gpu-{pod.node}",pod="{pod.name}"'
                )
                values = patterns[number % _PATTERNS]
                self._from(f"{name}{{{labels}}}", values, pod)

    def cards(self, listed: Sequence[Pod]) -> None:
        """Write what dcgm-exporter says: of a card that nobody holds the same without a pod."""
        for name, patterns in (
            ("DCGM_FI_DEV_GPU_UTIL", self.percents),
            ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", self.shares),
        ):
            self.family(name)
            free: dict[tuple[int, int], list[tuple[int, int]]] = {}
            for number, pod in enumerate(listed):
                for card in pod.cards:
                    held = f',exported_container="main",exported_namespace="team-{pod.node % 20}",exported_pod="{pod.name}"'
                    values = patterns[(number + card) % _PATTERNS]
                    self._from(f"{name}{{{_card(pod.node, card)}{held}}}", values, pod)
                    free.setdefault((pod.node, card), []).append((pod.start + 2, pod.end))
            for (node, card), spans in free.items():
                edges = [(0, self.first), *sorted(spans), (self.past, 0)]
                for (_, begin), (stop, _) in pairwise(edges):
                    self.add(f"{name}{{{_card(node, card)}}}", "0", begin, stop)

    def _from(self, series: str, values: Sequence[str], pod: Pod) -> None:
        self.add(series, values, pod.start + 2, pod.end)


def _uid(pod: Pod) -> str:
    return f"{pod.node:08x}-{pod.cards[0]:04x}-4{abs(pod.start):03x}-8000-{pod.end:012x}"


def _place(pod: Pod) -> str:
    return f'{_STATE},namespace="team-{pod.node % 20}",pod="{pod.name}",uid="{_uid(pod)}"'


def _card(node: int, card: int) -> str:
    return (
        f'DCGM_FI_DRIVER_VERSION="550.90.07",Hostname="gpu-{node}",UUID="GPU-{node:08x}-0000-4000-8000-{card:012x}",'
        f'container="nvidia-dcgm-exporter",device="nvidia{card}",gpu="{card}",instance="10.1.0.1:9400",'
        f'job="nvidia-dcgm-exporter",modelName="NVIDIA H100 80GB HBM3",namespace="gpu-operator",pod="nvidia-dcgm-exporter-{node}"'
    )


def prepare() -> Path:
    """Make the blocks once; return Prometheus' data folder. Two hours at a time, so that a day takes no memory or disk."""
    data = FOLDER / "data"
    if (FOLDER / "complete").exists():
        return data
    shutil.rmtree(FOLDER, ignore_errors=True)
    data.mkdir(parents=True)
    began = time.monotonic()
    every = pods()
    running: list[tuple[subprocess.Popen[bytes], Path]] = []
    for first in range(0, MINUTES, BLOCK):
        text = FOLDER / f"{first}.om"
        listed = [pod for pod in every if pod.start < first + BLOCK and pod.end + _ENDING > first]
        with text.open("w") as out:
            block = Block(first, out)
            block.nodes()
            block.pods(listed)
            block.containers(listed)
            block.cards(listed)
            out.write("# EOF\n")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text), str(data)]
        running.append((subprocess.Popen(command, stdout=subprocess.DEVNULL), text))
        if len(running) > 1:
            _made(*running.pop(0))
        print(f"prepared {first // 60 + 2} hours: {time.monotonic() - began:.0f} s", flush=True)
    for process, text in running:
        _made(process, text)
    (FOLDER / "complete").touch()
    return data


def _made(process: subprocess.Popen[bytes], text: Path) -> None:
    if process.wait() != 0:
        raise SystemExit(f"promtool can't make blocks of {text}")
    text.unlink()


@contextmanager
def serving(data: Path) -> Iterator[str]:
    """Run Prometheus on the blocks, which it leaves as they are, with a log of its queries; give its address."""
    (FOLDER / "queries.json").unlink(missing_ok=True)
    (FOLDER / "prometheus.yml").write_text(f"global:\n  query_log_file: {FOLDER / 'queries.json'}\n")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        *("prometheus", f"--config.file={FOLDER / 'prometheus.yml'}", f"--storage.tsdb.path={data}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=100y"),
        *(
            "--storage.tsdb.min-block-duration=2h",
            "--storage.tsdb.max-block-duration=2h",
            "--log.level=error",
        ),
    ]
    address = f"http://127.0.0.1:{port}"
    with (FOLDER / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _ready(f"{address}/-/ready", server)
            yield address
        finally:
            server.terminate()
            server.wait(60)


def _ready(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - ours, on the loopback
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"Prometheus doesn't get ready:\n{(FOLDER / 'log').read_text()}")


# The command line, with the times noted in which a question is on its way.
TIMED: Final = """
import contextlib, json, sys, time
import httpx
from gpuledger.surfaces.cli import main

began, spans, stream = time.monotonic(), [], httpx.Client.stream

@contextlib.contextmanager
def timed(*words, **settings):
    start = time.monotonic()
    try:
        with stream(*words, **settings) as answer:
            yield answer
    finally:
        spans.append((start - began, time.monotonic() - began))

httpx.Client.stream = timed
sys.argv = ["gpuledger", *sys.argv[2:]]
try:
    main()
finally:
    with open({path!r}, "w") as out:
        json.dump(spans, out)
"""


def on_its_way(spans: Sequence[tuple[float, float]]) -> float:
    """Return the seconds that some spans cover."""
    covered = past = 0.0
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, past))
        past = max(past, end)
    return covered


def asked() -> list[dict[str, Any]]:
    """Return what the query log says was asked about ranges."""
    found = [json.loads(entry) for entry in (FOLDER / "queries.json").read_text().splitlines()]
    return [one for one in found if one["params"]["step"]]


def replay(address: str, questions: Sequence[dict[str, Any]], *, decode: bool) -> tuple[float, int]:
    """Ask again what was asked; return the seconds and the bytes."""
    size = 0
    began = time.perf_counter()
    for one in questions:
        params = {name: one["params"][name] for name in ("query", "start", "end", "step")}
        url = f"{address}/api/v1/query_range?{urllib.parse.urlencode(params)}"
        body = bytearray()
        with urllib.request.urlopen(url, timeout=300) as answer:  # noqa: S310 - ours, on the loopback
            while part := answer.read(2**20):
                size += len(part)
                if decode:
                    body += part
        if decode:
            json.loads(body)
    return time.perf_counter() - began, size


def run() -> int:
    """Measure; return 1 when the budget is missed."""
    missing = [name for name in ("prometheus", "promtool") if not shutil.which(name)]
    if missing:
        print(
            f"skipped: no {' and no '.join(missing)} on PATH: apt-get install -y --no-install-recommends prometheus"
        )
        return 0
    data = prepare()
    for path in data.rglob("*"):  # into the page cache, for the first who asks
        if path.is_file():
            path.read_bytes()
    ledger = FOLDER / "ledger"
    shutil.rmtree(ledger, ignore_errors=True)
    with serving(data) as address:
        config = FOLDER / "gpuledger.toml"
        config.write_text(f'[telemetry.big]\ntype = "prometheus"\nurl = "{address}"\ncluster = "big"\n')
        window = ["--window", f"{DAY:%Y-%m-%d}..{DAY:%Y-%m-%d}"]
        code = TIMED.replace("{path!r}", repr(str(FOLDER / "spans.json")))
        ours = measure(
            [sys.executable, "-c", code, "gpuledger", "--config", str(config), "--ledger", str(ledger), "ingest", "big", *window]
        )  # fmt: skip
        questions = asked()
        bare, size = replay(address, questions, decode=False)
        read, _ = replay(address, questions, decode=True)
    own = sum(one["stats"]["timings"]["execTotalTime"] for one in questions)
    waiting = on_its_way(json.loads((FOLDER / "spans.json").read_text()))
    share = waiting / ours.seconds
    print(
        f"{NODES:,} nodes, {len(questions)} questions, {size / 1e6:,.0f} MB of answers; load {os.getloadavg()[0]:.1f}\n"
        f"a question on its way in {waiting:.1f} of our {ours.seconds:.1f} s: {share:.0%} (target {RATIO:.0%}); "
        f"bare client {bare:.1f} s: {bare / ours.seconds:.0%} of our time; evaluation alone {own:.1f} s",
        flush=True,
    )
    line("a day of a cluster, to asking and decoding", ours, Run(read, 0), f"ratio >= {READ}, {MEMORY_MB} MB")
    return 0 if share >= RATIO and read >= READ * ours.seconds and ours.peak_mb < MEMORY_MB else 1


if __name__ == "__main__":
    sys.exit(run())
