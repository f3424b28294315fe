"""Every sample manifest resolves to the right job with the right number of cards.

The table was written by reading the manifests, not by running the code: replicas × hosts × cards of each template.
None means that the manifest alone can't tell (a share of a card by memory, a claim or pipeline that isn't in it).
"""

import json
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

from gpuledger.core.workload import JobSize, Objects, flatten, job_size
from gpuledger.core.workload.fields import Json

SAMPLES = Path(os.environ.get("GPULEDGER_SHARED", "../shared")) / "data" / "k8s"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SAMPLES.is_dir(), reason="no sample data: set GPULEDGER_SHARED"),
]

Found = dict[tuple[str, str], int | None]

RAY = "kuberay-samples"
KUEUE = "kueue-examples"
DRA = "dra-nvidia"
NVIDIA, TPU = "nvidia.com/gpu", "google.com/tpu"

# (kind, name) -> cards. What is in a file and isn't here (ConfigMap, Service, queues …) is no job.
EXPECTED: dict[str, Found] = {
    # Head and workers without cards; a Redis beside some of them.
    f"{RAY}/agent-sandbox/ray-cluster.yaml": {("RayJob", "agent-sandbox-code-execution-demo"): 0},
    f"{RAY}/ingress-rayclient-tls.yaml": {},
    f"{RAY}/pytorch-mnist/ray-job.pytorch-mnist.yaml": {("RayJob", "rayjob-pytorch-mnist"): 0},
    # gpu-group: 4 replicas × 1 card.
    f"{RAY}/pytorch-resnet-image-classifier/ray-job.pytorch-image-classifier.yaml": {
        ("RayJob", "pytorch-image-classifier-"): 4
    },
    # The head alone has the card; there are no workers.
    f"{RAY}/pytorch-text-classifier/ray-job.pytorch-distributed-training.yaml": {
        ("RayJob", "pytorch-text-classifier-"): 1
    },
    # accelerator-group selects nodes with cards but asks for none, and has 0 replicas.
    f"{RAY}/ray-cluster-label-selector.yaml": {("RayCluster", "ray-label-cluster"): 0},
    f"{RAY}/ray-cluster-resource-isolation-with-overrides.gke.yaml": {
        ("RayCluster", "raycluster-resource-isolation"): 0
    },
    f"{RAY}/ray-cluster.autoscaler-v2-overwrite-cmd.yaml": {
        ("RayCluster", "raycluster-autoscaler-overwrite-cmd"): 0
    },
    f"{RAY}/ray-cluster.autoscaler-v2.yaml": {("RayCluster", "raycluster-autoscaler"): 0},
    f"{RAY}/ray-cluster.autoscaler.yaml": {("RayCluster", "raycluster-autoscaler"): 0},
    f"{RAY}/ray-cluster.complete.yaml": {("RayCluster", "raycluster-complete"): 0},
    f"{RAY}/ray-cluster.deprecate-gcs-ft.yaml": {
        ("RayCluster", "raycluster-external-redis"): 0,
        ("Deployment", "redis"): 0,
    },
    f"{RAY}/ray-cluster.external-redis-uri.yaml": {
        ("RayCluster", "raycluster-external-redis-uri"): 0,
        ("Deployment", "redis"): 0,
    },
    f"{RAY}/ray-cluster.gke-bucket.yaml": {("RayCluster", "raycluster-mini"): 0},
    f"{RAY}/ray-cluster.head-command.yaml": {("RayCluster", "raycluster-head-command"): 0},
    # Two workers with gpu-fraction "0.5": together one card. Its queues ask for nothing.
    f"{RAY}/ray-cluster.kai-gpu-sharing.yaml": {("RayCluster", "raycluster-half-gpu"): 1},
    f"{RAY}/ray-cluster.overwrite-command.yaml": {("RayCluster", "raycluster-overwrite-cmd"): 0},
    f"{RAY}/ray-cluster.persistent-redis-sidecar.yaml": {("RayCluster", "raycluster-redis-sidecar"): 0},
    f"{RAY}/ray-cluster.persistent-redis.yaml": {
        ("RayCluster", "raycluster-external-redis"): 0,
        ("StatefulSet", "redis"): 0,
    },
    f"{RAY}/ray-cluster.sample.yaml": {("RayCluster", "raycluster-kuberay"): 0},
    f"{RAY}/ray-cluster.scheduler-plugins.yaml": {("RayCluster", "test-podgroup-0"): 0},
    # TPU: replicas × numOfHosts × 4 chips.
    f"{RAY}/ray-cluster.tpu-v4-multihost.yaml": {("RayCluster", "raycluster-tpu-v4-multihost"): 1 * 2 * 4},
    f"{RAY}/ray-cluster.tpu-v4-singlehost.yaml": {("RayCluster", "raycluster-tpu-v4-singlehost"): 4},
    f"{RAY}/ray-cluster.tpu-v6e-16-multihost.yaml": {
        ("RayCluster", "raycluster-tpu-v6e-multihost"): 1 * 4 * 4
    },
    f"{RAY}/ray-cluster.tpu-v6e-singlehost.yaml": {("RayCluster", "raycluster-tpu-v6e-singlehost"): 4},
    f"{RAY}/ray-cluster.uv.yaml": {("RayCluster", "raycluster-uv"): 0},
    f"{RAY}/ray-cluster.volcano-scheduler-queue.yaml": {("RayCluster", "test-cluster-0"): 0},
    f"{RAY}/ray-cluster.volcano-scheduler.yaml": {("RayCluster", "test-cluster-0"): 0},
    f"{RAY}/ray-cluster.yunikorn-scheduler.yaml": {("RayCluster", "test-yunikorn-0"): 0},
    f"{RAY}/ray-cronjob-timezone.sample.yaml": {("RayCronJob", "raycronjob-timezone-sample"): 0},
    f"{RAY}/ray-cronjob.sample.yaml": {("RayCronJob", "raycronjob-sample"): 0},
    f"{RAY}/ray-data-image-resize/ray-data-image-resize-gcsfusecsi-job.yaml": {
        ("RayJob", "ray-data-image-resize-gcsfuse"): 0
    },
    f"{RAY}/ray-data-image-resize/ray-job.image-resize.yaml": {("RayJob", "image-resize"): 0},
    # The head has four cards.
    f"{RAY}/ray-job.batch-inference.yaml": {("RayJob", "rayjob-sample"): 4},
    f"{RAY}/ray-job.interactive-mode.yaml": {("RayJob", "rayjob-interactive-mode"): 0},
    f"{RAY}/ray-job.platform-events.yaml": {("RayJob", "rayjob-platform-events"): 0},
    # rayStartParams say num-gpus "2": a number for Ray's scheduler, no request to Kubernetes.
    f"{RAY}/ray-job.resources.yaml": {("RayJob", "rayjob-sample"): 0},
    f"{RAY}/ray-job.sample.yaml": {("RayJob", "rayjob-sample"): 0},
    f"{RAY}/ray-job.shutdown.yaml": {("RayJob", "rayjob-sample-shutdown"): 0},
    f"{RAY}/ray-job.sidecar-mode.yaml": {("RayJob", "rayjob-sidecar-mode"): 0},
    f"{RAY}/ray-job.tpu-jax.yaml": {("RayJob", "rayjob-tpu-jax"): 4},
    f"{RAY}/ray-job.tpu-v6e-256-multihost.yaml": {("RayJob", "v6e-256-job"): 1 * 64 * 4},
    f"{RAY}/ray-job.tpu-v6e-singlehost.yaml": {("RayJob", "v6e-4-job"): 4},
    f"{RAY}/ray-job.yunikorn-scheduler.yaml": {("RayJob", "rayjob-yunikorn-0"): 0},
    # 2 replicas × 8 cards.
    f"{RAY}/ray-service.deepseek.yaml": {("RayService", "deepseek-r1"): 2 * 8},
    f"{RAY}/ray-service.different-port.yaml": {("RayService", "rayservice-sample"): 0},
    # 4 replicas × 1 card.
    f"{RAY}/ray-service.high-throughput-llm.yaml": {("RayService", "qwen-35-4b"): 4},
    f"{RAY}/ray-service.incremental-upgrade.yaml": {("RayService", "rayservice-incremental-upgrade"): 0},
    f"{RAY}/ray-service.mobilenet.yaml": {("RayService", "rayservice-mobilenet"): 0},
    f"{RAY}/ray-service.no-ray-serve-replica.yaml": {("RayService", "rayservice-no-ray-serve-replica"): 0},
    f"{RAY}/ray-service.sample.yaml": {("RayService", "rayservice-sample"): 0},
    f"{RAY}/ray-service.stable-diffusion.yaml": {("RayService", "stable-diffusion"): 1},
    f"{RAY}/ray-service.tpu-single-host.yaml": {("RayService", "stable-diffusion-tpu"): 4},
    f"{KUEUE}/appwrapper/pytorch-sample.yaml": {("AppWrapper", "sample-appwrapper-pytorch-job"): 0},
    # 4 GiB of a card whose size the manifest doesn't say.
    f"{KUEUE}/dra/sample-dra-capacity-job.yaml": {("Job", "sample-dra-capacity-job-"): None},
    f"{KUEUE}/dra/sample-dra-capacity-queues.yaml": {},
    f"{KUEUE}/dra/sample-dra-counter-queues.yaml": {},
    f"{KUEUE}/dra/sample-dra-queues.yaml": {},
    f"{KUEUE}/jobs/ray-cluster-sample.yaml": {("RayCluster", "raycluster-complete"): 0},
    f"{KUEUE}/jobs/ray-job-autoscaling-code-sample.yaml": {},
    f"{KUEUE}/jobs/ray-job-sample.yaml": {("RayJob", "rayjob-sample"): 0},
    f"{KUEUE}/jobs/ray-service-sample.yaml": {("RayService", "test-rayservice"): 0},
    f"{KUEUE}/jobs/sample-cronjob.yaml": {("CronJob", "sample-cronjob"): 0},
    f"{KUEUE}/jobs/sample-jaxjob.yaml": {("JAXJob", "jax-simple"): 0},
    f"{KUEUE}/jobs/sample-jobset-tas-required.yaml": {("JobSet", "jobset-tas-required"): 0},
    f"{KUEUE}/jobs/sample-jobset-tas-sliced.yaml": {("JobSet", "jobset-tas-sliced"): 0},
    f"{KUEUE}/jobs/sample-jobset.yaml": {("JobSet", "sleep-job-"): 0},
    f"{KUEUE}/jobs/sample-mpijob.yaml": {("MPIJob", "pi"): 0},
    f"{KUEUE}/jobs/sample-paddlejob.yaml": {("PaddleJob", "paddle-simple-cpu"): 0},
    f"{KUEUE}/jobs/sample-pytorchjob.yaml": {("PyTorchJob", "pytorch-simple"): 0},
    f"{KUEUE}/jobs/sample-sparkapplication.yaml": {("SparkApplication", "spark-pi"): 0},
    f"{KUEUE}/jobs/sample-tfjob.yaml": {("TFJob", "tensorflow-dist-mnist"): 0},
    f"{KUEUE}/jobs/sample-xgboostjob.yaml": {("XGBoostJob", "xgboost-dist-iris-test-train"): 0},
    # Definitions run nothing; the run refers to a pipeline in another file.
    f"{KUEUE}/pod-based-workloads/tekton-hello-task.yaml": {},
    f"{KUEUE}/pod-based-workloads/tekton-pipeline-run.yaml": {("PipelineRun", "kueue-test"): None},
    f"{KUEUE}/pod-based-workloads/tekton-pipeline.yaml": {},
    f"{KUEUE}/pod-based-workloads/tekton-sleep-task.yaml": {},
    f"{KUEUE}/pod-based-workloads/workflow-queue-per-template.yaml": {("Workflow", "steps-"): 0},
    f"{KUEUE}/pod-based-workloads/workflow-single-queue.yaml": {("Workflow", "hello-world-"): 0},
    # parallelism 3 × 1 card.
    f"{KUEUE}/provisioning/sample-job.yaml": {("Job", "sample-job-"): 3},
    # One claim with one device per pod, 4 replicas. How many share a card only the allocation tells.
    f"{DRA}/consumable-shares/integer-sharing.yaml": {("Deployment", "integer-sharing"): 4},
    # 4 GiB of a card whose size the manifest doesn't say.
    f"{DRA}/consumable-shares/memory-sharing.yaml": {("Deployment", "memory-sharing"): None},
    f"{DRA}/consumable-shares/unlimited-sharing.yaml": {("Deployment", "unlimited-sharing"): 2},
    # Two containers of one pod share the pod's card by MPS.
    f"{DRA}/quickstart/v1beta1/gpu-test-mps.yaml": {("Pod", "test-pod"): 1},
    # The template stands in namespace gpu-test-vfio, the pod in gpu-test-vfiopci: the claim can't be made.
    f"{DRA}/quickstart/v1beta1/gpu-test-vfiopci.yaml": {("Pod", "pod1"): None},
    f"{DRA}/quickstart/v1beta1/gpu-test1.yaml": {("Pod", "pod1"): 1, ("Pod", "pod2"): 1},
    f"{DRA}/quickstart/v1beta1/gpu-test2.yaml": {("Pod", "pod"): 1},
    # One claim by name: each pod has the card, and it is the same one.
    f"{DRA}/quickstart/v1beta1/gpu-test3.yaml": {("Pod", "pod1"): 1, ("Pod", "pod2"): 1},
    # 1g + 1g + 2g + 3g = seven sevenths per pod, 4 replicas.
    f"{DRA}/quickstart/v1beta1/gpu-test4.yaml": {("Deployment", "pod"): 4},
    # One claim with two devices; its four containers use one or the other.
    f"{DRA}/quickstart/v1beta1/gpu-test5.yaml": {("Pod", "pod0"): 2},
    f"{DRA}/quickstart/v1beta1/gpu-test6.yaml": {("Deployment", "pod"): 4},
    # 2 replicas × 1 card each; an IMEX channel is no card.
    f"{DRA}/quickstart/v1beta1/imex-test1.yaml": {
        ("Deployment", f"deployment{number}"): 2 for number in range(4)
    },
    "kyverno-policies/best-practices/require-labels/kyverno-test/kyverno-test.yaml": {},
    "kyverno-policies/best-practices/require-labels/kyverno-test/resource.yaml": {
        ("Pod", pod): 0 for pod in ("badpod01", "badpod02", "goodpod01", "goodpod02")
    },
    "kyverno-policies/other/add-ttl-jobs/kyverno-test/kyverno-test.yaml": {},
    "kyverno-policies/other/add-ttl-jobs/kyverno-test/patched01.yaml": {("Job", "addjob01"): 0},
    "kyverno-policies/other/add-ttl-jobs/kyverno-test/resource.yaml": {
        ("Job", job): 0 for job in ("addjob01", "skipjob01", "skipjob02")
    },
    "gatekeeper-library/replicalimits/samples/replicalimits/constraint.yaml": {},
    "gatekeeper-library/replicalimits/samples/replicalimits/example_allowed.yaml": {
        ("Deployment", "allowed-deployment"): 0
    },
    "gatekeeper-library/replicalimits/samples/replicalimits/example_disallowed.yaml": {
        ("Deployment", "disallowed-deployment"): 0
    },
    "gatekeeper-library/replicalimits/suite.yaml": {},
    **{
        f"gatekeeper-library/requiredannotations/{name}.yaml": {}
        for name in (
            "suite",
            "samples/all-must-have-certain-set-of-annotations/constraint",
            "samples/all-must-have-certain-set-of-annotations/example_allowed",
            "samples/all-must-have-certain-set-of-annotations/example_disallowed",
        )
    },
}

# (file, pod template) -> pods, where they are more than one.
PODS = {
    (f"{RAY}/ray-job.tpu-v6e-256-multihost.yaml", "tpu-group"): 64,
    (f"{RAY}/ray-service.deepseek.yaml", "gpu-group"): 2,
    (f"{KUEUE}/jobs/sample-jobset-tas-sliced.yaml", "workers"): 8,
    (f"{KUEUE}/jobs/sample-mpijob.yaml", "worker"): 2,
    (f"{KUEUE}/jobs/sample-cronjob.yaml", "pods"): 3,
    (f"{KUEUE}/jobs/sample-sparkapplication.yaml", "executor"): 2,
    (f"{DRA}/quickstart/v1beta1/gpu-test4.yaml", "pods"): 4,
}


def documents(path: Path) -> list[Json]:
    loaded = [doc for doc in yaml.safe_load_all(path.read_text()) if isinstance(doc, dict)]
    return [obj for doc in loaded for obj in flatten(doc)]


def sizes(path: Path) -> Iterator[tuple[Json, JobSize]]:
    objects = documents(path)
    known = Objects(objects)
    for obj in objects:
        if (size := job_size(obj, known)) is not None:
            yield obj, size


def test_the_table_has_every_sample() -> None:
    manifests = {path.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob("*.yaml")}
    assert {name for name in manifests if "/admissionreview/" not in f"/{name}"} == set(EXPECTED)


@pytest.mark.parametrize("file", sorted(EXPECTED))
def test_samples_ask_for_what_a_reader_counts(file: str) -> None:
    found = {(size.kind, size.name): size.gpus for _, size in sizes(SAMPLES / file)}
    assert found == {job: None if cards is None else Fraction(cards) for job, cards in EXPECTED[file].items()}


@pytest.mark.parametrize(("file", "template"), sorted(PODS))
def test_pods_of_templates_are_counted(file: str, template: str) -> None:
    found = {one.name: one.pods for _, size in sizes(SAMPLES / file) for one in size.pod_sets}
    assert found[template] == PODS[file, template]


def test_resources_are_named() -> None:
    def named(file: str) -> set[str]:
        return {resource for _, size in sizes(SAMPLES / file) for resource in size.resources}

    assert named(f"{RAY}/ray-service.deepseek.yaml") == {NVIDIA}
    assert named(f"{RAY}/ray-job.tpu-jax.yaml") == {TPU}
    assert named(f"{RAY}/ray-cluster.kai-gpu-sharing.yaml") == {"gpu-fraction"}
    assert named(f"{DRA}/quickstart/v1beta1/gpu-test4.yaml") == {"mig.nvidia.com"}


def test_a_pipeline_run_is_sized_with_its_pipeline() -> None:
    folder = SAMPLES / KUEUE / "pod-based-workloads"
    known = Objects([obj for path in sorted(folder.glob("tekton-*.yaml")) for obj in documents(path)])
    run = known.of_kind("PipelineRun")[0]
    size = job_size(run, known)
    assert size is not None
    # hello runs after sleep: one pod at a time.
    assert (size.gpus, size.pods, size.problems) == (Fraction(0), 1, ())


def test_reviews_hold_objects_that_are_sized() -> None:
    review = json.loads((SAMPLES / "admissionreview" / "create_pod.json").read_text())
    assert job_size(review) is None
    size = job_size(review["request"]["object"])
    assert size is not None
    assert (size.kind, size.name, size.gpus, size.pods) == ("Pod", "static-web", Fraction(0), 1)
    for path in sorted((SAMPLES / "gatekeeper-library" / "admissionreview").glob("*.yaml")):
        assert [job_size(obj) for obj in documents(path)] == [None]
