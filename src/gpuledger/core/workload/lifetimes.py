"""The life of a pod on its node, gathered from what was seen of it: held from binding, running, restarted, ended.

A pod holds its node's room from the moment it is bound (condition PodScheduled) until it has ended or is gone; a pod
that was never bound holds nothing. Container times come from the node's clock, the others from the API server's:
where they contradict each other, the server's bound the node's. Source: Kubernetes API reference, PodStatus.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from gpuledger.core.workload.fields import (
    Json,
    at,
    condition,
    instant,
    items,
    mapping,
    metadata,
    name,
    namespace,
    text,
    uid,
    whole,
)

# Times of the API have whole seconds, so two clocks that agree may differ by that much.
TOLERANCE = timedelta(seconds=2)

Interval = tuple[datetime, datetime]
Outcome = Literal["Succeeded", "Failed"]


@dataclass(frozen=True, slots=True)
class Segment:
    """Part of a pod's time on its node; `restart` counts the restarts before it."""

    start: datetime
    end: datetime
    running: bool
    restart: int


@dataclass(slots=True)
class PodLife:
    """What is known of one pod, by uid. `pod` is the newest object, `versions` its objects by when their requests held.

    `end_seen` is False when the end fell into a gap of observation: then `ended` is the last moment it was seen.
    """

    uid: str
    namespace: str | None
    name: str
    pod: Json
    created: datetime
    node: str | None = None
    scheduled: datetime | None = None
    ended: datetime | None = None
    end_seen: bool = True
    outcome: Outcome | None = None
    versions: list[tuple[datetime, Json]] = field(default_factory=list)
    skew: timedelta = timedelta(0)
    _runs: dict[str, dict[datetime, datetime | None]] = field(default_factory=dict)
    _restarts: dict[str, int] = field(default_factory=dict)

    def see(self, pod: Json, seen: datetime) -> None:
        """Take in the pod's object as it was at a moment (of the server's clock)."""
        self.pod = pod
        self.node = text(at(pod, "spec", "nodeName")) or self.node
        if self.node is not None and self.scheduled is None:
            self.scheduled = min(_scheduled(pod) or self.created, seen)
        self._keep_version(pod, seen)
        for status in items(at(pod, "status", "containerStatuses")):
            self._keep_runs(status, seen)
        phase = at(pod, "status", "phase")
        if phase in {"Succeeded", "Failed"} and (self.ended is None or self.outcome is None):
            self.outcome = phase
            self.ended = self._bounded(_finished(pod) or seen, seen)
            self.end_seen = True

    def gone(self, when: datetime, *, seen: bool = True) -> None:
        """Note that the object was deleted; without `seen`, `when` is the last moment at which it was there."""
        if self.ended is not None:
            return
        last = _finished(self.pod) if _all_ended(self.pod) else None
        self.ended = self._bounded(last or when, when)
        self.end_seen = seen or last is not None

    @property
    def restarts(self) -> int:
        """Restarts of the container that restarted most."""
        return max(self._restarts.values(), default=0)

    @property
    def started(self) -> datetime | None:
        """When a main container ran first, as far as known."""
        return min((start for runs in self._runs.values() for start in runs), default=None)

    def hold(self, until: datetime) -> Interval | None:
        """Return the time in which the pod holds room on its node, None when it never did."""
        if self.node is None or self.scheduled is None:
            return None
        end = min(self.ended, until) if self.ended is not None else until
        return (self.scheduled, end) if end > self.scheduled else None

    def running(self, until: datetime) -> list[Interval]:
        """Return the times in which at least one main container ran, in order."""
        hold = self.hold(until)
        if hold is None:
            return []
        known = [
            (max(start, hold[0]), min(end or hold[1], hold[1]))
            for runs in self._runs.values()
            for start, end in runs.items()
        ]
        return merged(known)

    def segments(self, until: datetime) -> list[Segment]:
        """Return the pod's time on its node, cut where it starts or stops running and where it restarts."""
        hold = self.hold(until)
        if hold is None:
            return []
        running = self.running(until)
        tries = self._tries()
        before = max(0, self.restarts - len(tries) + 1) if tries else self.restarts
        edges = {*hold, *(edge for one in running for edge in one), *(start for start, _ in tries)}
        cuts = sorted(edge for edge in edges if hold[0] <= edge <= hold[1])
        return [
            Segment(
                start,
                end,
                any(one[0] <= start < one[1] for one in running),
                before + _index(tries, start, self.ended),
            )
            for start, end in pairwise(cuts)
        ]

    def _tries(self) -> list[tuple[datetime, datetime | None]]:
        """Return the known runs of the container that restarted most; the first known may not be its first."""
        if not self._runs:
            return []
        lead = max(self._runs, key=lambda called: (self._restarts.get(called, 0), called))
        return sorted(self._runs[lead].items())

    def _keep_version(self, pod: Json, seen: datetime) -> None:
        since = self.scheduled or self.created
        if not self.versions:
            self.versions = [(since, pod)]
        elif _sizes(self.versions[-1][1]) == _sizes(pod):
            # Annotations and statuses only tell more of the same request.
            self.versions[-1] = (self.versions[-1][0], pod)
        else:
            self.versions.append((seen, pod))

    def _keep_runs(self, status: Json, seen: datetime) -> None:
        called = text(status.get("name")) or ""
        runs = self._runs.setdefault(called, {})
        self._restarts[called] = max(self._restarts.get(called, 0), whole(status.get("restartCount")) or 0)
        for told in (
            at(status, "lastState", "terminated"),
            at(status, "state", "terminated"),
            at(status, "state", "running"),
        ):
            start = instant(mapping(told).get("startedAt"))
            if start is None or start.year < 2000:  # noqa: PLR2004 - a container that never ran says 1970 or year 1
                continue
            end = instant(mapping(told).get("finishedAt"))
            begun = self._bounded(start, seen)
            runs[begun] = None if end is None else max(self._bounded(end, seen), begun)

    def _bounded(self, when: datetime, seen: datetime) -> datetime:
        """Hold a time of the node's clock between binding and observation; how far it was off is kept."""
        low = self.scheduled or self.created
        bounded = min(max(when, low), max(seen, low))
        if abs(when - bounded) > max(self.skew, TOLERANCE):
            self.skew = abs(when - bounded)
        return bounded


def new_life(pod: Json, seen: datetime) -> PodLife | None:
    """Return the life of a pod seen for the first time; None for an object without uid."""
    own = uid(pod)
    if own is None:
        return None
    created = instant(metadata(pod).get("creationTimestamp")) or seen
    life = PodLife(own, namespace(pod), name(pod), pod, min(created, seen))
    life.see(pod, seen)
    return life


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Return intervals in order, those that touch or overlap as one; empty ones are dropped."""
    found: list[Interval] = []
    for start, end in sorted(one for one in intervals if one[1] > one[0]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _index(tries: list[tuple[datetime, datetime | None]], when: datetime, ended: datetime | None) -> int:
    """Return the number of restarts at a moment, counted from the first known run; a pause belongs to the next try."""
    begun = [run for run in tries if run[0] <= when]
    if not begun:
        return 0
    last_end = begun[-1][1]
    waits = last_end is not None and last_end <= when and (ended is None or len(begun) < len(tries))
    return len(begun) - 1 + int(waits)


def _scheduled(pod: Json) -> datetime | None:
    bound = condition(pod, "PodScheduled")
    return instant(mapping(bound).get("lastTransitionTime")) or instant(at(pod, "status", "startTime"))


def _statuses(pod: Json) -> list[Json]:
    return [
        *items(at(pod, "status", "initContainerStatuses")),
        *items(at(pod, "status", "containerStatuses")),
    ]


def _all_ended(pod: Json) -> bool:
    states = [mapping(at(status, "state")) for status in items(at(pod, "status", "containerStatuses"))]
    return bool(states) and all("terminated" in state for state in states)


def _finished(pod: Json) -> datetime | None:
    """Return when the last container ended, or when the pod stopped being ready where none says so."""
    ends = [instant(at(status, "state", "terminated", "finishedAt")) for status in _statuses(pod)]
    known = [end for end in ends if end is not None]
    if known:
        return max(known)
    for wanted in ("DisruptionTarget", "ContainersReady", "Ready"):
        for told in items(at(pod, "status", "conditions")):
            if told.get("type") == wanted and (when := instant(told.get("lastTransitionTime"))) is not None:
                return when
    return instant(metadata(pod).get("deletionTimestamp"))


def _sizes(pod: Json) -> list[object]:
    spec = mapping(pod.get("spec"))
    parts = [*items(spec.get("initContainers")), *items(spec.get("containers"))]
    return [
        spec.get("resources"),
        spec.get("overhead"),
        [one.get("resources") for one in parts],
        [status.get("allocatedResources") for status in _statuses(pod)],
    ]
