"""A folder of its own for each test, and ledgers to ask."""

import shutil
from pathlib import Path

import pytest
from tests.surfaces.shell import EUROS, OCTOBER, SEPTEMBER, bill, gpuledger


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with nothing of the user's around."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in (
        "GPULEDGER_LEDGER",
        "ANTHROPIC_ADMIN_KEY",
        "OPENAI_ADMIN_KEY",
        "KUBECONFIG",
        "PROMETHEUS_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def two_months(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ledger` (September and October) and the bill; to be copied."""
    folder = tmp_path_factory.mktemp("two-months")
    path = bill(folder / "bill.csv", SEPTEMBER, *OCTOBER)
    done = gpuledger("--ledger", folder / "ledger", "ingest", "--type", "focus", path, "--source", "cloud")
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def ledger(two_months: Path, tmp_path: Path) -> Path:
    """./ledger with two months of USD, and ./bill.csv that it came from."""
    shutil.copytree(two_months / "ledger", tmp_path / "ledger")
    shutil.copy(two_months / "bill.csv", tmp_path / "bill.csv")
    return tmp_path / "ledger"


@pytest.fixture
def mixed_ledger(ledger: Path, tmp_path: Path) -> Path:
    """./ledger with USD and EUR."""
    done = gpuledger("ingest", "--type", "focus", bill(tmp_path / "euros.csv", EUROS), "--source", "euros")
    assert done.code == 0, done.err
    return ledger
