"""`costs` by service and day over 50 million rows, against the same sum in bare DuckDB over the same files."""

import shutil

from benchmarks._measure import GPULEDGER, WORK, bare, data, line, measure

ROWS = 10_000_000
COPIES = 5


def run() -> None:
    """Build a ledger of five sources with ten million rows each, then ask."""
    ledger = WORK / "ledger-50m"
    marker = ledger / f"complete-{ROWS}"
    if not marker.exists():
        shutil.rmtree(ledger, ignore_errors=True)
        path = data("focus.parquet", ROWS)
        for copy in range(COPIES):
            command = [
                str(GPULEDGER),
                "--ledger",
                str(ledger),
                "ingest",
                "--type",
                "focus",
                "--source",
                f"copy-{copy}",
            ]
            measure([*command, "--force", str(path)])
        marker.touch()
    files = f"{ledger}/cost_and_usage/*/*/*/*.parquet"
    sql = f"""SELECT ServiceName, strftime(ChargePeriodStart, '%Y-%m-%d') AS day, sum(EffectiveCost)
              FROM read_parquet('{files}', hive_partitioning = true) GROUP BY ALL ORDER BY 3 DESC"""
    other = measure(bare(sql, "import collections"), repeats=3)
    ours = measure(
        [str(GPULEDGER), "--ledger", str(ledger), "costs", "--group-by", "ServiceName,day"], repeats=3
    )
    line(
        f"costs by service and day, {ROWS * COPIES:,} rows",
        ours,
        other,
        "ratio >= 0.77 (1.3 times)",
        ROWS * COPIES,
    )


if __name__ == "__main__":
    run()
