"""Who owns what, as kube-state-metrics tells it: by names, for it has no owner's uid."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_DEPTH: Final = 16
# Question -> kind of what is owned, and the label that names it.
OWNED: Final = {
    "pod_owner": ("Pod", "pod"),
    "replicaset_owner": ("ReplicaSet", "replicaset"),
    "job_owner": ("Job", "job_name"),
}


@dataclass(frozen=True, slots=True)
class OwnerEdge:
    """An object's controller, by names."""

    cluster: str
    namespace: str
    kind: str
    name: str
    owner_kind: str
    owner_name: str


# By namespace, kind and name of what is owned.
Edges = Mapping[tuple[str, str, str], OwnerEdge]


def owner_edges(
    cluster: str, told: Mapping[str, Iterable[Mapping[str, str]]]
) -> dict[tuple[str, str, str], OwnerEdge]:
    """Return controllers from the labels that series had at the exporter, by the name of the question.

    An owner of '' or '<none>' is none, and a Node owns no job.
    """
    found = {}
    for question, (kind, label) in OWNED.items():
        for labels in told.get(question, ()):
            space, name = labels.get("namespace", ""), labels.get(label)
            of, called = labels.get("owner_kind", "<none>"), labels.get("owner_name", "<none>")
            if (
                name
                and "<none>" not in {of, called}
                and of != "Node"
                and labels.get("owner_is_controller") != "false"
            ):
                found[space, kind, name] = OwnerEdge(cluster, space, kind, name, of, called)
    return found


def root(edges: Edges, namespace: str, pod: str) -> tuple[str, str]:
    """Return kind and name of the job that a pod belongs to, as far as the edges lead."""
    kind, name = "Pod", pod
    for _ in range(_DEPTH):
        edge = edges.get((namespace, kind, name))
        if edge is None:
            break
        kind, name = edge.owner_kind, edge.owner_name
    return kind, name


def job_id(cluster: str, namespace: str, kind: str, name: str, uid: str | None = None) -> str:
    """Return the ledger's key of a job that is known by its names, or by its uid if it is a bare pod."""
    return f"{cluster}/{uid}" if kind == "Pod" and uid else f"{cluster}/{namespace}/{kind}/{name}"
