"""Workloads of every plane as submissions: counts worked out by hand from each format's documentation."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.policy.manifests import deadline_hours, submission_of
from gpuledger.core.policy.plans import is_plan, submissions_of_plan
from gpuledger.core.policy.sbatch import minutes_of, submission_of_script
from gpuledger.core.policy.submission import Submission
from gpuledger.core.policy.tasks import submission_of_task

POD = {
    "containers": [{"name": "main", "image": "x", "resources": {"limits": {"nvidia.com/gpu": 2}}}],
    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
}


def k8s_job(**spec: Any) -> dict[str, Any]:  # noqa: ANN401 - keys of a Job's spec
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": "ml", "labels": {"gpuledger.io/cost-center": "CC-1"}},
        "spec": {
            "parallelism": 4,
            "template": {"metadata": {"labels": {"team": "nlp"}}, "spec": POD},
            **spec,
        },
    }


def test_a_job_says_its_cards_its_deadline_and_its_labels_also_those_of_its_pods() -> None:
    found = submission_of(k8s_job(activeDeadlineSeconds=5400), submitter="ada")
    assert found is not None
    assert (found.gpus, found.gpu_model, found.hours, found.serves) == (
        Fraction(8),
        "H100",
        Decimal("1.5"),
        False,
    )
    assert {name: one.value for name, one in found.said.items()} == {"cost_center": "CC-1", "team": "nlp"}
    assert found.offered["submitter"]["owner"] == "ada"


def test_what_is_inferred_is_not_said() -> None:
    obj = k8s_job()
    obj["spec"]["template"]["spec"] = {**POD, "containers": [{**POD["containers"][0], "image": "vllm/vllm"}]}  # type: ignore[index]
    found = submission_of(obj)
    assert found is not None
    assert "workload_type" not in found.said


def test_a_namespace_and_a_queue_offer_defaults() -> None:
    obj = k8s_job()
    obj["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpu-a"}
    space = {"kind": "Namespace", "metadata": {"name": "ml", "labels": {"cost-center": "CC-7"}}}
    found = submission_of(obj, own_namespace=space)
    assert found is not None
    assert found.offered["namespace"]["cost_center"] == "CC-7"
    assert found.offered["queue"]["team"] == "gpu-a"


@pytest.mark.parametrize(
    ("obj", "hours"),
    [
        (k8s_job(), None),
        (k8s_job(activeDeadlineSeconds=3600), Decimal(1)),
        ({"kind": "PyTorchJob", "spec": {"runPolicy": {"activeDeadlineSeconds": 7200}}}, Decimal(2)),
        (
            {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"activeDeadlineSeconds": 1800}}}},
            Decimal("0.5"),
        ),
        (
            {"kind": "Job", "metadata": {"labels": {"kueue.x-k8s.io/max-exec-time-seconds": "3600"}}},
            Decimal(1),
        ),
        ({"kind": "Job", "metadata": {"annotations": {"gpuledger.io/max-hours": "12"}}}, Decimal(12)),
        ({"kind": "Job", "metadata": {"annotations": {"gpuledger.io/max-hours": "soon"}}}, None),
    ],
)
def test_deadlines(obj: dict[str, Any], hours: Decimal | None) -> None:
    assert deadline_hours(obj) == hours


def test_cards_of_several_models_are_told_apart() -> None:
    def group(name: str, product: str, replicas: int) -> dict[str, Any]:
        spec = {**POD, "nodeSelector": {"nvidia.com/gpu.product": product}}
        return {"groupName": name, "replicas": replicas, "template": {"spec": spec}}

    obj = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "r"},
        "spec": {
            "headGroupSpec": {"template": {"spec": {"containers": [{"name": "head", "image": "x"}]}}},
            "workerGroupSpecs": [group("a", "NVIDIA-A100-SXM4-80GB", 1), group("b", "NVIDIA-L4", 3)],
        },
    }
    found = submission_of(obj)
    assert found is not None
    assert sorted((card.model, card.gpus) for card in found.cards) == [
        ("A100", Fraction(2)),
        ("L4", Fraction(6)),
    ]
    assert found.serves


SCRIPT = """#!/bin/bash
#SBATCH -J pretrain -A CC-4100
#SBATCH --nodes=4 --gres=gpu:h100:8
#SBATCH -t 1-12:30
#SBATCH --comment="team=nlp;owner=amy@example.com"
#SBATCH -p gpu   # the big one
srun train.py
#SBATCH --nodes=99
"""


def test_a_batch_script() -> None:
    found = submission_of_script(SCRIPT, "file")
    assert found is not None
    assert (found.name, found.partition, found.gpus, found.gpu_model) == (
        "pretrain",
        "gpu",
        Fraction(32),
        "H100",
    )
    assert found.hours == Decimal("36.5")
    told = {name: one.value for name, one in found.said.items()}
    assert told == {"team": "nlp", "owner": "amy@example.com", "cost_center": "CC-4100"}
    assert submission_of_script("#!/bin/sh\necho hello\n", "file") is None


@pytest.mark.parametrize(
    ("options", "gpus"),
    [
        ("--gpus=8", 8),
        ("-G a100:4", 4),
        ("-N2 --gpus-per-node=h100:4", 8),
        ("-n 6 --gpus-per-task=1", 6),
        ("-N 2 --ntasks-per-node=4 --gpus-per-task=1", 8),
        ("--gres=gpu", 1),
        ("-N 3 --gres=gpu:2,shard:4", 6),
        ("--gres=gpu:1 --array=0-9", 10),
        ("--gres=gpu:1 --array=1-10:3%2", 2),
        ("--gpus=8 --gres=gpu:8", 8),
        ("-N 2-4 --gres=gpu:8", 32),
        ("--cpus-per-task=4", 0),
        ("--gres=gpu:8x", None),
        ("--gres=gpu:8 --nodes=$N", None),
    ],
)
def test_cards_of_slurm_options(options: str, gpus: int | None) -> None:
    found = submission_of_script(f"#SBATCH {options}\n", "file")
    assert found is not None
    assert found.gpus == gpus
    assert bool(found.problems) == (gpus is None)


def test_components_of_a_heterogeneous_job_add_up() -> None:
    text = "#SBATCH --gres=gpu:h100:8\n#SBATCH hetjob\n#SBATCH -N 2 --gres=gpu:l4:1\n"
    found = submission_of_script(text, "file")
    assert found is not None
    assert (found.gpus, found.gpu_model) == (Fraction(10), "H100, L4")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("1:30", Decimal("1.5")), ("2:00:00", 120), ("1-0", 1440), ("1-2:30", 1590), ("1-2:30:30", Decimal("1590.5")), ("soon", None)],
)  # fmt: skip
def test_time_limits(text: str, minutes: Decimal | None) -> None:
    assert minutes_of(text) == minutes


def plan(
    kind: str, after: dict[str, Any], *actions: str, unknown: dict[str, Any] | None = None
) -> dict[str, Any]:
    change = {
        "actions": list(actions or ("create",)),
        "before": None,
        "after": after,
        "after_unknown": unknown or {},
    }
    return {
        "format_version": "1.2",
        "resource_changes": [{"address": f"{kind}.x", "type": kind, "change": change}],
    }


@pytest.mark.parametrize(
    ("kind", "after", "gpus", "model"),
    [
        ("aws_instance", {"instance_type": "p5.48xlarge"}, 8, "H100"),
        ("aws_instance", {"instance_type": "m7i.large"}, 0, None),
        ("aws_eks_node_group", {"instance_types": ["g6e.xlarge"], "scaling_config": [{"max_size": 5, "desired_size": 1}]}, 5, "L40S"),
        ("aws_sagemaker_endpoint_configuration", {"production_variants": [{"instance_type": "ml.p4d.24xlarge", "initial_instance_count": 2}]}, 16, "A100"),
        ("google_compute_instance", {"machine_type": "n1-standard-8", "guest_accelerator": [{"type": "nvidia-tesla-t4", "count": 2}]}, 2, "T4"),
        ("google_container_node_pool", {"node_config": [{"machine_type": "a3-highgpu-8g"}], "autoscaling": [{"max_node_count": 3}]}, 24, "H100"),
        ("azurerm_linux_virtual_machine", {"size": "Standard_NC24ads_A100_v4"}, 1, "A100"),
        ("azurerm_kubernetes_cluster_node_pool", {"vm_size": "Standard_ND96isr_H100_v5", "node_count": 2}, 16, "H100"),
        ("azurerm_kubernetes_cluster_node_pool", {"vm_size": "Standard_ND96isr_H100_v5"}, None, "H100"),
    ],
)  # fmt: skip
def test_terraform_plans(kind: str, after: dict[str, Any], gpus: int | None, model: str | None) -> None:
    document = plan(kind, after | {"tags": {"CostCenter": "CC-1"}})
    assert is_plan(document)
    (found,) = submissions_of_plan(document)
    assert (found.gpus, found.gpu_model) == (gpus, model)
    assert found.said["cost_center"].value == "CC-1"
    assert bool(found.problems) == (gpus is None)


def test_a_plan_tells_what_it_only_learns_on_apply_and_leaves_out_what_goes() -> None:
    (found,) = submissions_of_plan(plan("aws_instance", {}, unknown={"instance_type": True}))
    assert (found.gpus, found.problems) == (None, ("instance_type is known only after apply",))
    assert not list(submissions_of_plan(plan("aws_instance", {"instance_type": "p5.48xlarge"}, "delete")))
    assert not list(submissions_of_plan(plan("aws_s3_bucket", {})))


@pytest.mark.parametrize(
    ("task", "gpus", "model"),
    [
        ({"resources": {"accelerators": "H100:8"}, "num_nodes": 2, "run": "x"}, 16, "H100"),
        ({"resources": {"accelerators": {"A100-80GB": 4}}, "run": "x"}, 4, "A100"),
        ({"resources": {"accelerators": "L4:0.5"}, "run": "x"}, Fraction(1, 2), "L4"),
        ({"resources": {"instance_type": "p4d.24xlarge"}, "run": "x"}, 8, "A100"),
        ({"resources": {"any_of": [{"accelerators": "L4:1"}, {"accelerators": "H100:8"}]}, "run": "x"}, 8, "H100"),
        ({"resources": {"accelerators": "L4:1"}, "service": {"replica_policy": {"max_replicas": 6}}}, 6, "L4"),
        ({"resources": {"cpus": 4}, "run": "x"}, 0, None),
        ({"entrypoint": "python x.py", "entrypoint_num_gpus": 2, "entrypoint_resources": {"accelerator_type": "A100"}}, 2, "A100"),
    ],
)  # fmt: skip
def test_tasks_of_launchers(task: dict[str, Any], gpus: Fraction, model: str | None) -> None:
    found = submission_of_task(task, "file")
    assert found is not None
    assert (found.gpus, found.gpu_model) == (gpus, model)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                [
                    "spec",
                    "template",
                    "containers",
                    "resources",
                    "limits",
                    "nvidia.com/gpu",
                    "replicas",
                    "metadata",
                    "labels",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@given(st.sampled_from(["Job", "RayJob", "JobSet", "Pod", "Workflow", "Anything"]), JSON, JSON)
def test_law_no_object_makes_the_reader_fall(kind: str, spec: object, metadata: object) -> None:
    found = submission_of({"apiVersion": "x/v1", "kind": kind, "spec": spec, "metadata": metadata})
    assert found is None or isinstance(found, Submission)


@given(JSON, JSON)
def test_law_no_plan_and_no_task_makes_the_reader_fall(after: object, resources: object) -> None:
    document = plan("aws_instance", {})
    document["resource_changes"][0]["change"]["after"] = after
    assert len(list(submissions_of_plan(document))) == 1
    submission_of_task({"resources": resources, "run": "x"}, "file")


@given(st.text(max_size=200))
def test_law_no_script_makes_the_reader_fall(text: str) -> None:
    submission_of_script(f"#SBATCH {text}\n", "file")
