"""Failures: exit code, a message with its place and a hint on standard error, nothing on standard output."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
from tests.surfaces.shell import OCTOBER, bill, gpuledger, installed

# Words, exit code, part of the message. The ledger holds two months; ./bill.csv is there.
FAILURES: list[tuple[str, int, str]] = [
    ("nope", 2, "No such command 'nope'"),
    ("costs --nope", 2, "No such option"),
    ("--format xml costs", 2, "'xml' is not one of"),
    ("--config missing.toml costs", 2, "missing.toml: no such file"),
    ("--ledger ftp://somewhere/else costs", 2, "no ledger can be at a ftp:// address"),
    ("costs --window nonsense", 2, "can't read the window 'nonsense'"),
    ("costs --window 2026-13", 2, "no such date in the window '2026-13'"),
    ("costs --window 2026-10-09..2026-10-01", 2, "ends before it starts"),
    ("costs --where ServiceName", 2, "can't read the condition 'ServiceName'"),
    ("costs --where nope=1", 2, "no column 'nope'"),
    ("costs --group-by ServiceNam", 2, "Did you mean ServiceName"),
    ("costs --metric gross", 2, "'gross' is not one of"),
    ("costs --limit 0", 2, "0 is not in the range"),
    ("costs --as-of yesterday", 2, "can't read --as-of 'yesterday'"),
    ("costs --as-of 99", 3, "there is no version 99: the newest is 1"),
    ("--ledger none costs", 3, "there is no ledger here"),
    ("--ledger none build", 3, "there is no ledger here"),
    ("--ledger none report", 3, "there is no ledger here"),
    ("--ledger none ledger history", 3, "there is no ledger here"),
    ("--ledger none validate", 3, "there is no ledger here"),
    ("--ledger bill.csv/ledger ingest --type focus bill.csv", 3, "bill.csv"),
    ("report --window 2020-01", 3, "no charges in that window"),
    ("ingest", 2, "no sources are configured"),
    ("ingest nope", 2, "no source 'nope' in the configuration"),
    ("ingest --window nonsense", 2, "can't read the window 'nonsense'"),
    ("ingest --type focus", 2, "no path given"),
    ("ingest --type focs bill.csv", 2, "Did you mean focus?"),
    ("ingest --source cloud", 2, "--source and --map go with --type"),
    ("ingest --type focus nowhere.csv", 3, "nowhere.csv: no such file or folder"),
    ("ingest --type focus http://somewhere/bill.csv", 2, "no reader for http:// addresses"),
    ("ingest --type columns --map nowhere.toml bill.csv", 2, "nowhere.toml"),
    ("validate nowhere.csv", 3, "nowhere.csv: no such file or folder"),
    ("validate --focus-version 9 bill.csv", 2, "'9' is not one of"),
    ("validate --capability nope bill.csv", 2, "nope"),
]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(("words", "code", "message"), FAILURES, ids=[case[0] for case in FAILURES])
def test_a_failure_has_its_code_and_says_what_to_do(words: str, code: int, message: str) -> None:
    done = gpuledger(*words.split())
    assert (done.code, done.out) == (code, ""), done.err
    assert message in done.err
    assert "Hint:" in done.err or done.err.startswith("Usage:")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "content", [b"\x00\x01\x02 not text", b"", gzip.compress(b"BilledCost\n1\n" * 999)[:40]]
)
def test_a_file_that_is_no_bill_is_a_failure_with_a_result(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ("bill.csv.gz" if content.startswith(b"\x1f\x8b") else "bill.csv")
    path.write_bytes(content)
    done = gpuledger("ingest", "--type", "focus", path)
    assert (done.code, done.err) == (3, "")
    assert [row["action"] for row in done.document["rows"]] == ["rejected"]
    assert [told["code"] for told in done.document["diagnostics"]] == ["delivery-rejected"]
    assert all(told["hint"] and path.name in told["source"] for told in done.document["diagnostics"])


def test_one_refused_bill_among_good_ones_is_a_finding(tmp_path: Path) -> None:
    good, bad = bill(tmp_path / "good.csv", *OCTOBER), bill(tmp_path / "bad.csv", header="a,b")
    done = gpuledger("ingest", "--type", "focus", good, bad)
    assert done.code == 1
    assert [row["action"] for row in done.document["rows"]] == ["loaded", "rejected"]


@pytest.mark.usefixtures("ledger")
def test_debug_shows_the_traceback_and_keeps_the_code() -> None:
    done = gpuledger("--debug", "ingest", "--type", "focus", "nowhere.csv")
    assert (done.code, done.out) == (3, "")
    assert "Traceback (most recent call last)" in done.err
    assert "SourceError" in done.err
    assert gpuledger("--debug", "costs", "--window", "nonsense").code == 2


def test_a_defect_of_ours_is_a_failure_without_a_traceback(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops\nand more")

    monkeypatch.setattr("gpuledger.pipeline.doctor.examine", broken)
    done = gpuledger("--ledger", ledger, "doctor")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("Error: ZeroDivisionError: oops\nHint: ")
    assert "Traceback" in gpuledger("--debug", "--ledger", ledger, "doctor").err


def test_a_damaged_ledger_is_a_failure(ledger: Path) -> None:
    for path in ledger.rglob("*.parquet"):
        if "_delta_log" not in path.parts:
            path.write_bytes(b"not parquet at all")
    done = gpuledger("costs")
    assert (done.code, done.out) == (3, "")
    assert "Hint:" in done.err
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("ledger")
def test_the_installed_program_exits_with_0_1_2_and_3(tmp_path: Path) -> None:
    runs = [
        installed(tmp_path, "costs"), installed(tmp_path, "validate", "bill.csv"),
        installed(tmp_path, "costs", "--window", "nonsense"), installed(tmp_path, "--ledger", "none", "costs"),
    ]  # fmt: skip
    assert [run.code for run in runs] == [0, 1, 2, 3]
    assert [bool(run.out) for run in runs] == [True, True, False, False]
    assert [run.err.count("Hint:") for run in runs] == [0, 0, 1, 1]
    assert "Traceback" not in "".join(run.err for run in runs)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    path = bill(tmp_path / "bill.csv", *OCTOBER)
    (tmp_path / "closed").mkdir(mode=0o500)
    done = gpuledger("--ledger", tmp_path / "closed" / "ledger", "ingest", "--type", "focus", path)
    assert (done.code, done.out) == (3, "")
    assert "permission denied" in done.err


def test_help_and_version_are_data_on_standard_output(tmp_path: Path) -> None:
    for words in (("--help",), ("--version",), ("costs", "--help"), ("ingest", "--list-types")):
        done = installed(tmp_path, *words)
        assert (done.code, done.err) == (0, "")
        assert done.out
    assert shutil.which("gpuledger") is None or installed(tmp_path).code == 2
