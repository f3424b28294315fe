"""A real Prometheus with synthetic clusters: one scene per trap. Steps are five minutes, scrapes one."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.telemetry.prometheus_server import Samples, at, serve

from gpuledger.core.cluster_metrics import Batch, records
from gpuledger.core.metric_containers import blind
from gpuledger.core.metric_grid import Grid, Window
from gpuledger.core.metric_names import maimed, resource_name
from gpuledger.core.metric_owners import OwnerEdge
from gpuledger.core.usage import UsageInterval
from gpuledger.telemetry import prometheus

STEP = timedelta(minutes=5)
KUBE: dict[str, Any] = {"job": "kube-state-metrics"}
EXPORTER: dict[str, Any] = {
    "job": "dcgm",
    "namespace": "gpu-operator",
    "pod": "nvidia-dcgm-exporter-x",
    "container": "e",
}


def node(
    scene: Samples, name: str, labels: dict[str, str] | None = None, minutes: range | list[int] = range(60)
) -> None:
    told: dict[str, Any] = {f"label_{maimed(key)}": text for key, text in (labels or {}).items()}
    scene.add("kube_node_info", 1, minutes, **KUBE, node=name, provider_id=f"aws:///us-east-1a/i-{name}")
    scene.add("kube_node_labels", 1, minutes, **KUBE, node=name, **told)
    scene.add("kube_node_status_capacity", 96, minutes, **KUBE, node=name, resource="cpu", unit="core")
    scene.add(
        "kube_node_status_capacity", 2.0**40, minutes, **KUBE, node=name, resource="memory", unit="byte"
    )


def pod(
    scene: Samples,
    name: str,
    on: str,
    minutes: range | list[int] = range(60),
    *,
    phase: str = "Running",
    owner: tuple[str, str] = ("<none>", "<none>"),
    **requests: float,
) -> None:
    place = {**KUBE, "namespace": "ml", "pod": name, "uid": f"uid-{name}"}
    for one in ("Pending", "Running", "Succeeded"):
        scene.add("kube_pod_status_phase", float(one == phase), minutes, **place, phase=one)
    running = float(phase == "Running")
    scene.add("kube_pod_container_status_running", running, minutes, **place, container="main")
    scene.add("kube_pod_info", 1, minutes, **place, node=on)
    for resource, amount in requests.items():
        labels = {**place, "container": "main", "node": on, "resource": resource}
        scene.add("kube_pod_container_resource_requests", amount, minutes, **labels)
    controlled = "<none>" if owner[0] in {"", "<none>"} else "true"
    scene.add(
        "kube_pod_owner",
        1,
        minutes,
        **place,
        owner_kind=owner[0],
        owner_name=owner[1],
        owner_is_controller=controlled,
    )


def card(
    scene: Samples,
    metric: str,
    value: float,
    uuid: str,
    minutes: range | list[int] = range(60),
    **labels: str,
) -> None:
    base = {"UUID": uuid, "gpu": "0", "modelName": "NVIDIA A100-SXM4-80GB", "Hostname": "n1"}
    scene.add(metric, value, minutes, **{**base, **labels})


def on(name: str, *, exported: bool = False) -> dict[str, Any]:
    prefix = "exported_" if exported else ""
    held = {f"{prefix}namespace": "ml", f"{prefix}pod": name, f"{prefix}container": "main"}
    return {**EXPORTER, **held} if exported else {"job": "honoured", **held}


UTIL, ENGINE = "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
UP = [*range(20), *range(30, 60)]  # nothing is scraped for ten minutes


def whole() -> Samples:
    scene = Samples("whole")
    labels = {
        "node.kubernetes.io/instance-type": "p4de.24xlarge",
        "topology.kubernetes.io/region": "us-east-1",
    }
    node(scene, "n1", labels, UP)
    pod(scene, "train-0", "n1", UP, owner=("Job", "train"), nvidia_com_gpu=3, cpu=8, memory=2.0**34)
    owned = {**KUBE, "namespace": "ml", "job_name": "train", "owner_kind": "JobSet", "owner_name": "big"}
    scene.add("kube_job_owner", 1, UP, **owned, owner_is_controller="true")
    scene.add(
        "kube_pod_start_time", at(2).timestamp(), UP, **KUBE, namespace="ml", pod="train-0", uid="uid-train-0"
    )
    scene.add("kube_pod_labels", 1, UP, **KUBE, namespace="ml", pod="train-0", label_team="vision")
    card(scene, UTIL, 80, "GPU-a", UP, **on("train-0", exported=True))
    card(scene, UTIL, 80, "GPU-a", UP, **on("train-0"))  # a second job scrapes the same exporter
    card(scene, UTIL, 40, "GPU-b", UP, **on("train-0", exported=True))
    card(scene, UTIL, 0, "GPU-idle", UP, **EXPORTER)
    counter: dict[str, Any] = {
        "job": "cadvisor",
        "namespace": "ml",
        "pod": "train-0",
        "container": "main",
        "id": "/a",
    }
    scene.add(
        "container_cpu_usage_seconds_total", lambda minute: (minute % 48) * 120.0, UP, **counter
    )  # reset at 48
    scene.add("container_memory_working_set_bytes", 2.0**33, UP, **counter)
    return scene


def ended() -> Samples:
    scene = Samples("ended")
    node(scene, "n1")
    pod(scene, "once", "n1", range(32), nvidia_com_gpu=1)
    pod(scene, "once", "n1", range(32, 60), phase="Succeeded", nvidia_com_gpu=1)
    done = at(32).timestamp()
    scene.add(
        "kube_pod_completion_time", done, range(32, 60), **KUBE, namespace="ml", pod="once", uid="uid-once"
    )
    pod(scene, "pulling", "n1", owner=("", ""), phase="Pending", nvidia_com_gpu=2)
    pod(scene, "queued", "", phase="Pending", nvidia_com_gpu=64)
    return scene


def shared() -> Samples:
    scene = Samples("shared")
    node(scene, "n1", {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.count": "8"})
    pod(scene, "mig", "n1", nvidia_com_mig_3g_40gb=1)
    slice_: dict[str, Any] = {"GPU_I_ID": "2", "GPU_I_PROFILE": "3g.40gb"}
    card(scene, UTIL, 0, "GPU-m", job="honoured")
    card(scene, UTIL, 0, "GPU-m", **slice_, **on("mig"))
    card(scene, ENGINE, 0.5, "GPU-m", **slice_, **on("mig"))
    for name in ("claimed-0", "claimed-1"):
        pod(scene, name, "n1")
        card(scene, UTIL, 60, "GPU-d", **on(name), dra_claim_name="one", dra_claim_namespace="ml")
    pod(scene, "vgpu", "n1", nvidia_com_gpu=1, nvidia_com_gpucores=25, nvidia_com_gpumem_percentage=50)
    hami: dict[str, Any] = {"podnamespace": "ml", "podname": "vgpu", "ctrname": "main", "deviceuuid": "GPU-h"}
    scene.add("Device_memory_desc_of_container", 2.0**30, job="hami", **hami)
    card(scene, UTIL, 10, "GPU-x", range(10), **on("blank"))
    card(scene, UTIL, float("nan"), "GPU-x", range(10, 20), **on("blank"))
    pod(scene, "blank", "n1", range(20), nvidia_com_gpu=1)
    card(scene, UTIL, 70, "GPU-s", hpc_job="4711", job="slurm")
    return scene


def slicing() -> Samples:
    scene = Samples("slicing")
    labels = {
        "nvidia.com/gpu.product": "Tesla-T4",
        "nvidia.com/gpu.count": "1",
        "nvidia.com/gpu.replicas": "4",
    }
    node(scene, "n1", labels | {"nvidia.com/gpu.sharing-strategy": "time-slicing"})
    for name in ("a", "b"):
        pod(scene, name, "n1", nvidia_com_gpu_shared=1)
        card(scene, UTIL, 90, "GPU-t", **on(name), vgpu=name)
    return scene


def passing_on() -> Samples:
    """One card from pod to pod, once with the next one of a stateful set; another shared, though no label says so."""
    scene = Samples("passing-on")
    node(scene, "n1")
    for name, uid, some, use in (
        ("once-1", "u1", range(12), 20.0), ("once-2", "u2", range(13, 32), 60.0),
        ("db-0", "u3", range(32, 43), 80.0), ("db-0", "u4", range(43, 60), 40.0),
    ):  # fmt: skip
        place = {**KUBE, "namespace": "ml", "pod": name, "uid": uid}
        asked = {**place, "container": "main", "node": "n1", "resource": "nvidia_com_gpu"}
        scene.add("kube_pod_container_resource_requests", 1, some, **asked)
        scene.add("kube_pod_status_phase", 1, some, **place, phase="Running")
        scene.add("kube_pod_start_time", at(some.start).timestamp(), some, **place)
        card(scene, UTIL, use, "GPU-k", some, **on(name), pod_uid=uid)
    for name in ("left", "right"):
        pod(scene, name, "n1", nvidia_com_gpu=1)
        card(scene, UTIL, 90, "GPU-l", **on(name))
    return scene


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(
        tmp_path_factory.mktemp("prometheus"), [whole(), ended(), shared(), slicing(), passing_on()]
    ) as address:
        yield address


def read(url: str, scene: str, minutes: int = 60, steps: int = 12) -> list[Batch]:
    server = prometheus.Server(url, match={"scene": scene})
    return list(prometheus.read(server, "c1", (at(0), at(minutes)), steps=steps))


def rows(batches: list[Batch], resource: str, pod: str | None) -> list[UsageInterval]:
    return [row for batch in batches for row in batch.usage if row.resource == resource and row.pod == pod]


def minutes(row: UsageInterval) -> tuple[float, float]:
    return (row.start - at(0)).total_seconds() / 60, (row.end - at(0)).total_seconds() / 60


def test_cards_of_a_pod_count_once_and_missing_labels_are_kept_as_held(url: str) -> None:
    held = rows(read(url, "whole"), "gpu", "train-0")
    seen = {(row.device, row.used, *minutes(row)) for row in held}
    for device, used in (("GPU-a", Decimal("0.8")), ("GPU-b", Decimal("0.4"))):
        assert {row for row in seen if row[0] == device} == {
            (device, used, 2.0, 20.0),
            (device, used, 30.0, 60.0),
        }
    other = [row for row in held if row.device is None]
    assert {(row.requested, row.used, *minutes(row)) for row in other} == {
        (Decimal(1), None, 2.0, 20.0), (Decimal(3), None, 20.0, 30.0), (Decimal(1), None, 30.0, 60.0),
    }  # fmt: skip
    assert all((row.sharing, row.share) == ("whole", Fraction(1)) for row in held)
    assert {row.device for batch in read(url, "whole") for row in batch.usage} == {"GPU-a", "GPU-b", None}


def test_cpu_and_memory_know_resets_and_gaps(url: str) -> None:
    batches = read(url, "whole")
    cpu = rows(batches, "cpu", "train-0")
    assert {row.requested for row in cpu} == {Decimal(8)}
    used = {minutes(row)[0]: row.used for row in cpu}
    assert used[20.0] is None, "nothing was scraped from minute 20 to 30"
    assert used[30.0] is not None
    assert abs(used[30.0] - 2) < Decimal("0.001")
    known = [value for value in used.values() if value is not None]
    assert min(known) > Decimal("1.3")
    assert max(known) < Decimal("2.1"), "no spike at the reset"
    memory = rows(batches, "memory", "train-0")
    assert {(row.requested, row.used) for row in memory} == {(Decimal(16), Decimal(8)), (Decimal(16), None)}


def test_job_owners_and_node(url: str) -> None:
    (batch,) = read(url, "whole")
    assert {row.job_id for row in batch.usage} == {"c1/ml/JobSet/big"}
    (job,) = batch.jobs
    assert (job.kind, job.name, job.namespace, dict(job.labels)) == (
        "JobSet",
        "big",
        "ml",
        {"team": "vision"},
    )
    assert set(batch.owners) == {
        OwnerEdge("c1", "ml", "Pod", "train-0", "Job", "train"), OwnerEdge("c1", "ml", "Job", "train", "JobSet", "big"),
    }  # fmt: skip
    (machine,) = batch.nodes
    assert (machine.node, machine.provider_id, machine.cloud) == ("n1", "i-n1", "aws")
    assert (machine.instance_type, machine.gpu_model, machine.gpu_count) == (
        "p4de.24xlarge",
        "A100",
        Decimal(8),
    )
    assert (machine.cpu_cores, machine.memory_gib, machine.region) == (
        Decimal(96),
        Decimal(1024),
        "us-east-1",
    )
    assert (machine.start, machine.end) == (at(0), at(60))


def test_a_gap_is_told_and_bridged_only_between(url: str) -> None:
    (batch,) = read(url, "whole")
    assert batch.gaps == ((at(20), at(30)),)
    assert [found.code for found in batch.diagnostics] == ["telemetry-gap"]
    alone = list(prometheus.read(prometheus.Server(url, match={"scene": "whole"}), "c1", (at(20), at(30))))
    assert [one.usage for one in alone] == [()]
    assert alone[0].gaps == ((at(20), at(30)),)


def test_phases_decide_what_costs(url: str) -> None:
    batches = read(url, "ended")
    (once,) = rows(batches, "gpu", "once")
    assert (minutes(once), once.state, once.job_id) == ((0.0, 32.0), "running", "c1/uid-once")
    (pulling,) = rows(batches, "gpu", "pulling")
    assert (pulling.state, pulling.requested, pulling.used) == ("held", Decimal(2), None)
    assert rows(batches, "gpu", "queued") == []
    assert batches[0].owners == ()


def test_mig_slices_are_parts_of_their_parent(url: str) -> None:
    (row,) = rows(read(url, "shared"), "gpu", "mig")
    assert (row.device, row.sharing, row.share) == ("GPU-m", "mig", Fraction(3, 7))
    assert row.requested == Decimal("0.42857142857143")
    assert row.used is not None
    assert abs(row.used - Decimal(3) / 14) < Decimal("1e-13"), "half of three sevenths, by the engine"


def test_a_claim_is_split_among_its_pods(url: str) -> None:
    batches = read(url, "shared")
    for name in ("claimed-0", "claimed-1"):
        (row,) = rows(batches, "gpu", name)
        assert (row.device, row.sharing, row.share, row.used) == ("GPU-d", "dra", Fraction(1, 2), None)


def test_hami_takes_the_larger_share(url: str) -> None:
    (row,) = rows(read(url, "shared"), "gpu", "vgpu")
    assert (row.device, row.sharing, row.share, row.used) == ("GPU-h", "hami", Fraction(1, 2), None)


def test_nan_is_unknown(url: str) -> None:
    first, second = sorted(rows(read(url, "shared"), "gpu", "blank"), key=minutes)
    assert (minutes(first), first.device, first.used) == ((0.0, 10.0), "GPU-x", Decimal("0.1"))
    assert (minutes(second), second.requested, second.used) == ((10.0, 20.0), Decimal(1), None)


def test_slurm_jobs_that_dcgm_names(url: str) -> None:
    (row,) = [row for row in rows(read(url, "shared"), "gpu", None) if row.job_id == "c1/slurm/4711"]
    assert (row.device, row.node, row.used, row.share) == ("GPU-s", "n1", Decimal("0.7"), Fraction(1))


def test_time_slices_know_their_share_and_not_their_use(url: str) -> None:
    batches = read(url, "slicing")
    for name in ("a", "b"):
        (row,) = rows(batches, "gpu", name)
        assert (row.device, row.sharing, row.share) == ("GPU-t", "time-slicing", Fraction(1, 4))
        assert (row.requested, row.used) == (Decimal("0.25"), None)
    assert batches[0].nodes[0].gpu_model == "T4"


def test_a_card_that_changes_hands_is_no_shared_card(url: str) -> None:
    batches = read(url, "passing-on")
    found = [row for name in ("once-1", "once-2", "db-0") for row in rows(batches, "gpu", name)]
    assert {(row.device, row.sharing, row.share) for row in found} == {("GPU-k", "whole", Fraction(1))}
    assert sorted((*minutes(row), row.pod_uid, row.used) for row in found) == [
        (0.0, 15.0, "u1", Decimal("0.2")), (13.0, 35.0, "u2", Decimal("0.6")),
        (32.0, 43.0, "u3", Decimal("0.8")), (43.0, 60.0, "u4", Decimal("0.4")),
    ]  # fmt: skip


def test_sharers_of_whole_cards_have_an_unknown_share(url: str) -> None:
    for name in ("left", "right"):
        (row,) = rows(read(url, "passing-on"), "gpu", name)
        assert (row.device, row.sharing, row.share, row.used) == ("GPU-l", "time-slicing", None, None)


def test_the_same_in_pieces_and_from_where_it_stopped(url: str) -> None:
    def told(batches: list[Batch]) -> set[tuple[object, ...]]:
        return {
            (row.pod, row.resource, row.device, row.used, row.start + STEP * place)
            for batch in batches
            for row in batch.usage
            for place in range(-(-(row.end - row.start) // STEP))
        }

    once = read(url, "slicing")
    pieces = read(url, "slicing", steps=5)
    assert [batch.end for batch in pieces] == [at(25), at(50), at(60)]
    server = prometheus.Server(url, match={"scene": "slicing"})
    resumed = list(prometheus.read(server, "c1", (pieces[0].end, at(60)), steps=5))
    assert told(once) == told(pieces) == told(pieces[:1] + resumed)


def test_names_come_back() -> None:
    assert resource_name("nvidia_com_mig_1g_10gb_me") == "nvidia.com/mig-1g.10gb.me"
    assert resource_name("amd_com_cpx_nps4") == "amd.com/cpx_nps4"
    assert resource_name("nvidia_com_gpumem_percentage") == "nvidia.com/gpumem-percentage"
    assert maimed("eks.amazonaws.com/capacityType") == "eks_amazonaws_com_capacity_type"


def test_a_window_without_anything_is_all_gap() -> None:
    window = Window("c", at(0), at(10), STEP)
    batch = records(window)
    assert (batch.usage, batch.nodes, batch.gaps) == ((), (), ((at(0), at(10)),))


_STEPS = st.sets(st.integers(0, 3))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), _STEPS, st.integers(0, 100)), max_size=8
    )
)
def test_what_is_held_and_used_stays_within_cards(seen: list[tuple[str, str, set[int], int]]) -> None:
    """Whoever is seen on whichever card, a row is in the window, of positive length, and uses no more than its share."""
    series = [
        (
            {
                "UUID": uuid,
                "pod": pod,
                "namespace": "n",
                "container": "c",
                "modelName": "Tesla T4",
                "n": str(place),
            },
            dict.fromkeys(steps, Decimal(use)),
        )
        for place, (pod, uuid, steps, use) in enumerate(seen)
    ]
    batch = records(Window("c", at(0), at(20), STEP, {"gpu_util": Grid.of(series, 4)}))
    for row in batch.usage:
        assert at(0) <= row.start < row.end <= at(20)
        assert row.share is not None or row.used is None
        assert row.used is None or Decimal(0) <= row.used <= Decimal(1)
    told = {
        (row.pod, row.device, row.start + STEP * n)
        for row in batch.usage
        for n in range((row.end - row.start) // STEP)
    }
    assert told == {(pod, uuid, at(5 * step)) for pod, uuid, steps, _ in seen for step in steps}


def test_a_start_from_another_clock_does_not_cut() -> None:
    place = {"namespace": "ml", "pod": "p", "uid": "u"}
    asked = {**place, "container": "m", "node": "n", "resource": "nvidia_com_gpu"}
    window = Window(
        "c", at(0), at(10), STEP,
        {
            "requests": Grid.of([(asked, {0: Decimal(1), 1: Decimal(1)})], 2),
            "pod_start": Grid.of([(place, {0: Decimal(int(at(90).timestamp()))})], 1),
        },
    )  # fmt: skip
    (row,) = [row for row in records(window).usage if row.resource == "gpu"]
    assert minutes(row) == (0.0, 10.0)


def test_times_without_any_state_metric_are_gaps() -> None:
    seen = {"running": Grid.of([({}, {1: Decimal(1), 4: Decimal(0)})], 6)}
    assert blind(Window("c", at(0), at(30), STEP, seen)) == [(0, 1), (2, 4), (5, 6)]
