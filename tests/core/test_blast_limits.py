"""Limits of live systems by hand: vCPUs that a quota leaves, Kubernetes' doors and hardware, Slurm's stacked limits."""

from decimal import Decimal
from typing import Any

import pytest

from gpuledger.core import kube_limits, slurm_limits
from gpuledger.core.aws_quotas import QUOTAS, Headroom, Kind, used_vcpus, worst_kind
from gpuledger.core.kube_limits import Door, Hardware, Seen, autoscaler_groups, starts
from gpuledger.core.slurm_limits import Bound, seconds_of

P, G = QUOTAS
KINDS = {
    one.instance_type: one
    for one in (
        Kind("p4d.24xlarge", 96, 8, Decimal("21.957642")),
        Kind("p5.48xlarge", 192, 8, Decimal("55.04")),
        Kind("g5.12xlarge", 48, 4, Decimal("5.672")),
        Kind("p9.huge", 64, 8, None),
    )
}  # fmt: skip


def test_a_quota_counts_vcpus_of_its_families() -> None:
    running = ["p4d.24xlarge", "p4d.24xlarge", "g5.12xlarge", "m5.large", "p3.unknown"]
    assert used_vcpus(P, running, KINDS) == (192, ["p3.unknown"])
    assert used_vcpus(G, running, KINDS) == (48, [])
    assert [P.counts(name) for name in ("p5.48xlarge", "G5.xlarge", "pc1.x", "vt1.3xlarge")] == [
        True,
        False,
        False,
        False,
    ]


def test_headroom_is_whole_instances() -> None:
    """1,000 vCPUs less 192 leave 808: eight p4d of 96 vCPUs (768), with 64 GPUs."""
    room = Headroom(P, 1000, 192, KINDS["p4d.24xlarge"], "")
    assert (room.instances, room.gpus) == (8, 64)
    assert room.told == (
        "L-417A185B Running On-Demand P instances: 1,000 vCPUs − 192 running = 808; "
        "÷ 96 vCPUs = 8 × p4d.24xlarge with 8 GPUs"
    )
    assert Headroom(P, 100, 192, KINDS["p4d.24xlarge"], "").gpus == 0


def test_a_mistake_starts_what_runs_most_or_else_what_costs_most() -> None:
    found = worst_kind(P, 400, ["p4d.24xlarge"], KINDS)
    assert found is not None
    assert found[0].instance_type == "p4d.24xlarge"
    found = worst_kind(P, 400, [], KINDS)  # 55.04 ÷ 192 = 0.287 a vCPU, 21.96 ÷ 96 = 0.229
    assert found is not None
    assert found[0].instance_type == "p5.48xlarge"
    found = worst_kind(P, 100, [], KINDS)  # a p5 doesn't fit
    assert found is not None
    assert found[0].instance_type == "p4d.24xlarge"
    assert worst_kind(P, 95, [], KINDS) is None
    assert worst_kind(G, 47, [], KINDS) is None


def machine(name: str, most: int | None, held: int = 0) -> Hardware:
    return Hardware(name, None, 0, held, most, "")


def test_no_card_counts_twice_and_the_dear_ones_go_first() -> None:
    """A quota of 20 takes the 16 that 24 less 8 leave of the dear ones, and 4 of the others, whose rest is for anybody."""
    found = starts(
        [Door("ml", 20, "", is_quota=True), Door("no quota", None, "")],
        [machine("a100", 24, 8), machine("t4", 12)],
    )
    assert [(one.door.name, one.hardware.name, one.gpus, one.room) for one in found] == [
        ("ml", "a100", 16, 16), ("ml", "t4", 4, 12), ("no quota", "t4", 8, 8),
    ]  # fmt: skip


def test_what_nothing_limits_is_said() -> None:
    found = starts([Door("ml", 20, ""), Door("no quota", None, "")], [machine("a100", None)])
    assert [(one.door.name, one.gpus) for one in found] == [("ml", 20), ("no quota", None)]


YAML = """\
autoscalerStatus: Running
nodeGroups:
- name: https://compute/instanceGroups/gke-prod-a100-1f2e-grp
  health: {status: Healthy, cloudProviderTarget: 2, minSize: 0, maxSize: 6}
- name: eks-empty-1234
  health: {cloudProviderTarget: 0, maxSize: 4}
"""
TEXT = """\
Cluster-autoscaler status at 2021-01-01:
Cluster-wide:
  Health:      Healthy (ready=1 registered=1)
NodeGroups:
  Name:        gke-prod-a100-1f2e-grp
  Health:      Healthy (ready=2 unready=0 registered=2 longUnregistered=0 cloudProviderTarget=2 (minSize=0, maxSize=6))
               LastProbeTime:      2021-01-01
  ScaleUp:     NoActivity (ready=2 cloudProviderTarget=2)
  Name:        eks-empty-1234
  Health:      Healthy (ready=0 cloudProviderTarget=0 (minSize=0, maxSize=4))
"""


@pytest.mark.parametrize("status", [YAML, TEXT])
def test_the_autoscalers_status_is_read_in_both_forms(status: str) -> None:
    groups = [(one.name.rpartition("/")[2], one.now, one.most) for one in autoscaler_groups(status)]
    assert groups == [("gke-prod-a100-1f2e-grp", 2, 6), ("eks-empty-1234", 0, 4)]


@pytest.mark.parametrize("status", [None, "", "nodeGroups: [", "nodeGroups: 3", "Name: x"])
def test_what_is_no_status_has_no_groups(status: str | None) -> None:
    assert autoscaler_groups(status) == []


def node(name: str, cards: int, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": {"nvidia.com/gpu": str(cards)}},
    }


def quota(space: str, hard: object, used: object = "0", **spec: object) -> dict[str, Any]:
    return {
        "metadata": {"name": "gpus", "namespace": space},
        "spec": {"hard": {"requests.nvidia.com/gpu": hard, "requests.cpu": "4"}, **spec},
        "status": {"used": {"requests.nvidia.com/gpu": used}},
    }


def test_hardware_by_pool_with_its_autoscaler() -> None:
    pool = {"metadata": {"name": "spot"}, "spec": {"limits": {"nvidia.com/gpu": "64", "cpu": "10"}}}
    planned = {
        "metadata": {"name": "h100"},
        "spec": {"template": {"spec": {"requirements": [
            {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["p5.48xlarge"]},
            {"key": "topology.kubernetes.io/region", "operator": "In", "values": ["us-east-1"]},
        ]}}},
    }  # fmt: skip
    cpu = {"metadata": {"name": "cpu"}, "spec": {"limits": {"cpu": "10"}}}
    pod = {
        "metadata": {"name": "p", "namespace": "ml"},
        "spec": {"nodeName": "n1", "containers": [{"resources": {"limits": {"nvidia.com/gpu": 3}}}]},
        "status": {"phase": "Running"},
    }
    done = {**pod, "status": {"phase": "Succeeded"}}
    seen = Seen(
        {
            "Node": [
                node("n1", 8, **{"karpenter.sh/nodepool": "spot"}),
                node("n2", 8, **{"cloud.google.com/gke-nodepool": "a100"}),
                node("n3", 8, **{"cloud.google.com/gke-nodepool": "a100"}),
                node("n4", 4, nodepool="iron"),
                node("n5", 0),
            ],
            "Pod": [pod, done],
            "NodePool": [pool, planned, cpu],
        },
        YAML,
    )  # fmt: skip
    found, empty = kube_limits.hardware(seen)
    assert [(one.name, one.cards, one.held, one.most, one.room, one.grows) for one in found] == [
        ("a100", 16, 0, 48, 48, True),  # six nodes of eight
        ("iron", 4, 0, 4, 4, False),
        ("spot", 8, 3, 64, 61, True),
        ("h100", 0, 0, None, None, True),
    ]
    assert found[3].shape is not None
    assert (found[3].shape.instance_type, found[3].shape.region) == ("p5.48xlarge", "us-east-1")
    assert empty == ["eks-empty-1234"]


def test_doors_are_quotas_queues_and_what_scales_itself() -> None:
    deployment = {
        "kind": "Deployment", "metadata": {"name": "chat", "namespace": "web"}, "status": {"replicas": 2},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": 2}}}]}}},
    }  # fmt: skip
    scaler = {"metadata": {"name": "chat", "namespace": "web"}, "spec": {
        "maxReplicas": 10, "scaleTargetRef": {"kind": "Deployment", "name": "chat"}}}  # fmt: skip
    keda = {
        "kind": "ScaledObject",
        "metadata": {"name": "k", "namespace": "web"},
        "spec": {"scaleTargetRef": {"name": "chat"}},
    }
    queue = {
        "metadata": {"name": "research"},
        "spec": {"resourceGroups": [{"flavors": [
            {"resources": [{"name": "nvidia.com/gpu", "nominalQuota": 32}, {"name": "cpu", "nominalQuota": 9}]},
            {"resources": [{"name": "nvidia.com/gpu", "nominalQuota": "8"}]},
        ]}]},
        "status": {"flavorsUsage": [{"resources": [{"name": "nvidia.com/gpu", "total": "10"}]}]},
    }  # fmt: skip
    local = {"metadata": {"name": "q", "namespace": "web"}, "spec": {"clusterQueue": "research"}}
    spaces = [{"metadata": {"name": name}} for name in ("ml", "web")]
    objects = {
        "Namespace": spaces,
        "ResourceQuota": [
            quota("ml", "16", "6"), quota("ml", "12", "6"), quota("ml", "1", scopes=["BestEffort"]), quota("web", "many"),
        ],
        "Deployment": [deployment], "HorizontalPodAutoscaler": [scaler], "ClusterQueue": [queue], "LocalQueue": [local],
    }  # fmt: skip
    found = kube_limits.doors(Seen(objects))
    assert [(one.name, one.gpus) for one in found] == [
        ("ml", 6),  # the tighter of two: 12 less 6
        ("queue research", 30),  # 32 + 8 less 10
        ("web/chat", 16),  # ten replicas less two, of two cards
        ("no quota", None),
    ]
    # KEDA's default is 100 replicas; with the autoscaler that it makes itself, that one's word counts, once.
    objects["ScaledObject"] = [keda]
    assert [one.gpus for one in kube_limits.doors(Seen(objects)) if one.name == "web/chat"] == [16]
    del objects["HorizontalPodAutoscaler"]
    assert [one.gpus for one in kube_limits.doors(Seen(objects)) if one.name == "web/chat"] == [196]
    # With a quota in every namespace nothing else lets more through.
    objects["ResourceQuota"].append(quota("web", "4"))
    assert [(one.name, one.gpus) for one in kube_limits.doors(Seen(objects))] == [("ml", 6), ("web", 4)]
    # Nobody knows the namespaces: one of them may have no quota.
    assert kube_limits.doors(Seen({"ResourceQuota": objects["ResourceQuota"]}))[-1].gpus is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("11:00:00", 39_600), ("1-12:00:00", 129_600), ("2-00", 172_800), ("30", 1800), ("30:15", 1815),
        ("UNLIMITED", None), ("", None), ("INVALID", None),
    ],
)  # fmt: skip
def test_slurms_times_are_read(text: str, seconds: int | None) -> None:
    assert seconds_of(text) == seconds


def test_what_is_enforced() -> None:
    said = "AccountingStorageEnforce = associations,safe,qos\nAccountingStorageHost = x"
    assert slurm_limits.enforced(said) == {"associations", "safe", "qos", "limits"}
    assert "limits" not in slurm_limits.enforced("AccountingStorageEnforce = none\n")
    assert "limits" not in slurm_limits.enforced("")


def assoc(account: str, user: str = "", parent: str = "root", **limits: str) -> dict[str, str]:
    return {"Account": account, "User": user, "ParentName": "" if user else parent, "QOS": "normal", **limits}


def qos(name: str = "normal", **limits: str) -> dict[str, str]:
    return {"Name": name, **limits}


TRAIN = {"PartitionName": "train", "MaxTime": "2-00:00:00", "AllowAccounts": "ALL", "AllowQos": "ALL"}


def bounds(
    associations: list[dict[str, str]], levels: list[dict[str, str]], partition: dict[str, str] = TRAIN
) -> tuple[Bound, Bound, list[str]]:
    seen = slurm_limits.Seen(
        [partition], [("train", "n1", {"h100": 8}), ("train", "n2", {"h100": 8})],
        [assoc("root", parent=""), *associations], levels, frozenset({"limits"}),
    )  # fmt: skip
    found = slurm_limits.partitions(seen)
    assert [(one.name, one.cards, one.nodes) for one in found] == [("train", {"h100": 16}, 2)]
    return found[0].gpus, found[0].seconds, seen.notes


def test_group_limits_of_all_accounts_above_a_user_hold() -> None:
    tree = [
        assoc("lab", GrpTRES="cpu=9,gres/gpu=12"), assoc("nlp", parent="lab"), assoc("nlp", "amy", GrpTRES="gres/gpu:h100=20"),
    ]  # fmt: skip
    assert bounds(tree, [qos()])[0] == Bound(12, "GrpTRES of account lab")


def test_the_user_who_may_do_most_counts() -> None:
    tree = [
        assoc("nlp"),
        assoc("nlp", "amy", GrpTRES="gres/gpu=4"),
        assoc("nlp", "bob", GrpTRES="gres/gpu=6"),
    ]
    assert bounds(tree, [qos()])[0] == Bound(6, "GrpTRES of user bob in account nlp")
    assert bounds([*tree, assoc("nlp", "eve")], [qos()])[0].value is None


def test_a_qos_outranks_associations_and_the_partitions_outranks_the_jobs() -> None:
    tree = [assoc("nlp", GrpTRES="gres/gpu=2"), assoc("nlp", "amy", QOS="normal,big")]
    levels = [
        qos(GrpTRES="gres/gpu=5"),
        qos("big", MaxTRESPerUser="gres/gpu=10", GrpTRES="gres/gpu=50"),
        qos("part", GrpTRES="gres/gpu=7"),
    ]
    assert bounds(tree, levels)[0] == Bound(10, "MaxTRESPerUser of QOS big")
    partition = {**TRAIN, "QoS": "part"}
    assert bounds(tree, levels, partition)[0] == Bound(7, "GrpTRES of QOS part")
    levels[1]["Flags"] = "OverPartQOS"
    assert bounds(tree, levels, partition)[0] == Bound(10, "MaxTRESPerUser of QOS big")
    assert bounds(tree, levels, {**TRAIN, "AllowQos": "normal"})[0] == Bound(5, "GrpTRES of QOS normal")


def test_the_limit_of_one_job_is_none_without_a_number_of_jobs() -> None:
    tree = [assoc("nlp"), assoc("nlp", "amy", MaxTRES="gres/gpu=4")]
    count, _, notes = bounds(tree, [qos()])
    assert count.value is None
    assert notes == [
        "MaxTRES limits one job of user amy in account nlp to 4 GPUs, and nothing limits how many jobs: that is no limit of a mistake"
    ]
    tree[1]["MaxJobs"] = "3"
    count, _, notes = bounds(tree, [qos()])
    assert (count.value, notes) == (12, [])
    assert bounds(tree, [qos(MaxJobsPerUser="2")])[0].value == 8


def test_the_longest_that_a_job_may_run() -> None:
    tree = [assoc("nlp"), assoc("nlp", "amy", MaxWall="12:00:00")]
    assert bounds(tree, [qos()])[1] == Bound(43_200, "MaxWall of user amy in account nlp")
    assert bounds(tree, [qos(MaxWall="3-00:00:00")])[1] == Bound(172_800, "MaxTime of partition train")
    over = qos(MaxWall="3-00:00:00", Flags="PartitionTimeLimit")
    assert bounds(tree, [over])[1] == Bound(259_200, "MaxWall of QOS normal")
    assert bounds(tree, [qos()], {**TRAIN, "DenyAccounts": "nlp"})[1] == Bound(
        172_800, "MaxTime of partition train"
    )


def test_limits_that_nobody_enforces_are_none_and_nodes_count_once() -> None:
    debug = {"PartitionName": "debug", "MaxTime": "01:00:00"}
    seen = slurm_limits.Seen(
        [debug, TRAIN], [("debug", "n1", {"h100": 8}), ("train", "n1", {"h100": 8}), ("train", "n2", {"h100": 8}), ("cpu", "n3", {})],
        [assoc("nlp", "amy", GrpTRES="gres/gpu=4")], [qos()],
    )  # fmt: skip
    found = slurm_limits.partitions(seen)
    assert [(one.name, one.cards, one.shared, one.gpus.value, one.seconds.value) for one in found] == [
        ("train", {"h100": 16}, 0, None, 172_800), ("debug", {}, 1, None, 3600),
    ]  # fmt: skip
