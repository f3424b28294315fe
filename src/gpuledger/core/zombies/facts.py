"""What is known of a card and of who has it, the thresholds, and what is said of it in the end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

State = Literal["unallocated", "held-idle", "orphan", "stalled", "busy", "unknown"]
Advice = Literal["none", "watch", "warn", "reclaim"]
Key = tuple[str | None, ...]

IDLE_STATES: Final = frozenset({"unallocated", "held-idle", "orphan", "stalled"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds. `idle` is the highest engine activity, 0 to 1, that still counts as idle.

    `fresh` is how old a measurement may be; a holder that hasn't worked yet is left alone for `grace`. A full card
    whose holder's progress counters stood still for `no_progress` is stalled. Without any measurement of the card, a
    host whose CPU and network stay at most at `host_cpu` and `host_bytes` per second makes it a candidate.
    """

    idle: Decimal = Decimal("0.01")
    warn: timedelta = timedelta(minutes=15)
    recommend: timedelta = timedelta(minutes=60)
    notebook_warn: timedelta = timedelta(minutes=60)
    notebook_recommend: timedelta = timedelta(minutes=120)
    grace: timedelta = timedelta(minutes=30)
    fresh: timedelta = timedelta(minutes=10)
    zombie_share: Fraction = Fraction(95, 100)
    zombie_span: timedelta = timedelta(hours=6)
    no_progress: timedelta = timedelta(minutes=60)
    host_cpu: Decimal = Decimal("0.05")
    host_bytes: Decimal = Decimal(10_000)

    def of(self, *, notebook: bool) -> tuple[timedelta, timedelta]:
        """Return the warning's and the recommendation's threshold. People pause: notebooks have longer ones."""
        if notebook:
            return max(self.warn, self.notebook_warn), max(self.warn, self.notebook_recommend)
        return self.warn, max(self.warn, self.recommend)


@dataclass(frozen=True, slots=True)
class Progress:
    """A counter that moves as a job gets on (steps, tokens), and how long it has stood still."""

    counter: str
    still: timedelta


@dataclass(frozen=True, slots=True)
class Holding:
    """Who holds a card. `marks` has values of labels and annotations `gpuledger.io/…`.

    `requests` is how many requests it served in the look-back, None where nobody counts. `progress` is None where no
    counter tells. `live` False: the scheduler was asked and doesn't know it. Not `certain`: it is one of several who
    may have the card. `command` gives all of it back, where that is told with it (machines and endpoints of a cloud).
    """

    job: str | None = None
    kind: str | None = None
    namespace: str | None = None
    pod: str | None = None
    slurm_job: str | None = None
    owner: str | None = None
    started: datetime | None = None
    notebook: bool = False
    marks: Mapping[str, str] = field(default_factory=dict, hash=False)
    requests: Decimal | None = None
    live: bool | None = None
    certain: bool = True
    progress: Progress | None = None
    command: tuple[str, ...] | None = None

    @property
    def key(self) -> Key:
        """What tells one job from another."""
        return (self.namespace, self.kind, self.job) if self.job else (self.namespace, self.pod)


@dataclass(frozen=True, slots=True)
class Load:
    """A card's extremes over the last `seconds`: the lowest utilisation, the highest power and tensor activity."""

    seconds: int
    utilisation: Decimal | None = None
    power_watts: Decimal | None = None
    tensor: Decimal | None = None


@dataclass(frozen=True, slots=True)
class HostLoad:
    """What a card's host did at most over the last `seconds`: CPU, 0 to 1, and bytes a second over its network."""

    seconds: int
    cpu: Decimal
    bytes_per_second: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of one card or slice at `now`. Activities are 0 to 1, what nobody measured is None.

    `activity` is the highest of the last moments, of the engine or, where `measure` says so, of requests (1 while any
    came). [`measured_from`, `measured_to`] is the time that was looked back on, both None after a single look.
    `idle_share` is the idle part of what was measured. `processes` are the ids seen on the card, None where no tool
    could see any. `holders_known`: whoever knows all holders was asked. `host` stands in where no card is measured.
    """

    gpu: str
    now: datetime
    node: str | None = None
    gpu_model: str | None = None
    model_name: str | None = None
    share: Fraction | None = Fraction(1)
    measured_from: datetime | None = None
    measured_to: datetime | None = None
    activity: Decimal | None = None
    measure: Literal["engine", "requests"] = "engine"
    last_busy: datetime | None = None
    idle_share: Fraction | None = None
    loads: tuple[Load, ...] = ()
    memory_used_mib: Decimal | None = None
    processes: tuple[int, ...] | None = None
    holdings: tuple[Holding, ...] = ()
    holders_known: bool = False
    why_unknown: str = ""
    host: HostLoad | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What is said of one card. `since` and `idle` are None when only one look was taken."""

    observation: Observation
    state: State
    evidence: str
    since: datetime | None = None
    idle: timedelta | None = None
    verdict: bool = False
    candidate: bool = False
    advice: Advice = "none"
    guard: str | None = None
    pattern: Literal["zombie", "trough"] | None = None
