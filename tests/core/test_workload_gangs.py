"""Gangs: what runs while the rest of its gang doesn't is held, and what works by itself isn't."""

from typing import Any

import pytest
from tests.core.kubernetes_objects import (
    END,
    START,
    card_minutes,
    job,
    jobset,
    live_pod,
    ran,
    t,
    told,
    watched,
    worker,
)


def test_a_gang_that_waits_for_one_is_held() -> None:
    """JobSet 2 × 8 cards: eight cards wait ten minutes for the other eight, and for the one that comes back."""
    owner = jobset(2)
    first_job, first_tags = worker(owner, 0)
    second_job, second_tags = worker(owner, 1)
    first = ran("js-w-0-0", 3, None, owner=first_job, gpus=8, labels=first_tags)
    pending = live_pod("js-w-1-0", t(1), owner=second_job, gpus=8, labels=second_tags)
    second = live_pod(
        "js-w-1-0",
        t(1),
        owner=second_job,
        gpus=8,
        labels=second_tags,
        node="n2",
        scheduled=t(12),
        runs=[(t(13), None)],
    )
    objects = [(0.0, owner), (0.0, first_job), (0.0, second_job)]
    records = watched(*objects, (3, first), (3, pending), (13, second), until=60).records(START, END)
    assert [row.job_id for row in records.jobs] == ["c/JobSet/js"]
    assert told(records) == [
        ("js-w-0-0", 2, 13, "held", 1),
        ("js-w-0-0", 13, 60, "running", 1),
        ("js-w-1-0", 12, 13, "held", 1),
        ("js-w-1-0", 13, 60, "running", 1),
    ]
    assert card_minutes(records.usages, "held") == 8 * 11 + 8 * 1


def test_a_gang_waits_for_pods_that_are_not_there_yet_but_not_for_those_that_are_done() -> None:
    owner = jobset(2)
    child, tags = worker(owner, 0)
    other, other_tags = worker(owner, 1)
    alone = ran("js-w-0-0", 3, None, owner=child, labels=tags)
    records = watched((0, owner), (0, child), (3, alone), until=30).records(START, END)
    assert told(records) == [("js-w-0-0", 2, 30, "held", 1)]
    done = ran("js-w-1-0", 3, 10, owner=other, labels=other_tags)
    records = watched((0, owner), (0, child), (0, other), (3, alone), (11, done), until=30).records(
        START, END
    )
    assert told(records)[:2] == [("js-w-0-0", 2, 3, "held", 1), ("js-w-0-0", 3, 30, "running", 1)]


def test_a_set_that_restarts_is_a_new_attempt_in_its_place() -> None:
    owner = jobset(1)
    child, tags = worker(owner, 0)
    anew, new_tags = worker(owner, 0, attempt=1)
    first = ran("js-w-0-0-a", 3, 20, owner=child, labels=tags, phase="Failed")
    second = ran("js-w-0-0-b", 30, None, owner=anew, labels=new_tags)
    seen = [(0.0, owner), (0.0, child), (25.0, anew), (21.0, first), (30.0, second)]
    records = watched(*seen, until=60).records(START, END)
    assert {(pod, attempt) for pod, *_, attempt in told(records)} == {("js-w-0-0-a", 1), ("js-w-0-0-b", 2)}


def test_replicas_of_a_service_do_not_wait_for_each_other() -> None:
    owner = job(
        "Deployment", "web", t(0), {"replicas": 3, "template": {"spec": {"containers": [{"name": "main"}]}}}
    )
    seen = [(0.0, owner), (3.0, ran("a", 3, None, owner=owner)), (3.0, live_pod("b", t(1), owner=owner))]
    records = watched(*seen, until=30).records(START, END)
    assert told(records)[-1] == ("a", 3, 30, "running", 1)


@pytest.mark.parametrize(("least", "state"), [(2, "held"), (1, "running")])
def test_a_pod_group_says_how_many_must_run(least: int, state: str) -> None:
    group = job("PodGroup", "g", t(0), {"minMember": least})
    first, other = ran("a", 3, None), live_pod("b", t(1))
    for pod in (first, other):
        pod["metadata"]["annotations"] = {"scheduling.k8s.io/group-name": "g"}
    records = watched((0, group), (3, first), (3, other), until=30).records(START, END)
    assert told(records)[-1][3] == state


def pair(
    first_tags: dict[str, str], notes: dict[str, str], other_tags: dict[str, str]
) -> list[tuple[float, dict[str, Any]]]:
    """A pod that runs from minute 3, and one that waits for a node."""
    first, other = ran("a", 3, None, labels=first_tags), live_pod("b", t(1), labels=other_tags)
    for pod in (first, other):
        pod["metadata"]["annotations"] = notes
    return [(3.0, first), (3.0, other)]


LWS = "leaderworkerset.sigs.k8s.io"


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        # Leader and worker of one group wait for each other, those of two groups don't.
        (pair({f"{LWS}/group-key": "g0"}, {f"{LWS}/size": "2"}, {f"{LWS}/group-key": "g0"}), "held"),
        (pair({f"{LWS}/group-key": "g0"}, {f"{LWS}/size": "1"}, {f"{LWS}/group-key": "g1"}), "running"),
        (
            pair(
                {"kueue.x-k8s.io/pod-group-name": "g"},
                {"kueue.x-k8s.io/pod-group-total-count": "2"},
                {"kueue.x-k8s.io/pod-group-name": "g"},
            ),
            "held",
        ),
        # A pod group of which nobody says how many must run.
        (pair({}, {"scheduling.k8s.io/group-name": "g"}, {}), "running"),
    ],
)
def test_groups_of_pods(seen: list[tuple[float, dict[str, Any]]], state: str) -> None:
    assert told(watched(*seen, until=30).records(START, END))[-1][2:4] == (30, state)


def test_while_one_of_a_gang_crashes_the_others_wait() -> None:
    owner = jobset(2)
    (child, tags), (other, other_tags) = worker(owner, 0), worker(owner, 1)
    steady = ran("js-w-0-0", 3, None, owner=child, labels=tags)
    crashed = live_pod(
        "js-w-1-0",
        t(1),
        owner=other,
        labels=other_tags,
        node="n2",
        scheduled=t(2),
        runs=[(t(3), t(10)), (t(15), None)],
    )
    records = watched((0, owner), (0, child), (0, other), (3, steady), (16, crashed), until=30).records(
        START, END
    )
    assert told(records)[:4] == [
        ("js-w-0-0", 2, 3, "held", 1),
        ("js-w-0-0", 3, 10, "running", 1),
        ("js-w-0-0", 10, 15, "held", 1),
        ("js-w-0-0", 15, 30, "running", 1),
    ]


def test_an_elastic_job_begins_with_fewer() -> None:
    spec = {
        "elasticPolicy": {"minReplicas": 1},
        "pytorchReplicaSpecs": {"Worker": {"replicas": 2, "template": {"spec": {}}}},
    }
    owner = job("PyTorchJob", "p", t(0), spec)
    first, other = ran("p-worker-0", 3, None, owner=owner), live_pod("p-worker-1", t(1), owner=owner)
    records = watched((0, owner), (3, first), (3, other), until=30).records(START, END)
    assert told(records)[-1] == ("p-worker-0", 3, 30, "running", 1)
    del owner["spec"]["elasticPolicy"]
    records = watched((0, owner), (3, first), (3, other), until=30).records(START, END)
    assert told(records)[-1] == ("p-worker-0", 2, 30, "held", 1)
