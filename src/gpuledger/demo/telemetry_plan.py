"""How the example's jobs run on its machines: services, runs one after the other, gangs that wait for each other.

A job's dimensions are found by the same code as on a real cluster, from its labels and its namespace.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from gpuledger.core.usage import Evidence, Job
from gpuledger.core.workload.attribution import Attribution, dimensions
from gpuledger.demo.company import DAY, HOUR, TEAMS, Month, busy, guid, stream
from gpuledger.demo.telemetry_machines import Machine, Span, common, without
from gpuledger.demo.telemetry_rows import Claim, Pod, Records

_OPEN, _CLOSE = 8, 20
# Namespaces whose jobs are known by the configured default of the namespace alone.
DEFAULTS: Final = {
    "recsys*": {"team": "recsys", "cost_center": TEAMS["recsys"].cost_center, "environment": "prod"},
    "desks-vision": {"team": "vision-research", "cost_center": TEAMS["vision-research"].cost_center},
}


@dataclass(frozen=True, slots=True)
class Work:
    """A job to be: where, what, whose. `team` None leaves its labels without an owner; `labels` are further ones."""

    cluster: str
    kind: str
    name: str
    namespace: str
    team: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Life:
    """When a job was handed in, ran, and what became of it."""

    submitted: datetime
    started: datetime | None
    ended: datetime | None = None
    state: str = "Running"
    attempts: int | None = 1


class Plan:
    """Makes jobs of one month and lets them run."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.month: Month = records.setting.month
        self.seed = records.setting.seed
        self._attribution = Attribution(defaults=DEFAULTS)

    def rng(self, name: str) -> random.Random:
        """Randomness of one part of the telemetry."""
        return stream(self.seed, self.month, f"telemetry/{name}")

    def job(self, work: Work, life: Life) -> Job:
        """Tell of a job of Kubernetes."""
        labels = dict(work.labels)
        notes = {}
        if work.team is not None:
            who = TEAMS[work.team]
            labels |= {"team": who.name, "gpuledger.io/cost-center": who.cost_center}
        if work.owner is not None:
            notes["gpuledger.io/owner"] = work.owner
        root = {
            "kind": work.kind,
            "metadata": {
                "name": work.name,
                "namespace": work.namespace,
                "labels": labels,
                "annotations": notes,
            },
        }
        return self.records.job(
            Job(
                job_id=f"{work.cluster}/{guid(self.rng(f'{work.cluster}/{work.namespace}/{work.kind}/{work.name}'))}",
                cluster=work.cluster, kind=work.kind, name=work.name, namespace=work.namespace,
                dimensions=dimensions([root], None, self._attribution, work.cluster),
                submitted=life.submitted, started=life.started, ended=life.ended, state=life.state,
                attempts=life.attempts, labels=labels,
            )
        )  # fmt: skip

    def pod(self, job: Job, name: str, attempt: int = 1) -> Pod:
        """A pod of a job; an attempt is a pod of its own."""
        return Pod(job, name, guid(self.rng(f"{job.job_id}/{name}/{attempt}")), attempt=attempt)

    def service(
        self, work: Work, places: Sequence[tuple[Machine, Claim]], night: Decimal | None = None
    ) -> Job:
        """Let a service run on machines all month, one pod each; `night` is how busy its cards are outside hours."""
        start = min(machine.runs[0][0] for machine, _ in places)
        job = self.job(work, Life(max(start - 3 * DAY, self.month.start - 90 * DAY), start))
        for number, (machine, claim) in enumerate(places):
            pod = self.pod(job, f"{work.name}-{number}")
            for span in machine.runs:
                if claim.held and night is not None:
                    self.records.hold(pod, machine, span, replace(claim, cards=0, slice=None))
                    quiet = replace(claim, cores=0, memory=0, busy=night)
                    loud = replace(claim, cores=0, memory=0)
                    for part, at_work in shifts(span):
                        self.records.hold(pod, machine, part, loud if at_work else quiet)
                else:
                    self.records.hold(pod, machine, span, claim)
        return job

    def gang(self, work: Work, machines: Sequence[Machine], claim: Claim, failures: int = 0) -> Job:
        """Let a job run while all its machines do; while one is missing, what it has of the others is held.

        Its first `failures` stretches were attempts in vain; from then on it goes on where it stopped.
        """
        together: Sequence[Span] = machines[0].runs
        for machine in machines[1:]:
            together = common(together, machine.runs)
        attempts = min(failures + 1, len(together))
        job = self.job(work, Life(together[0][0] - HOUR, together[0][0], attempts=attempts))
        for number, machine in enumerate(machines):
            name = f"{work.name}-worker-{number}"
            for stretch, span in enumerate(together, start=1):
                self.records.hold(self.pod(job, name, min(stretch, attempts)), machine, span, claim)
            waiting = replace(claim, busy=Decimal(0), load=Decimal("0.02"))
            for start, end in without(machine.runs, together):
                attempt = min(1 + sum(span[0] < start for span in together), attempts)
                held = replace(self.pod(job, name, attempt), state="held")
                self.records.hold(held, machine, (start, end), waiting)
        return job

    def slurm(self, cluster: str, number: int, name: str, whose: tuple[str, str], life: Life) -> Job:
        """Tell of a Slurm job; `whose` is its account, which is a team, and the user."""
        account, user = whose
        evidence = {
            "team": Evidence(account, "slurm account", 2),
            "cost_center": Evidence(TEAMS[account].cost_center, "slurm comment: cost_center", 1),
            "owner": Evidence(user, "slurm user", 2),
            "workload_type": Evidence(
                "training" if "train" in name else "evaluation" if "eval" in name else "fine-tuning",
                "slurm job name", 9, inferred=True,
            ),
        }  # fmt: skip
        return self.records.job(
            Job(
                job_id=f"{cluster}/slurm/{number}@{int(life.submitted.timestamp())}", cluster=cluster, kind="SlurmJob",
                name=name, namespace=account, dimensions=evidence, submitted=life.submitted, started=life.started,
                ended=life.ended, state=life.state, attempts=life.attempts,
                labels={"slurm/partition": "p5", "cost_center": TEAMS[account].cost_center},
            )
        )  # fmt: skip


def turns(rng: random.Random, runs: Sequence[Span], shortest: int, longest: int) -> Iterator[Span]:
    """One job after the other while a machine runs, of so many hours, with minutes of idleness between."""
    for start, end in runs:
        at = start + timedelta(minutes=rng.randint(2, 12))
        while at + timedelta(minutes=20) <= end:
            until = min(end, at + rng.randint(shortest, longest) * HOUR)
            yield at, until
            at = until + timedelta(minutes=rng.randint(5, 75))


def shifts(span: Span) -> Iterator[tuple[Span, bool]]:
    """Cut a span where people come and go, and say of each part whether they are at work."""
    at, end = span
    while at < end:
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        work = busy(at)
        until = midnight + (_CLOSE if work else _OPEN) * HOUR
        while until <= at or (not work and not busy(until)):
            until += DAY
        yield (at, min(end, until)), work
        at = until
