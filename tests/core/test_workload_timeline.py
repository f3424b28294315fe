"""A cluster over time: what is held, running, waiting, tried again, shared, unseen; and the sums of windows."""

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.kubernetes_objects import (
    END,
    NODE,
    START,
    card_minutes,
    job,
    jobset,
    live_pod,
    minutes,
    ran,
    t,
    told,
    watched,
    when,
    worker,
)

from gpuledger.core.workload import Timeline


def test_a_pod_holds_from_binding_to_its_end() -> None:
    owner = job(
        "Job",
        "train",
        t(0),
        status={"completionTime": t(63), "conditions": [{"type": "Complete", "status": "True"}]},
    )
    records = watched((0, owner), (64, ran("train-a", 3, 63, owner=owner, gpus=8))).records(START, END)
    assert told(records) == [("train-a", 2, 3, "held", 1), ("train-a", 3, 63, "running", 1)]
    assert card_minutes(records.usages) == 8 * 61
    (row,) = records.jobs
    assert (row.job_id, row.kind, row.state, row.attempts) == ("c/Job/train", "Job", "Complete", 1)
    assert (row.submitted, row.started, row.ended) == (when(0), when(3), when(63))
    assert {(one.resource, one.requested) for one in records.usages} == {
        ("gpu", Decimal(8)),
        ("cpu", Decimal(2)),
        ("memory", Decimal(4)),
    }
    assert all(one.used is None for one in records.usages)


def test_what_was_never_bound_costs_nothing() -> None:
    owner = job("Job", "train", t(0))
    pending = live_pod("train-a", t(1), owner=owner, gpus=8)
    line = watched((1, pending))
    line.see(owner, when(1))
    line.gone(pending, when(30))
    records = line.records(START, END)
    assert records.usages == ()
    (row,) = records.jobs
    assert (row.name, row.started, row.attempts) == ("train", None, 0)


def test_a_queued_job_without_pods_is_a_job() -> None:
    queued = job(
        "Job", "later", t(5), {"suspend": True, "template": {"spec": {"containers": [{"name": "c"}]}}}
    )
    records = watched((5, queued)).records(START, END)
    assert [(row.name, row.state, row.attempts) for row in records.jobs] == [("later", "Suspended", 0)]
    assert watched((5, queued)).records(START, when(5)).jobs == ()


def test_restarts_are_attempts_and_the_pause_before_them_is_held() -> None:
    first = live_pod("a", t(0), node=NODE, scheduled=t(0), runs=[(t(1), None)])
    again = live_pod("a", t(0), node=NODE, scheduled=t(0), runs=[(t(1), t(11)), (t(14), None)])
    records = watched((2, first), (15, again), until=60).records(START, END)
    assert told(records) == [
        ("a", 0, 1, "held", 1),
        ("a", 1, 11, "running", 1),
        ("a", 11, 14, "held", 2),
        ("a", 14, 60, "running", 2),
    ]
    assert records.jobs[0].attempts == 2


def test_runs_before_the_first_sight_are_counted_by_their_number() -> None:
    late = live_pod(
        "a", t(0), node=NODE, scheduled=t(0), runs=[(t(1), t(2)), (t(3), t(4)), (t(5), t(6)), (t(7), None)]
    )
    records = watched((10, late), until=20).records(START, END)
    # Only the last two runs are in the object; the time before is held, of an attempt that isn't known.
    assert told(records)[-1] == ("a", 7, 20, "running", 4)
    assert records.jobs[0].attempts == 4


def test_a_job_that_tries_again_is_one_job() -> None:
    owner = job("Job", "train", t(0))
    failed = ran("train-a", 2, 20, owner=owner, phase="Failed")
    again = ran("train-b", 30, None, owner=owner)
    records = watched((0, owner), (21, failed), (30, again), until=60).records(START, END)
    assert {(pod, attempt) for pod, _, _, _, attempt in told(records)} == {("train-a", 1), ("train-b", 2)}
    assert [row.attempts for row in records.jobs] == [2]


def test_a_pod_made_anew_under_its_old_name_is_another_attempt() -> None:
    owner = job("StatefulSet", "db", t(0))
    place = {"statefulset.kubernetes.io/pod-name": "db-0"}
    first = ran("db-0", 2, None, owner=owner, uid="u1", labels=place)
    second = ran("db-0", 40, None, owner=owner, uid="u2", labels=place)
    line = watched((0, owner), (2, first), (40, second), until=60)
    line.gone(first, when(30))
    records = line.records(START, END)
    assert [(one, attempt) for one, *_, attempt in told(records)] == [("db-0", 1)] * 2 + [("db-0", 2)] * 2
    assert {row.pod_uid for row in records.usages} == {"u1", "u2"}


def test_a_ray_job_is_one_job_over_two_hops() -> None:
    ray = job("RayJob", "tune", t(0), status={"jobStatus": "RUNNING"})
    cluster = job("RayCluster", "tune-x", t(0), owner=ray)
    pods = [
        ran(name, 3, None, owner=cluster, gpus=gpus)
        for name, gpus in (("head", 0), ("worker-1", 4), ("worker-2", 4))
    ]
    records = watched((0, ray), (0, cluster), *((3.0, pod) for pod in pods), until=63).records(START, END)
    assert [(row.kind, row.name, row.state) for row in records.jobs] == [("RayJob", "tune", "RUNNING")]
    assert card_minutes(records.usages) == 2 * 4 * 61
    assert {row.job_id for row in records.usages} == {"c/RayJob/tune"}


def test_two_pods_on_one_claim_have_half_of_it_each_while_both_are_there() -> None:
    claim = {
        "kind": "ResourceClaim",
        "metadata": {"name": "one", "namespace": "ml", "uid": "claim"},
        "spec": {"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "gpu.nvidia.com"}}]}},
    }
    uses = {"resourceClaims": [{"name": "c", "resourceClaimName": "one"}]}
    seen = [
        (0.0, claim),
        (10.0, ran("a", 3, 10, gpus=0, spec=uses)),
        (20.0, ran("b", 6, 20, gpus=0, spec=uses)),
    ]
    records = watched(*seen).records(START, END)
    shares = [
        (row.pod, minutes(row.start), minutes(row.end), row.share)
        for row in records.usages
        if row.resource == "gpu"
    ]
    assert sorted(shares, key=lambda one: (one[0] or "", one[1])) == [
        ("a", 2, 3, Fraction(1)),
        ("a", 3, 5, Fraction(1)),
        ("a", 5, 10, Fraction(1, 2)),
        ("b", 5, 6, Fraction(1, 2)),
        ("b", 6, 10, Fraction(1, 2)),
        ("b", 10, 20, Fraction(1)),
    ]
    assert card_minutes(records.usages) == 18


def test_a_claim_that_cannot_be_read_is_told_and_not_counted() -> None:
    uses = {"resourceClaims": [{"name": "c", "resourceClaimName": "one"}]}
    records = watched((10, ran("a", 3, 10, gpus=0, spec=uses))).records(START, END)
    assert {row.resource for row in records.usages} == {"cpu", "memory"}
    assert [(one.code, one.message) for one in records.diagnostics] == [
        ("request-unknown", "resource claim 'c': one isn't known")
    ]


def test_the_holders_of_a_reserved_card_are_those_that_share_it() -> None:
    reservation = ran("gpu-reservation", 2, None, labels={"runai-gpu-group": "g"})
    reservation["metadata"]["namespace"] = "kai-resource-reservation"
    reservation["metadata"]["annotations"] = {"run.ai/reserve_for_gpu_index": "GPU-1"}
    sharing = ran("half", 3, 13, gpus=0, labels={"runai-gpu-group": "g"})
    sharing["metadata"]["annotations"] = {"gpu-fraction": "0.5"}
    records = watched((2, reservation), (14, sharing), until=20).records(START, END)
    assert {(row.pod, row.device, row.share) for row in records.usages if row.resource == "gpu"} == {
        ("half", "GPU-1", Fraction(1, 2))
    }
    assert card_minutes(records.usages) == Fraction(11, 2)


def node(labels: dict[str, str] | None = None, created: float = 0, **capacity: str) -> dict[str, Any]:
    named = {key.replace("__", "/").replace("_", "."): value for key, value in capacity.items()}
    return {
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "uid": f"node-{NODE}",
            "creationTimestamp": t(created),
            "labels": labels or {},
        },
        "spec": {"providerID": "aws:///z/i-1"},
        "status": {"capacity": {"cpu": "96", "memory": "1Ti", **named}},
    }


def test_shares_are_those_of_the_node_even_if_it_is_seen_later() -> None:
    tags = {
        "nvidia.com/gpu.product": "Tesla-T4-SHARED",
        "nvidia.com/gpu.count": "1",
        "nvidia.com/gpu.replicas": "4",
    }
    seen = [(3.0, ran("a", 3, None)), (5.0, node(tags, nvidia_com__gpu="4"))]
    records = watched(*seen, until=13).records(START, END)
    assert {(row.share, row.sharing) for row in records.usages if row.resource == "gpu"} == {
        (Fraction(1, 4), "time-slicing")
    }
    assert card_minutes(records.usages) == Fraction(11, 4)


def test_a_machine_is_one_interval_until_its_shape_changes() -> None:
    bare = node({"node.kubernetes.io/instance-type": "m5.large"})
    ready = node(
        {"node.kubernetes.io/instance-type": "m5.large", "topology.kubernetes.io/region": "r"},
        nvidia_com__gpu="8",
    )
    spot = node({**ready["metadata"]["labels"], "karpenter.sh/capacity-type": "spot"}, nvidia_com__gpu="8")
    resized = node(
        {**spot["metadata"]["labels"], "karpenter.sh/capacity-type": "on-demand"}, nvidia_com__gpu="8"
    )
    line = watched((1, bare), (4, ready), (10, spot), (30, resized), until=100)
    line.gone(resized, when(50))
    # That it has cards, and is spot, it told late: it had and was so before.
    found = [
        (minutes(one.start), minutes(one.end), one.gpu_count, one.spot)
        for one in line.records(START, END).nodes
    ]
    assert found == [(0, 30, Decimal(8), True), (30, 50, Decimal(8), False)]
    (part,) = line.records(when(10), when(20)).nodes
    assert (part.provider_id, part.region, part.start, part.end) == ("i-1", "r", when(10), when(20))


def test_deletions_that_nobody_saw_end_when_last_seen() -> None:
    running = ran("a", 3, None)
    line = Timeline("c")
    line.relist("Pod", [running], when(3))
    line.relist("Node", [node()], when(3))
    line.confirm("Pod", when(10))
    line.confirm("Node", when(12))
    line.relist("Pod", [], when(40))
    line.relist("Node", [], when(40))
    records = line.records(START, END)
    assert told(records)[-1] == ("a", 3, 10, "running", 1)
    assert [minutes(one.end) for one in records.nodes] == [12]
    assert [one.code for one in records.diagnostics] == ["end-not-seen"]


def test_nothing_is_assumed_after_the_last_sign_of_life() -> None:
    line = watched((3, ran("a", 3, None)), until=20)
    assert told(line.records(START, when(60)))[-1] == ("a", 3, 20, "running", 1)
    line.confirm("Pod", when(50))
    assert told(line.records(START, when(60)))[-1] == ("a", 3, 50, "running", 1)


def test_a_deletion_that_was_seen_ends_at_once() -> None:
    running = ran("a", 3, None)
    line = watched((3, running))
    line.gone(running, when(20))
    assert told(line.records(START, END))[-1] == ("a", 3, 20, "running", 1)
    ended = ran("b", 3, 15, phase="Running")
    line.see(ended, when(16))
    line.gone(ended, when(30))
    assert told(line.records(START, END))[-1] == ("b", 3, 15, "running", 1)


def test_a_nodes_clock_is_kept_between_those_of_the_server() -> None:
    behind = live_pod("a", t(0), node=NODE, scheduled=t(5), runs=[(t(1), t(65))], phase="Succeeded")
    ahead = live_pod("b", t(0), node=NODE, scheduled=t(5), runs=[(t(90), None)])
    records = watched((60, behind), (60, ahead), until=70).records(START, END)
    assert told(records) == [("a", 5, 60, "running", 1), ("b", 5, 60, "held", 1), ("b", 60, 70, "running", 1)]
    assert {one.code for one in records.diagnostics} == {"clock-skew"}
    assert [one.message for one in records.diagnostics] == [
        "the clock of node n1 is off by at least 300 s",
        "the clock of node n1 is off by at least 1800 s",
    ]


def test_a_resize_counts_from_when_it_was_seen() -> None:
    small = ran("a", 3, None)
    large = ran("a", 3, None)
    large["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "6"
    records = watched((3, small), (20, large), until=60).records(START, END)
    cores = [
        (minutes(row.start), minutes(row.end), row.requested)
        for row in records.usages
        if row.resource == "cpu"
    ]
    assert cores == [(2, 3, Decimal(2)), (3, 20, Decimal(2)), (20, 60, Decimal(6))]


def test_the_same_names_in_two_clusters_are_two_jobs() -> None:
    ids = [
        watched((3, ran("a", 3, 9)), cluster=cluster).records(START, END).jobs[0].job_id
        for cluster in ("east", "west")
    ]
    assert ids == ["east/Pod/a", "west/Pod/a"]


def test_owners_that_were_not_seen_are_asked_for_once() -> None:
    unseen = job("Odd", "o", t(0))
    pods = [ran(name, 3, None, owner=unseen) for name in ("a", "b")]
    line = watched(*((3.0, pod) for pod in pods))
    assert [(owner.kind, owner.name, space) for owner, space in line.unknown_owners()] == [("Odd", "o", "ml")]
    line.see(unseen, when(4))
    assert line.unknown_owners() == []


def test_what_is_over_can_be_forgotten() -> None:
    owner = job("Job", "train", t(0))
    line = watched((0, owner), (20, ran("a", 3, 15, owner=owner)), (20, ran("b", 3, None)))
    line.gone(owner, when(25))
    line.forget(when(10))
    assert {row.pod for row in line.records(START, END).usages} == {"a", "b"}
    line.forget(when(30))
    records = line.records(START, END)
    assert {row.pod for row in records.usages} == {"b"}
    assert [row.kind for row in records.jobs] == ["Pod"]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"kind": "Pod"},
        {"kind": "Pod", "metadata": {"uid": "u"}},
        {"kind": "Node", "metadata": {"uid": "u"}},
    ],
)
def test_any_object_can_be_seen(broken: dict[str, Any]) -> None:
    line = Timeline("c")
    line.see(broken, when(1))
    line.gone(broken, when(2))
    assert line.records(START, END).usages == ()


moments = st.lists(st.integers(0, 120), min_size=1, max_size=8, unique=True)


@given(
    cuts=moments,
    pods=st.lists(
        st.tuples(st.integers(2, 60), st.integers(1, 60), st.sampled_from(["Succeeded", "Failed"])),
        max_size=4,
    ),
    gang=st.booleans(),
)
def test_windows_add_up(cuts: list[int], pods: list[tuple[int, int, str]], gang: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever windows the time is cut into, each second of each pod is told once, with the same state."""
    owner = jobset(len(pods)) if gang else job("Job", "train", t(0))
    seen: list[tuple[float, dict[str, Any]]] = [(0.0, owner)]
    for number, (start, length, phase) in enumerate(pods):
        child, tags = worker(owner, number)
        seen += [
            (0.0, child),
            (130.0, ran(f"p{number}", start, start + length, owner=child, phase=phase, labels=tags)),
        ]
    line = watched(*seen, until=140)
    whole: dict[tuple[Any, ...], float] = defaultdict(float)
    parts: dict[tuple[Any, ...], float] = defaultdict(float)
    edges = sorted({0, 140, *cuts})
    for counted, windows in ((whole, [(0, 140)]), (parts, list(pairwise(edges)))):
        for first, last in windows:
            for row in line.records(when(first), when(last)).usages:
                assert when(first) <= row.start < row.end <= when(last)
                counted[row.pod, row.resource, row.state, row.attempt, row.share] += (
                    row.end - row.start
                ).total_seconds()
    assert whole == parts
    assert sum(whole.values()) == 3 * 60 * sum(length + 1 for _, length, _ in pods)


def test_a_pod_holds_nothing_of_a_node_that_is_gone() -> None:
    """Spot nodes come back under their old names: the pod of the first one isn't on the second."""
    line = watched((1, node()), (3, ran("a", 3, None)), until=60)
    line.gone(node(), when(20))
    again = node(created=25)
    again["metadata"]["uid"] = "another"
    line.see(again, when(25))
    line.see(ran("b", 30, None), when(31))
    records = line.records(START, when(60))
    assert [one[:3] for one in told(records)] == [("a", 2, 3), ("a", 3, 20), ("b", 29, 30), ("b", 30, 60)]
    assert [(minutes(one.start), minutes(one.end)) for one in records.nodes] == [(0, 20), (25, 60)]


def test_a_ray_job_that_tries_again_makes_another_cluster() -> None:
    ray = job("RayJob", "tune", t(0))
    tags = {"ray.io/originated-from-crd": "RayJob", "ray.io/originated-from-cr-name": "tune"}
    clusters = [job("RayCluster", f"tune-{number}", t(number * 30), owner=ray) for number in range(2)]
    first = ran(
        "head-0", 3, 20, owner=clusters[0], labels={**tags, "ray.io/cluster": "tune-0"}, phase="Failed"
    )
    second = ran("head-1", 33, None, owner=clusters[1], labels={**tags, "ray.io/cluster": "tune-1"})
    seen = [(0.0, ray), (0.0, clusters[0]), (30.0, clusters[1]), (21.0, first), (34.0, second)]
    records = watched(*seen, until=60).records(START, END)
    assert {(pod, attempt) for pod, *_, attempt in told(records)} == {("head-0", 1), ("head-1", 2)}
    assert [(row.name, row.attempts) for row in records.jobs] == [("tune", 2)]


def test_steps_of_a_workflow_are_tried_again_each_for_itself() -> None:
    flow = job("Workflow", "w", t(0), {"templates": [{"name": "a", "container": {"image": "x"}}]})
    pods = [
        ran("fit-0", 3, 10, owner=flow, phase="Failed"),
        ran("fit-1", 12, 20, owner=flow),
        ran("report", 22, 30, owner=flow),
    ]
    for pod, step in zip(pods, ("w.fit(0)", "w.fit(1)", "w.report"), strict=True):
        pod["metadata"]["annotations"] = {"workflows.argoproj.io/node-name": step}
    records = watched((0, flow), *((31.0, pod) for pod in pods)).records(START, END)
    assert {(pod, attempt) for pod, *_, attempt in told(records)} == {
        ("fit-0", 1),
        ("fit-1", 2),
        ("report", 1),
    }
