"""Synthetic Kubernetes objects for tests: pods and what their containers ask for."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from gpuledger.core.sharing import CARD_UNITS, held_units
from gpuledger.core.usage import UsageInterval
from gpuledger.core.workload import Records, Timeline

START = datetime(2026, 11, 2, 8, tzinfo=UTC)
END = START + timedelta(hours=24)
NODE = "n1"

Pod = dict[str, Any]


def pod(
    *containers: dict[str, Any],
    init: list[dict[str, Any]] | None = None,
    spec: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
) -> Pod:
    """A pod `ml/p` whose containers are called c0, c1 and so on."""
    named = [{"name": f"c{place}", **one} for place, one in enumerate(containers)]
    metadata = {"name": "p", "namespace": "ml", "annotations": annotations or {}}
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": named, "initContainers": init or [], **(spec or {})},
    }


def limits(resources: dict[str, object]) -> dict[str, Any]:
    """A container that has these limits."""
    return {"resources": {"limits": resources}}


def seen(*values: object) -> tuple[object, ...]:
    """Values of any types, to be compared with others: a Fraction equals an int."""
    return values


def owned(obj: dict[str, Any], owner: dict[str, Any] | None) -> dict[str, Any]:
    """Name the owner as the object's controller."""
    if owner is not None:
        own = owner["metadata"]
        obj["metadata"]["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": own["name"],
                "uid": own["uid"],
                "controller": True,
            }
        ]
    return obj


def job(
    kind: str,
    name: str,
    created: str,
    spec: dict[str, Any] | None = None,
    owner: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A job object in namespace `ml`; its uid is made of kind and name."""
    metadata = {"name": name, "namespace": "ml", "uid": f"{kind}/{name}", "creationTimestamp": created}
    obj = {
        "apiVersion": "batch/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec or {},
        "status": status or {},
    }
    return owned(obj, owner)


def live_pod(  # noqa: PLR0913 - what tests vary
    name: str,
    created: str,
    *,
    owner: dict[str, Any] | None = None,
    gpus: int = 1,
    node: str | None = None,
    scheduled: str | None = None,
    runs: list[tuple[str, str | None]] | None = None,
    phase: str = "",
    uid: str | None = None,
    labels: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A pod of one container; of its runs (start, end) the last two are in its status, as Kubernetes keeps them."""
    resources: dict[str, Any] = {"requests": {"cpu": "2", "memory": "4Gi"}}
    if gpus:
        resources["limits"] = {"nvidia.com/gpu": gpus}
    status: dict[str, Any] = {"phase": phase or ("Running" if runs else "Pending"), "conditions": []}
    if scheduled:
        status["conditions"].append(
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled}
        )
    if runs:
        told: dict[str, Any] = {"name": "main", "restartCount": len(runs) - 1, "state": _state(*runs[-1])}
        if len(runs) > 1:
            told["lastState"] = _state(*runs[-2])
        status["containerStatuses"] = [told]
    obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": uid or f"Pod/{name}",
            "creationTimestamp": created,
            "labels": labels or {},
        },
        "spec": {"containers": [{"name": "main", "resources": resources}], "nodeName": node, **(spec or {})},
        "status": status,
    }
    return owned(obj, owner)


def _state(start: str, end: str | None) -> dict[str, Any]:
    if end is None:
        return {"running": {"startedAt": start}}
    return {"terminated": {"startedAt": start, "finishedAt": end, "exitCode": 0}}


def t(minutes: float) -> str:
    """A minute after the start as the API writes it."""
    return (START + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def when(minutes: float) -> datetime:
    """A minute after the start."""
    return START + timedelta(minutes=minutes)


def minutes(moment: datetime) -> float:
    """Minutes from the start."""
    return (moment - START) / timedelta(minutes=1)


def ran(  # noqa: PLR0913 - what tests vary
    name: str,
    start: float,
    end: float | None,
    *,
    phase: str | None = None,
    owner: dict[str, Any] | None = None,
    gpus: int = 1,
    uid: str | None = None,
    labels: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A pod that was created two minutes before it started, and bound one before."""
    phase = phase or ("Running" if end is None else "Succeeded")
    runs = [(t(start), None if end is None else t(end))]
    made, bound = t(start - 2), t(start - 1)
    return live_pod(
        name,
        made,
        owner=owner,
        gpus=gpus,
        node=NODE,
        scheduled=bound,
        runs=runs,
        phase=phase,
        uid=uid,
        labels=labels,
        spec=spec,
    )


def watched(*seen: tuple[float, dict[str, Any]], until: float = 1440, cluster: str = "c") -> Timeline:
    """A timeline that saw objects at these minutes, with its watches alive until the end."""
    line = Timeline(cluster)
    for minute, obj in sorted(seen, key=lambda one: one[0]):
        line.see(obj, when(minute))
    for kind in ("Pod", "Node"):
        line.confirm(kind, when(until))
    return line


def told(records: Records, resource: str = "gpu") -> list[tuple[str | None, float, float, str, int]]:
    """Pod, from, to, state and attempt of each interval of a resource."""
    return [
        (row.pod, minutes(row.start), minutes(row.end), row.state, row.attempt)
        for row in sorted(records.usages, key=lambda row: (row.pod or "", row.start))
        if row.resource == resource
    ]


def card_minutes(rows: list[UsageInterval] | tuple[UsageInterval, ...], state: str | None = None) -> Fraction:
    """Minutes of whole cards held, in a state or in any."""
    total = Fraction(0)
    for row in rows:
        if row.resource == "gpu" and state in {None, row.state}:
            units = held_units(row)
            assert units is not None
            total += Fraction(units, CARD_UNITS) * Fraction((row.end - row.start) / timedelta(seconds=1)) / 60
    return total


def jobset(pods: int) -> dict[str, Any]:
    """A JobSet `js` of so many jobs with one pod each."""
    template = {"spec": {"containers": [{"name": "main"}]}}
    replicated = {"name": "w", "replicas": pods, "template": {"spec": {"template": template}}}
    return job("JobSet", "js", t(0), {"replicatedJobs": [replicated]})


def worker(owner: dict[str, Any], number: int, attempt: int = 0) -> tuple[dict[str, Any], dict[str, str]]:
    """A job of the set and the labels of its pod, in an attempt of the set."""
    child = job("Job", f"js-w-{number}", t(0), owner=owner)
    child["metadata"]["uid"] += f"/{attempt}"
    tags = {
        "jobset.sigs.k8s.io/replicatedjob-name": "w",
        "jobset.sigs.k8s.io/job-index": str(number),
        "jobset.sigs.k8s.io/restart-attempt": str(attempt),
    }
    return child, tags
