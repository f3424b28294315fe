"""One look at a host's cards as records: the machine, and who held each card for the short time that the look is of.

A look says nothing of the time before it: between two looks that are further apart than their interval, all is
unknown. A card that works, or whose work can't be measured, and that nobody is known to hold, is held by somebody
unknown (a job of kind Unknown); only a card that was seen idle is left free.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from gpuledger.core.card_facts import CardFacts, Holder
from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.diagnostics import Diagnostic
from gpuledger.telemetry import amd_smi, dcgm, nvidia_smi

Record = Job | NodeInterval | UsageInterval


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that is looked at, and the time that the look stands for."""

    cluster: str
    node: str
    start: datetime
    end: datetime
    instance_type: str | None = None
    provider_id: str | None = None


def dcgm_page(host: Host, where: str, timeout: float) -> Iterator[Record | Diagnostic]:
    """Look at a page of dcgm-exporter, which may name pods and Slurm jobs."""
    page = dcgm.read(where, timeout=timeout)
    yield from records(host, page.cards, {})
    yield from page.diagnostics


def nvidia(host: Host, binary: str, timeout: float) -> Iterator[Record | Diagnostic]:
    """Ask nvidia-smi: holders are processes."""
    report = nvidia_smi.read(binary, timeout=timeout)
    held: dict[tuple[str | None, str | None], list[Job]] = {}
    for process in report.processes:
        job = Job(
            f"{host.cluster}/{host.node}/process/{process.pid}", host.cluster, "Process", process.name or str(process.pid), None
        )  # fmt: skip
        held.setdefault((process.card, process.slice_id), []).append(job)
    yield from records(host, report.cards, held)


def amd(host: Host, binary: str, timeout: float) -> Iterator[Record | Diagnostic]:
    """Ask amd-smi, or rocm-smi when that is the binary's name. Neither tells who holds a card."""
    rocm = "rocm" in binary.rpartition("/")[2]
    cards = amd_smi.read_rocm(binary, timeout=timeout) if rocm else amd_smi.read(binary, timeout=timeout)
    yield from records(host, cards, {})


def records(
    host: Host, cards: Sequence[CardFacts], processes: dict[tuple[str | None, str | None], list[Job]]
) -> Iterator[Record]:
    """Turn cards into records. `processes` are holders by card and slice, beside those that the cards themselves name."""
    whole = [card for card in cards if card.slice_id is None] or list(
        {card.uuid: card for card in cards}.values()
    )
    models = {card.model or card.model_name for card in whole}
    yield NodeInterval(
        host.cluster, host.node, host.start, host.end, provider_id=host.provider_id, instance_type=host.instance_type,
        gpu_model=models.pop() if len(models) == 1 else None, gpu_count=Decimal(len(whole)),
    )  # fmt: skip
    told: dict[str, Job] = {}
    for card in cards:
        if card.sliced and card.slice_id is None:
            continue  # its slices are what is held
        jobs = _holders(host, card.holders) or [
            (job, None) for job in processes.get((card.uuid, card.slice_id), [])
        ]
        if not jobs and card.busy != 0:
            jobs = [
                (Job(f"{host.cluster}/{host.node}/unknown", host.cluster, "Unknown", host.node, None), None)
            ]
        told |= {job.job_id: job for job, _ in jobs}
        yield from (_usage(host, card, job, holder, len(jobs)) for job, holder in jobs)
    yield from told.values()


def _holders(host: Host, holders: Iterable[Holder]) -> list[tuple[Job, Holder | None]]:
    found: list[tuple[Job, Holder | None]] = []
    for one in holders:
        if one.pod:
            key = one.pod_uid or f"{one.namespace or ''}/Pod/{one.pod}"
            job = Job(f"{host.cluster}/{key}", host.cluster, "Pod", one.pod, one.namespace)
        elif one.slurm_job:
            job = Job(f"{host.cluster}/slurm/{one.slurm_job}", host.cluster, "SlurmJob", one.slurm_job, None)
        else:
            continue
        found.append((job, one))
    return found


def _usage(host: Host, card: CardFacts, job: Job, holder: Holder | None, sharers: int) -> UsageInterval:
    """Give each sharer an equal part; what each of them used can't be told."""
    share = None if card.share is None else card.share / sharers
    busy = card.busy if sharers == 1 else None
    return UsageInterval(
        cluster=host.cluster,
        node=host.node,
        job_id=job.job_id,
        resource="gpu",
        start=host.start,
        end=host.end,
        requested=None if share is None else _decimal(share),
        used=None if busy is None or card.share is None else busy * _decimal(card.share),
        namespace=holder.namespace if holder else None,
        pod=holder.pod if holder else None,
        pod_uid=holder.pod_uid if holder else None,
        container=holder.container if holder else None,
        device=_device(host, card),
        sharing="mig" if card.slice_id else "whole" if sharers == 1 else "time-slicing",
        share=share,
    )


def _device(host: Host, card: CardFacts) -> str:
    return card.uuid or f"{host.node}/{card.index or 0}"


def _decimal(share: Fraction) -> Decimal:
    return round(Decimal(share.numerator) / Decimal(share.denominator), 14)
