"""Every verb: one JSON object, or CSV, or a table on standard output, and nothing else there."""

import csv
import io
import json
import os
import pty
import re
import subprocess
from decimal import Decimal
from pathlib import Path

import click
import pytest
from tests.surfaces.shell import OCTOBER, bill, gpuledger, installed, program

from gpuledger.surfaces.cli import cli

# Words of the command, keys of each row, keys of the totals, exit code. Run on the ledger of two months.
INGESTED = "source billing_period delivery_id rows billed_cost effective_cost currency action"
CASES: dict[str, tuple[str, str, str, int]] = {
    "build": ("build", "name kind rows state detail example", "failed", 0),
    "config check": ("config check", "key value origin state hint", "", 0),
    "costs": (
        "costs --group-by team,ServiceName --metric billed", "team ServiceName cost", "cost currency charges metric", 0,
    ),
    "demo": ("demo --rows 400", INGESTED, "rows synthetic bills", 0),
    "doctor": ("doctor", "check state detail hint", "ok warn fail unknown", 0),
    "ingest": ("ingest --type focus bill.csv --force", INGESTED, "rows", 0),
    "init": ("init --yes", "found name type where", "written sources", 0),
    "ledger history": (
        "ledger history",
        "version committed source billing_period delivery_id rows billed_cost currency location", "", 0,
    ),
    "ledger units": ("ledger units", "source billing_period delivery_id rows", "rows", 0),
    "report": ("report", "section name cost share_percent", "cost unattributed data_issues", 0),
    "unattributed": (
        "unattributed --window 2026-09", "resource_id cost candidate_owner confidence evidence", "cost incidents by_nature", 0,
    ),
    "validate": (
        "validate bill.csv", "rule_id column severity checked failed example_row message", "rows rules rules_failed", 1,
    ),
}  # fmt: skip
# Verbs that need more than a bill, each with the tests that check what it prints.
BESIDE = {
    "policy coverage": "surfaces/test_policy_coverage.py",
    "budgets": "surfaces/test_budgets.py",
    "policy render": "surfaces/test_policy_render.py",
    "policy schema": "surfaces/test_budgets.py",
    "policy snapshot": "surfaces/test_budgets.py",
    "admission serve": "surfaces/test_admission_server.py",
    "blast-radius": "surfaces/test_blast_radius_page.py",
    "burst": "surfaces/test_burst.py",
    "check": "surfaces/test_check.py",
    "compare-hardware": "surfaces/test_compare_hardware.py",
    "commitments plan": "pipeline/test_commitments.py",
    "commitments rebalance": "pipeline/test_commitments.py",
    "commitments utilization": "pipeline/test_commitments.py",
    "export": "surfaces/test_export.py",
    "jobs": "pipeline/test_jobs.py",
    "lenses gpu": "pipeline/test_lenses.py",
    "lenses storage": "pipeline/test_lenses.py",
    "meter": "surfaces/test_meter.py",
    "savings": "surfaces/test_savings.py",
    "unit-economics": "pipeline/test_unit_economics.py",
    "serve": "surfaces/test_api_security.py",
    "slurm cache": "pipeline/test_slurm_policy.py",
    "slurm report": "pipeline/test_slurm_policy.py",
    "zombies": "surfaces/test_zombies.py",
}
QUICK = sorted(set(CASES) - {"demo"})  # the demo ingests six bills
# Exact money, whatever the command.
MONEY = {"cost", "billed_cost", "effective_cost", "unattributed"}


def leaves() -> set[str]:
    context, found = click.Context(cli), set()
    for verb in cli.list_commands(context):
        command = cli.get_command(context, verb)
        parts = command.commands if isinstance(command, click.Group) else {"": None}
        found |= {f"{verb} {part}".strip() for part in parts}
    return found


def test_every_verb_is_checked_here_or_beside() -> None:
    assert leaves() == set(CASES) | set(BESIDE)
    assert [path for path in BESIDE.values() if not Path(__file__).parents[1].joinpath(path).is_file()] == []


@pytest.mark.parametrize("name", CASES)
def test_json_is_one_object_of_the_agreed_shape(ledger: Path, name: str) -> None:
    words, keys, totals, code = CASES[name]
    done = gpuledger(*words.split())
    assert done.code == code, done.err
    document = done.document
    assert list(document) == ["schema_version", "command", "rows", "totals", "diagnostics"]
    assert (document["schema_version"], document["command"]) == (1, name)
    assert document["rows"], "no rows: the shape of a row is not checked"
    assert {tuple(row) for row in document["rows"]} == {tuple(row) for row in document["rows"][:1]}
    assert set(keys.split()) <= set(document["rows"][0])
    assert set(totals.split()) <= set(document["totals"])
    for row in [*document["rows"], document["totals"]]:
        for key in MONEY & set(row):
            assert row[key] is None or (isinstance(row[key], str) and str(Decimal(row[key])) != "NaN"), key
    assert ledger.exists()


@pytest.mark.parametrize("name", QUICK)
def test_csv_has_the_same_rows_as_json(ledger: Path, name: str) -> None:
    words, keys, _, code = CASES[name]
    done = gpuledger("--format", "csv", *words.split())
    assert done.code == code, done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert rows
    assert set(keys.split()) <= set(rows[0])
    assert None not in rows[0], "a row has more cells than the header"
    if name.split(maxsplit=1)[0] in {
        "costs",
        "ledger",
        "report",
    }:  # the others change something, or tell the time
        told = gpuledger("--format", "json", *words.split()).document["rows"]
        assert rows == [{key: csv_cell(value) for key, value in row.items()} for row in told]
    assert ledger.exists()


def csv_cell(value: object) -> str:
    return "" if value is None else json.dumps(value) if isinstance(value, (dict, list)) else str(value)


@pytest.mark.parametrize("name", QUICK)
def test_a_table_is_for_people(ledger: Path, name: str) -> None:
    words, _, _, code = CASES[name]
    done = gpuledger("--format", "table", *words.split())
    assert done.code == code, done.err
    assert done.out.strip()
    assert not done.out.lstrip().startswith("{")
    assert "Decimal(" not in done.out
    assert "None" not in done.out
    assert ledger.exists()


@pytest.mark.usefixtures("ledger")
def test_table_on_a_terminal_and_json_into_a_pipe(tmp_path: Path) -> None:
    words = [program(), "costs", "--group-by", "ServiceName"]
    piped = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(piped.stdout)["command"] == "costs"
    ours, theirs = pty.openpty()
    with subprocess.Popen(words, cwd=tmp_path, stdout=theirs, stderr=subprocess.PIPE) as run:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(ours)
    assert run.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"ServiceName\s+cost", text)
    assert re.search(r"Storage\s+2\.75", text)


@pytest.mark.usefixtures("ledger")
def test_money_keeps_all_digits_in_json_and_csv_and_is_rounded_in_tables() -> None:
    words = ("costs", "--metric", "billed", "--window", "2026-10")
    assert gpuledger("--format", "json", *words).document["totals"]["cost"] == "1.250000000000000001"
    assert gpuledger("--format", "csv", *words).out == "cost\n1.250000000000000001\n"
    table = gpuledger("--format", "table", *words).out
    assert "1.25" in table
    assert "1.2500" not in table


@pytest.mark.usefixtures("ledger")
def test_unknown_is_null_in_json_and_said_in_tables() -> None:
    words = ("costs", "--group-by", "team", "--window", "2026-09")
    assert gpuledger("--format", "json", *words).document["rows"] == [{"team": None, "cost": "2.25"}]
    assert gpuledger("--format", "csv", *words).out == "team,cost\n,2.25\n"
    assert "unknown" in gpuledger("--format", "table", *words).out


@pytest.mark.usefixtures("ledger")
def test_times_are_utc_with_a_z() -> None:
    for row in gpuledger("ledger", "history").document["rows"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", row["committed"])


def test_problems_in_data_are_part_of_json_and_go_to_standard_error_elsewhere(tmp_path: Path) -> None:
    bad = bill(tmp_path / "bad.csv", *OCTOBER, OCTOBER[0].replace("1.25", "twelve", 1))
    words = ("ingest", "--type", "focus", bad, "--force", "--no-validate")
    done = gpuledger("--format", "json", *words)
    assert done.code == 1
    assert done.err == ""
    told = done.document["diagnostics"]
    assert [list(one) for one in told] == [["code", "severity", "source", "message", "hint"]]
    assert told[0]["code"] == "unreadable-value"
    for form in ("csv", "table"):
        done = gpuledger("--format", form, *words)
        assert done.code == 1
        assert "unreadable-value" in done.err
        assert "Hint:" in done.err
        assert "unreadable-value" not in done.out


def test_nothing_to_show_is_an_empty_csv_and_an_empty_list(tmp_path: Path) -> None:
    assert gpuledger("--ledger", tmp_path / "none", "--format", "csv", "ledger", "units").out == ""
    assert gpuledger("--ledger", tmp_path / "none", "ledger", "units").document["rows"] == []


@pytest.mark.usefixtures("ledger")
def test_the_installed_program_says_the_same(tmp_path: Path) -> None:
    for words in (("costs", "--group-by", "team"), ("ledger", "units"), ("validate", "bill.csv")):
        done, here = installed(tmp_path, *words), gpuledger(*words)
        assert (done.code, done.document, done.err) == (here.code, here.document, "")


@pytest.mark.usefixtures("ledger")
def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [program(), "ledger", "history"], cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (run.returncode, run.stderr) == (0, b"")


def test_the_ledger_is_named_by_option_environment_or_configuration_in_that_order(tmp_path: Path) -> None:
    path = bill(tmp_path / "bill.csv", *OCTOBER)
    (tmp_path / "gpuledger.toml").write_text('[ledger]\nlocation = "from-file"\n', "utf-8")
    there = {"GPULEDGER_LEDGER": "from-environment"}
    ingest = ("ingest", "--type", "focus", path)
    assert gpuledger("--ledger", "from-option", *ingest, environ=there).code == 0
    assert [p.name for p in tmp_path.glob("from-*")] == ["from-option"]
    assert gpuledger(*ingest, environ=there).code == 0
    assert not (tmp_path / "from-file").exists()
    assert gpuledger(*ingest).code == 0
    assert sorted(p.name for p in tmp_path.glob("from-*")) == ["from-environment", "from-file", "from-option"]
    origin = gpuledger("config", "check", environ=there).document["rows"][0]
    assert (origin["key"], origin["value"]) == ("ledger.location", "from-environment")
    assert "GPULEDGER_LEDGER" in origin["origin"]
