"""`validate` against the official validator on the same file: FOCUS 1.2, its newest model offline."""

import os
from pathlib import Path

from benchmarks._measure import GPULEDGER, WORK, data, line, measure

ROWS = 1_000_000
OFFICIAL = Path(os.environ.get("FOCUS_VALIDATOR", "/nonexistent"))


def run() -> None:
    """Print the comparison; without the official validator (`make servers`), our figure alone."""
    path = data("focus.parquet", ROWS)
    command = [str(GPULEDGER), "validate", str(path), "--focus-version", "1.2"]
    ours = measure(command, repeats=3, accept=(0, 1))
    other = None
    if OFFICIAL.exists():
        official = [
            str(OFFICIAL),
            "--data-file",
            str(path),
            "--validate-version",
            "1.2",
            "--output-type",
            "console",
        ]
        other = measure(official, accept=(0, 1))
    else:
        print("the official validator isn't here: make servers", WORK)
    line(f"validate, {ROWS:,} rows of Parquet", ours, other, "ratio >= 20, < 1000 MB", ROWS)


if __name__ == "__main__":
    run()
