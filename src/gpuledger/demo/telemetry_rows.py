"""Collects the example's telemetry as records, writes them to files, and counts what is true of them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from gpuledger.core.usage import Evidence, HoldState, Job, NodeInterval, Sharing, UsageInterval
from gpuledger.core.usage_tables import table_of, values_of
from gpuledger.demo import files
from gpuledger.demo.telemetry_machines import SHAPES, Machine, Span, without

FOLDER: Final = "telemetry"
# The node of a volume that nothing mounts, as OpenCost calls it.
UNMOUNTED: Final = "__unmounted__"
_SIX: Final = Decimal("0.000001")
_OWNERS: Final = ("team", "cost_center", "owner")


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a card: how it is shared, on which card of the machine, which part."""

    sharing: Sharing
    card: int
    share: Fraction


@dataclass(frozen=True, slots=True)
class Claim:
    """What a pod holds of its machine. `cards` are whole cards; `slice` is a part of one instead.

    `busy` is the part of the held cards in use (None: not measured); `load` the same of cores and memory.
    """

    cards: int = 0
    slice: Slice | None = None
    cores: int = 0
    memory: int = 0
    busy: Decimal | None = None
    load: Decimal = Decimal("0.5")

    @property
    def held(self) -> Fraction:
        """Cards held."""
        return self.slice.share if self.slice else Fraction(self.cards)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, or a Slurm job's part of a node."""

    job: Job
    name: str
    uid: str
    container: str | None = "main"
    attempt: int = 1
    state: HoldState = "running"


@dataclass(slots=True)
class _Sum:
    """Card seconds of a job or cluster, exactly."""

    held: dict[str, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    measured: Fraction = Fraction(0)
    used: Fraction = Fraction(0)


def hours(card_seconds: Fraction) -> str:
    """GPU hours with six decimals."""
    found = Decimal(card_seconds.numerator) / Decimal(card_seconds.denominator * 3600)
    return str(found.quantize(_SIX))


class Records:
    """Records of one month; `gaps` are times in which a cluster's telemetry is missing."""

    def __init__(self, setting: files.Setting, gaps: Mapping[str, Sequence[Span]]) -> None:
        self.setting = setting
        self.gaps = gaps
        self.jobs: dict[str, Job] = {}
        self.rows: list[NodeInterval | UsageInterval] = []
        self._jobs: dict[str, _Sum] = defaultdict(_Sum)
        self._ran: dict[str, Fraction] = defaultdict(Fraction)
        self._seen: dict[str, Fraction] = defaultdict(Fraction)

    def seen(self, cluster: str, spans: Iterable[Span]) -> tuple[Span, ...]:
        """Spans less the times in which nobody looked."""
        return without(tuple(spans), self.gaps.get(cluster, ()))

    def machine(self, machine: Machine) -> None:
        """Tell of a machine while it ran and was seen."""
        cores, memory = SHAPES[machine.kind]
        for start, end in machine.runs:
            self._ran[machine.cluster] += _seconds(start, end) * machine.cards
        for start, end in self.seen(machine.cluster, machine.runs):
            self._seen[machine.cluster] += _seconds(start, end) * machine.cards
            self.rows.append(
                NodeInterval(
                    cluster=machine.cluster, node=machine.node, start=start, end=end, provider_id=machine.resource,
                    instance_type=machine.kind, cloud=machine.cloud, region=machine.region, pool=machine.pool,
                    cpu_cores=Decimal(cores), memory_gib=Decimal(memory), gpu_model=machine.model,
                    gpu_count=Decimal(machine.cards), spot=machine.spot,
                )
            )  # fmt: skip

    def job(self, job: Job) -> Job:
        """Tell of a job; what is told later of the same job counts."""
        self.jobs[job.job_id] = job
        return job

    def hold(self, pod: Pod, machine: Machine, span: Span, claim: Claim) -> None:
        """Tell that a pod held something of a machine."""
        base = UsageInterval(
            cluster=machine.cluster, node=machine.node, job_id=pod.job.job_id, resource="gpu", start=span[0], end=span[1],
            requested=None, namespace=pod.job.namespace, pod=pod.name, pod_uid=pod.uid, container=pod.container,
            attempt=pod.attempt, state=pod.state,
        )  # fmt: skip
        total = self._jobs[pod.job.job_id]
        for start, end in self.seen(machine.cluster, [span]):
            at = replace(base, start=start, end=end)
            if claim.held:
                row = _cards(at, claim, machine)
                self.rows.append(row)
                time = _seconds(start, end)
                total.held[pod.state] += time * claim.held
                if row.used is not None:
                    total.measured += time * claim.held
                    total.used += time * Fraction(row.used)
            for resource, size in (("cpu", claim.cores), ("memory", claim.memory)):
                if size:
                    used = (size * claim.load).quantize(Decimal("0.01"))
                    self.rows.append(replace(at, resource=resource, requested=Decimal(size), used=used))  # type: ignore[arg-type]

    def volume(
        self, job: Job, volume: str, span: Span, size: int, used: Decimal, node: str = UNMOUNTED
    ) -> None:
        """Tell that a job keeps a disk, of which it uses so many GiB; `node` is where it is mounted, if anywhere."""
        self.rows.extend(
            UsageInterval(
                cluster=job.cluster, node=node, job_id=job.job_id, resource="storage", start=start, end=end,
                requested=Decimal(size), used=used, namespace=job.namespace, device=volume,
            )
            for start, end in self.seen(job.cluster, [span])
        )  # fmt: skip

    def write(self) -> list[files.Written]:
        """Write a file per table: JSON lines, compressed, in the order of the records."""
        tables: dict[str, list[dict[str, Any]]] = {"job": [], "node_interval": [], "usage_interval": []}
        for record in (*self.jobs.values(), *self.rows):
            tables[table_of(record)].append(
                {name: value for name, value in values_of(record).items() if value not in (None, {})}
            )
        found = []
        for table, rows in tables.items():
            path = self.setting.root / FOLDER / f"{table}.jsonl.gz"
            packed(path, rows)
            found.append(files.written(self.setting, path, FOLDER, len(rows)))
        return found

    def truth(self) -> dict[str, Any]:
        """Return GPU hours by job and by cluster: what was held, used, idle, unknown, and whose it was."""
        clusters = list(self._ran)
        return {
            "definitions": {
                "gpu_hours": "cards held, times hours; parts of a card by their share",
                "used_gpu_hours": "held times utilisation, where that was measured (measured_gpu_hours)",
                "idle_gpu_hours": "of machines that telemetry saw: not held by anybody",
                "unseen_gpu_hours": "of machines that ran while their cluster's telemetry is missing",
                "unowned_gpu_hours": "held by jobs that name neither team, cost centre nor owner",
            },
            "gaps": {
                cluster: [[start.isoformat(), end.isoformat()] for start, end in gaps]
                for cluster, gaps in self.gaps.items()
            },
            "total": self._cluster(clusters),
            "clusters": {name: self._cluster([name]) for name in clusters},
            "jobs": {job_id: self._job(job) for job_id, job in self.jobs.items()},
        }

    def _job(self, job: Job) -> dict[str, Any]:
        total = self._jobs[job.job_id]
        return {
            "kind": job.kind,
            "name": job.name,
            "team": job.dimensions["team"].value if "team" in job.dimensions else None,
            "owned": owned(job.dimensions),
            "attempts": job.attempts,
            "gpu_hours": hours(Fraction(sum(total.held.values()))),
            "held_waiting_gpu_hours": hours(total.held["held"]),
            "measured_gpu_hours": hours(total.measured),
            "used_gpu_hours": hours(total.used) if total.measured else None,
        }

    def _cluster(self, names: Sequence[str]) -> dict[str, Any]:
        mine = [(job, self._jobs[job.job_id]) for job in self.jobs.values() if job.cluster in names]
        held = Fraction(sum(sum(total.held.values()) for _, total in mine))
        ran = sum((self._ran[name] for name in names), Fraction(0))
        seen = sum((self._seen[name] for name in names), Fraction(0))
        unowned = sum(
            (sum(total.held.values(), Fraction(0)) for job, total in mine if not owned(job.dimensions)),
            Fraction(0),
        )
        return {
            "jobs": len(mine),
            "gpu_hours": hours(ran),
            "held_gpu_hours": hours(held),
            "held_waiting_gpu_hours": hours(Fraction(sum(total.held["held"] for _, total in mine))),
            "measured_gpu_hours": hours(Fraction(sum(total.measured for _, total in mine))),
            "used_gpu_hours": hours(Fraction(sum(total.used for _, total in mine))),
            "idle_gpu_hours": hours(seen - held),
            "unseen_gpu_hours": hours(ran - seen),
            "unowned_gpu_hours": hours(unowned),
        }


def owned(dimensions: Mapping[str, Evidence]) -> bool:
    """Say whether a team, a cost centre or an owner is known."""
    return any(name in dimensions for name in _OWNERS)


def packed(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, compressed."""
    with files.text_file(path) as text:
        text.writelines(f"{json.dumps(row, separators=(',', ':'), default=_text)}\n" for row in rows)


def _seconds(start: datetime, end: datetime) -> Fraction:
    return Fraction((end - start) // timedelta(seconds=1))


def _cards(at: UsageInterval, claim: Claim, machine: Machine) -> UsageInterval:
    held = Decimal(claim.cards)
    if claim.slice is None:
        used = None if claim.busy is None else (held * claim.busy).quantize(Decimal("0.0001"))
        return replace(at, requested=held, used=used, sharing="whole")
    part = claim.slice
    held = (Decimal(part.share.numerator) / part.share.denominator).quantize(Decimal("1e-14"))
    used = None if claim.busy is None else (held * claim.busy).quantize(Decimal("0.0001"))
    return replace(
        at, requested=Decimal(1), used=used, sharing=part.sharing, share=part.share,
        device=f"GPU-{machine.node}-{part.card}",
    )  # fmt: skip


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(f"not a value of a record: {value!r}")


__all__ = ["FOLDER", "UNMOUNTED", "Claim", "Pod", "Records", "Slice", "hours", "owned", "packed"]
