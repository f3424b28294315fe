"""Leases: no budget is overdrawn, whoever asks at the same moment, on SQLite and on a real PostgreSQL."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path

import pytest

from gpuledger.core.policy import Budget
from gpuledger.pipeline.leases import Leases, LeaseStoreError

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BUDGET = Budget(name="pretraining", owner="ada", amount_usd=Decimal(100))
_GRACE = timedelta(minutes=15)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _binary(name: str) -> str | None:
    known = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(known[-1]) if known else None)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a PostgreSQL server of the tests' own."""
    initdb, server = _binary("initdb"), _binary("postgres")
    if initdb is None or server is None:
        pytest.skip("no PostgreSQL on this machine: apt install postgresql")
    folder = tmp_path_factory.mktemp("postgres")
    as_owner: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        for parent in [folder, *folder.parents][: len(folder.parents) - 1]:
            parent.chmod(parent.stat().st_mode | 0o011)
        as_owner = ["runuser", "-u", "postgres", "--"]
    data, port = folder / "data", free_port()
    subprocess.run(
        [*as_owner, initdb, "-D", str(data), "-U", "ledger", "--auth=trust", "-E", "UTF8"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    process = subprocess.Popen(
        [*as_owner, server, "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"postgresql://ledger@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'leases.sqlite'}"
    address: str = request.getfixturevalue("postgres")
    import sqlalchemy

    engine = sqlalchemy.create_engine(address.replace("postgresql:", "postgresql+pg8000:"))
    with engine.begin() as con:
        con.execute(sqlalchemy.text("DROP TABLE IF EXISTS lease"))
        con.execute(sqlalchemy.text("DROP TABLE IF EXISTS budget_period"))
    engine.dispose()
    return address


@pytest.fixture
def leases(url: str) -> Iterator[Leases]:
    found = Leases(url, grace=_GRACE)
    yield found
    found.close()


def test_a_reservation_takes_what_is_left_to_the_last_cent(leases: Leases) -> None:
    assert leases.reserve("a", "ml/train", BUDGET, Decimal("99.99"), NOW).granted
    assert leases.left(BUDGET, NOW) == Decimal("0.01")
    refused = leases.reserve("b", "ml/other", BUDGET, Decimal("0.02"), NOW)
    assert (refused.granted, refused.left_usd) == (False, Decimal("0.01"))
    assert leases.reserve("b", "ml/other", BUDGET, Decimal("0.01"), NOW).granted
    assert leases.left(BUDGET, NOW) == 0


def test_asking_again_reserves_nothing_more(leases: Leases) -> None:
    for _ in range(3):
        assert leases.reserve("a", "ml/train", BUDGET, Decimal(60), NOW).granted
    assert leases.left(BUDGET, NOW) == 40


def test_a_reservation_that_nothing_came_of_is_given_back(leases: Leases) -> None:
    leases.reserve("a", "ml/train", BUDGET, Decimal(60), NOW)
    assert leases.left(BUDGET, NOW + _GRACE - timedelta(seconds=1)) == 40
    assert leases.left(BUDGET, NOW + _GRACE) == 100


def test_one_that_came_into_being_stays_until_it_is_settled(leases: Leases) -> None:
    leases.reserve("a", "ml/train", BUDGET, Decimal(60), NOW)
    assert leases.confirm("a")
    assert leases.left(BUDGET, NOW + 10 * _GRACE) == 40
    assert leases.settle("a", Decimal("12.345678"))
    assert leases.left(BUDGET, NOW) == Decimal("87.654322")
    (lease,) = leases.all(NOW)
    assert (lease.state, lease.reserved_usd, lease.settled_usd) == (
        "settled",
        Decimal(60),
        Decimal("12.345678"),
    )
    assert not leases.confirm("a")
    assert not leases.settle("nobody", Decimal(1))


def test_a_queued_job_that_begins_after_its_lease_expired_counts_again(leases: Leases) -> None:
    leases.reserve("a", "ml/train", BUDGET, Decimal(60), NOW)
    assert leases.left(BUDGET, NOW + _GRACE) == 100
    assert leases.confirm("a")
    assert leases.left(BUDGET, NOW + _GRACE) == 40


def test_a_new_period_starts_anew(leases: Leases) -> None:
    leases.reserve("a", "ml/train", BUDGET, Decimal(60), NOW)
    assert leases.left(BUDGET, NOW + timedelta(days=7)) == 100


def test_leases_outlive_the_process(url: str) -> None:
    first = Leases(url, grace=_GRACE)
    first.reserve("a", "ml/train", BUDGET, Decimal(60), NOW)
    first.close()
    second = Leases(url, grace=_GRACE)
    assert second.left(BUDGET, NOW) == 40
    second.close()


def _many(url: str, replica: int) -> int:
    """Ask for 1 dollar 100 times, as one of several replicas; return how often it was granted."""
    leases = Leases(url, grace=_GRACE)
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(leases.reserve, f"{replica}-{number}", "x", BUDGET, Decimal(1), NOW)
            for number in range(100)
        ]
        granted = sum(one.result().granted for one in asked)
    leases.close()
    return granted


def test_replicas_that_ask_at_the_same_moment_never_overdraw(url: str) -> None:
    """Two processes, four threads each, 200 dollars wanted of 100."""
    Leases(url, grace=_GRACE).close()
    with get_context("spawn").Pool(2) as pool:
        granted = pool.starmap(_many, [(url, 1), (url, 2)])
    assert sum(granted) == 100
    leases = Leases(url, grace=_GRACE)
    assert leases.left(BUDGET, NOW) == 0
    leases.close()


def test_a_store_that_is_not_there_is_told_without_its_password() -> None:
    with pytest.raises(LeaseStoreError) as told:
        Leases(f"postgresql://ledger:secret@127.0.0.1:{free_port()}/x")
    assert "secret" not in str(told.value)
    assert "PostgreSQL" in str(told.value.hint)
