"""Which job a pod belongs to: controller owner references followed to their end, whatever the kinds.

Where an owner can't be read (gone, or no permission), labels that controllers put on their pods lead further.
Sources of the labels: JobSet, Kubeflow Training Operator, KubeRay (`originated-from`), Argo Workflows, Tekton,
LeaderWorkerSet, Spark operator, Volcano, KServe, Kueue (plain pod groups), batch/v1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gpuledger.core.workload.fields import Json, items, kind, labels, metadata, name, namespace, text, uid
from gpuledger.core.workload.objects import Objects

_DEPTH: Final = 16
# An owner that is no workload: static pods belong to their node, and that is where the chain ends.
_NO_JOB: Final = frozenset({"Node"})

# Label with the job's name, its kind, and the label with its uid where there is one. Outermost first.
_LABELS: Final = (
    ("workload.codeflare.dev/appwrapper", "AppWrapper", None),
    ("trainer.kubeflow.org/trainjob-name", "TrainJob", None),
    ("jobset.sigs.k8s.io/jobset-name", "JobSet", "jobset.sigs.k8s.io/jobset-uid"),
    ("workflows.argoproj.io/workflow", "Workflow", None),
    ("tekton.dev/pipelineRun", "PipelineRun", "tekton.dev/pipelineRunUID"),
    ("leaderworkerset.sigs.k8s.io/name", "LeaderWorkerSet", None),
    ("sparkoperator.k8s.io/app-name", "SparkApplication", None),
    ("serving.kserve.io/inferenceservice", "InferenceService", None),
    ("volcano.sh/job-name", "Job", None),
    ("ray.io/cluster", "RayCluster", None),
    ("notebook-name", "Notebook", None),
    ("batch.kubernetes.io/job-name", "Job", "batch.kubernetes.io/controller-uid"),
    ("job-name", "Job", "controller-uid"),
)
_ORIGIN: Final = ("ray.io/originated-from-crd", "ray.io/originated-from-cr-name")
_TRAINING: Final = ("training.kubeflow.org/job-name", "training.kubeflow.org/operator-name")
_TRAINING_KINDS: Final = {
    f"{word.lower()}job-controller": f"{word}Job"
    for word in ("PyTorch", "TF", "MPI", "XGBoost", "Paddle", "JAX", "MX")
}
_POD_GROUP: Final = "kueue.x-k8s.io/pod-group-name"


@dataclass(frozen=True, slots=True)
class Root:
    """The job that an object belongs to.

    `uid` is None for a job that is only known by a label. `objects` are the known objects from the root down to the
    one asked for. `evidence` says how the last step was made: `owner`, `label <key>` or `self`.
    """

    kind: str
    name: str
    namespace: str | None
    uid: str | None
    api_version: str | None
    objects: tuple[Json, ...]
    evidence: str

    def job_id(self, cluster: str) -> str:
        """Return the ledger's key of the job: `<cluster>/<root uid>`, or its names where only those are known."""
        return (
            f"{cluster}/{self.uid}"
            if self.uid
            else f"{cluster}/{self.namespace or ''}/{self.kind}/{self.name}"
        )


@dataclass(frozen=True, slots=True)
class Owner:
    """A controller named in an object's owner references."""

    api_version: str
    kind: str
    name: str
    uid: str


def controller(obj: Json) -> Owner | None:
    """Return the controller of an object, None when it has none."""
    for reference in items(metadata(obj).get("ownerReferences")):
        if reference.get("controller") is True and reference.get("kind") not in _NO_JOB:
            version, own = text(reference.get("apiVersion")) or "", text(reference.get("uid"))
            called, of = text(reference.get("name")), text(reference.get("kind"))
            if own and called and of:
                return Owner(version, of, called, own)
    return None


def root_of(obj: Json, objects: Objects) -> Root:
    """Return the job that an object belongs to, as far as it can be followed through known objects."""
    chain = [obj]
    seen = {uid(obj)}
    missing: Owner | None = None
    for _ in range(_DEPTH):
        owner = controller(chain[-1])
        if owner is None or owner.uid in seen:
            break
        seen.add(owner.uid)
        found = objects.of_uid(owner.uid)
        if found is None:
            missing = owner
            break
        chain.append(found)
    top = chain[-1]
    if missing is not None:
        return _beyond(missing, chain, objects)
    group = labels(top).get(_POD_GROUP)
    if group and kind(top) == "Pod" and len(chain) == 1:
        # Bare pods that are admitted together are one job.
        return Root("PodGroup", group, namespace(top), None, None, (top,), f"label {_POD_GROUP}")
    own = "self" if len(chain) == 1 else "owner"
    return Root(
        kind(top), name(top), namespace(top), uid(top), text(top.get("apiVersion")), tuple(chain[::-1]), own
    )


def _beyond(missing: Owner, chain: list[Json], objects: Objects) -> Root:
    """Return the root when an owner isn't known: by labels where they lead beyond it, else that owner itself."""
    space = namespace(chain[-1])
    known = tuple(chain[::-1])
    for key, of, called, own in (*_labelled(chain), *_deployment(missing, chain[-1])):
        if of == missing.kind and called == missing.name:
            break
        found = objects.of_uid(own) or objects.named(of, space, called)
        if found is not None and uid(found) not in {uid(one) for one in chain}:
            above = root_of(found, objects)
            return Root(
                above.kind,
                above.name,
                above.namespace,
                above.uid,
                above.api_version,
                above.objects + known,
                f"label {key}",
            )
        if own != missing.uid:
            return Root(of, called, space, own, None, known, f"label {key}")
    return Root(missing.kind, missing.name, space, missing.uid, missing.api_version, known, "owner")


def _deployment(missing: Owner, obj: Json) -> Iterator[tuple[str, str, str, str | None]]:
    """A replica set is named after its deployment and the hash of its template, which its pods carry."""
    for key, of in (("rollouts-pod-template-hash", "Rollout"), ("pod-template-hash", "Deployment")):
        made = labels(obj).get(key)
        if made and missing.kind == "ReplicaSet" and missing.name.endswith(f"-{made}"):
            yield key, of, missing.name.removesuffix(f"-{made}"), None
            return


def _labelled(chain: list[Json]) -> Iterator[tuple[str, str, str, str | None]]:
    """Yield label, kind, name and uid of the jobs that labels of the chain name, outermost first."""
    for obj in chain[::-1]:
        tags = labels(obj)
        origin, called = (tags.get(key) for key in _ORIGIN)
        if origin and called:
            yield _ORIGIN[1], origin, called, None
        if (called := tags.get(_TRAINING[0])) is not None:
            operator = tags.get(_TRAINING[1], "")
            if operator in _TRAINING_KINDS:
                yield _TRAINING[0], _TRAINING_KINDS[operator], called, None
        for key, of, own in _LABELS:
            if (called := tags.get(key)) is not None:
                yield key, of, called, tags.get(own) if own else None
