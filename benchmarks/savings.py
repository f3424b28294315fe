"""`savings`, all rules, on the example company, and on the example company with ten million more rows."""

import shutil

from benchmarks._measure import GPULEDGER, WORK, measure

ROWS = 10_000_000
# Rows beside the example's own: seconds and MB at most. Every rule is asked, the engine starts anew.
BUDGETS = {0: (5.0, 1500.0), ROWS: (30.0, 2500.0)}


def run() -> None:
    """Build the ledgers where they are missing, then ask."""
    missed = []
    for rows, (seconds, memory) in BUDGETS.items():
        folder = WORK / f"savings-{rows}"
        ledger, marker = folder / "ledger", folder / "complete"
        if not marker.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            more = ["--rows", str(rows)] if rows else []
            for words in (["demo", "--out", str(folder / "bills"), *more], ["build"]):
                measure([str(GPULEDGER), "--ledger", str(ledger), *words])
            marker.touch()
        found = measure(
            [str(GPULEDGER), "--ledger", str(ledger), "savings", "--all"], repeats=3, accept=(0, 1)
        )
        fits = found.seconds <= seconds and found.peak_mb <= memory
        print(
            f"savings, the example company and {rows:,} rows: {found.seconds:.2f} s, peak {found.peak_mb:.0f} MB "
            f"(budget {seconds:.0f} s, {memory:.0f} MB){'' if fits else ' MISSED'}",
            flush=True,
        )
        missed += [] if fits else [rows]
    if missed:
        raise SystemExit(1)


if __name__ == "__main__":
    run()
