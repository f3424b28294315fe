"""Which records of accounting are one job: requeues, resizes, arrays, heterogeneous jobs, and ids that come again.

A job id isn't enough to tell a job: ids start again at MaxJobId, and when the controller loses its state. Nor is the
id with its submission: each requeue resets that (sacct(1), `Submit`). So the records of an id are chained: a record
continues the one before when that one was requeued or resized, when Slurm counts restarts (`Restarts`, newer
versions), or when the same person's job of the same name follows within a day (`scontrol requeue` of a finished job).
The job's key is its id with the submission of the chain's first record.
"""

import bisect
from dataclasses import dataclass
from typing import Final, NamedTuple

from gpuledger.telemetry.slurm.records import REQUEUED, RESIZED, Allocation

# A finished job can be requeued as long as the controller remembers it: MinJobAge, minutes by default.
_REQUEUE_WITHIN: Final = 86_400
# An attempt may only be submitted again when the epilogue of the last one has ended.
_SLACK: Final = 600
# Components of a heterogeneous job are submitted together, to the second or nearly so.
_TOGETHER: Final = 5


class _Seen(NamedTuple):
    submit: int
    start: int
    end: int
    state: str
    restarts: int | None
    who: int
    raw: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record belongs: its job's key, the attempt's number, and the moment before which it counted elsewhere.

    A resized job's next record starts, for Slurm, when the job did: `not_before` keeps that time from counting twice.
    """

    job_id: str
    attempt: int
    not_before: int | None = None


class Attempts:
    """The records of a period in brief, some hundred bytes each: all are in memory before the first is told."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, list[_Seen]]] = {}
        self._components: dict[tuple[str, int], set[str]] = {}
        self._together: dict[tuple[str, int], list[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._seen)

    def add(self, record: Allocation, *, earlier: bool = False) -> None:
        """Take note of a record; `earlier` ones are known from elsewhere and tell nothing but the history."""
        known = self._seen.setdefault(record.cluster, {}).setdefault(record.display, [])
        if earlier and any(seen.submit == record.submit for seen in known):
            return
        who = hash((record.user, record.name))
        end = record.end or 0
        known.append(
            _Seen(record.submit, record.start or 0, end, record.state, record.restarts, who, record.raw)
        )
        if "+" in record.display:
            self._components.setdefault((record.cluster, record.root), set()).add(record.display)

    def replace(self, record: Allocation) -> None:
        """Take a record in place of one that didn't know its end yet."""
        known = self._seen[record.cluster][record.display]
        known[:] = [seen for seen in known if seen.submit != record.submit]
        self.add(record)

    def unclear(self, since: int) -> list[int]:
        """Raw ids whose first submission may lie in records that ended before `since`, sorted."""
        found = set()
        for displays in self._seen.values():
            for seen in displays.values():
                first = min(seen, key=_order)
                again = first.submit < since + _SLACK if first.restarts is None else first.restarts > 0
                resized = 0 < first.start < first.submit
                if resized or (again and (first.start or first.restarts)):
                    found.add(first.raw)
        for (cluster, root), components in self._components.items():
            if f"{root}+0" not in components:
                found.add(root)
                found.update(self._seen[cluster][display][0].raw for display in components)
        return sorted(found)

    def close(self) -> None:
        """Chain what was added; afterwards `place` answers."""
        for displays in self._seen.values():
            for seen in displays.values():
                seen.sort(key=_order)
        for (cluster, root), components in self._components.items():
            leaders: list[int] = []
            for first in sorted(
                {first for display in components for first in self._firsts(cluster, display)}
            ):
                if not leaders or first - leaders[-1] > _TOGETHER:
                    leaders.append(first)
            self._together[cluster, root] = leaders

    def alone(self, record: Allocation) -> bool:
        """Whether a record is all there is of its job."""
        return record.kind == "SlurmJob" and len(self._seen[record.cluster][record.display]) == 1

    def _firsts(self, cluster: str, display: str) -> list[int]:
        seen = self._seen[cluster][display]
        return [
            record.submit
            for before, record in zip([None, *seen], seen, strict=False)
            if before is None or not _continues(before, record)
        ]

    def place(self, record: Allocation) -> Place:
        """Tell which job and attempt a record is."""
        seen = self._seen[record.cluster][record.display]
        if len(seen) == 1:
            return Place(self._key(record, record.submit), (record.restarts or 0) + 1)
        first, attempt, not_before = 0, 0, None
        before: _Seen | None = None
        for one in seen:
            if before is None or not _continues(before, one):
                first, attempt, not_before = one.submit, (one.restarts or 0) + 1, None
            elif before.state == RESIZED:
                not_before = before.end or None
            else:
                attempt = attempt + 1 if one.restarts is None else one.restarts + 1
                not_before = None
            if (one.submit, one.start, one.end) == (record.submit, record.start or 0, record.end or 0):
                return Place(self._key(record, first), attempt, not_before)
            before = one
        raise KeyError(record.display)

    def _key(self, record: Allocation, first: int) -> str:
        if "+" in record.display:
            leaders = self._together[record.cluster, record.root]
            first = leaders[bisect.bisect_right(leaders, first) - 1]
        return f"{record.cluster}/slurm/{record.root}@{first}"


def _order(seen: _Seen) -> tuple[int, int, int]:
    return seen.submit, seen.start, seen.end


def _continues(before: _Seen, record: _Seen) -> bool:
    if before.state == RESIZED:
        return True
    if record.restarts is not None:
        return record.restarts > 0
    if before.state in REQUEUED:
        return True
    return (
        before.who == record.who
        and 0 < before.end <= record.submit + _SLACK
        and record.submit - before.end <= _REQUEUE_WITHIN
    )
