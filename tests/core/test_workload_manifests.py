"""Job objects of every known kind, and of unknown ones: pods, cards, and what a reference leaves open."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.kubernetes_objects import seen

from gpuledger.core.workload import JobSize, Objects, flatten, job_size

Json = dict[str, Any]


def template(gpus: int = 0, resource: str = "nvidia.com/gpu", **spec: object) -> Json:
    amounts: Json = {"cpu": "2", "memory": "1Gi"} | ({resource: gpus} if gpus else {})
    return {
        "metadata": {},
        "spec": {"containers": [{"name": "node", "resources": {"limits": amounts}}], **spec},
    }


def job(kind: str, spec: Json, group: str = "example.com/v1") -> Json:
    return {"apiVersion": group, "kind": kind, "metadata": {"name": "train", "namespace": "ml"}, "spec": spec}


def size(obj: Json, *others: Json) -> JobSize:
    found = job_size(obj, Objects(others))
    assert found is not None
    return found


def counts(obj: Json, *others: Json) -> tuple[object, object]:
    found = size(obj, *others)
    return found.pods, found.gpus


BATCH = "batch/v1"


@pytest.mark.parametrize(
    ("obj", "pods", "gpus"),
    [
        (job("Pod", template(8)["spec"], "v1"), 1, 8),
        (job("Job", {"template": template(8)}, BATCH), 1, 8),
        (job("Job", {"parallelism": 4, "completions": 100, "template": template(2)}, BATCH), 4, 8),
        # No more pods than there is work left.
        (job("Job", {"parallelism": 10, "completions": 3, "template": template(1)}, BATCH), 3, 3),
        (job("Job", {"parallelism": 0, "template": template(1)}, BATCH), 0, 0),
        (job("CronJob", {"jobTemplate": {"spec": {"parallelism": 3, "template": template(1)}}}, BATCH), 3, 3),
        (job("Deployment", {"template": template(1)}), 1, 1),
        (job("Deployment", {"replicas": 0, "template": template(1)}), 0, 0),
        (job("StatefulSet", {"replicas": 5, "template": template(4)}), 5, 20),
        (job("ReplicaSet", {"replicas": 2, "template": template(4)}), 2, 8),
        # As many pods as nodes, and that is not in the object.
        (job("DaemonSet", {"template": template(1)}), None, None),
        (job("DaemonSet", {"template": template()}), None, 0),
        (
            job(
                "JobSet",
                {
                    "replicatedJobs": [
                        {
                            "name": "workers",
                            "replicas": 2,
                            "template": {
                                "spec": {"parallelism": 8, "completions": 8, "template": template(8)}
                            },
                        },
                        {"name": "driver", "template": {"spec": {"template": template()}}},
                    ]
                },
            ),
            17,
            128,
        ),
        *(
            (
                job(
                    kind,
                    {
                        key: {
                            "Master": {"template": template(8)},
                            "Worker": {"replicas": 3, "template": template(8)},
                        }
                    },
                ),
                4,
                32,
            )
            for kind, key in (
                ("PyTorchJob", "pytorchReplicaSpecs"),
                ("TFJob", "tfReplicaSpecs"),
                ("XGBoostJob", "xgbReplicaSpecs"),
                ("PaddleJob", "paddleReplicaSpecs"),
                ("JAXJob", "jaxReplicaSpecs"),
            )
        ),
        (
            job(
                "MPIJob",
                {
                    "mpiReplicaSpecs": {
                        "Launcher": {"template": template()},
                        "Worker": {"replicas": 2, "template": template(8)},
                    }
                },
            ),
            3,
            16,
        ),
        # Two groups of a leader with one card and three workers with eight.
        (
            job(
                "LeaderWorkerSet",
                {
                    "replicas": 2,
                    "leaderWorkerTemplate": {
                        "size": 4,
                        "leaderTemplate": template(1),
                        "workerTemplate": template(8),
                    },
                },
            ),
            8,
            50,
        ),
        (job("LeaderWorkerSet", {"leaderWorkerTemplate": {"size": 2, "workerTemplate": template(8)}}), 2, 16),
        (job("Notebook", {"template": {"spec": template(1)["spec"]}}), 1, 1),
        # Volcano calls its job Job too: told apart by the group, found by its shape.
        (
            job(
                "Job",
                {
                    "tasks": [
                        {"name": "a", "replicas": 2, "template": template(8)},
                        {"name": "b", "template": template()},
                    ]
                },
                "batch.volcano.sh/v1alpha1",
            ),
            3,
            16,
        ),
        (
            job(
                "SparkApplication",
                {
                    "driver": {"cores": 1, "memory": "1g"},
                    "executor": {
                        "instances": 4,
                        "cores": 8,
                        "memory": "16g",
                        "gpu": {"name": "nvidia.com/gpu", "quantity": 1},
                    },
                },
            ),
            5,
            4,
        ),
        (
            job(
                "InferenceService",
                {
                    "predictor": {
                        "minReplicas": 2,
                        "model": {"resources": template(4)["spec"]["containers"][0]["resources"]},
                    }
                },
            ),
            2,
            8,
        ),
        # A kind that nobody knows: templates times the numbers on the way to them.
        (
            job(
                "TrainingThing",
                {
                    "roles": [
                        {"name": "w", "replicas": 3, "parts": {"parallelism": 2, "template": template(1)}}
                    ]
                },
            ),
            6,
            6,
        ),
        (job("Sandbox", {"podTemplate": template(1)}), 1, 1),
        (job("Odd", {"inner": {"podSpec": template(2)["spec"]}}), 1, 2),
        # An object inside an object is read as its own kind.
        (
            job(
                "Wrapper",
                {"replicas": 2, "resource": job("Job", {"parallelism": 3, "template": template(1)}, BATCH)},
            ),
            6,
            6,
        ),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_kinds(obj: Json, pods: int | None, gpus: int | None) -> None:
    assert counts(obj) == (pods, None if gpus is None else Fraction(gpus))


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"kind": "ConfigMap", "data": {"a": "b"}},
        {"kind": "Service", "spec": {"ports": [{"port": 80}]}},
        job("Job", {}, "other.io/v1"),
        job("WorkflowTemplate", {"templates": [{"name": "a", "container": {"image": "x"}}]}),
        job("PodTemplate", {"template": template(1)}),
        job("Workload", {"podSets": [{"count": 2, "template": template(1)}]}, "kueue.x-k8s.io/v1beta1"),
        job(
            "CustomResourceDefinition",
            {"versions": [{"schema": {"properties": {"containers": {"type": "array"}}}}]},
        ),
    ],
    ids=lambda obj: obj.get("kind", "nothing"),
)
def test_what_runs_no_pods_is_no_job(obj: Json) -> None:
    assert job_size(obj) is None


@pytest.mark.parametrize(
    "kind", ["Job", "JobSet", "RayJob", "RayCluster", "LeaderWorkerSet", "AppWrapper", "Workflow"]
)
@pytest.mark.parametrize(
    "spec", [None, [], "x", {"replicatedJobs": "x", "template": 3, "templates": [1], "components": {}}]
)
def test_any_shape_is_read(kind: str, spec: object) -> None:
    found = job_size({"apiVersion": BATCH, "kind": kind, "metadata": None, "spec": spec})
    assert found is None or found.gpus in {0, None}


KEYS = (
    *(
        "spec",
        "template",
        "containers",
        "name",
        "replicas",
        "resources",
        "limits",
        "nvidia.com/gpu",
        "kind",
        "steps",
    ),
    *("templates", "dag", "tasks", "entrypoint", "replicatedJobs", "workerGroupSpecs", "metadata"),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.sampled_from(["x", "8", "1Gi", "nvidia.com/gpu"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(
    st.sampled_from(["Job", "JobSet", "RayJob", "Workflow", "PipelineRun", "AppWrapper", "Thing"]),
    json_values,
)
def test_nothing_crashes_on_any_object(kind: str, spec: object) -> None:
    found = job_size({"apiVersion": BATCH, "kind": kind, "metadata": {"name": "x"}, "spec": spec})
    assert found is None or found.gpus is None or found.gpus >= 0


# ---- Ray


def ray(**cluster: object) -> Json:
    return {"headGroupSpec": {"template": template()}, **cluster}


def test_worker_groups_stay_within_their_bounds() -> None:
    groups = [
        {"groupName": "low", "replicas": 1, "minReplicas": 3, "template": template(1)},
        {"groupName": "high", "replicas": 9, "maxReplicas": 5, "template": template(1)},
        {"groupName": "hosts", "replicas": 2, "numOfHosts": 4, "template": template(4, "google.com/tpu")},
        {"groupName": "off", "replicas": 2, "suspend": True, "template": template(8)},
        {"groupName": "unset", "minReplicas": 2, "template": template(1)},
    ]
    found = size(job("RayCluster", ray(workerGroupSpecs=groups), "ray.io/v1"))
    assert {one.name: one.pods for one in found.pod_sets} == {
        "head": 1,
        "low": 3,
        "high": 5,
        "hosts": 8,
        "off": 0,
        "unset": 2,
    }
    assert found.gpus == 3 + 5 + 2 * 4 * 4 + 2


def test_an_autoscaler_may_take_more() -> None:
    group = {"replicas": 1, "minReplicas": 1, "maxReplicas": 10, "template": template(8)}
    fixed = size(job("RayCluster", ray(workerGroupSpecs=[group])))
    assert seen(fixed.gpus, fixed.most_gpus) == (8, 8)
    scaling = size(job("RayCluster", ray(enableInTreeAutoscaling=True, workerGroupSpecs=[group])))
    assert seen(scaling.gpus, scaling.most_gpus) == (8, 80)
    # The autoscaler runs beside the head, on half a core unless told otherwise.
    assert (scaling.cpu_cores, fixed.cpu_cores) == (Decimal("4.5"), Decimal(4))
    unbounded = size(
        job("RayCluster", ray(enableInTreeAutoscaling=True, workerGroupSpecs=[{"template": template(8)}]))
    )
    assert seen(unbounded.gpus, unbounded.most_gpus) == (0, None)


def test_a_ray_job_has_a_pod_that_submits() -> None:
    cluster = ray(workerGroupSpecs=[{"replicas": 2, "template": template(8)}])
    pods = {
        mode: size(job("RayJob", {"rayClusterSpec": cluster, "submissionMode": mode})).pods
        for mode in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    }
    assert pods == {"K8sJobMode": 4, "HTTPMode": 3, "InteractiveMode": 3, "SidecarMode": 3}
    # Into an existing cluster, only the submitter is new.
    assert counts(job("RayJob", {"clusterSelector": {"ray.io/cluster": "x"}})) == (1, 0)
    custom = {"rayClusterSpec": cluster, "submitterPodTemplate": template(1)}
    assert counts(job("RayJob", custom)) == (4, 17)


def test_jobs_made_from_a_queue() -> None:
    target = {"parallelism": 2, "template": template(1)}
    found = size(job("ScaledJob", {"jobTargetRef": target, "minReplicaCount": 1, "maxReplicaCount": 50}))
    assert seen(found.gpus, found.most_gpus) == (2, 100)


def test_ray_services_and_schedules() -> None:
    cluster = ray(workerGroupSpecs=[{"replicas": 2, "template": template(8)}])
    assert counts(job("RayService", {"rayClusterConfig": cluster})) == (3, 16)
    assert counts(job("RayCronJob", {"jobTemplate": {"rayClusterSpec": cluster}})) == (4, 16)


# ---- Kinds that refer to others


def runtime(gpus: int = 0) -> Json:
    trainer = {
        "name": "node",
        "template": {
            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
            "spec": {"template": template(gpus)},
        },
    }
    init = {"name": "dataset-initializer", "template": {"spec": {"template": template()}}}
    spec = {"mlPolicy": {"numNodes": 2}, "template": {"spec": {"replicatedJobs": [init, trainer]}}}
    return {"kind": "ClusterTrainingRuntime", "metadata": {"name": "torch"}, "spec": spec}


def train_job(**trainer: object) -> Json:
    return job(
        "TrainJob", {"runtimeRef": {"name": "torch"}, "trainer": trainer}, "trainer.kubeflow.org/v1alpha1"
    )


def test_a_train_job_takes_its_pods_from_the_runtime() -> None:
    assert counts(train_job(), runtime(8)) == (3, 16)
    assert counts(train_job(numNodes=4), runtime(8)) == (5, 32)
    own = {"limits": {"nvidia.com/gpu": 1}}
    assert counts(train_job(numNodes=4, resourcesPerNode=own), runtime(8)) == (5, 4)
    # Without the runtime, its own numbers; without those, nothing is known.
    assert counts(train_job(numNodes=4, resourcesPerNode=own)) == (4, 4)
    assert size(train_job(numNodes=4, resourcesPerNode=own)).problems == (
        "ClusterTrainingRuntime torch isn't known",
    )
    assert counts(train_job(numNodes=4)) == (None, None)
    assert counts(train_job(resourcesPerNode=own)) == (None, None)


def test_app_wrappers_are_what_they_wrap() -> None:
    inner = job("PyTorchJob", {"pytorchReplicaSpecs": {"Worker": {"replicas": 2, "template": template(8)}}})
    wrapper = job(
        "AppWrapper",
        {"components": [{"template": inner}, {"template": {"kind": "Service", "apiVersion": "v1"}}]},
    )
    assert counts(wrapper) == (2, 16)
    odd = job("Odd", {"tasks": [{"template": template(4)}]})
    declared = [{"replicas": 3, "path": "template.spec.tasks[0].template"}]
    assert counts(job("AppWrapper", {"components": [{"template": odd, "podSets": declared}]})) == (3, 12)


def test_a_rollout_may_refer_to_a_deployment() -> None:
    deployment = job("Deployment", {"replicas": 0, "template": template(2)}, "apps/v1")
    rollout = job("Rollout", {"replicas": 3, "workloadRef": {"kind": "Deployment", "name": "train"}})
    assert counts(rollout, deployment) == (3, 6)
    assert counts(rollout) == (None, None)


def test_a_claim_that_the_pods_of_a_job_share_is_there_once() -> None:
    claim = {
        "kind": "ResourceClaim",
        "metadata": {"name": "one", "namespace": "ml"},
        "spec": {
            "devices": {
                "requests": [{"name": "a", "exactly": {"deviceClassName": "gpu.nvidia.com", "count": 2}}]
            }
        },
    }
    claims = [{"name": "c", "resourceClaimName": "one"}]
    deployment = job("Deployment", {"replicas": 4, "template": template(resourceClaims=claims)})
    assert counts(deployment, claim) == (4, 2)


# ---- Workflows


def workflow(*templates: Json, **spec: object) -> Json:
    return job(
        "Workflow", {"entrypoint": "main", "templates": list(templates), **spec}, "argoproj.io/v1alpha1"
    )


def leaf(name: str, gpus: int) -> Json:
    return {"name": name, "container": {"image": "x", "resources": {"limits": {"nvidia.com/gpu": gpus}}}}


def test_steps_run_one_group_after_the_other() -> None:
    steps = {
        "name": "main",
        "steps": [[{"name": "a", "template": "big"}], [{"name": "b", "template": "small"}] * 3],
    }
    assert counts(workflow(steps, leaf("big", 8), leaf("small", 1))) == (1, 8)
    assert counts(workflow(steps, leaf("big", 2), leaf("small", 1))) == (3, 3)


def test_loops_multiply_and_parallelism_caps() -> None:
    loop = {"name": "main", "steps": [[{"name": "a", "template": "one", "withItems": [1, 2, 3, 4]}]]}
    assert counts(workflow(loop, leaf("one", 2))) == (4, 8)
    assert counts(workflow(loop, leaf("one", 2), parallelism=3)) == (3, 6)
    assert counts(workflow({**loop, "parallelism": 1}, leaf("one", 2))) == (1, 2)
    sequence = {"name": "main", "steps": [[{"name": "a", "template": "one", "withSequence": {"count": "5"}}]]}
    assert counts(workflow(sequence, leaf("one", 2))) == (5, 10)
    unknown = {"name": "main", "steps": [[{"name": "a", "template": "one", "withParam": "{{x}}"}]]}
    assert counts(workflow(unknown, leaf("one", 2))) == (None, None)
    assert counts(workflow(unknown, leaf("one", 2), parallelism=4)) == (4, 8)


def test_of_a_chain_of_tasks_one_runs_at_a_time() -> None:
    def dag(*tasks: Json) -> Json:
        return {"name": "main", "dag": {"tasks": list(tasks)}}

    prepare = {"name": "prepare", "template": "small"}
    train = [{"name": f"train{n}", "template": "big", "dependencies": ["prepare"]} for n in range(3)]
    report = {
        "name": "report",
        "template": "small",
        "depends": "train0.Succeeded && (train1 || train2.Failed)",
    }
    found = workflow(dag(prepare, *train, report), leaf("big", 8), leaf("small", 1))
    assert counts(found) == (3, 24)


def test_workflows_inside_and_beside() -> None:
    inner = {"name": "inner", "steps": [[{"name": "x", "template": "one"}, {"name": "y", "template": "one"}]]}
    outer = {
        "name": "main",
        "steps": [[{"name": "a", "template": "inner"}, {"name": "b", "template": "one"}]],
    }
    assert counts(workflow(outer, inner, leaf("one", 1))) == (3, 3)
    circle = {"name": "main", "steps": [[{"name": "a", "template": "main"}]]}
    assert "calls itself" in size(workflow(circle)).problems[0]
    library = job("WorkflowTemplate", {"entrypoint": "main", "templates": [{**leaf("main", 4)}]})
    assert counts(job("Workflow", {"workflowTemplateRef": {"name": "train"}}), library) == (1, 4)
    assert counts(job("Workflow", {"workflowTemplateRef": {"name": "nowhere"}}), library) == (None, None)
    called = {
        "name": "main",
        "steps": [[{"name": "a", "templateRef": {"name": "train", "template": "main"}}]],
    }
    assert counts(workflow(called), library) == (1, 4)
    assert counts(job("CronWorkflow", {"workflowSpec": workflow(leaf("main", 2))["spec"]})) == (1, 2)


def test_pipelines_run_task_by_task() -> None:
    task = {
        "kind": "Task",
        "metadata": {"name": "fit", "namespace": "ml"},
        "spec": {"steps": [{"name": "s", "computeResources": {"limits": {"nvidia.com/gpu": 2}}}]},
    }
    tasks = [{"name": "a", "taskRef": {"name": "fit"}}, {"name": "b", "taskRef": {"name": "fit"}}]
    both = job("PipelineRun", {"pipelineSpec": {"tasks": tasks}})
    assert counts(both, task) == (2, 4)
    in_turn = [tasks[0], {**tasks[1], "runAfter": ["a"]}]
    assert counts(job("PipelineRun", {"pipelineSpec": {"tasks": in_turn}}), task) == (1, 2)
    assert counts(job("TaskRun", {"taskRef": {"name": "fit"}}), task) == (1, 2)


def test_lists_are_their_items() -> None:
    pod = job("Pod", template(1)["spec"], "v1")
    listed = {"kind": "List", "items": [pod, {"kind": "PodList", "items": [pod]}, None]}
    assert flatten(listed) == [pod, pod]
    assert flatten(pod) == [pod]
