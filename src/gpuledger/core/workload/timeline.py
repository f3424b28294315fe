"""One cluster over time: objects in as they are seen, jobs, machines and what was held out.

Times given to `see`, `gone` and `relist` are of the API server's clock. Nothing is assumed about what wasn't seen:
what is open ends, in the records, at the last moment it was confirmed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.core.workload.attribution import DEFAULT, Attribution, dimensions
from gpuledger.core.workload.claims import Claims
from gpuledger.core.workload.fields import Json, instant, kind, metadata, name, namespace, sort, uid
from gpuledger.core.workload.gangs import attempts_before, gang_of, waiting
from gpuledger.core.workload.jobs import job_of
from gpuledger.core.workload.lifetimes import Interval, PodLife, new_life
from gpuledger.core.workload.manifests import Finder, job_size, templates
from gpuledger.core.workload.nodes import NodeShape, node_shape
from gpuledger.core.workload.objects import Objects
from gpuledger.core.workload.owners import Owner, Root, controller, root_of
from gpuledger.core.workload.usages import Cluster, usages
from gpuledger.diagnostics import Diagnostic

DRA_KINDS: Final = ("ResourceClaim", "ResourceClaimTemplate", "DeviceClass", "ResourceSlice")


@dataclass(frozen=True, slots=True)
class Records:
    """What a timeline says of a window. Intervals are cut at its edges; a job is told whole."""

    jobs: tuple[Job, ...]
    nodes: tuple[NodeInterval, ...]
    usages: tuple[UsageInterval, ...]
    diagnostics: tuple[Diagnostic, ...]


@dataclass(slots=True)
class _Machine:
    """A node by uid: its shapes by when they began, and when it came and went."""

    name: str
    created: datetime
    shapes: list[tuple[datetime, NodeShape]]
    ended: datetime | None = None


@dataclass(slots=True)
class _Workload:
    """A job in the making: its root, its pods, and the tries of each pod before it."""

    root: Root
    lives: list[PodLife] = field(default_factory=list)
    pods: int | None = None


class Timeline:
    """What was seen of one cluster. `cluster` is its id in the ledger: names of two clusters never meet."""

    def __init__(self, cluster: str, using: Attribution = DEFAULT) -> None:
        self.cluster = cluster
        self._using = using
        self._lives: dict[str, PodLife] = {}
        self._machines: dict[str, _Machine] = {}
        self._objects = Objects()
        self._dra = Objects()
        self._gone: dict[str, datetime] = {}
        # By sort of object and, where only some namespaces are watched, by namespace.
        self._confirmed: dict[tuple[str, str | None], datetime] = {}

    def see(self, obj: Json, seen: datetime) -> None:
        """Take in an object as it was at a moment; its watch was alive then, so all of its kind are as last seen."""
        self._confirm_by(obj, seen)
        own = uid(obj)
        if own is None:
            return
        if kind(obj) == "Pod":
            life = self._lives.get(own)
            if life is not None:
                life.see(obj, seen)
            elif (begun := new_life(obj, seen)) is not None:
                self._lives[own] = begun
        elif kind(obj) == "Node":
            self._see_node(own, obj, seen)
        elif kind(obj) in DRA_KINDS:
            self._dra.put(obj)
        else:
            self._objects.put(obj)
            self._gone.pop(own, None)

    def gone(self, obj: Json, when: datetime, *, seen: bool = True) -> None:
        """Note that an object was deleted. Without `seen`, `when` is the last moment at which it was there."""
        own = uid(obj)
        if own is None:
            return
        if seen:
            self._confirm_by(obj, when)
        if kind(obj) == "Pod":
            if own not in self._lives and seen:
                self.see(obj, when)
            if (life := self._lives.get(own)) is not None:
                if seen:
                    life.see(obj, when)
                life.gone(when, seen=seen)
        elif kind(obj) == "Node":
            if (machine := self._machines.get(own)) is not None and machine.ended is None:
                machine.ended = when
        elif kind(obj) not in DRA_KINDS:
            self._gone.setdefault(own, when)
        else:
            self._dra.drop(obj)

    def confirm(self, of: str, when: datetime, space: str | None = None) -> None:
        """Note that all objects of a sort were as last seen at a moment, such as that of a bookmark.

        `of` is as `fields.sort` says; `space` is given when only that namespace is watched.
        """
        key = (of, space)
        self._confirmed[key] = max(when, self._confirmed.get(key, when))

    def relist(self, of: str, objects: Iterable[Json], when: datetime, space: str | None = None) -> None:
        """Take in all objects of a sort at a moment. What isn't among them went unseen since they were confirmed."""
        listed = list(objects)
        present = {uid(obj) for obj in listed}
        last = self._confirmed.get((of, space))
        for obj in self._held(of):
            if uid(obj) not in present and (space is None or namespace(obj) == space):
                self.gone(obj, last or when, seen=False)
        self.confirm(of, when, space)
        for obj in listed:
            self.see(obj, when)

    def unknown_owners(self) -> list[tuple[Owner, str | None]]:
        """Return controllers that pods and known objects name and that weren't seen, with their namespace, once each."""
        found: dict[str, tuple[Owner, str | None]] = {}
        for obj in [*(life.pod for life in self._lives.values()), *self._objects]:
            owner = controller(obj)
            if owner is not None and owner.uid not in self._lives and self._objects.of_uid(owner.uid) is None:
                found.setdefault(owner.uid, (owner, namespace(obj)))
        return list(found.values())

    def forget(self, before: datetime) -> None:
        """Drop what ended before a moment; records of earlier windows can't be had afterwards."""
        self._lives = {
            own: life for own, life in self._lives.items() if life.ended is None or life.ended >= before
        }
        self._machines = {
            own: one for own, one in self._machines.items() if one.ended is None or one.ended >= before
        }
        for own in [own for own, when in self._gone.items() if when < before]:
            if (obj := self._objects.of_uid(own)) is not None:
                self._objects.drop(obj)
            del self._gone[own]

    def records(self, start: datetime, end: datetime) -> Records:
        """Return what is known of [start, end): jobs with pods or a job object in it, machines, and what pods held."""
        until = min(end, self._confirmed_until("Pod") or start)
        works = self._workloads(end)
        shapes = {
            machine.name: machine.shapes for machine in self._machines.values() if machine.ended is None
        }
        shapes = {**{one.name: one.shapes for one in self._machines.values()}, **shapes}
        ends: dict[str, list[Interval]] = {}
        for machine in self._machines.values():
            if machine.ended is not None:
                ends.setdefault(machine.name, []).append((machine.created, machine.ended))
        view = Cluster(self.cluster, shapes, Claims(self._dra), list(self._lives.values()), ends)
        jobs: list[Job] = []
        held: list[UsageInterval] = []
        for work in works:
            living = [
                life
                for life in work.lives
                if life.created < end and (life.ended is None or life.ended > start)
            ]
            if not living and not self._waits(work.root, start, end):
                continue
            tries = attempts_before(work.lives)
            begun = [tries[life.uid] + life.restarts + 1 for life in work.lives if life.hold(end) is not None]
            jobs.append(self._job(work, max(begun, default=0)))
            waits = self._waiting(work, until)
            for life in living:
                window = (max(start, life.created), until)
                held += usages(
                    view,
                    life,
                    work.root.job_id(self.cluster),
                    window,
                    tries[life.uid],
                    waits.get(life.uid, []),
                )
        return Records(
            tuple(sorted(jobs, key=lambda job: job.job_id)),
            tuple(self._node_intervals(start, min(end, self._confirmed_until("Node") or start))),
            tuple(held),
            tuple(self._diagnostics(start, end, view)),
        )

    def _confirm_by(self, obj: Json, when: datetime) -> None:
        own = (sort(obj), namespace(obj))
        self.confirm(own[0], when, own[1] if own in self._confirmed else None)

    def _confirmed_until(self, of: str) -> datetime | None:
        """Return the moment up to which all watches of a sort are known to have told everything."""
        return min((when for (known, _), when in self._confirmed.items() if known == of), default=None)

    def _workloads(self, end: datetime) -> list[_Workload]:
        """Group pods by job, and add the job objects that have none yet."""
        works: dict[str, _Workload] = {}
        pods = Objects([life.pod for life in self._lives.values()])
        known = _Both(self._objects, pods)
        for life in sorted(self._lives.values(), key=lambda one: (one.created, one.uid)):
            root = root_of(life.pod, known)
            works.setdefault(root.job_id(self.cluster), _Workload(root)).lives.append(life)
        for obj in self._objects:
            created = instant(metadata(obj).get("creationTimestamp"))
            if controller(obj) is None and created is not None and created < end:
                root, finder = root_of(obj, known), Finder(self._objects)
                if root.job_id(self.cluster) not in works and (templates(obj, finder) or finder.problems):
                    works[root.job_id(self.cluster)] = _Workload(root)
        for work in works.values():
            own = work.root.objects[0] if work.root.objects else None
            size = (
                job_size(own, self._objects, Claims(self._dra))
                if own is not None and kind(own) != "Pod"
                else None
            )
            work.pods = size.pods if size is not None and uid(own or {}) == work.root.uid else None
        return list(works.values())

    def _waits(self, root: Root, start: datetime, end: datetime) -> bool:
        """Whether a job object without pods was there in the window."""
        own = root.objects[0]
        created = instant(metadata(own).get("creationTimestamp"))
        last = self._gone.get(root.uid or "", end)
        return created is not None and created < end and last > start

    def _waiting(self, work: _Workload, until: datetime) -> dict[str, list[Interval]]:
        """Return per pod uid the times in which its gang waited."""
        gangs: dict[str, tuple[int | None, list[PodLife]]] = {}
        for life in work.lives:
            gang = gang_of(life.pod, work.root, work.pods, self._objects)
            if gang is not None:
                gangs.setdefault(gang.key, (gang.size, []))[1].append(life)
        return {
            life.uid: times
            for size, lives in gangs.values()
            if (times := waiting(lives, size, until))
            for life in lives
        }

    def _job(self, work: _Workload, attempts: int) -> Job:
        space = self._objects.named("Namespace", None, work.root.namespace or "")
        found = dimensions(work.root.objects, space, self._using, self.cluster)
        return job_of(
            work.root, self.cluster, work.lives, found, attempts, self._gone.get(work.root.uid or "")
        )

    def _see_node(self, own: str, obj: Json, seen: datetime) -> None:
        shape = node_shape(obj)
        machine = self._machines.get(own)
        if machine is None:
            created = min(instant(metadata(obj).get("creationTimestamp")) or seen, seen)
            self._machines[own] = _Machine(name(obj), created, [(created, shape)])
        elif _told_more(machine.shapes[-1][1], shape):
            machine.shapes[-1] = (machine.shapes[-1][0], shape)
        else:
            machine.shapes.append((seen, shape))

    def _node_intervals(self, start: datetime, end: datetime) -> Iterator[NodeInterval]:
        for machine in sorted(self._machines.values(), key=lambda one: (one.name, one.created)):
            last = end if machine.ended is None else min(end, machine.ended)
            following = [since for since, _ in machine.shapes[1:]]
            for (since, shape), until in zip(machine.shapes, [*following, last], strict=True):
                first, then = max(start, since), min(last, until)
                if then > first:
                    yield _node_interval(self.cluster, shape, first, then)

    def _held(self, of: str) -> list[Json]:
        """Return the objects of a sort that were there when last seen."""
        if of == "Pod":
            return [life.pod for life in self._lives.values() if life.ended is None]
        if of == "Node":
            live = {own: one for own, one in self._machines.items() if one.ended is None}
            return [{"kind": "Node", "metadata": {"uid": own, "name": one.name}} for own, one in live.items()]
        held = [obj for known in (self._dra, self._objects) for obj in known if sort(obj) == of]
        return [obj for obj in held if uid(obj) not in self._gone]

    def _diagnostics(self, start: datetime, end: datetime, view: Cluster) -> Iterator[Diagnostic]:
        for life in self._lives.values():
            if life.created >= end or (life.ended is not None and life.ended < start):
                continue
            where = f"{self.cluster}: pod {life.namespace}/{life.name}"
            if not life.end_seen:
                yield Diagnostic(
                    "end-not-seen",
                    "warning",
                    where,
                    f"deleted while nobody watched, so it ends at {life.ended}, when it was last seen",
                    "Run the meter without long pauses, or take its hours from the bill.",
                )
            if life.skew:
                yield Diagnostic(
                    "clock-skew",
                    "warning",
                    where,
                    f"the clock of node {life.node} is off by at least {life.skew.total_seconds():.0f} s",
                    "Times were kept between those of the API server. Synchronise the node's clock.",
                )
        for where, problem in view.problems.items():
            yield Diagnostic(
                "request-unknown",
                "warning",
                f"{self.cluster}: pod {where}",
                problem,
                "What it holds of cards can't be told. Allow reading resource claims, or correct the request.",
            )


class _Both(Objects):
    """Two sets of known objects, looked up as one."""

    def __init__(self, first: Objects, second: Objects) -> None:
        super().__init__()
        self._parts = (first, second)

    def of_uid(self, own: str | None) -> Json | None:
        return next((found for part in self._parts if (found := part.of_uid(own)) is not None), None)

    def named(self, wanted: str, space: str | None, called: str) -> Json | None:
        return next(
            (found for part in self._parts if (found := part.named(wanted, space, called)) is not None), None
        )


def _told_more(old: NodeShape, new: NodeShape) -> bool:
    """Whether a node is still the machine it was: equal, or telling what it didn't tell before."""
    pairs = [
        *(
            (getattr(old, key), getattr(new, key))
            for key in ("provider_id", "instance_type", "cloud", "region", "zone")
        ),
        *((getattr(old, key), getattr(new, key)) for key in ("pool", "cpu_cores", "memory_gib", "spot")),
        (old.cards.model, new.cards.model),
        (old.cards.count or None, new.cards.count),
    ]
    return all(before is None or before == after for before, after in pairs)


def _node_interval(cluster: str, shape: NodeShape, start: datetime, end: datetime) -> NodeInterval:
    return NodeInterval(
        cluster=cluster,
        node=shape.node,
        start=start,
        end=end,
        provider_id=shape.provider_id,
        instance_type=shape.instance_type,
        cloud=shape.cloud,
        region=shape.region,
        zone=shape.zone,
        pool=shape.pool,
        cpu_cores=shape.cpu_cores,
        memory_gib=shape.memory_gib,
        gpu_model=shape.cards.model,
        gpu_count=_decimal(shape.cards.count),
        spot=shape.spot,
        labels=shape.labels,
    )


def _decimal(number: Fraction | None) -> Decimal | None:
    return None if number is None else Decimal(number.numerator) / Decimal(number.denominator)
