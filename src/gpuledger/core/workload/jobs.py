"""The job's own line in the ledger: what it is, its state in the platform's words, when it began and ended."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from gpuledger.core.usage import Evidence, Job
from gpuledger.core.workload.fields import Json, at, instant, items, labels, mapping, metadata, text, uid
from gpuledger.core.workload.lifetimes import PodLife
from gpuledger.core.workload.owners import Root

# Where kinds keep a word for their state, the most telling first.
_STATES: Final = (
    *(
        ("status", "terminalState"),
        ("status", "jobStatus"),
        ("status", "jobDeploymentStatus"),
        ("status", "phase"),
    ),
    *(("status", "applicationState", "state"), ("status", "serviceStatus"), ("status", "state", "phase")),
    *(("status", "state"), ("status", "currentState")),
)
_ENDS: Final = (
    *(
        ("status", "completionTime"),
        ("status", "endTime"),
        ("status", "finishedAt"),
        ("status", "terminationTime"),
    ),
)
_TERMINAL: Final = (
    "Complete",
    "Completed",
    "Succeeded",
    "Failed",
    "FailureTarget",
    "JobFailed",
    "JobSucceeded",
)
_ENDED_WORDS: Final = frozenset(
    {
        "Succeeded",
        "SUCCEEDED",
        "Complete",
        "Completed",
        "COMPLETED",
        "Failed",
        "FAILED",
        "Error",
        "Stopped",
        "STOPPED",
    }
)


def job_of(
    root: Root,
    cluster: str,
    lives: Sequence[PodLife],
    dimensions: dict[str, Evidence],
    attempts: int,
    gone: datetime | None,
) -> Job:
    """Return the job of a root and its pods. `gone` is when its object was deleted.

    A job has started with its first running container and ends with what its object says, else with the object itself.
    """
    own = root.objects[0] if root.objects and uid(root.objects[0]) == root.uid else None
    created = instant(metadata(own or {}).get("creationTimestamp"))
    submitted = created or min((life.created for life in lives), default=None)
    started = min(
        (when for life in lives if life.scheduled and (when := life.started) is not None), default=None
    )
    tags = labels(own if own is not None else (root.objects[0] if root.objects else {}))
    return Job(
        job_id=root.job_id(cluster),
        cluster=cluster,
        kind=root.kind,
        name=root.name,
        namespace=root.namespace,
        dimensions=dimensions,
        submitted=submitted,
        started=started,
        ended=_ended(own, root, lives, gone),
        state=state_of(own) if own is not None else None,
        attempts=attempts,
        labels=tags,
    )


def state_of(obj: Json) -> str | None:
    """Return the state of a job object in its own words; None when its status says nothing."""
    for path in _STATES:
        if (found := text(at(obj, *path))) is not None:
            return found
    holding = [told for told in items(at(obj, "status", "conditions")) if str(told.get("status")) == "True"]
    for wanted in (*_TERMINAL, "Suspended"):
        if any(told.get("type") == wanted for told in holding):
            return wanted
    if mapping(obj.get("spec")).get("suspend") is True:
        return "Suspended"
    latest = max(holding, key=lambda told: text(told.get("lastTransitionTime")) or "", default=None)
    if latest is not None:
        return text(latest.get("type"))
    return "Active" if at(obj, "status", "active") else None


def _ended(own: Json | None, root: Root, lives: Iterable[PodLife], gone: datetime | None) -> datetime | None:
    if own is not None and root.kind != "Pod":
        for path in _ENDS:
            if (when := instant(at(own, *path))) is not None:
                return when
        for told in items(at(own, "status", "conditions")):
            if told.get("type") in _TERMINAL and str(told.get("status")) == "True":
                return instant(told.get("lastTransitionTime"))
    ends = [life.ended for life in lives]
    last = max((end for end in ends if end is not None), default=None)
    over = (
        root.kind in {"Pod", "PodGroup"}
        or gone is not None
        or (own is not None and state_of(own) in _ENDED_WORDS)
    )
    if over and None not in ends and last is not None:
        return last
    return gone
