"""Bill to validated ledger, against DuckDB's bare conversion of the same file to Parquet."""

import shutil

from benchmarks._measure import GPULEDGER, WORK, Run, bare, data, line, measure

ROWS = 2_000_000
MANY = 10_000_000
PARQUET = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880"


def run() -> None:
    """Print the comparisons for CSV.gz and Parquet, and the memory at ten million rows."""
    for suffix, scan, more in (("csv.gz", "read_csv", ()), ("parquet", "read_parquet", ("--no-validate",))):
        path = data(f"focus.{suffix}", ROWS)
        ours = ingest(path, *more)
        out = WORK / "bare.parquet"
        other = measure(bare(f"COPY (FROM {scan}('{path}')) TO '{out}' ({PARQUET})"), repeats=2)
        kind = "ledger" if more else "validated ledger"
        line(f"{suffix} to {kind}, {ROWS:,} rows", ours, other, "ratio >= 0.5", ROWS)
    many = data("focus.parquet", MANY)
    line(
        f"parquet to validated ledger, {MANY:,} rows",
        ingest(many, repeats=1),
        None,
        "< 2000 MB, no more than above",
        MANY,
    )
    many = data("focus.csv.gz", MANY)
    line(
        f"csv.gz to validated ledger, {MANY:,} rows",
        ingest(many, repeats=1),
        None,
        "< 2000 MB, no more than above",
        MANY,
    )


def ingest(path: object, *more: str, repeats: int = 2) -> Run:
    """Ingest into an empty ledger each time; the fastest time and the highest peak."""
    runs = []
    for _ in range(repeats):
        shutil.rmtree(WORK / "ledger", ignore_errors=True)
        command = [
            str(GPULEDGER),
            "--ledger",
            str(WORK / "ledger"),
            "ingest",
            *more,
            "--type",
            "focus",
            str(path),
        ]
        runs.append(measure(command))
    return Run(min(run.seconds for run in runs), max(run.peak_mb for run in runs))


if __name__ == "__main__":
    run()
