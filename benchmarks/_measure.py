"""Run commands as whole processes, and print one line of figures for each comparison."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORK = Path(os.environ.get("GPULEDGER_BENCH", ROOT / ".bench"))
GPULEDGER = Path(sys.executable).with_name("gpuledger")


@dataclass(frozen=True, slots=True)
class Run:
    """Wall-clock seconds and peak resident memory in MB of one process."""

    seconds: float
    peak_mb: float


def measure(command: Sequence[str], repeats: int = 1, *, accept: Sequence[int] = (0,)) -> Run:
    """Run a command several times; return the fastest time and the highest peak. Fails loudly when it fails."""
    runs = [_once(command, accept) for _ in range(repeats)]
    return Run(min(run.seconds for run in runs), max(run.peak_mb for run in runs))


def _once(command: Sequence[str], accept: Sequence[int]) -> Run:
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "stderr.txt").open("wb") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(list(command), stdout=subprocess.DEVNULL, stderr=errors, cwd=WORK)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in accept:
        raise SystemExit(
            f"{' '.join(command)[:200]} failed:\n{(WORK / 'stderr.txt').read_text('utf-8')[-2000:]}"
        )
    return Run(seconds, usage.ru_maxrss / 1024)


def python(code: str) -> list[str]:
    """Return the command that runs Python code in our environment."""
    return [sys.executable, "-c", code]


def bare(sql: str, setup: str = "") -> list[str]:
    """Return the command that runs SQL in a DuckDB of its own, with nothing of ours."""
    code = f"import duckdb; con = duckdb.connect(); con.execute(\"SET TimeZone='UTC'\"); {setup}\ncon.execute('''{sql}''')"
    return python(code)


def data(name: str, rows: int) -> Path:
    """Return a synthetic FOCUS file of that many rows, generated once. `name` ends in .parquet or .csv.gz."""
    path = WORK / f"{rows}-{name}"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        part = path.with_name("part-" + path.name)
        measure(python(f"from gpuledger.demo import focus_rows; focus_rows({str(part)!r}, {rows})"))
        part.rename(path)
    return path


def line(what: str, ours: Run, other: Run | None, target: str, rows: int | None = None) -> None:
    """Print one comparison. The ratio is theirs ÷ ours in time: above 1 means that we are faster."""
    parts = [f"{what:44}", f"ours {ours.seconds:8.2f} s {ours.peak_mb:6.0f} MB"]
    if rows:
        parts.append(f"{rows / ours.seconds:12,.0f} rows/s")
    if other is not None:
        parts.append(
            f"other {other.seconds:8.2f} s {other.peak_mb:6.0f} MB   ratio {other.seconds / ours.seconds:6.2f}"
        )
    print("  ".join(parts), f"  target {target}", flush=True)
