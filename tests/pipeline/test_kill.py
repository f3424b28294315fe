"""kill -9 at random moments of an ingest loses and doubles nothing; concurrent writers corrupt nothing."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from gpuledger.pipeline.ledger import Ledger

KILLS = 50
LOOP = """
import sys
from gpuledger.pipeline.ledger import Ledger
ledger = Ledger(sys.argv[1])
print("ready", flush=True)
while True:
    for bill in sys.argv[2:]:
        ledger.ingest("focus", bill, source="killed", force=True)
        print("done", flush=True)
"""
ONCE = """
import sys
from gpuledger.pipeline.ledger import Ledger
report = Ledger(sys.argv[1]).ingest("focus", sys.argv[2], source=sys.argv[3], force=True)
print([row.action for row in report.rows], [told.message for told in report.diagnostics])
"""


def bill(path: Path, rows: int, cost: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(
            [
                "BilledCost",
                "BillingAccountId",
                "BillingCurrency",
                "BillingPeriodStart",
                "ChargePeriodStart",
                "ResourceId",
            ]
        )
        for number in range(rows):
            day = f"2026-10-{number % 28 + 1:02}T00:00:00Z"
            writer.writerow([cost, "0042", "USD", "2026-10-01T00:00:00Z", day, f"i-{number % 997}"])
    return path


def held(ledger: Ledger) -> tuple[int, Decimal]:
    row = (
        ledger.connect()
        .execute("SELECT count(*), coalesce(sum(BilledCost), 0) FROM cost_and_usage")
        .fetchone()
    )
    assert row is not None
    return row[0], row[1]


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path: Path) -> None:
    sizes = {"old": (20_000, "0.10"), "new": (30_000, "0.25")}
    bills = [str(bill(tmp_path / f"{name}.csv", rows, cost)) for name, (rows, cost) in sizes.items()]
    states = {(rows, rows * Decimal(cost)) for rows, cost in sizes.values()}
    ledger = Ledger(str(tmp_path / "ledger"))
    ledger.ingest("focus", bills[0], source="killed")
    chance, seen = random.Random(20261124), set()
    for turn in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", LOOP, ledger.location, *bills],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if turn % 2:  # half of the kills come after a commit, however slow the machine is
            assert process.stdout.readline() == "done\n"
        time.sleep(chance.uniform(0.0, 0.6))
        os.kill(process.pid, signal.SIGKILL)
        _, errors = process.communicate()
        assert "Traceback" not in errors
        found = held(ledger)
        assert found in states
        seen.add(found)
    assert seen == states, "the kills never hit between commits: the test proves nothing"
    ledger.ingest("focus", bills[1], source="killed", force=True)
    assert held(ledger) == (30_000, Decimal(7500))
    assert list(Path(ledger.location, ".scratch").iterdir()) == []


def run_all(arguments: list[list[str]]) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", ONCE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for args in arguments
    ]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_writers_of_different_sources_all_succeed(tmp_path: Path) -> None:
    location = str(tmp_path / "ledger")
    paths = [bill(tmp_path / f"{number}.csv", 500, f"0.0{number}") for number in range(1, 6)]
    run_all([[location, str(path), path.stem] for path in paths])
    assert held(Ledger(location)) == (2500, Decimal(500) * Decimal("0.15"))


def test_writers_of_one_unit_leave_exactly_one_delivery(tmp_path: Path) -> None:
    location = str(tmp_path / "ledger")
    paths = [bill(tmp_path / f"{number}.csv", 500, f"0.0{number}") for number in range(1, 6)]
    run_all([[location, str(path), "same"] for path in paths])
    rows, cost = held(Ledger(location))
    assert rows == 500
    assert cost in {500 * Decimal(f"0.0{number}") for number in range(1, 6)}
    assert len(Ledger(location).history()) >= 1


def test_a_reader_keeps_its_snapshot_while_a_writer_commits(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    ledger.ingest("focus", str(bill(tmp_path / "a.csv", 100, "1")), source="s")
    reader = ledger.connect()
    ledger.ingest("focus", str(bill(tmp_path / "b.csv", 100, "2")), source="s")
    assert reader.execute("SELECT sum(BilledCost) FROM cost_and_usage").fetchone() == (Decimal(100),)
    assert held(ledger) == (100, Decimal(200))
    assert ledger.costs(as_of=1).total is None or ledger.costs(metric="billed", as_of=1).total == Decimal(100)
