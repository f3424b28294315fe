"""`gpuledger meter` and `costs --compare estimate`: what runs and what it costs, as data."""

import csv
import io
import json
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from tests.surfaces.shell import gpuledger, program

from gpuledger.diagnostics import Diagnostic
from gpuledger.pipeline.metering import Metered, Tick
from gpuledger.surfaces.cli._context import Context
from gpuledger.surfaces.cli.meter import _printer

PRICES = '[[prices.custom]]\ngpu_model = "H100"\nusd_per_hour = 2.25\n'
LAB = '[telemetry.lab]\ntype = "records"\npath = "lab"\n'


def lab(*nodes: tuple[str, datetime, datetime]) -> None:
    """Write ./lab, records of machines with eight H100, and ./gpuledger.toml."""
    Path("lab").mkdir(exist_ok=True)
    with Path("lab/node_interval.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["cluster", "node", "start", "end", "gpu_model", "gpu_count"])
        writer.writerows(
            ["lab", name, start.isoformat(), end.isoformat(), "H100", 8] for name, start, end in nodes
        )
    Path("gpuledger.toml").write_text(LAB + PRICES, "utf-8")


@pytest.fixture
def running() -> datetime:
    """One machine that runs since this moment, a minute ago or midnight."""
    now = datetime.now(UTC)
    start = max(now - timedelta(seconds=36), now.replace(hour=0, minute=0, second=0, microsecond=0))
    lab(("gpu1", start, now))
    return start


def test_once_prints_what_runs_and_ends(running: datetime) -> None:
    done = gpuledger("meter", "--once")
    assert done.code == 0, done.err
    (row,) = done.document["rows"]
    assert set(row) == {
        "time", "as_of", "nodes", "unpriced_nodes", "usd_per_hour", "spent_today", "currency", "new_nodes",
        "visibility_lag_seconds",
    }  # fmt: skip
    assert (row["nodes"], row["usd_per_hour"], row["currency"], row["new_nodes"]) == (1, "18", "USD", 1)
    lag = (datetime.now(UTC) - running).total_seconds()
    assert 0 <= float(row["visibility_lag_seconds"]) <= lag
    assert done.document["totals"] == {"days": 1, "rows": done.document["totals"]["rows"]}
    assert [one["code"] for one in done.document["diagnostics"]] == ["node-without-resource-id"]


@pytest.mark.usefixtures("running")
def test_a_source_that_fails_is_told_and_the_others_are_metered() -> None:
    with Path("gpuledger.toml").open("a", encoding="utf-8") as out:
        out.write('[telemetry.gone]\ntype = "records"\npath = "nowhere"\n')
    done = gpuledger("meter", "--once")
    assert done.code == 1
    assert done.document["rows"][0]["nodes"] == 1
    assert {one["source"] for one in done.document["diagnostics"] if one["severity"] == "error"}


@pytest.mark.parametrize("interval", ["0", "0s", "-1s", "soon", "1d"])
def test_an_interval_that_is_none_is_refused(interval: str) -> None:
    assert gpuledger("meter", "--interval", interval).code == 2


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("form", ["json", "table"])
def test_the_loop_prints_rounds_until_it_is_interrupted(tmp_path: Path, form: str) -> None:
    words = [program(), "--format", form, "meter", "--interval", "1s"]
    with subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        try:
            lines = [run.stdout.readline() for _ in range(3)]
            run.send_signal(signal.SIGINT)
            _, err = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 0, err
    assert "Traceback" not in err
    if form == "json":
        assert [json.loads(line)["rows"][0]["usd_per_hour"] for line in lines] == ["18"] * 3
    else:
        assert all("1 nodes  18.00 USD/h" in line for line in lines)
        assert err.count("node-without-resource-id") == 1  # told once, not with every round


def test_as_csv_the_heading_comes_once(capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    show = _printer(Context(None, None, "csv"))
    failed = Diagnostic("meter-failed", "error", "s3://ledger", "out of reach")
    show(Metered(diagnostics=[failed]))
    for _ in range(2):
        show(Metered(tick=Tick(now, None, 1, 0, Decimal("18.50"), None, "USD", 0, None)))
    told = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert [(row["time"], row["usd_per_hour"], row["spent_today"]) for row in rows] == [
        ("2026-11-20T12:00:00Z", "18.5", "")
    ] * 2
    assert told.err.count("meter-failed") == 1


def test_compare_says_why(running: datetime) -> None:
    assert gpuledger("meter", "--once").code == 0
    done = gpuledger("costs", "--compare", "estimate")
    assert done.code == 0, done.err
    (row,) = done.document["rows"]
    assert (row["ResourceId"], row["final"], row["classification"]) == ("lab/gpu1", None, "late_row")
    totals = done.document["totals"]
    assert (totals["estimated"], totals["late_row"]) == (row["estimated"], f"-{row['estimated']}")
    assert (totals["error"], totals["currency"]) == (None, "USD")
    hour = f"{running:%Y-%m-%dT%H}:00:00Z"
    by_hour = gpuledger("costs", "--compare", "estimate", "--group-by", "hour", "--window", "2d").document[
        "rows"
    ]
    assert hour in {one["hour"] for one in by_hour}


@pytest.mark.usefixtures("running")
def test_compare_is_about_machines() -> None:
    done = gpuledger("costs", "--compare", "estimate", "--allocated")
    assert (done.code, done.out) == (2, "")
