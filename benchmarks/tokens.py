"""A month of token counters of 5,000 GPUs, a sample a minute (216 million), into five-minute intervals and unit economics.

The samples are synthetic, a Parquet file a day, sorted as an exporter writes them: by series and time; each counter is
reset once a day. Bare is DuckDB alone with the plain window query over the same files, written as Parquet; both must
come to the same sum. GPULEDGER_BENCH_SERIES and GPULEDGER_BENCH_DAYS make it smaller.
"""

import os
import shutil
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb

from benchmarks._measure import GPULEDGER, WORK, Run, bare, line, measure

SERIES: Final = int(os.environ.get("GPULEDGER_BENCH_SERIES", "5000"))
DAYS: Final = int(os.environ.get("GPULEDGER_BENCH_DAYS", "30"))
FIRST: Final = date(2026, 10, 1)
SECONDS: Final = 60
MEMORY_MB: Final = 3000
LIMIT: Final = "SET memory_limit = '2500MB'; SET threads = 2"


def samples() -> Path:
    """Return a folder of synthetic samples, made once. A series gains 600 tokens a minute, and is reset once a day."""
    folder = WORK / f"token-samples-{SERIES}-{DAYS}"
    marker = folder / ".complete"
    if marker.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number in range(DAYS):
        day = FIRST + timedelta(days=number)
        # In a process of its own, or its memory would be counted to those that come after.
        sql = f"""COPY (
                SELECT 'vllm:generation_tokens_total' AS metric, TIMESTAMPTZ '{day}T00:00:15Z' + to_seconds(60 * m) AS ts,
                    'team-' || p % 20 AS namespace, 'pod-' || p AS pod, 'llama-' || p % 7 AS model_name, '0' AS engine,
                    CASE WHEN m >= p * 37 % 1440 THEN 600.0 * (m - p * 37 % 1440) + p % 500
                        ELSE 600.0 * (m + 1440 - p * 37 % 1440) + p % 500 END AS value
                FROM range({SERIES}) AS a(p), range(1440) AS b(m) ORDER BY p, m
            ) TO '{folder / f"{day}.parquet"}' (FORMAT parquet, COMPRESSION zstd)"""
        measure(bare(sql))
    marker.touch()
    return folder


def plain(folder: Path, out: Path) -> Run:
    """Down-sample with DuckDB alone: the whole month in one query, which sorts what is sorted already."""
    return measure(
        bare(
            f"""COPY (
                SELECT namespace, pod, model_name, time_bucket(INTERVAL 5 minutes, ts) AS start,
                    sum(CASE WHEN value >= before THEN value - before WHEN value < before THEN value END) AS output_tokens
                FROM (SELECT *, lag(value) OVER (PARTITION BY metric, namespace, pod, model_name, engine ORDER BY ts) AS before
                      FROM read_parquet('{folder}/*.parquet'))
                GROUP BY ALL
            ) TO '{out}' (FORMAT parquet, COMPRESSION zstd)""",
            setup=f'con.execute("{LIMIT}")',
        )
    )


def total(sql: str) -> int:
    """Return one sum of tokens."""
    row = duckdb.connect().execute(sql).fetchone()
    return int(row[0]) if row else 0


def run() -> bool:
    """Measure, print, and say whether the targets were met."""
    folder, ledger, out = samples(), WORK / "token-ledger", WORK / "token-plain.parquet"
    shutil.rmtree(ledger, ignore_errors=True)
    rows = SERIES * DAYS * 1440
    command = [str(GPULEDGER), "--ledger", str(ledger)]
    ours = measure([*command, "ingest", "--type", "token-samples", str(folder)])
    other = plain(folder, out)
    line(f"{rows:,} samples into intervals", ours, other, "ratio >= 1", rows)
    span = f"{FIRST}..{FIRST + timedelta(days=DAYS)}"
    asked = measure([*command, "unit-economics", "--window", span], accept=(0, 1))
    line("unit-economics of them", asked, None, f"{SECONDS} s with the intervals, {MEMORY_MB} MB")
    files = f"read_parquet('{ledger}/token_interval/*/*/*/*.parquet')"
    same = total(f"SELECT sum(output_tokens) FROM {files}") == total(
        f"SELECT sum(output_tokens) FROM '{out}'"
    )
    if not same:
        print("the sums of tokens differ")
    together = ours.seconds + asked.seconds
    peak = max(ours.peak_mb, asked.peak_mb)
    return same and together <= SECONDS and peak <= MEMORY_MB and ours.seconds <= other.seconds


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
