"""Kubernetes by its API: what is listed and watched, what goes wrong on the way, and the records it gives.

The API server is a fake one (`fake_api_server`); no test here claims a real cluster.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.core.kubernetes_objects import job, live_pod
from tests.telemetry.fake_api_server import FakeApiServer

from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.core.workload import Timeline
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import ConfigError, SourceError
from gpuledger.telemetry import kubernetes
from gpuledger.telemetry.kubernetes.access import Access
from gpuledger.telemetry.kubernetes.api import Api, Resource
from gpuledger.telemetry.kubernetes.cluster import NODES, PODS, Watcher, follow, observe

pytestmark = pytest.mark.server

NOW = datetime.now(UTC).replace(microsecond=0)


def t(minutes: float) -> str:
    return (NOW + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with FakeApiServer().running() as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def api(server: FakeApiServer, waits: list[float]) -> Iterator[Api]:
    found = Api(Access(server.url, "fake", "east"), sleep=waits.append, jitter=lambda: 0.0)
    yield found
    found.close()


def running(name: str, minutes_ago: float = 30, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - passed on
    start = -minutes_ago
    made, bound = t(start - 2), t(start - 1)
    return live_pod(name, made, node="n1", scheduled=bound, runs=[(t(start), None)], **more)


def node(name: str = "n1", **labels: str) -> dict[str, Any]:
    meta = {"name": name, "uid": f"node-{name}", "creationTimestamp": t(-600), "labels": labels}
    capacity = {"cpu": "96", "memory": "1Ti", "nvidia.com/gpu": "8"}
    return {"metadata": meta, "spec": {"providerID": "aws:///z/i-1"}, "status": {"capacity": capacity}}


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it didn't happen"
        time.sleep(0.02)


def collected(api: Api, **options: Any) -> list[kubernetes.Record]:  # noqa: ANN401 - passed on
    since, until = NOW - timedelta(hours=1), NOW
    return list(kubernetes.collect(since, until, options=kubernetes.Options(**options), api=api))


def of(kind: type[Any], records: list[kubernetes.Record]) -> list[Any]:
    return [one for one in records if isinstance(one, kind)]


# ---- Listing


def test_a_cluster_is_told_in_records(server: FakeApiServer, api: Api) -> None:
    owner = job("Job", "train", t(-32))
    server.put("jobs", owner)
    server.put("namespaces", {"metadata": {"name": "ml", "uid": "ns", "labels": {"team": "vision"}}})
    server.put("nodes", node())
    server.put("pods", running("train-a", owner=owner, gpus=8))
    records = collected(api)
    (found,) = of(Job, records)
    assert (found.job_id, found.dimensions["team"].value) == ("east/Job/train", "vision")
    (machine,) = of(NodeInterval, records)
    assert (machine.node, machine.provider_id, machine.start, machine.end) == (
        "n1",
        "i-1",
        NOW - timedelta(hours=1),
        NOW,
    )
    cards = [one for one in of(UsageInterval, records) if one.resource == "gpu"]
    assert [(one.state, one.requested, one.used) for one in cards] == [
        ("held", 8, None),
        ("running", 8, None),
    ]
    assert sum((one.end - one.start for one in cards), timedelta(0)) == timedelta(minutes=31)
    assert of(Diagnostic, records) == []


def test_lists_are_read_by_pages(server: FakeApiServer, api: Api) -> None:
    for number in range(1203):
        server.put("pods", live_pod(f"p{number:04d}", t(-1)))
    listed, _ = api.listed(PODS)
    assert len({obj["metadata"]["uid"] for obj in listed}) == 1203
    assert [params.get("continue") for params in server.asked("/api/v1/pods")] == [None, "500", "1000"]
    assert {(obj["kind"], obj["apiVersion"], "managedFields" in obj["metadata"]) for obj in listed} == {
        ("Pod", "v1", False)
    }


@pytest.mark.parametrize("expired", [1, 2])
def test_a_page_that_expired_starts_the_list_anew(server: FakeApiServer, api: Api, expired: int) -> None:
    for number in range(600):
        server.put("pods", live_pod(f"p{number:04d}", t(-1)))
    server.expire_continue = expired
    assert len(api.listed(PODS)[0]) == 600


def test_what_passes_is_tried_again(server: FakeApiServer, api: Api, waits: list[float]) -> None:
    server.put("pods", running("a"))
    server.failures["/api/v1/pods"] = [503, 429, 0]
    assert len(api.listed(PODS)[0]) == 1
    # Doubling, the server's own word in between.
    assert waits == [0.5, 1.0, 2.0]


def test_silence_is_given_up_and_tried_again(server: FakeApiServer, waits: list[float]) -> None:
    server.failures["/apis"] = [1]
    api = Api(Access(server.url, "fake", "east"), timeout=0.2, sleep=waits.append)
    assert api.get("/apis")["kind"] == "APIGroupList"
    assert len(waits) == 1
    api.close()


def test_what_does_not_pass_is_told(server: FakeApiServer, api: Api, waits: list[float]) -> None:
    server.failures["/api/v1/pods"] = [500] * 9
    with pytest.raises(SourceError, match="answered 500"):
        api.listed(PODS)
    assert len(waits) == 4
    nowhere = Api(Access("http://127.0.0.1:9", "fake", "x"), sleep=waits.append, tries=2)
    with pytest.raises(
        SourceError, match=r"no answer after 2 tries(.|\n)*Hint: Is http://127.0.0.1:9 reachable"
    ):
        nowhere.get("/api/v1/pods")
    nowhere.close()


def test_a_login_that_is_refused(server: FakeApiServer, api: Api, waits: list[float]) -> None:
    server.token = "right"  # noqa: S105 - a fake server's
    with pytest.raises(SourceError, match=r"\(401\)(.|\n)*Hint: The token or certificate has expired"):
        collected(api)
    assert waits == []


def test_pods_that_may_not_be_listed(server: FakeApiServer, api: Api) -> None:
    server.forbidden = frozenset({"pods"})
    with pytest.raises(SourceError, match=r"may not list pods \(403\)(.|\n)*kubectl auth can-i list pods -A"):
        collected(api)


def test_the_rest_is_done_without_and_told(server: FakeApiServer, api: Api) -> None:
    owner = job("Deployment", "web", t(-60))
    middle = job("ReplicaSet", "web-abc", t(-60), owner=owner)
    server.put("pods", running("web-abc-x", owner=middle, labels={"pod-template-hash": "abc"}))
    server.forbidden = frozenset({"nodes", "replicasets"})
    records = collected(api)
    assert [(one.kind, one.name) for one in of(Job, records)] == [("Deployment", "web")]
    assert of(NodeInterval, records) == []
    troubles = {one.message.split(":")[0]: one for one in of(Diagnostic, records)}
    assert {name: one.severity for name, one in troubles.items()} == {
        "Node": "error",
        "ReplicaSet": "warning",
    }
    assert "may not list replicasets.apps (403)" in troubles["ReplicaSet"].message
    assert "list and watch replicasets.apps by a ClusterRole" in troubles["ReplicaSet"].hint


def test_owners_of_unknown_kinds_are_fetched_once(server: FakeApiServer, api: Api) -> None:
    odd = {**job("Odd", "o", t(-60)), "apiVersion": "example.com/v1"}
    above = {**job("Odd", "above", t(-60)), "apiVersion": "example.com/v1"}
    odd["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "example.com/v1",
            "kind": "Odd",
            "name": "above",
            "uid": "Odd/above",
            "controller": True,
        }
    ]
    server.put("odds", odd)
    server.put("odds", above)
    for name in ("a", "b"):
        server.put("pods", running(name, owner=odd))
    assert [one.name for one in of(Job, collected(api))] == ["above"]
    paths = [path for path, _ in server.requests if "/odds/" in path]
    assert sorted(paths) == [
        "/apis/example.com/v1/namespaces/ml/odds/above",
        "/apis/example.com/v1/namespaces/ml/odds/o",
    ]


def test_an_owner_of_another_uid_is_not_the_owner(server: FakeApiServer, api: Api) -> None:
    odd = {**job("Odd", "o", t(-60)), "apiVersion": "example.com/v1"}
    server.put("pods", running("a", owner=odd))
    server.put(
        "odds", {**odd, "metadata": {**odd["metadata"], "uid": "made anew", "labels": {"team": "new"}}}
    )
    (found,) = of(Job, collected(api))
    assert (found.job_id, found.dimensions) == ("east/Odd/o", {})


def test_kinds_that_the_cluster_does_not_serve_are_not_asked_for(server: FakeApiServer, api: Api) -> None:
    del server.groups["jobset.x-k8s.io/v1alpha2"]
    assert of(Diagnostic, collected(api)) == []
    assert not [path for path, _ in server.requests if "jobset" in path or "ray.io" in path]


def test_some_namespaces_only(server: FakeApiServer, api: Api) -> None:
    server.put("pods", running("a"))
    other = running("b")
    other["metadata"]["namespace"] = "web"
    server.put("pods", other)
    assert {one.pod for one in of(UsageInterval, collected(api, namespaces=("ml", "none")))} == {"a"}
    assert server.asked("/api/v1/pods") == []
    assert {one.pod for one in of(UsageInterval, collected(api, namespaces=("ml", "web")))} == {"a", "b"}


def test_the_same_names_in_two_clusters(server: FakeApiServer, api: Api) -> None:
    server.put("pods", running("a"))
    with FakeApiServer().running() as west:
        west.put("pods", running("a"))
        other = Api(Access(west.url, "fake", "west"))
        ids = {one.job_id for found in (api, other) for one in of(Job, collected(found))}
        other.close()
    assert ids == {"east/Pod/a", "west/Pod/a"}


def test_a_cluster_without_name_is_known_by_its_system_namespace(
    server: FakeApiServer, waits: list[float]
) -> None:
    api = Api(Access(server.url, "fake"), sleep=waits.append)
    with pytest.raises(ConfigError, match="no name"):
        kubernetes.cluster_id(api, kubernetes.Options())
    server.put("namespaces", {"metadata": {"name": "kube-system", "uid": "u-1"}})
    assert kubernetes.cluster_id(api, kubernetes.Options()) == "u-1"
    assert kubernetes.cluster_id(api, kubernetes.Options(cluster="prod")) == "prod"
    api.close()


@pytest.mark.parametrize("off", [timedelta(hours=-2), timedelta(minutes=7)])
def test_the_servers_clock_counts(server: FakeApiServer, api: Api, off: timedelta) -> None:
    server.clock = off
    api.get("/apis")
    assert abs(api.server_now() - (datetime.now(UTC) + off)) < timedelta(seconds=3)
    assert [one.code for one in of(Diagnostic, collected(api))] == ["clock-skew"]


def test_clocks_that_agree_are_left_alone(server: FakeApiServer, api: Api) -> None:
    assert server.clock == timedelta(0)
    api.get("/apis")
    assert api.offset == timedelta(0)


def test_an_answer_that_is_no_api_servers(server: FakeApiServer, api: Api) -> None:
    server.groups["apps/v1"] = {}
    with pytest.raises(SourceError, match="not found"):
        api.listed(Resource("apps", "v1", "deployments", "Deployment"))
    with pytest.raises(SourceError, match="no list"):
        api.listed(Resource("", "v1", "", "Nothing"))


# ---- Watching


@pytest.fixture
def watcher(api: Api) -> Iterator[Watcher]:
    api.sleep = time.sleep
    with Watcher(api, Timeline("east")) as found:
        yield found


def pods_of(watcher: Watcher) -> dict[str | None, str]:
    """Name and last state of the pods that hold something."""
    watcher.update(0.05)
    now = datetime.now(UTC)
    rows = watcher.timeline.records(NOW - timedelta(hours=1), now + timedelta(minutes=1)).usages
    return {row.pod: row.state for row in sorted(rows, key=lambda row: row.start)}


def holds(watcher: Watcher, pod: str) -> bool:
    return pod in pods_of(watcher)


def test_changes_come_in_as_they_happen(server: FakeApiServer, watcher: Watcher) -> None:
    eventually(lambda: server.asked("/api/v1/pods"))
    server.put("pods", running("a"))
    eventually(lambda: pods_of(watcher) == {"a": "running"})
    server.put("pods", live_pod("b", t(-1)))
    server.put("pods", running("c"))
    eventually(lambda: pods_of(watcher) == {"a": "running", "c": "running"})
    server.delete("pods", "b")
    server.delete("pods", "a")
    records = watcher.timeline.records
    eventually(
        lambda: (
            watcher.update(0.05) is not None
            and records(NOW, NOW + timedelta(hours=1)).usages[0].end < server_end(watcher)
        )
    )
    kinds = {
        one.name: one.attempts for one in records(NOW - timedelta(hours=1), NOW + timedelta(hours=1)).jobs
    }
    # b was deleted while it waited for a node: a job that cost nothing.
    assert kinds == {"a": 1, "b": 0, "c": 1}


def server_end(watcher: Watcher) -> datetime:
    rows = watcher.timeline.records(NOW, NOW + timedelta(hours=1)).usages
    return max(row.end for row in rows if row.pod == "c")


def test_bookmarks_say_that_all_is_as_it_was(server: FakeApiServer, watcher: Watcher) -> None:
    server.put("pods", running("a"))
    eventually(lambda: pods_of(watcher) == {"a": "running"})

    def known_until() -> datetime:
        watcher.update(0.05)
        return watcher.timeline.records(NOW, NOW + timedelta(hours=1)).usages[0].end

    first = known_until()
    eventually(lambda: known_until() > first + timedelta(milliseconds=300))


def test_a_gap_is_closed_by_listing_again(server: FakeApiServer, watcher: Watcher) -> None:
    """410 Gone: what was deleted meanwhile ends when it was last seen, what came is there."""
    server.put("pods", running("a"))
    eventually(lambda: pods_of(watcher) == {"a": "running"})
    server.delete("pods", "a", silently=True)
    server.put("pods", running("b"))
    server.compact()
    eventually(lambda: "b" in pods_of(watcher))
    found = watcher.timeline.records(NOW - timedelta(hours=1), NOW + timedelta(hours=1))
    assert [one.code for one in found.diagnostics] == ["end-not-seen"]
    lists = [params for params in server.asked("/api/v1/pods") if "watch" not in params]
    assert len(lists) == 2


def test_a_line_that_broke_off_is_asked_for_again(server: FakeApiServer, watcher: Watcher) -> None:
    eventually(lambda: [params for params in server.asked("/api/v1/pods") if "watch" in params])
    server.broken_lines.append('{"type":"ADDED","object":{"kind":"Pod","metad')
    server.put("pods", running("a"))
    eventually(lambda: pods_of(watcher) == {"a": "running"})
    lists = [params for params in server.asked("/api/v1/pods") if "watch" not in params]
    assert len(lists) == 1


def test_watches_that_end_go_on_from_where_they_were(server: FakeApiServer, api: Api) -> None:
    server.watch_seconds = 0.3
    api.sleep = time.sleep
    with Watcher(api, Timeline("east")) as watcher:
        for number in range(4):
            server.put("pods", running(f"p{number}"))
            eventually(partial(holds, watcher, f"p{number}"))
            time.sleep(0.35)
        watched = [params for params in server.asked("/api/v1/pods") if "watch" in params]
        assert len(watched) > 1
        versions = [int(params["resourceVersion"]) for params in watched]
        assert versions == sorted(versions)
        assert len([params for params in server.asked("/api/v1/pods") if "watch" not in params]) == 1


def test_what_may_be_listed_and_not_watched_is_told_and_listed_again(server: FakeApiServer, api: Api) -> None:
    server.forbidden = frozenset({"watch nodes"})
    server.put("nodes", node())
    pauses: list[float] = []
    changes = follow(api, NODES, None, lambda: len(pauses) >= 2, pauses.append)
    found = [
        (change.what, change.trouble.message if change.trouble else len(change.objects)) for change in changes
    ]
    assert found[0] == ("list", 1)
    assert found[1][0] == "trouble"
    assert str(found[1][1]).startswith("Node: may not watch nodes (403)")
    assert pauses == [300.0, 300.0]


def test_a_server_that_went_away_is_told_once_and_found_again(server: FakeApiServer, api: Api) -> None:
    server.failures["/api/v1/nodes"] = [500] * 10
    pauses: list[float] = []
    found = []
    for change in follow(api, NODES, None, lambda: False, pauses.append):
        found.append(change.what)
        if change.what == "list":
            break
    assert found == ["trouble", "list"]


def test_a_token_is_read_again_when_it_changes(
    server: FakeApiServer, tmp_path: Path, waits: list[float]
) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    server.token = "old"  # noqa: S105 - a fake server's
    api = Api(Access(server.url, "fake", "east", token_file=file), sleep=waits.append)
    api.get("/apis")
    server.token = "new"  # noqa: S105
    file.write_text("new\n")
    api.get("/apis")
    assert [headers["authorization"] for headers in server.headers][-1] == "Bearer new"
    api.close()


def test_nothing_is_lost_between_list_and_watch(server: FakeApiServer, api: Api) -> None:
    """Pods come and go while the first list is read: all of them are told."""
    for number in range(30):
        server.put("pods", running(f"p{number}"))
    timeline = Timeline("east")
    assert observe(api, timeline) == []
    assert len({row.pod for row in timeline.records(NOW - timedelta(hours=1), NOW).usages}) == 30
