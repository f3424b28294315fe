"""`export` on the command line."""

import json
from pathlib import Path

import pytest
from tests.surfaces.shell import gpuledger, installed

pytestmark = pytest.mark.usefixtures("ledger")


def test_it_says_which_files_it_wrote(tmp_path: Path) -> None:
    done = gpuledger("export", "--to", "focus", "out")
    assert (done.code, done.err) == (0, "")
    document = done.document
    assert list(document) == ["schema_version", "command", "rows", "totals", "diagnostics"]
    assert document["command"] == "export"
    assert document["totals"] == {"rows": 3, "files": len(document["rows"])}
    assert {tuple(row) for row in document["rows"]} == {("file", "dataset", "rows", "bytes")}
    sizes = {row["file"]: row["bytes"] for row in document["rows"]}
    assert sizes == {f"out/{path.name}": path.stat().st_size for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize("name", ["all.parquet", "all.csv", "all.csv.gz", "all.xlsx"])
def test_one_file_with_all_columns(tmp_path: Path, name: str) -> None:
    done = gpuledger("export", "--to", name.split(".")[1], name, "--window", "2026-10", "--where", "team!=")
    assert [(row["file"], row["rows"]) for row in done.document["rows"]] == [(name, 2)]
    assert (tmp_path / name).stat().st_size > 0


def test_the_configured_focus_version_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "gpuledger.toml").write_text('[ledger]\nfocus_version = "1.4"\n', "utf-8")
    assert gpuledger("export", "--to", "focus", "--csv", "new").code == 0
    assert gpuledger("export", "--to", "focus", "--focus-version", "1.0", "old").code == 0
    schemas = [
        json.loads((tmp_path / name / "cost_and_usage_schema_metadata.json").read_text("utf-8"))
        for name in ("new", "old")
    ]
    assert [schema["FocusVersion"] for schema in schemas] == ["1.4", "1.0"]


def test_sums_are_those_of_costs(tmp_path: Path) -> None:
    words = ("--group-by", "ServiceName", "--metric", "billed")
    assert gpuledger("export", "--to", "csv", "sums.csv", *words).code == 0
    assert (tmp_path / "sums.csv").read_text("utf-8") == gpuledger("--format", "csv", "costs", *words).out


def test_what_exists_is_kept_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("mine", "utf-8")
    done = gpuledger("export", "--to", "csv", "all.csv")
    assert (done.code, done.out) == (2, "")
    assert "all.csv: this exists already\nHint: " in done.err
    assert gpuledger("export", "--to", "csv", "all.csv", "--force").code == 0
    assert (tmp_path / "all.csv").read_text("utf-8").startswith("AllocatedMethodDetails,")


@pytest.mark.parametrize("target", ["grafana", "powerbi", "nope"])
def test_other_targets_are_refused_with_those_there_are(target: str) -> None:
    done = gpuledger("export", "--to", target, "out")
    assert (done.code, done.out) == (2, "")
    assert f"'{target}' is not one of 'parquet', 'csv', 'xlsx', 'focus'" in done.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--to focus s3://bucket/out", 2, "written to a file or folder here"),
        ("--to xlsx out.csv", 2, "doesn't end in .xlsx"),
        (
            "--to focus out --focus-version 1.2 --dataset ContractCommitment",
            2,
            "no dataset ContractCommitment",
        ),
        ("--to focus out --window 2020-01", 3, "nothing to export"),
        ("--to csv out.csv --where nope=1", 2, "no column 'nope'"),
        ("--to focus bill.csv/out", 3, "bill.csv"),
    ],
)
def test_failures(tmp_path: Path, words: str, code: int, message: str) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    done = gpuledger("export", *words.split())
    assert (done.code, done.out) == (code, ""), done.err
    assert message in done.err
    assert "Hint:" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_was_exported_can_be_ingested_and_checked(tmp_path: Path) -> None:
    assert installed(tmp_path, "export", "--to", "focus", "out").code == 0
    done = installed(tmp_path, "--ledger", "other", "ingest", "--type", "focus", "out")
    assert done.code == 0, done.err
    for metric in ("billed", "effective", "list", "contracted"):
        here, there = (
            gpuledger("--ledger", name, "costs", "--metric", metric) for name in ("ledger", "other")
        )
        assert here.document["totals"] == there.document["totals"]
    checked = [gpuledger("validate", *words).document["totals"] for words in ((), ("out",))]
    assert checked[0]["rows"] == checked[1]["rows"] == 3
    assert checked[0]["rules_failed"] == checked[1]["rules_failed"]
