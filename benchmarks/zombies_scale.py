"""`gpuledger zombies` on 10,000 GPUs with a day of one-minute history in a real Prometheus, and on one host.

The samples are synthetic: nodes of eight cards as dcgm-exporter measures them (engine, utilisation, memory, power,
tensor activity) and pods as kube-state-metrics tells of them. Of a hundred cards, 70 work, 20 are held and idle since
some hour, 5 are nobody's, 3 look full and compute nothing, 2 are not measured any more. promtool makes blocks of them.

Bare is a client that asks, one after the other, what Prometheus' query log says that we asked, and throws the answers
away: what is left is our own work. GPULEDGER_BENCH_CARDS makes the fleet smaller.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

from benchmarks import prometheus
from benchmarks._measure import GPULEDGER, WORK, Run, line, measure

CARDS = int(os.environ.get("GPULEDGER_BENCH_CARDS", "10000"))
FOLDER = WORK / f"zombies-{CARDS}"
DAY = datetime(2026, 10, 6, tzinfo=UTC)  # prices of machines are dated
MINUTES: Final = 1440
BLOCK: Final = 120
SECONDS, MEMORY_MB = 20.0, 500.0
HOST_SECONDS, FIRST_SECONDS = 2.0, 0.5
_FIRST: Final = int(DAY.timestamp())
_PATTERNS: Final = 40
_STATE: Final = 'instance="10.0.0.9:8080",job="kube-state-metrics"'
_NODE: Final = (
    'label_node_kubernetes_io_instance_type="p5.48xlarge",label_topology_kubernetes_io_region="us-east-1",'
    'label_nvidia_com_gpu_product="NVIDIA-H100-80GB-HBM3"'
)
_KINDS: Final = ("busy",) * 70 + ("idle",) * 20 + ("free",) * 5 + ("stalled",) * 3 + ("silent",) * 2
# What each kind's card shows while it works, and while it doesn't: engine, utilisation, memory, watts, tensor.
_METRICS: Final = (
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
)
_WORKS: Final = ((0.5, 1.0), (60, 100), (60_000, 70_000), (400, 690), (0.2, 0.6))
_RESTS: Final = ("0", "0", "61000", "72", "0")
_FREE: Final = ("0", "0", "4", "68", "0")
_STALLED: Final = ("1", "100", "61000", "140", "0")


def kind(card: int) -> str:
    """Return what a card is, the same in every run; a pod has four cards of one kind."""
    return _KINDS[random.Random(card // 4).randrange(len(_KINDS))]


def idle_from(card: int) -> int:
    """Return the minute from which an idle card was idle."""
    return random.Random(~(card // 4)).randrange(MINUTES - 30)


def expected() -> dict[str, int]:
    """Return how many cards are in which state at the end of the day."""
    names = {
        "busy": "busy",
        "idle": "held-idle",
        "free": "unallocated",
        "stalled": "stalled",
        "silent": "unknown",
    }
    found = dict.fromkeys(names.values(), 0)
    for card in range(CARDS):
        found[names[kind(card)]] += 1
    return found


def _labels(card: int) -> str:
    node, gpu = divmod(card, 8)
    held = ""
    if kind(card) != "free":
        held = f',exported_container="main",exported_namespace="team-{card // 4 % 20}",exported_pod="train-{card // 4}"'
    return (
        f'DCGM_FI_DRIVER_VERSION="550.90.07",Hostname="gpu-{node}",UUID="GPU-{card:08x}-0000-4000-8000-0123456789ab",'
        f'container="nvidia-dcgm-exporter",device="nvidia{gpu}",gpu="{gpu}",instance="10.1.0.1:9400",'
        f'job="nvidia-dcgm-exporter",modelName="NVIDIA H100 80GB HBM3",namespace="gpu-operator",'
        f'pod="nvidia-dcgm-exporter-{node}"{held}'
    )


def _write_cards(out: IO[str], first: int, labels: Sequence[str]) -> None:
    times = [f"{_FIRST + 60 * (first + place) + 15}\n" for place in range(BLOCK)]
    chance = random.Random(first)
    for place, metric in enumerate(_METRICS):
        low, high = _WORKS[place]
        whole = isinstance(low, int)
        works = [
            [
                f"{chance.randint(int(low), int(high)) if whole else round(chance.uniform(low, high), 3)} {when}"
                for when in times
            ]
            for _ in range(_PATTERNS)
        ]
        fixed = {
            name: [f"{values[place]} {when}" for when in times]
            for name, values in (("rests", _RESTS), ("free", _FREE), ("stalled", _STALLED))
        }
        out.write(f"# TYPE {metric} gauge\n")
        for card, label in enumerate(labels):
            said = f"{metric}{{{label}}} "
            what = kind(card)
            if what in {"free", "stalled"}:
                values = fixed[what]
            elif what == "silent":
                values = works[card % _PATTERNS][: max(0, MINUTES - 40 - first)]
            elif what == "idle":
                begun = min(BLOCK, max(0, idle_from(card) - first))
                values = works[card % _PATTERNS][:begun] + fixed["rests"][begun:]
            else:
                values = works[card % _PATTERNS]
            if values:
                out.write(said + said.join(values))


def _write_cluster(out: IO[str], first: int) -> None:
    times = [f"1 {_FIRST + 60 * (first + place) + 15}\n" for place in range(BLOCK)]

    def family(name: str, series: Iterator[tuple[str, str]]) -> None:
        out.write(f"# TYPE {name} gauge\n")
        for labels, value in series:
            said = f"{name}{{{_STATE},{labels}}} "
            out.write(said + said.join(times if value == "1" else [f"{value}{one[1:]}" for one in times]))

    nodes, pods = range(CARDS // 8), [card // 4 for card in range(0, CARDS, 4) if kind(card) != "free"]
    place = {pod: f'namespace="team-{pod % 20}",pod="train-{pod}",uid="{pod:032x}"' for pod in pods}
    began = str(_FIRST - 86400)
    family(
        "kube_node_labels",
        (
            (
                f'node="gpu-{node}",{_NODE}',
                "1",
            )
            for node in nodes
        ),
    )
    family(
        "kube_node_status_capacity",
        ((f'node="gpu-{node}",resource="nvidia_com_gpu",unit="integer"', "8") for node in nodes),
    )
    family(
        "kube_pod_container_resource_requests",
        (
            (
                f'{place[pod]},container="main",node="gpu-{pod // 2}",resource="nvidia_com_gpu",unit="integer"',
                "4",
            )
            for pod in pods
        ),
    )
    family("kube_pod_start_time", ((place[pod], began) for pod in pods))
    family("kube_pod_labels", ((f'{place[pod]},label_team="team-{pod % 20}"', "1") for pod in pods))
    family(
        "kube_pod_owner",
        (
            (
                f'{place[pod]},owner_kind="StatefulSet",owner_name="train-{pod}",owner_is_controller="true"',
                "1",
            )
            for pod in pods
        ),
    )


def prepare() -> Path:
    """Make the blocks once; return Prometheus' data folder."""
    data = FOLDER / "data"
    if (FOLDER / "complete").exists():
        return data
    shutil.rmtree(FOLDER, ignore_errors=True)
    data.mkdir(parents=True)
    labels = [_labels(card) for card in range(CARDS)]
    began = time.monotonic()
    for first in range(0, MINUTES, BLOCK):
        text = FOLDER / f"{first}.om"
        with text.open("w") as out:
            _write_cards(out, first, labels)
            _write_cluster(out, first)
            out.write("# EOF\n")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text), str(data)]
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            raise SystemExit(f"promtool can't make blocks of {text}")
        text.unlink()
        print(f"prepared {first // 60 + 2} hours: {time.monotonic() - began:.0f} s", flush=True)
    (FOLDER / "complete").touch()
    return data


def replay(address: str) -> tuple[float, int, int]:
    """Ask again what was asked, one question after the other; return the seconds, the questions and the bytes."""
    log = (FOLDER / "queries.json").read_text().splitlines()
    asked = [json.loads(entry)["params"] for entry in log]
    size = 0
    began = time.perf_counter()
    for one in asked:
        query = urllib.parse.urlencode({"query": one["query"], "time": one["end"]})
        with urllib.request.urlopen(f"{address}/api/v1/query?{query}", timeout=300) as answer:  # noqa: S310 - ours, on the loopback
            while part := answer.read(2**20):
                size += len(part)
    return time.perf_counter() - began, len(asked), size


def fleet() -> bool:
    """Measure the whole command on the fleet; tell whether the budget was met and every state is right."""
    data = prepare()
    for path in data.rglob("*"):  # into the page cache, for the first who asks
        if path.is_file():
            path.read_bytes()
    prometheus.FOLDER = FOLDER
    at = DAY + timedelta(minutes=MINUTES)
    said = FOLDER / "said.json"
    command = [str(GPULEDGER), "--format", "json", "zombies", "--at", f"{at:%Y-%m-%dT%H:%M:%SZ}"]
    with prometheus.serving(data) as address:
        command += ["--prometheus", address]
        ours = measure(["/bin/sh", "-c", f'cd {FOLDER} && exec "$@" > {said}', "sh", *command], accept=(1,))
        seconds, questions, size = replay(address)
    document = json.loads(said.read_text())
    states = dict.fromkeys(expected(), 0)
    for row in document["rows"]:
        states[row["state"]] += 1
    states["busy"] = document["totals"]["busy"]
    right = states == expected()
    print(
        f"{CARDS:,} cards, a day of minutes, {questions} questions, {size / 1e6:,.0f} MB of answers; {states}"
    )
    if not right:
        print(f"wrong: the fleet has {expected()}")
    line("zombies in a fleet's Prometheus", ours, Run(seconds, 0), f"< {SECONDS:.0f} s, {MEMORY_MB:.0f} MB")
    return right and ours.seconds < SECONDS and ours.peak_mb < MEMORY_MB


def host() -> bool:
    """Measure one look at one host of eight cards, and how long until its first words."""
    folder = FOLDER / "host"
    folder.mkdir(parents=True, exist_ok=True)
    cards = "".join(
        f'<gpu id="{card}"><product_name>NVIDIA H100 80GB HBM3</product_name><uuid>GPU-{card}</uuid>'
        "<fb_memory_usage><total>81559 MiB</total><used>4 MiB</used></fb_memory_usage>"
        f"<utilization><gpu_util>{card % 2 * 90} %</gpu_util></utilization></gpu>"
        for card in range(8)
    )
    (folder / "smi.xml").write_text(f'<?xml version="1.0" ?><nvidia_smi_log>{cards}</nvidia_smi_log>')
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat {folder}/smi.xml\n")
    tool.chmod(0o755)
    environ = f"HOME={folder} PATH={folder}:/usr/bin:/bin"
    command = [
        "/bin/sh",
        "-c",
        f"cd {folder} && env -u KUBECONFIG {environ} {GPULEDGER} --format table zombies",
    ]
    ours = measure(command, repeats=5)
    bare = measure([str(tool)], repeats=5)
    first = min(_first(command) for _ in range(5))
    line("zombies on one host", ours, bare, f"< {HOST_SECONDS} s")
    print(f"first output after {first:.2f} s, target < {FIRST_SECONDS} s")
    return ours.seconds < HOST_SECONDS and first < FIRST_SECONDS


def _first(command: Sequence[str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        process.stdout.read(1)
        seconds = time.perf_counter() - began
        process.stdout.read()
    return seconds


def run() -> int:
    """Measure both; return 1 when a budget is missed."""
    met = [host()]
    missing = [name for name in ("prometheus", "promtool") if not shutil.which(name)]
    if missing:
        print(
            f"the fleet is skipped: no {' and no '.join(missing)}: apt-get install -y --no-install-recommends prometheus"
        )
    else:
        met.append(fleet())
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(run())
