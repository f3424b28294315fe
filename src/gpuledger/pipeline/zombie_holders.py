"""Who holds which card, as schedulers know it: kube-state-metrics, the Kubernetes API, Slurm; joined to what is measured.

A scheduler that was asked and names nobody makes a card unallocated, or its processes orphans. Where it holds more than
exporters mapped to cards, nobody is accused: then who has an idle card isn't known.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.core.workload.fields import at, metadata, text
from gpuledger.core.zombies import KEEP_UNTIL, PROTECTED, Holding, Observation
from gpuledger.diagnostics import Diagnostic

Place = tuple[str | None, str]
_MOMENT: Final = timedelta(minutes=5)
_NOTEBOOK: Final = ("notebook", "jupyter")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a node is: cards in it and what its price depends on. None where it isn't told.

    `resource` is what its cloud calls it on bills.
    """

    cards: Decimal | None = None
    instance_type: str | None = None
    region: str | None = None
    spot: bool | None = None
    gpu_model: str | None = None
    slurm: bool = False
    resource: str | None = None


@dataclass(slots=True)
class Known:
    """All that schedulers know. `held` has holders and how many cards of a node each has."""

    pods: dict[Place, Holding] = field(default_factory=dict)
    slurm: dict[str, Holding] = field(default_factory=dict)
    held: dict[str, list[tuple[Holding, Decimal]]] = field(default_factory=lambda: defaultdict(list))
    machines: dict[str, Machine] = field(default_factory=dict)

    def holding(self, named: Holding) -> Holding:
        """Return what the scheduler knows of a holder that an exporter names; one that it doesn't know isn't live."""
        if named.slurm_job is not None and self.slurm:
            return self.slurm.get(named.slurm_job, replace(named, live=False))
        if named.pod is None or not self.pods:
            return named
        found = self.pods.get((named.namespace, named.pod))
        if found is None:
            spaces = {space for space, _ in self.pods}
            return replace(named, live=False if named.namespace in spaces else None)
        started = found.started or named.started
        return replace(found, started=started, requests=named.requests, progress=named.progress)


def is_notebook(kind: str | None, *words: str | None) -> bool:
    """Tell whether people type into it: kind, name or labels say so."""
    return kind == "Notebook" or any(part in (word or "").lower() for word in words for part in _NOTEBOOK)


def joined(cards: Iterable[Observation], known: Known | None, now: datetime) -> list[Observation]:
    """Put what schedulers know beside what is measured; cards that only a scheduler tells of come last."""
    seen = list(cards)
    if known is None:
        return seen
    by_node: dict[str | None, list[Observation]] = defaultdict(list)
    for one in seen:
        by_node[one.node].append(
            replace(one, holdings=tuple(dict.fromkeys(known.holding(held) for held in one.holdings)))
        )
    found = [
        one
        for node, there in by_node.items()
        for one in (_on_node(node, there, known) if node in known.machines and node else there)
    ]
    return [*found, *_unmeasured(known, set(by_node), now)]


def _on_node(node: str, cards: list[Observation], known: Known) -> list[Observation]:
    """Give the cards of a node that no exporter mapped to a holder what can be concluded from the scheduler."""
    mapped = {held.key for one in cards for held in one.holdings}
    left = [(held, count) for held, count in known.held.get(node, []) if held.key not in mapped]
    bare = [one for one in cards if not one.holdings]
    waiting = sum((count for _, count in left), Decimal(0))
    if not left:
        return [replace(one, holders_known=True) for one in cards]
    if waiting >= len(bare):
        holders = tuple(replace(held, certain=len(left) == 1) for held, _ in left)
        return [one if one.holdings else replace(one, holdings=holders) for one in cards]
    # Some of the bare cards are held and nobody says which: those with memory in use are taken to be.
    return cards


def _unmeasured(known: Known, measured: set[str | None], now: datetime) -> list[Observation]:
    """Cards of nodes where nothing is measured: who holds one is known, what it does isn't."""
    found = []
    for node, machine in sorted(known.machines.items()):
        if node in measured or not machine.cards:
            continue
        holders = [held for held, count in known.held.get(node, []) for _ in range(int(count))]
        for place in range(int(machine.cards)):
            held = holders[place] if place < len(holders) else None
            found.append(
                Observation(
                    gpu=f"{node}#{place}",
                    now=now,
                    node=node,
                    gpu_model=machine.gpu_model,
                    holdings=(held,) if held else (),
                    holders_known=True,
                    why_unknown="held, and no exporter measures it",
                )
            )
    return found


def from_kubernetes(now: datetime, kubeconfig: str | None = None) -> tuple[Known, list[Diagnostic]]:
    """Ask the API server for pods, nodes and owners. Raises ConfigError or SourceError when it can't be asked."""
    from gpuledger.telemetry import kubernetes
    from gpuledger.telemetry.kubernetes.cluster import PODS

    options = kubernetes.Options(kubeconfig=kubeconfig, timeout=10.0, tries=2)
    api = kubernetes.connect(options)
    try:
        listed, _ = api.listed(PODS)
        records = list(kubernetes.collect(now - _MOMENT, now, options=options, api=api))
    finally:
        api.close()
    raw = {(text(metadata(pod).get("namespace")), text(metadata(pod).get("name"))): pod for pod in listed}
    return known_of(records, now, raw)


def from_slurm(now: datetime) -> tuple[Known, list[Diagnostic]]:
    """Ask Slurm for its nodes and running jobs. Raises SourceError when it tells nothing."""
    from gpuledger.telemetry import slurm

    commands = slurm.Commands(timeout=20)
    return known_of(slurm.collect(now - _MOMENT, now, lambda: now, commands=commands), now, {})


def known_of(
    records: Iterable[object], now: datetime, raw: Mapping[tuple[str | None, str | None], Any]
) -> tuple[Known, list[Diagnostic]]:
    """Turn telemetry records into what is held now. `raw` has pods as the API gives them, for marks and starts."""
    known, notes = Known(), []
    jobs: dict[str, Job] = {}
    usages: dict[tuple[str, str, str | None, str | None], UsageInterval] = {}
    for record in records:
        if isinstance(record, Job):
            jobs[record.job_id] = record
        elif isinstance(record, NodeInterval):
            known.machines[record.node] = Machine(
                record.gpu_count,
                record.instance_type,
                record.region,
                record.spot,
                record.gpu_model,
                slurm=any(key.startswith("slurm/") for key in record.labels),
                resource=record.provider_id,
            )
        elif isinstance(record, Diagnostic):
            notes.append(record)
        elif isinstance(record, UsageInterval) and record.resource == "gpu" and now - record.end < _MOMENT:
            usages[record.node, record.job_id, record.pod, record.container] = record
    for usage in usages.values():
        job = jobs.get(usage.job_id)
        if job is not None and job.ended is not None:
            continue
        held = _holding(usage, job, raw.get((usage.namespace, usage.pod)))
        if held.slurm_job is not None:
            known.slurm[held.slurm_job] = held
            # A task of an array is told as 17_3; its own number is what a prolog gives an exporter.
            known.slurm.setdefault((usage.pod_uid or "").partition("@")[0] or held.slurm_job, held)
        elif usage.pod is not None:
            known.pods[usage.namespace, usage.pod] = held
        known.held[usage.node].append((held, usage.requested or Decimal(0)))
    for (space, pod), one in raw.items():
        if pod is not None and (space, pod) not in known.pods and at(one, "status", "phase") == "Running":
            known.pods[space, pod] = Holding(namespace=space, pod=pod, live=True, marks=_marks(one))
    return known, notes


def _holding(usage: UsageInterval, job: Job | None, pod: Any) -> Holding:  # noqa: ANN401 - JSON
    is_slurm = "/slurm/" in usage.job_id
    dimensions = {} if job is None else job.dimensions
    owner = next((dimensions[name].value for name in ("owner", "team") if name in dimensions), None)
    workload = dimensions["workload_type"].value if "workload_type" in dimensions else None
    kind = None if job is None else job.kind
    started = None if job is None else job.started
    begun = text(at(pod, "status", "startTime"))
    if begun is not None:
        started = datetime.fromisoformat(begun)
    return Holding(
        job=None if job is None else job.name,
        kind="Slurm" if is_slurm else kind,
        namespace=None if is_slurm else usage.namespace,
        pod=None if is_slurm else usage.pod,
        slurm_job=usage.pod if is_slurm else None,
        owner=owner or (usage.namespace if is_slurm else None),
        started=started,
        notebook=workload == "notebook" or is_notebook(kind, usage.pod, usage.container),
        marks=_marks(pod),
        live=True,
    )


def _marks(pod: Any) -> dict[str, str]:  # noqa: ANN401 - JSON
    found = {}
    for part in ("labels", "annotations"):
        said = metadata(pod).get(part) if pod else None
        for name in (PROTECTED, KEEP_UNTIL):
            if isinstance(said, Mapping) and isinstance(said.get(name), str):
                found[name] = said[name]
    return found


def merged(parts: Iterable[Known]) -> Known | None:
    """Put together what several schedulers know; None when none was asked."""
    found: Known | None = None
    for part in parts:
        found = found or Known()
        found.pods.update(part.pods)
        found.slurm.update(part.slurm)
        for node, machine in part.machines.items():
            found.machines.setdefault(node, machine)
        for node, held in part.held.items():
            keys = {one.key for one, _ in found.held[node]}
            found.held[node] += [(one, count) for one, count in held if one.key not in keys]
    return found
