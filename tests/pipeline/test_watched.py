"""What a loop sees of a cluster that a list alone would miss: a Kubernetes API server of the tests' own."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.core.kubernetes_objects import live_pod
from tests.pipeline.test_collect import at, kubernetes, ledger_of, rows, stamp
from tests.telemetry.fake_api_server import FakeApiServer

from gpuledger.core.telling import Kept
from gpuledger.pipeline.collect import collect
from gpuledger.pipeline.ledger import Ledger


@pytest.fixture
def cluster() -> Iterator[FakeApiServer]:
    with FakeApiServer().running() as server:
        meta = {"name": "n1", "uid": "node-n1", "creationTimestamp": stamp(at(-24)), "labels": {}}
        capacity = {"cpu": "96", "memory": "1Ti", "nvidia.com/gpu": "8"}
        spec = {"providerID": "aws:///z/i-n1"}
        server.put("nodes", {"metadata": meta, "spec": spec, "status": {"capacity": capacity}})
        yield server


@pytest.fixture
def kept() -> Iterator[Kept]:
    made = Kept()
    yield made
    made.close()


def pod(name: str, since: datetime, until: datetime | None = None) -> dict[str, object]:
    runs = [(stamp(since), stamp(until) if until else None)]
    return live_pod(name, stamp(since), uid=name, node="n1", scheduled=stamp(since), runs=runs)


def names(ledger: Ledger) -> set[str]:
    return {row[0] for row in rows(ledger, "SELECT DISTINCT pod FROM usage_interval")}


def until_whole(kept: Kept) -> None:
    """Wait until the watch has listed everything; what comes later it sees as it happens."""
    watch = kept.get("k8s")
    for _ in range(200):
        watch.update()
        if watch.whole:
            return
        time.sleep(0.05)
    pytest.fail("the watch never listed everything")


@pytest.mark.parametrize("watched", [True, False])
def test_a_pod_that_comes_and_goes_between_two_rounds(
    tmp_path: Path, cluster: FakeApiServer, kept: Kept, *, watched: bool
) -> None:
    ledger = ledger_of(tmp_path, k8s=kubernetes(tmp_path, cluster))
    cluster.put("pods", pod("stays", at(8)))
    collect(ledger, ["k8s"], at(8), at(9), kept=kept if watched else None)
    assert names(ledger) == {"stays"}
    if watched:
        until_whole(kept)
    cluster.put("pods", pod("short", at(9), at(9.5)))
    time.sleep(0.5)
    cluster.delete("pods", "short")
    time.sleep(0.5)
    report = collect(ledger, ["k8s"], at(8), at(10), kept=kept if watched else None)
    assert [row.action for row in report.rows] == ["replaced"]
    assert names(ledger) == ({"stays", "short"} if watched else {"stays"})


def test_a_watch_that_isn_t_whole_yet_is_done_without(
    tmp_path: Path, cluster: FakeApiServer, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(tmp_path, k8s=kubernetes(tmp_path, cluster))
    cluster.put("pods", pod("one", at(8)))
    collect(ledger, ["k8s"], at(8), at(9), kept=kept)
    watch = kept.get("k8s")
    monkeypatch.setattr(type(watch), "update", lambda _: [])  # nothing has come in
    assert not watch.whole
    cluster.put("pods", pod("two", at(9)))
    collect(ledger, ["k8s"], at(8), at(9) + timedelta(minutes=30), kept=kept)
    assert names(ledger) == {"one", "two"}
