"""The webhook over TLS under 1,000 reviews a second, beside a bare FastAPI that echoes the same bodies; and `check`.

Both servers are one worker process, asked one after another by the same client in a third process: an open loop (a
request is due every millisecond, whatever became of the others) over 8 connections; latencies are from when a request
was due. The object is a GPU Job of 3.8 kB as a review.
"""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks._measure import GPULEDGER, WORK, measure, python

RATE = 1000
SECONDS = int(os.environ.get("GPULEDGER_BENCH_SECONDS", "20"))
CONNECTIONS = 8
BUDGET_MS = 5.0
FOLDER = WORK / "admission"
METADATA = {"name": "t", "namespace": "ml", "labels": {"cost-center": "CC-1", "team": "nlp"}}
POLICY = """mode = "enforce"
[[require]]
dimension = "cost_center"
register = "r"
[[require]]
dimension = "team"
pattern = "[a-z-]+"
[[limit]]
name = "size"
max_gpus = 4096
[registers.r]
values = ["CC-1", "CC-2"]
"""
ECHO = """
import sys
import uvicorn
from fastapi import FastAPI, Request
app = FastAPI()
@app.post("/mutate")
async def mutate(request: Request) -> dict:
    review = await request.json()
    return {"apiVersion": review["apiVersion"], "kind": review["kind"],
            "response": {"uid": review["request"]["uid"], "allowed": True}}
@app.get("/readyz")
def ready() -> dict:
    return {}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False,
            ssl_certfile=sys.argv[2], ssl_keyfile=sys.argv[3])
"""


def job(workers: int | None = None) -> dict[str, object]:
    """Return a GPU job; with `workers` a JobSet of as many pod templates."""
    spec = {
        "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
        "containers": [{"name": "a", "image": "x", "resources": {"limits": {"nvidia.com/gpu": 8}}}],
    }
    template: dict[str, object] = {"spec": {"activeDeadlineSeconds": 3600, "template": {"spec": spec}}}
    metadata: dict[str, object] = dict(METADATA)
    if workers is None:
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, **template}
    replicated = [{"name": f"w{number}", "replicas": 1, "template": template} for number in range(workers)]
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {"replicatedJobs": replicated},
    }


def review(obj: dict[str, object], size: int = 0) -> bytes:
    """Return a review as an API server sends it, filled up to a size with managed fields."""
    request = {
        "uid": "r-1",
        "operation": "CREATE",
        "namespace": "ml",
        "userInfo": {"username": "ada"},
        "object": obj,
    }
    document = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    missing = size - len(json.dumps(document))
    if missing > 0:
        obj["metadata"] = {**METADATA, "managedFields": [{"fields": "x" * (missing - 40)}]}
    return json.dumps(document).encode()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def server(command: list[str], port: int) -> Iterator[tuple[int, float]]:
    """Run a server; give its process id and the seconds until it was ready."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=FOLDER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    context = trust()
    try:
        while True:
            try:
                with (
                    socket.create_connection(("127.0.0.1", port), timeout=1) as raw,
                    context.wrap_socket(raw) as tls,
                ):
                    tls.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    if b" 200 " in tls.recv(100):
                        break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"{command[:4]} ended") from None
            time.sleep(0.01)
        yield process.pid, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(15)


def trust() -> ssl.SSLContext:
    """Return a client's context; who the server is matters to nobody here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def load(port: int, body: bytes, seconds: float, rate: int) -> list[float]:
    """Send requests at a rate; return milliseconds of each from when it was due."""
    head = f"POST /mutate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    took: list[float] = []
    began = time.perf_counter() + 0.5

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust())
        for place in range(number, int(rate * seconds), CONNECTIONS):
            due = began + place / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            writer.write(request)
            status = await reader.readline()
            if b" 200 " not in status:
                raise SystemExit(f"answered {status!r}")
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            await reader.readexactly(length)
            took.append((time.perf_counter() - due) * 1000)
        writer.close()

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return took


def client(port: int, body: bytes, seconds: float, rate: int) -> list[float]:
    """Run the load in a process of its own; return the latencies, shortest first."""
    (FOLDER / "body").write_bytes(body)
    code = (
        "import asyncio, json, sys; from pathlib import Path; from benchmarks.admission import load;"
        f"print(json.dumps(asyncio.run(load({port}, Path({str(FOLDER / 'body')!r}).read_bytes(), {seconds}, {rate}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True, stdout=subprocess.PIPE
    )
    return sorted(json.loads(done.stdout))


def peak_mb(pid: int) -> float:
    """Return the peak resident memory of a process in MB."""
    text = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


def at(values: list[float], percent: float) -> float:
    """Return a percentile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


def webhook() -> bool:
    """Compare the servers; return whether the targets were met."""
    body = review(job(), 3800)
    port = free_port()
    names = ["--policy", "policy.toml", "--host", "127.0.0.1", "--log", "/dev/null"]
    with server([str(GPULEDGER), "admission", "serve", *names, "--port", str(port)], port) as (pid, ready):
        client(port, body, 2, RATE)
        first = peak_mb(pid)
        ours = client(port, body, SECONDS, RATE)
        large = client(port, review(job(200)), 5, 20)
        grown, peak = peak_mb(pid) - first, peak_mb(pid)
    port = free_port()
    certificates = [str(FOLDER / "admission-certs" / name) for name in ("tls.crt", "tls.key")]
    with server([*python(ECHO), str(port), *certificates], port) as (pid, _):
        client(port, body, 2, RATE)
        theirs = client(port, body, SECONDS, RATE)
        echo_mb = peak_mb(pid)
    print(
        f"admission, {RATE}/s for {SECONDS} s, {len(body)} bytes    ours p50 {at(ours, 50):.2f} p99 {at(ours, 99):.2f} ms "
        f"{peak:.0f} MB    bare FastAPI echo p50 {at(theirs, 50):.2f} p99 {at(theirs, 99):.2f} ms {echo_mb:.0f} MB    "
        f"p99 ratio {at(ours, 99) / at(theirs, 99):.2f}    target p99 < {BUDGET_MS} ms, ratio <= 2, < 150 MB"
    )
    print(
        f"admission, JobSet of 200 workers               p50 {at(large, 50):.2f} p99 {at(large, 99):.2f} ms    target < 10 ms\n"
        f"admission, start to ready                      {ready:.2f} s    target < 1.5 s; grew by {grown:.0f} MB under load"
    )
    return (
        at(ours, 99) < BUDGET_MS
        and at(ours, 99) <= 2 * at(theirs, 99)
        and at(large, 50) < 10  # noqa: PLR2004 - milliseconds
        and ready < 1.5  # noqa: PLR2004 - seconds
        and peak < 150  # noqa: PLR2004 - MB
    )


def check() -> bool:
    """Check 1,000 manifests, beside a bare YAML parser that reads them."""
    folder = FOLDER / "manifests"
    if not folder.is_dir():
        folder.mkdir()
        for number in range(1000):
            (folder / f"{number}.yaml").write_text(
                json.dumps(job(), indent=1).replace('"t"', f'"t{number}"'), "utf-8"
            )
    ours = measure(
        [
            str(GPULEDGER),
            "--ledger",
            str(FOLDER / "none"),
            "check",
            str(folder),
            "--policy",
            str(FOLDER / "policy.toml"),
        ],
        3,
    )
    bare = measure(
        python(
            f"import yaml, pathlib\nfor f in pathlib.Path({str(folder)!r}).iterdir(): yaml.load(f.read_bytes(), yaml.CSafeLoader)"
        ),
        3,
    )
    print(
        f"check, 1,000 manifests                         ours {ours.seconds:.2f} s {ours.peak_mb:.0f} MB    bare YAML parser "
        f"{bare.seconds:.2f} s    ratio {bare.seconds / ours.seconds:.2f}    target < 2 s"
    )
    return ours.seconds < 2  # noqa: PLR2004 - seconds


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(FOLDER / "admission-certs", ignore_errors=True)
    (FOLDER / "policy.toml").write_text(POLICY, "utf-8")
    print(f"admission, {datetime.now(UTC):%Y-%m-%d %H:%M}Z, load {os.getloadavg()[0]:.1f} before the start")
    met = [webhook(), check()]
    sys.exit(0 if all(met) else 1)
