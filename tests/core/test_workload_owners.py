"""From a pod to its job: owner references through any kinds, labels where they can't be read; and whose job it is."""

from typing import Any

import pytest

from gpuledger.core.usage import Evidence
from gpuledger.core.workload import Attribution, Objects, Rule, candidates, dimensions, root_of

Json = dict[str, Any]


def obj(
    kind: str,
    name: str,
    owner: Json | None = None,
    *,
    version: str = "v1",
    space: str | None = "ml",
    **meta: object,
) -> Json:
    metadata: Json = {"name": name, "namespace": space, "uid": f"{kind}-{name}-uid", **meta}
    if owner is not None:
        own = owner["metadata"]
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": own["name"],
            "uid": own["uid"],
        }
        metadata["ownerReferences"] = [{**reference, "controller": True}]
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": {}}


def chain(*steps: str) -> list[Json]:
    """Objects that own each other, the root first."""
    found: list[Json] = []
    for step in steps:
        kind, _, name = step.partition("/")
        found.append(obj(kind, name, found[-1] if found else None))
    return found


@pytest.mark.parametrize(
    "steps",
    [
        ("Pod/bare",),
        ("Deployment/web", "ReplicaSet/web-1", "Pod/web-1-a"),
        ("CronJob/nightly", "Job/nightly-1", "Pod/nightly-1-a"),
        ("TrainJob/t", "JobSet/t", "Job/t-node-0", "Pod/t-node-0-0"),
        ("RayJob/r", "RayCluster/r-x", "Pod/r-x-head"),
        ("RayService/s", "RayCluster/s-x", "Pod/s-x-head"),
        ("AppWrapper/a", "PyTorchJob/p", "Pod/p-worker-0"),
        ("LeaderWorkerSet/l", "StatefulSet/l", "Pod/l-0", "StatefulSet/l-0", "Pod/l-0-1"),
        ("SparkApplication/s", "Pod/s-driver", "Pod/s-exec-1"),
        ("Notebook/n", "StatefulSet/n", "Pod/n-0"),
        ("Something/x", "Other/y", "Pod/z"),
    ],
    ids=lambda steps: steps[0],
)
def test_controllers_are_followed_to_the_end(steps: tuple[str, ...]) -> None:
    objects = chain(*steps)
    root = root_of(objects[-1], Objects(objects))
    kind, _, name = steps[0].partition("/")
    assert (root.kind, root.name, root.namespace, root.uid) == (kind, name, "ml", f"{kind}-{name}-uid")
    assert root.job_id("c1") == f"c1/{kind}-{name}-uid"
    assert [one["metadata"]["name"] for one in root.objects] == [step.partition("/")[2] for step in steps]
    assert root.evidence == ("self" if len(steps) == 1 else "owner")


def test_the_same_names_in_two_clusters_are_two_jobs() -> None:
    pod = obj("Pod", "p")
    root = root_of(pod, Objects())
    assert root.job_id("east") != root.job_id("west")


def test_an_owner_that_is_no_controller_owns_nothing() -> None:
    pod = obj("Pod", "p", obj("Job", "j"))
    pod["metadata"]["ownerReferences"][0]["controller"] = False
    assert root_of(pod, Objects()).kind == "Pod"


def test_a_static_pod_belongs_to_no_node() -> None:
    assert root_of(obj("Pod", "kube-proxy-n1", obj("Node", "n1", space=None)), Objects()).kind == "Pod"


def test_owners_in_a_circle_end() -> None:
    first, second = chain("A/a", "B/b")
    first["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "B", "name": "b", "uid": second["metadata"]["uid"], "controller": True}
    ]
    assert root_of(second, Objects([first, second])).kind in {"A", "B"}


def test_an_owner_that_cannot_be_read_is_known_by_its_reference() -> None:
    pod = chain("Odd/o", "Pod/p")[-1]
    root = root_of(pod, Objects())
    assert (root.kind, root.name, root.uid, root.evidence) == ("Odd", "o", "Odd-o-uid", "owner")
    assert root.objects == (pod,)


@pytest.mark.parametrize(
    ("labels", "missing", "expected"),
    [
        (
            {
                "jobset.sigs.k8s.io/jobset-name": "js",
                "jobset.sigs.k8s.io/jobset-uid": "u1",
                "job-name": "js-w-0",
            },
            "Job/js-w-0",
            ("JobSet", "js", "u1"),
        ),
        (
            {
                "ray.io/cluster": "r-x",
                "ray.io/originated-from-crd": "RayJob",
                "ray.io/originated-from-cr-name": "r",
            },
            "RayCluster/r-x",
            ("RayJob", "r", None),
        ),
        # The label names the very owner that is missing: its uid is known from the reference.
        ({"ray.io/cluster": "r-x"}, "RayCluster/r-x", ("RayCluster", "r-x", "RayCluster-r-x-uid")),
        (
            {
                "training.kubeflow.org/job-name": "p",
                "training.kubeflow.org/operator-name": "pytorchjob-controller",
            },
            "Unknown/u",
            ("PyTorchJob", "p", None),
        ),
        ({"leaderworkerset.sigs.k8s.io/name": "l"}, "StatefulSet/l-0", ("LeaderWorkerSet", "l", None)),
        ({"workflows.argoproj.io/workflow": "w"}, "Unknown/u", ("Workflow", "w", None)),
        ({"pod-template-hash": "abc"}, "ReplicaSet/web-abc", ("Deployment", "web", None)),
        ({"rollouts-pod-template-hash": "abc"}, "ReplicaSet/web-abc", ("Rollout", "web", None)),
        ({"app": "x"}, "Unknown/u", ("Unknown", "u", "Unknown-u-uid")),
    ],
)
def test_labels_lead_beyond_an_owner_that_cannot_be_read(
    labels: dict[str, str], missing: str, expected: tuple[str, str, str | None]
) -> None:
    pod = chain(missing, "Pod/p")[-1]
    pod["metadata"]["labels"] = labels
    root = root_of(pod, Objects())
    assert (root.kind, root.name, root.uid) == expected


def test_a_label_leads_to_an_object_that_is_known_and_on_from_there() -> None:
    outer, jobset = chain("TrainJob/t", "JobSet/js")
    pod = chain("Job/js-w-0", "Pod/p")[-1]
    pod["metadata"]["labels"] = {"jobset.sigs.k8s.io/jobset-name": "js"}
    root = root_of(pod, Objects([outer, jobset]))
    assert (root.kind, root.uid, root.evidence) == (
        "TrainJob",
        "TrainJob-t-uid",
        "label jobset.sigs.k8s.io/jobset-name",
    )
    assert [one["kind"] for one in root.objects] == ["TrainJob", "JobSet", "Pod"]


def test_a_job_known_by_name_only_keeps_its_names_as_key() -> None:
    pod = chain("StatefulSet/l-0", "Pod/p")[-1]
    pod["metadata"]["labels"] = {"leaderworkerset.sigs.k8s.io/name": "l"}
    assert root_of(pod, Objects()).job_id("c") == "c/ml/LeaderWorkerSet/l"


def test_bare_pods_that_are_admitted_together_are_one_job() -> None:
    pods = [obj("Pod", f"p{n}", labels={"kueue.x-k8s.io/pod-group-name": "sample"}) for n in range(2)]
    assert {root_of(pod, Objects(pods)).job_id("c") for pod in pods} == {"c/ml/PodGroup/sample"}


# ---- Whose job it is


def tagged(kind: str = "Job", labels: Json | None = None, annotations: Json | None = None) -> Json:
    return obj(kind, "train", labels=labels or {}, annotations=annotations or {})


def namespace(labels: Json | None = None, annotations: Json | None = None) -> Json:
    return obj("Namespace", "ml", space=None, labels=labels or {}, annotations=annotations or {})


EVERY_KIND_OF_EVIDENCE = [
    Evidence("own", "label gpuledger.io/team of Job train", 0),
    Evidence("alias", "label squad of Job train", 1),
    Evidence("noted", "annotation team of Job train", 2),
    Evidence("space", "namespace label team of Namespace ml", 3),
    Evidence("default", "default of namespaces m*", 4, inferred=True),
    Evidence("queue", "queue (kueue.x-k8s.io/queue-name)", 5, inferred=True),
    Evidence("rule", "rule 1", 8, inferred=True),
]


@pytest.mark.parametrize("first", range(len(EVERY_KIND_OF_EVIDENCE)))
def test_evidence_has_its_rank(first: int) -> None:
    """Taking away the strongest evidence, one after the other, leaves the next."""
    left = {one.value for one in EVERY_KIND_OF_EVIDENCE[first:]}

    def given(**tags: tuple[str, str]) -> Json:
        return {key: value for key, value in tags.values() if value in left}

    job = tagged(
        labels=given(
            a=("gpuledger.io/team", "own"), b=("squad", "alias"), c=("kueue.x-k8s.io/queue-name", "queue")
        ),
        annotations=given(a=("team", "noted")),
    )
    using = Attribution(
        defaults={"m*": {"team": "default"}} if "default" in left else {},
        rules=[Rule({"namespace": "ml", "kind": "J*"}, {"team": "rule"})],
    )
    found = dimensions([job], namespace(labels=given(a=("team", "space"))), using)
    assert found["team"] == EVERY_KIND_OF_EVIDENCE[first]


def test_all_dimensions_by_our_labels() -> None:
    labels = {
        "gpuledger.io/cost-centre": "CC-1",
        "gpuledger.io/team": "vision",
        "gpuledger.io/workload-type": "Fine_Tuning",
        "gpuledger.io/model": "llama-3-8b",
        "gpuledger.io/experiment": "lr-sweep",
        "gpuledger.io/project": "p",
        "gpuledger.io/environment": "dev",
        "gpuledger.io/budget": "b-7",
    }
    found = dimensions([tagged(labels=labels, annotations={"gpuledger.io/owner": "ann@example.com"})])
    assert {name: one.value for name, one in found.items()} == {
        "cost_center": "CC-1",
        "team": "vision",
        "owner": "ann@example.com",
        "workload_type": "fine-tuning",
        "model": "llama-3-8b",
        "experiment": "lr-sweep",
        "project": "p",
        "environment": "dev",
        "budget": "b-7",
    }
    assert {one.rank for one in found.values()} == {0}


def test_our_annotation_outranks_anothers_label() -> None:
    found = dimensions([tagged(labels={"app": "trainer"}, annotations={"gpuledger.io/project": "atlas"})])
    assert (found["project"].value, found["project"].rank) == ("atlas", 0)


def test_the_root_outranks_what_it_made_and_the_template_fills_in() -> None:
    root, pod = chain("Job/train", "Pod/train-a")
    root["metadata"]["labels"] = {"team": "root"}
    pod["metadata"]["labels"] = {"team": "pod", "env": "prod"}
    found = dimensions([root, pod])
    assert (found["team"].value, found["environment"].value) == ("root", "prod")
    deployment = {
        **obj("Deployment", "web", version="apps/v1"),
        "spec": {
            "template": {"metadata": {"labels": {"team": "t"}}, "spec": {"containers": [{"name": "c"}]}}
        },
    }
    assert dimensions([deployment])["team"].source == "label team of Deployment template"


@pytest.mark.parametrize(
    ("labels", "annotations", "space", "owner"),
    [
        ({}, {"gpuledger.io/requested-by": "ann@example.com"}, None, "ann@example.com"),
        ({"createdBy": "bob"}, {}, None, "bob"),
        (
            {"workflows.argoproj.io/creator": "system-serviceaccount-argo-x"},
            {},
            None,
            "system-serviceaccount-argo-x",
        ),
        ({}, {}, namespace(annotations={"openshift.io/requester": "carla"}), "carla"),
        # A label says who owns it; who pressed the button comes second.
        ({"owner": "dora", "createdBy": "bob"}, {}, None, "dora"),
    ],
)
def test_who_submitted_it(labels: Json, annotations: Json, space: Json | None, owner: str) -> None:
    found = dimensions([tagged(labels=labels, annotations=annotations)], space)["owner"]
    assert (found.value, found.inferred) == (owner, False)


def container(**more: object) -> Json:
    pod = tagged("Pod")
    pod["spec"] = {"containers": [{"name": "c", **more}]}
    return pod


@pytest.mark.parametrize(
    ("given", "dimension", "value"),
    [
        (tagged("PyTorchJob"), "workload_type", "training"),
        (tagged("RayService"), "workload_type", "inference"),
        (tagged("Notebook"), "workload_type", "notebook"),
        (container(image="vllm/vllm-openai:v0.11"), "workload_type", "inference"),
        (container(image="quay.io/jupyter/pytorch-notebook"), "workload_type", "notebook"),
        (container(image="ghcr.io/actions/actions-runner:2"), "workload_type", "ci"),
        (container(args=["--model", "Qwen/Qwen3-4B"]), "model", "Qwen/Qwen3-4B"),
        (container(args=["--model-path=/m/llama"]), "model", "/m/llama"),
        (container(command=["vllm", "serve", "meta/llama"]), "model", "meta/llama"),
        (container(command=["sh", "-c", "exec vllm serve 'a' --served-model-name llama"]), "model", "llama"),
        (container(env=[{"name": "MODEL_NAME", "value": "m"}]), "model", "m"),
        (container(env=[{"name": "MLFLOW_EXPERIMENT_NAME", "value": "e"}]), "experiment", "e"),
    ],
)
def test_what_is_guessed_is_shown_as_guessed(given: Json, dimension: str, value: str) -> None:
    found = dimensions([given])[dimension]
    assert (found.value, found.rank, found.inferred) == (value, 7, True)


@pytest.mark.parametrize(
    "given",
    [
        container(args=["--model", "$(MODEL)"]),
        container(args=["--model"]),
        container(image="ubuntu"),
        tagged("Pod"),
    ],
)
def test_what_says_nothing_gives_nothing(given: Json) -> None:
    assert dimensions([given]) == {}


def test_rules_match_all_their_patterns() -> None:
    job = tagged(labels={"kueue.x-k8s.io/queue-name": "vision-q", "tier": "gold"})
    matching = Rule(
        {"queue": "vision-*", "label:tier": "gold", "cluster": "east"},
        {"cost_center": "CC-9", "unknown": "x"},
    )
    other = Rule({"queue": "vision-*", "label:tier": "silver"}, {"cost_center": "CC-8"})
    empty = Rule({}, {"cost_center": "CC-7"})
    found = dimensions([job], None, Attribution(rules=[other, empty, matching]), "east")
    assert found["cost_center"] == Evidence("CC-9", "rule 3", 8, inferred=True)
    assert "cost_center" not in dimensions([job], None, Attribution(rules=[matching]), "west")


def test_every_candidate_can_be_shown() -> None:
    job = tagged(labels={"team": "a", "kueue.x-k8s.io/queue-name": "b"})
    assert [(name, one.value) for name, one in candidates([job]) if name == "team"] == [
        ("team", "a"),
        ("team", "b"),
    ]
