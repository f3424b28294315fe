"""`/allocation/compute?window=7d&aggregate=namespace` on 1,000 nodes with 8 cards each, and what the same sum costs bare.

A synthetic week goes the whole way: a bill of 168,000 machine hours and telemetry of four holders on each machine are
ingested and allocated, then `gpuledger serve` answers over HTTP. Bare is DuckDB in a process of its own, warm as well:
the sum of the same allocated files by namespace.
"""

import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, cast

import duckdb

from benchmarks._measure import GPULEDGER, WORK, measure

NODES = 1000
HOLDERS = 4
DAYS = 7
FIRST = "2026-10-05"
LAST = "2026-10-12"
REPEATS = 9
BUDGET = 0.5

# One pod of each of a node's jobs; jobs move to the next node every six hours, so that holders are not few.
_HELD = f"""SELECT n AS node_no, h AS hour_no, p AS pod_no, (n + h // 6 * 7 + p * 13) % 900 AS job_no,
    TIMESTAMPTZ '{FIRST} 00:00:00Z' + h * INTERVAL 1 HOUR AS "start"
FROM range({NODES}) AS a(n), range({DAYS * 24}) AS b(h), range({HOLDERS}) AS c(p)"""
_BILL = f"""SELECT 98.32 AS BilledCost, 98.32 AS EffectiveCost, 98.32 AS ListCost, 98.32 AS ContractedCost,
    '1' AS BillingAccountId, 'USD' AS BillingCurrency, '2026-10-01T00:00:00Z' AS BillingPeriodStart,
    "start" AS ChargePeriodStart, "start" + INTERVAL 1 HOUR AS ChargePeriodEnd, 'Usage' AS ChargeCategory,
    'Compute' AS ServiceName, 'Compute' AS ServiceCategory, concat('i-', node_no) AS ResourceId
FROM ({_HELD}) WHERE pod_no = 0"""
_NODES = f"""SELECT 'big' AS cluster, concat('node-', n) AS node, CAST(day AS TIMESTAMPTZ) AS "start",
    CAST(day + INTERVAL 1 DAY AS TIMESTAMPTZ) AS "end", concat('i-', n) AS provider_id, 96 AS cpu_cores,
    2048 AS memory_gib, 'H100' AS gpu_model, 8 AS gpu_count
FROM range({NODES}) AS a(n), range(TIMESTAMP '{FIRST}', TIMESTAMP '{LAST}', INTERVAL 1 DAY) AS b(day)"""
_USAGE = f"""SELECT 'big' AS cluster, concat('node-', node_no) AS node, concat('big/job-', job_no) AS job_id,
    concat('team-', job_no % 30) AS namespace, concat('job-', job_no, '-worker-', node_no, '-', pod_no) AS pod,
    concat('uid-', job_no, '-', node_no, '-', pod_no) AS pod_uid, resource,
    CASE resource WHEN 'gpu' THEN 2 WHEN 'cpu' THEN 20 ELSE 400 END AS requested,
    CASE resource WHEN 'gpu' THEN 1.5 WHEN 'cpu' THEN 12 ELSE 350 END AS used,
    'running' AS state, "start", "start" + INTERVAL 1 HOUR AS "end"
FROM ({_HELD}), (VALUES ('gpu'), ('cpu'), ('memory')) AS r(resource)"""
_JOBS = f"""SELECT concat('big/job-', j) AS job_id, 'big' AS cluster, 'RayJob' AS kind, concat('job-', j) AS name,
    concat('team-', j % 30) AS namespace, 'Running' AS state, TIMESTAMPTZ '{FIRST} 00:00:00Z' AS submitted,
    TIMESTAMPTZ '{FIRST} 00:00:00Z' AS started, 1 AS attempts FROM range(900) AS a(j)"""


def prepare() -> str:
    """Make the ledger, once; return its folder."""
    ledger = WORK / "ledger-api"
    if (ledger / "complete").exists():
        return str(ledger)
    for folder in (ledger, WORK / "api-bill", WORK / "api-records"):
        shutil.rmtree(folder, ignore_errors=True)
    (WORK / "api-bill").mkdir(parents=True)
    (WORK / "api-records").mkdir()
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for sql, path in (
        (_BILL, "api-bill/bill"),
        (_NODES, "api-records/node_interval"),
        (_USAGE, "api-records/usage_interval"),
        (_JOBS, "api-records/job"),
    ):
        con.execute(f"COPY ({sql}) TO '{WORK / path}.parquet' (FORMAT parquet)")
    con.close()
    base = [str(GPULEDGER), "--ledger", str(ledger)]
    for step, command in (
        ("bill", ["ingest", "--type", "focus", "--source", "bill", str(WORK / "api-bill")]),
        ("telemetry", ["ingest", "--type", "records", "--source", "telemetry", str(WORK / "api-records")]),
        ("build", ["build"]),
    ):
        run = measure([*base, *command])
        print(f"prepared {step:12} {run.seconds:7.1f} s {run.peak_mb:6.0f} MB", flush=True)
    (ledger / "complete").touch()
    return str(ledger)


@contextmanager
def serving(ledger: str) -> Iterator[tuple[str, int]]:
    """Run `gpuledger serve`; give its address and process id."""
    command = [str(GPULEDGER), "--ledger", ledger, "serve", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    errors = cast("IO[str]", process.stderr)  # it is a pipe
    try:
        match = re.search(r"http://\S+", errors.readline())
        if match is None:
            raise SystemExit(errors.read())
        yield match[0], process.pid
    finally:
        process.terminate()
        process.wait(20)
        errors.close()


def times(address: str, path: str, repeats: int = REPEATS, **parameters: str) -> tuple[float, float, int]:
    """Ask several times; return the first time, the median of the others, and the answer's bytes."""
    url = f"{address}{path}?{urllib.parse.urlencode(parameters)}"
    found = []
    size = 0
    for _ in range(repeats + 1):
        began = time.perf_counter()
        with urllib.request.urlopen(url, timeout=300) as answer:  # noqa: S310  # our own server
            size = len(answer.read())
        found.append(time.perf_counter() - began)
    return found[0], median(found[1:]), size


def bare(ledger: str) -> tuple[float, int]:
    """Return the warm time of the same sum in DuckDB over the allocated files, and their rows."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    files = f"read_parquet('{ledger}/allocated_cost/*/*/*/*.parquet', union_by_name = true)"
    sql = f"""SELECT x_Namespace, sum(EffectiveCost), sum(x_GpuCost), sum(x_CpuCost), sum(x_MemoryCost) FROM {files}
        WHERE ChargePeriodStart >= '{FIRST}' AND ChargePeriodStart < '{LAST}' GROUP BY ALL"""
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        con.execute(sql).fetchall()
        found.append(time.perf_counter() - began)
    row = con.execute(f"SELECT count(*) FROM {files}").fetchone()
    con.close()
    return median(found[1:]), int(row[0]) if row else 0


def peak_mb(pid: int) -> float | None:
    """Return the peak resident memory of a process, where the system tells."""
    try:
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
    except OSError:
        return None
    return int(match[1]) / 1024 if match else None


def run() -> int:
    """Measure; return 1 when the budget is missed."""
    ledger = prepare()
    other, rows = bare(ledger)
    window = f"{FIRST}T00:00:00Z,{LAST}T00:00:00Z"
    with serving(ledger) as (address, pid):
        first, warm, _ = times(address, "/allocation/compute", window=window, aggregate="namespace")
        print(f"{rows:,} allocated rows, {os.cpu_count()} cores; the first request loads them: {first:.2f} s")
        print(
            f"by namespace, 7 days                 ours {warm * 1000:7.0f} ms  bare {other * 1000:7.0f} ms  "
            f"ratio {other / warm:5.2f}   target < {BUDGET * 1000:.0f} ms",
            flush=True,
        )
        print(f"peak memory of the server so far: {peak_mb(pid) or 0:.0f} MB", flush=True)
        for what, asked in (
            ("by namespace, idle shared by node", {"shareIdle": "true", "idleByNode": "true"}),
            ("by label", {"aggregate": "label:team"}),
            ("by namespace, hourly", {"step": "1h"}),
            ("by pod, the dearest hundred", {"aggregate": "pod", "limit": "100"}),
            ("by pod, all 112,000", {"aggregate": "pod"}),
        ):
            asked = {"window": window, "aggregate": "namespace", **asked}  # noqa: PLW2901  # with what all have
            _, took, size = times(address, "/allocation/compute", 3, **asked)
            print(f"{what:36} ours {took * 1000:7.0f} ms  {size / 1e6:6.1f} MB of JSON", flush=True)
        print(f"peak memory of the server: {peak_mb(pid) or 0:.0f} MB (0: not told on this system)")
    return 0 if warm < BUDGET else 1


if __name__ == "__main__":
    raise SystemExit(run())
