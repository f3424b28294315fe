"""Live limits in `gpuledger blast-radius`: AWS (moto, and Service Quotas of the tests' own), a fake Kubernetes API."""

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from tests.core.kubernetes_objects import live_pod, t
from tests.pipeline.service_quotas_server import KEY, SECRET, ServiceQuotas
from tests.surfaces.shell import Outcome, gpuledger
from tests.telemetry.fake_api_server import GROUPS, FakeApiServer

P, G = "L-417A185B", "L-DB2E81BA"


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (
        "KUBECONFIG",
        "KUBERNETES_SERVICE_HOST",
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
    ):
        monkeypatch.delenv(name, raising=False)


def blast(*words: object, **environ: str) -> Outcome:
    return gpuledger("--format", "json", "blast-radius", *words, environ=environ)


def inputs(found: Outcome) -> dict[tuple[str, str], tuple[str, str]]:
    return {
        (row["pool"], row["key"]): (row["value"], row["origin"]) for row in found.document["totals"]["inputs"]
    }


def told(found: Outcome) -> list[tuple[str, str]]:
    return [(one["code"], one["severity"]) for one in found.document["diagnostics"]]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "ec2", "us-east-1", endpoint_url=url, aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )
    image = client.describe_images()["Images"][0]["ImageId"]
    for name, count in (("p4d.24xlarge", 2), ("g5.12xlarge", 1), ("m5.large", 3)):
        client.run_instances(ImageId=image, InstanceType=name, MinCount=count, MaxCount=count)
    stopped = client.run_instances(ImageId=image, InstanceType="p4d.24xlarge", MinCount=1, MaxCount=1)
    client.stop_instances(InstanceIds=[stopped["Instances"][0]["InstanceId"]])
    yield url
    server.stop()


@pytest.fixture
def aws(moto: str) -> Iterator[tuple[ServiceQuotas, dict[str, str]]]:
    with ServiceQuotas({P: 1152.0, G: 96.0}).running() as quotas:
        yield quotas, {
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": moto, "AWS_ENDPOINT_URL_SERVICE_QUOTAS": quotas.url,
        }  # fmt: skip


@pytest.mark.server
def test_quotas_of_aws_less_what_runs_are_pools(aws: tuple[ServiceQuotas, dict[str, str]]) -> None:
    """1,152 − 2 × 96 = 960 vCPUs are ten p4d of eight cards; 96 − 48 leave one g5.12xlarge of four."""
    found = blast("--aws", "--calendar", "night", **aws[1])
    assert found.code == 0, found.err
    assert [(row["pool"], row["gpus"]) for row in found.document["rows"]] == [
        ("AWS p4d.24xlarge us-east-1", 80), ("AWS g5.12xlarge us-east-1", 4),
    ]  # fmt: skip
    facts = inputs(found)
    assert facts["AWS p4d.24xlarge us-east-1", "quota"] == (
        "80",
        (
            "AWS Service Quotas, us-east-1: L-417A185B Running On-Demand P instances: 1,152 vCPUs − 192 running = 960; "
            "÷ 96 vCPUs = 10 × p4d.24xlarge with 8 GPUs"
        ),
    )
    assert facts["AWS p4d.24xlarge us-east-1", "price"][1].startswith(
        "price file aws.csv, list price of us-east-1 as of "
    )
    # 10 instances × 21.957642 × 12 h, and half of that goes with half the quota.
    assert found.document["rows"][0]["loss_p99"] == "2634.91704"
    half = next(one for one in found.document["totals"]["guardrails"] if one["name"] == "half the quota")
    assert (
        half["removes_usd"] == "1385.52252"
    )  # 2634.91704 ÷ 2, and the g5's 5.672 × 12: two of four cards are no instance


@pytest.mark.server
def test_a_typed_pool_gets_its_quota_and_no_second_pool(aws: tuple[ServiceQuotas, dict[str, str]]) -> None:
    aws[0].applied.clear()
    aws[0].default.update({P: 400.0, G: 0.0})  # never raised: the defaults hold
    pool = "name=big,instance_type=p4d.24xlarge,region=us-east-1,instances=50,max_hours=1"
    found = blast(
        "--aws", "--pool", pool, "--pool", "name=iron,gpus=8,usd_per_gpu_hour=1,max_hours=1", **aws[1]
    )
    assert found.code == 0, found.err
    assert [(row["pool"], row["gpus"]) for row in found.document["rows"]] == [("big", 16), ("iron", 8)]
    assert told(found) == [("blast-radius-no-headroom", "info")]
    assert ("GetAWSDefaultServiceQuota", {"ServiceCode": "ec2", "QuotaCode": P}) in aws[0].asked
    alone = blast(
        "--aws", "--pool", "name=big,instance_type=p4d.24xlarge,region=us-east-1,max_hours=1", **aws[1]
    )
    assert [(row["pool"], row["gpus"]) for row in alone.document["rows"]] == [("big", 16)]


@pytest.mark.server
def test_a_source_that_refuses_is_told_and_the_rest_is_answered(
    aws: tuple[ServiceQuotas, dict[str, str]],
) -> None:
    aws[0].refuse = (400, "AccessDeniedException")
    found = blast("--aws", "--pool", "name=iron,gpus=8,usd_per_gpu_hour=1,max_hours=1", **aws[1])
    assert found.code == 1
    assert [row["pool"] for row in found.document["rows"]] == ["iron"]
    assert told(found) == [("blast-radius-source-failed", "error")]
    assert "servicequotas:GetServiceQuota" in found.document["diagnostics"][0]["hint"]
    empty = blast("--aws", **aws[1])
    assert (empty.code, empty.document["rows"]) == (1, [])
    assert told(empty) == [("blast-radius-source-failed", "error")]


def test_without_keys_aws_is_told_to_need_some() -> None:
    found = blast("--aws", AWS_EC2_METADATA_DISABLED="true")
    assert found.code == 1
    assert "no AWS keys" in found.document["diagnostics"][0]["message"]


def test_what_is_at_hand_is_looked_for() -> None:
    found = blast("--from-live", PATH="/nowhere")
    assert (found.code, found.document["rows"]) == (1, [])
    assert told(found) == [("blast-radius-looked-for", "warning")]
    assert found.document["diagnostics"][0]["message"] == (
        "found nothing; did not find AWS keys, a kubeconfig or a pod's service account, Slurm (sinfo)"
    )


KINDS = {
    "karpenter.sh/v1": {"nodepools": ("NodePool", False)},
    "kueue.x-k8s.io/v1beta2": {"clusterqueues": ("ClusterQueue", False), "localqueues": ("LocalQueue", True)},
    "keda.sh/v1alpha1": {"scaledobjects": ("ScaledObject", True)},
    "autoscaling/v2": {"horizontalpodautoscalers": ("HorizontalPodAutoscaler", True)},
}
TYPE, REGION = "node.kubernetes.io/instance-type", "topology.kubernetes.io/region"


def cluster(folder: Path, server: FakeApiServer) -> str:
    """A pool of g5.12xlarge that may grow to 40 cards, two nodes of T4 of unknown make; quotas in one namespace."""
    path = folder / "kubeconfig"
    path.write_text(json.dumps({
        "apiVersion": "v1", "current-context": "dev", "contexts": [{"name": "dev", "context": {"cluster": "prod"}}],
        "clusters": [{"name": "prod", "cluster": {"server": server.url}}],
    }))  # fmt: skip
    size = {"nvidia.com/gpu": "4"}
    labels = {"karpenter.sh/nodepool": "a10", TYPE: "g5.12xlarge", REGION: "us-east-1"}
    server.put("nodes", {"metadata": {"name": "n1", "labels": labels}, "status": {"capacity": size}})
    iron = {"nodepool": "iron", "nvidia.com/gpu.product": "Tesla-T4"}
    server.put("nodes", {"metadata": {"name": "n2", "labels": iron}, "status": {"capacity": size}})
    server.put("nodepools", {"metadata": {"name": "a10"}, "spec": {"limits": {"nvidia.com/gpu": "40"}}})
    for name in ("ml", "web"):
        server.put("namespaces", {"metadata": {"name": name}})
    server.put("pods", live_pod("train", t(0), gpus=3, node="n1", runs=[(t(0), None)]))
    server.put("resourcequotas", {
        "metadata": {"name": "gpus", "namespace": "ml"}, "spec": {"hard": {"requests.nvidia.com/gpu": "16"}},
        "status": {"used": {"requests.nvidia.com/gpu": "3"}},
    })  # fmt: skip
    return str(path)


@pytest.mark.server
def test_kubernetes_quotas_and_autoscalers_are_pools(tmp_path: Path) -> None:
    """37 cards may come of a10 (40 less 3 held): 13 through ml's quota, 24 by anybody; then the four of iron."""
    with FakeApiServer(groups=GROUPS | KINDS).running() as server:
        found = blast("--kube", "--detect", "1h", KUBECONFIG=cluster(tmp_path, server))
    assert found.code == 0, found.err
    assert [(row["pool"], row["gpus"]) for row in found.document["rows"]] == [
        ("prod ml on a10", 13), ("prod no quota on a10", 24), ("prod no quota on iron", 4),
    ]  # fmt: skip
    facts = inputs(found)
    assert facts["prod ml on a10", "quota"] == (
        "13", "Kubernetes prod: ResourceQuota of namespace ml: gpus, nvidia.com/gpu 16 less 3 used",
    )  # fmt: skip
    assert facts["prod no quota on a10", "autoscaler_max"] == (
        "24", "Kubernetes prod: Karpenter NodePool a10: spec.limits nvidia.com/gpu 40; 3 held now, 24 not counted with a pool above",
    )  # fmt: skip
    assert facts["prod ml on a10", "price"] == (
        "1.418",
        "on-demand list price of g5.12xlarge, 2026-07-20",
    )  # 5.672 ÷ 4
    assert facts["prod no quota on iron", "price"][1].startswith("at least: ")
    assert facts["prod no quota on iron", "obtainable"][0] == "4"


@pytest.mark.server
def test_pools_of_two_sources_may_be_the_same_gpus(
    aws: tuple[ServiceQuotas, dict[str, str]], tmp_path: Path
) -> None:
    with FakeApiServer(groups=GROUPS | KINDS).running() as server:
        found = blast("--kube", "--aws", "--detect", "1h", KUBECONFIG=cluster(tmp_path, server), **aws[1])
    assert found.code == 0, found.err
    assert len(found.document["rows"]) == 5
    assert told(found) == [("blast-radius-may-overlap", "warning")]
    assert found.document["diagnostics"][0]["source"] == "aws, kubernetes"


@pytest.mark.server
def test_nodes_that_are_full_make_no_pool_if_they_may_grow(tmp_path: Path) -> None:
    with FakeApiServer(groups=GROUPS | KINDS).running() as server:
        path = cluster(tmp_path, server)
        server.put("nodepools", {"metadata": {"name": "a10"}, "spec": {"limits": {"nvidia.com/gpu": "3"}}})
        server.put("pods", live_pod("iron", t(0), gpus=4, node="n2", runs=[(t(0), None)]))
        found = blast("--kube", "--detect", "1h", KUBECONFIG=path)
    # Those of iron stay: whoever holds them may end before a mistake does.
    assert [(row["pool"], row["gpus"]) for row in found.document["rows"]] == [("prod ml on iron", 4)]
    assert told(found) == [("blast-radius-no-headroom", "info")]
    assert "all 3 GPUs of a10 are held" in found.document["diagnostics"][0]["message"]


@pytest.mark.server
def test_what_nothing_limits_in_a_cluster_is_a_warning_and_not_zero(tmp_path: Path) -> None:
    with FakeApiServer(groups=GROUPS | KINDS, forbidden=frozenset({"resourcequotas"})).running() as server:
        path = cluster(tmp_path, server)
        server.put("nodepools", {"metadata": {"name": "a10"}, "spec": {}})
        found = blast("--kube", "--detect", "1h", "--price", "2", KUBECONFIG=path)
    assert found.code == 0, found.err
    assert [(row["pool"], row["gpus"], row["loss_p99"]) for row in found.document["rows"]] == [
        ("prod no quota on iron", 4, "8")
    ]
    assert told(found) == [("kubernetes-not-readable", "warning"), ("blast-radius-unbounded", "warning")]
    assert "NodePool a10 has no limit of GPUs" in found.document["diagnostics"][1]["message"]


@pytest.mark.server
def test_cluster_autoscalers_groups_bound_a_pool(tmp_path: Path) -> None:
    status = "nodeGroups:\n- name: gke-prod-iron-77-grp\n  health: {cloudProviderTarget: 1, maxSize: 3}\n- name: gke-new-grp\n  health: {maxSize: 9}\n"
    with FakeApiServer(groups=GROUPS | KINDS).running() as server:
        path = cluster(tmp_path, server)
        server.put(
            "configmaps",
            {
                "metadata": {"name": "cluster-autoscaler-status", "namespace": "kube-system"},
                "data": {"status": status},
            },
        )
        found = blast("--kube", "--detect", "1h", KUBECONFIG=path)
    facts = inputs(found)
    assert facts["prod no quota on iron", "gpus"][0] == "12"  # three nodes of four
    assert (
        "Cluster Autoscaler: at most 3 nodes × 4 GPUs" in facts["prod no quota on iron", "autoscaler_max"][1]
    )
    assert told(found) == [("blast-radius-unbounded", "warning")]
    assert "gke-new-grp" in found.document["diagnostics"][0]["message"]


def test_a_weekend_is_what_ends_live_pools_that_nothing_else_does(tmp_path: Path) -> None:
    with FakeApiServer(groups=GROUPS | KINDS).running() as server:
        found = blast("--kube", KUBECONFIG=cluster(tmp_path, server))
    value, origin = inputs(found)["prod ml on a10", "look"]
    assert (value, origin) == (
        "60h",
        "default, since nothing else ends it: calendar weekend: Friday 20:00 to Monday 08:00",
    )


def test_a_cluster_that_does_not_answer_is_told(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.write_text(json.dumps({
        "apiVersion": "v1", "current-context": "dev", "contexts": [{"name": "dev", "context": {"cluster": "prod"}}],
        "clusters": [{"name": "prod", "cluster": {"server": "http://127.0.0.1:9"}}],
    }))  # fmt: skip
    found = blast("--kube", "--pool", "name=w,gpus=1,usd_per_gpu_hour=1,max_hours=1", KUBECONFIG=str(path))
    assert found.code == 1
    assert told(found) == [("blast-radius-source-failed", "error")]
    assert found.document["rows"][0]["loss_p99"] == "1"
