"""Which cards burn money for nothing, told from what was observed of them: states, guards, evidence.

A card (or MIG slice) is *unallocated* (paid, nobody has it), *held-idle* (engine activity at most 1 %), an *orphan* (a
process without a live job), *stalled* (utilisation near 100 % while power or tensor activity says that nothing is
computed), *busy*, or *unknown* (nobody measured it: no data is never idleness). One look names candidates; a verdict
needs a look-back. Guards keep a row and its price but take the verdict away. docs/zombies.md explains each threshold.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

State = Literal["unallocated", "held-idle", "orphan", "stalled", "busy", "unknown"]
Advice = Literal["none", "watch", "warn", "reclaim"]

IDLE_STATES: Final = frozenset({"unallocated", "held-idle", "orphan", "stalled"})
PROTECTED: Final = "gpuledger.io/protected"
KEEP_UNTIL: Final = "gpuledger.io/keep-until"
_GANGS: Final = frozenset(
    {
        *("AppWrapper", "JAXJob", "Job", "JobSet", "LeaderWorkerSet", "MPIJob", "PaddleJob", "PodGroup"),
        *("PyTorchJob", "RayCluster", "RayJob", "Slurm", "TFJob", "TrainJob", "Workflow", "XGBoostJob"),
    }
)
_REPLICAS: Final = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "Rollout"})
# Board power in watts as the vendors' data sheets state it: SXM or OAM form, and PCIe where it differs.
_BOARD_WATTS: Final[Mapping[str, tuple[int, int]]] = {
    "A10": (150, 150), "A100": (400, 250), "A30": (165, 165), "A40": (300, 300), "B200": (1000, 1000),
    "B300": (1100, 1100), "H100": (700, 350), "H100 NVL": (400, 400), "H200": (700, 600), "L4": (72, 72),
    "L40": (300, 300), "L40S": (350, 350), "MI300X": (750, 750), "T4": (70, 70), "V100": (300, 250),
}  # fmt: skip
_FULL: Final = Decimal("0.95")
_LOW_POWER: Final = Decimal("0.35")
_NO_TENSOR: Final = Decimal("0.01")
_RESIDENT_MIB: Final = Decimal(600)  # a driver and its contexts of no program take less


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds. `idle` is the highest engine activity, 0 to 1, that still counts as idle.

    `fresh` is how old a measurement may be; a holder that hasn't worked yet is left alone for `grace`.
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

    def of(self, *, notebook: bool) -> tuple[timedelta, timedelta]:
        """Return the warning's and the recommendation's threshold. People pause: notebooks have longer ones."""
        if notebook:
            return max(self.warn, self.notebook_warn), max(self.warn, self.notebook_recommend)
        return self.warn, max(self.warn, self.recommend)


@dataclass(frozen=True, slots=True)
class Holding:
    """Who holds a card. `marks` has values of labels and annotations `gpuledger.io/…`.

    `requests` is how many requests it served in the look-back, None where nobody counts. `live` False: the scheduler
    was asked and doesn't know it. Not `certain`: it is one of several who may have the card.
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

    @property
    def key(self) -> tuple[str | None, ...]:
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
class Observation:
    """What is known of one card or slice at `now`. Activities are 0 to 1, what nobody measured is None.

    `activity` is the highest of the last moments. [`measured_from`, `measured_to`] is the time that was looked back
    on, both None after a single look. `idle_share` is the idle part of what was measured. `processes` are the ids seen
    on the card, None where no tool could see any. `holders_known`: whoever knows all holders was asked.
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
    last_busy: datetime | None = None
    idle_share: Fraction | None = None
    loads: tuple[Load, ...] = ()
    memory_used_mib: Decimal | None = None
    processes: tuple[int, ...] | None = None
    holdings: tuple[Holding, ...] = ()
    holders_known: bool = False
    why_unknown: str = ""


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


def judge(observations: Iterable[Observation], limits: Limits | None = None) -> list[Finding]:
    """Tell the state of each card. All cards are given at once: members of a gang excuse each other."""
    limits = limits or Limits()
    seen = list(observations)
    working = {
        holding.key
        for one in seen
        if _fresh(one, limits) and one.activity is not None and one.activity > limits.idle
        for holding in one.holdings
        if holding.kind in _GANGS
    }
    return [_judge(one, limits, working) for one in seen]


def _fresh(one: Observation, limits: Limits) -> bool:
    return one.measured_to is None or one.now - one.measured_to <= limits.fresh


def _judge(one: Observation, limits: Limits, working: set[tuple[str | None, ...]]) -> Finding:
    if one.activity is None and one.holders_known and not one.holdings and one.memory_used_mib is None:
        return Finding(
            one, "unallocated", "no holder; not measured, one look only", candidate=True, advice="watch"
        )
    if one.activity is None:
        return Finding(one, "unknown", one.why_unknown or "nobody measures its activity")
    if not _fresh(one, limits):
        return Finding(one, "unknown", f"no measurement since {_clock(one.measured_to)}")
    stalled = _stalled(one)
    if one.activity > limits.idle and stalled is None:
        return Finding(one, "busy", f"engine {_percent(one.activity)}", pattern=None)
    if stalled is not None:
        state: State = "stalled"
        since = None if stalled.seconds == 0 else one.now - timedelta(seconds=stalled.seconds)
    else:
        state, since = _idle_state(one), _idle_since(one)
    idle = None if since is None else max(timedelta(0), (one.measured_to or one.now) - since)
    warn, recommend = limits.of(notebook=any(held.notebook for held in one.holdings))
    if idle is not None and idle < warn:
        return Finding(
            one,
            "busy",
            f"idle for {_span(idle)} only" if state != "stalled" else "full for a moment",
            since,
            idle,
        )
    pattern = _pattern(one, limits)
    guard = _guard(one, state, idle, limits, working)
    enough = idle is not None and guard is None
    return Finding(
        one,
        state,
        _evidence(one, state, stalled, idle, pattern, guard),
        since,
        idle,
        verdict=enough,
        candidate=idle is None and guard is None,
        advice=_advice(idle, recommend, guard),
        guard=guard,
        pattern=pattern,
    )


def _advice(idle: timedelta | None, recommend: timedelta, guard: str | None) -> Advice:
    if guard is not None or idle is None:
        return "watch"
    return "reclaim" if idle >= recommend else "warn"


def _idle_state(one: Observation) -> State:
    """Tell who has an idle card: a live job, a process without one, or nobody."""
    if any(held.live is not False for held in one.holdings):
        return "held-idle"
    resident = one.memory_used_mib is not None and one.memory_used_mib > _RESIDENT_MIB
    if one.processes or resident or one.holdings:
        return "orphan" if one.holders_known or one.holdings else "held-idle"
    return "unallocated"


def _idle_since(one: Observation) -> datetime | None:
    """Return when the card, or its present holder, began to be idle; None after a single look."""
    if one.measured_from is None:
        return None
    begun = [moment for moment in (one.measured_from, one.last_busy) if moment is not None]
    started = [held.started for held in one.holdings if held.started is not None]
    if started and len(started) == len(one.holdings):
        begun.append(min(one.now, *started))
    return max(begun)


def board_watts(model: str | None, model_name: str | None) -> int | None:
    """Return the board power of a model's data sheet; None where it isn't listed."""
    known = _BOARD_WATTS.get(model or "")
    return None if known is None else known[1 if "pcie" in (model_name or "").lower() else 0]


def _stalled(one: Observation) -> Load | None:
    """Return the longest stretch up to now over which the card looked full and computed nothing."""
    found = None
    watts = board_watts(one.gpu_model, one.model_name)
    for load in sorted(one.loads, key=lambda load: load.seconds):
        if load.utilisation is None or load.utilisation < _FULL:
            break
        weak = None if load.power_watts is None or watts is None else load.power_watts < _LOW_POWER * watts
        still = None if load.tensor is None else load.tensor < _NO_TENSOR
        # Memory-bound work leaves the tensor cores alone and draws power: power decides where it is known.
        if weak is False or (weak is None and still is not True) or still is False:
            break
        found = load
    return found


def _pattern(one: Observation, limits: Limits) -> Literal["zombie", "trough"] | None:
    """Tell idle hours of something that works at other times from what never works."""
    if one.idle_share is None or one.measured_from is None or one.measured_to is None:
        return None
    if one.idle_share < limits.zombie_share:
        return "trough"
    return "zombie" if one.measured_to - one.measured_from >= limits.zombie_span else None


def _guard(
    one: Observation,
    state: State,
    idle: timedelta | None,
    limits: Limits,
    working: set[tuple[str | None, ...]],
) -> str | None:
    """Return why nothing should be done about an idle card yet. Nobody protects what no live job holds."""
    if state == "unallocated":
        return None
    for held in one.holdings:
        if held.live is False:
            continue
        reason = _kept(held, one.now)
        if reason is None and state == "held-idle":
            reason = _excused(one, held, idle, limits, working)
        if reason is not None:
            return reason
    return None


def _excused(
    one: Observation,
    held: Holding,
    idle: timedelta | None,
    limits: Limits,
    working: set[tuple[str | None, ...]],
) -> str | None:
    worked = one.last_busy is not None and (held.started is None or one.last_busy > held.started)
    if held.started is not None and not worked and one.now - held.started < limits.grace:
        return f"started {_span(one.now - held.started)} ago, may still load"
    # A rank that never worked while the others did isn't at a barrier: it is a card too many.
    if held.key in working and (worked or idle is None or idle < limits.recommend):
        return "other members of its job are busy: may wait at a barrier"
    if held.requests is not None and held.requests > 0:
        return f"warm replica: {int(held.requests):,} requests in the time looked back on"
    return None


def _kept(held: Holding, now: datetime) -> str | None:
    protected = held.marks.get(PROTECTED, "").strip().lower()
    if protected and protected not in {"false", "0", "no"}:
        return f"protected by {PROTECTED}"
    said = held.marks.get(KEEP_UNTIL)
    if said is None:
        return None
    until = keep_until(said)
    if until is None:
        return f"{KEEP_UNTIL} can't be read: {said[:40]!r}"
    return f"kept until {_clock(until)}" if now < until else None


def keep_until(text: str) -> datetime | None:
    """Read a keep mark: RFC 3339, a date (kept through that day, UTC), or `2026-11-24T18-30Z` as a label may have it."""
    text = text.strip()
    for form in ("%Y-%m-%dT%H-%MZ", "%Y%m%dT%H%MZ"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    try:
        moment = datetime.fromisoformat(text)
        if "T" not in text and " " not in text:
            moment += timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _evidence(
    one: Observation,
    state: State,
    stalled: Load | None,
    idle: timedelta | None,
    pattern: str | None,
    guard: str | None,
) -> str:
    said = []
    if stalled is not None:
        watts = board_watts(one.gpu_model, one.model_name)
        power = "" if stalled.power_watts is None else f", {stalled.power_watts:.0f} W"
        power += f" of {watts} W" if power and watts else ""
        tensor = "" if stalled.tensor is None else f", tensor {_percent(stalled.tensor)}"
        said.append(f"utilisation {_percent(stalled.utilisation or Decimal(0))}{power}{tensor}")
    else:
        said.append(f"engine ≤ {_percent(one.activity or Decimal(0))}")
    begun = one.measured_from is not None and idle is not None and _idle_since(one) == one.measured_from
    if idle is None:
        said.append("one look only")
    else:
        said.append(f"for {'at least ' if begun or stalled else ''}{_span(idle)}")
    if one.memory_used_mib is not None and state != "stalled":
        said.append(f"{one.memory_used_mib / 1024:.1f} GiB resident")
    if one.processes:
        said.append(f"{len(one.processes)} process{'es' if len(one.processes) > 1 else ''}")
    if state == "orphan":
        said.append("no live job")
    if state == "unallocated":
        said.append("no holder" if one.holders_known else "no holder named")
    said += [
        f"{KEEP_UNTIL} has passed" for held in one.holdings if KEEP_UNTIL in held.marks and guard is None
    ]
    if any(not held.certain for held in one.holdings):
        said.append(f"one of {len(one.holdings)} holders of its node has it")
    served = [held.requests for held in one.holdings if held.requests is not None]
    if served and not sum(served):
        said.append("no request served")
    if pattern == "trough":
        said.append(f"idle {_percent(_decimal(one.idle_share))} of the time: scale down its trough")
    elif pattern == "zombie":
        said.append(f"idle {_percent(_decimal(one.idle_share))} of the time")
    return ", ".join([*said, *([guard] if guard else [])])


def _decimal(share: Fraction | None) -> Decimal:
    share = share or Fraction(0)
    return Decimal(share.numerator) / share.denominator


def _percent(value: Decimal) -> str:
    return f"{value * 100:.1f}".removesuffix(".0") + " %"


def _span(span: timedelta) -> str:
    minutes = int(span.total_seconds()) // 60
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"  # noqa: PLR2004


def _clock(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class History:
    """A card's measurements in short. A run is unbroken idleness, from its first to its last sample."""

    samples: int
    start: datetime
    end: datetime
    highest: Decimal
    mean: Decimal
    idle_share: Fraction
    last_busy: datetime | None
    runs: tuple[timedelta, ...]

    def runs_of(self, least: timedelta) -> tuple[timedelta, ...]:
        """Return the runs that last at least so long."""
        return tuple(run for run in self.runs if run >= least)


def history(
    samples: Sequence[tuple[datetime, Decimal]], idle: Decimal, gap: timedelta = timedelta(seconds=171)
) -> History | None:
    """Sum up samples in the order of time; a gap longer than `gap` ends a run. None when there are no samples."""
    if not samples:
        return None
    runs: list[timedelta] = []
    begun = before = None
    idle_samples, last_busy = 0, None
    for when, value in samples:
        if value > idle:
            begun, last_busy = None, when
            continue
        idle_samples += 1
        if begun is None or before is None or when - before > gap:
            begun = when
            runs.append(timedelta(0))
        runs[-1], before = when - begun, when
    return History(
        samples=len(samples),
        start=samples[0][0],
        end=samples[-1][0],
        highest=max(value for _, value in samples),
        mean=sum((value for _, value in samples), Decimal(0)) / len(samples),
        idle_share=Fraction(idle_samples, len(samples)),
        last_busy=last_busy,
        runs=tuple(runs),
    )


def members(findings: Iterable[Finding]) -> Mapping[tuple[str | None, ...], Counter[bool]]:
    """Count the pods of each job by whether all their cards have a verdict or are candidates."""
    pods: dict[tuple[tuple[str | None, ...], str | None], bool] = {}
    for finding in findings:
        for held in finding.observation.holdings:
            place = (held.key, held.pod)
            pods[place] = pods.get(place, True) and (finding.verdict or finding.candidate)
    found: dict[tuple[str | None, ...], Counter[bool]] = defaultdict(Counter)
    for (key, _), idle in pods.items():
        found[key][idle] += 1
    return found


def reclaim(finding: Finding, counts: Mapping[tuple[str | None, ...], Counter[bool]]) -> str | None:
    """Return the command that gives the card back, None where none is known. Names are quoted for a shell."""
    if not (finding.verdict or finding.candidate):
        return None
    one = finding.observation
    kill = f"kill {' '.join(str(pid) for pid in one.processes)}" if one.processes else None
    held = next((held for held in one.holdings if held.slurm_job or held.pod), None)
    if held is None or (finding.state == "orphan" and kill):
        return kill
    if not held.certain:
        return None  # nobody's job is stopped on a guess
    if held.slurm_job:
        return f"scancel {_quoted(held.slurm_job)}"
    return _kubectl(finding, held, counts.get(held.key, Counter()))


def _kubectl(finding: Finding, held: Holding, counts: Counter[bool]) -> str:
    space = f"kubectl -n {_quoted(held.namespace)} " if held.namespace else "kubectl "
    pod = f"{space}delete pod {_quoted(held.pod or '')}"
    if not held.job or not held.kind or held.kind == "Pod" or held.live is False:
        return pod
    thing = f"{_quoted(held.kind.lower())}/{_quoted(held.job)}"
    if held.kind in _REPLICAS:
        return f"{space}scale {thing} --replicas={counts[False]}"
    if held.kind == "Notebook":
        return (
            f"{space}annotate {thing} kubeflow-resource-stopped={finding.observation.now:%Y-%m-%dT%H:%M:%SZ}"
        )
    # A whole job is given up only when all of it is idle.
    return pod if counts[False] else f"{space}delete {thing}"


def _quoted(text: str | None) -> str:
    import shlex

    return shlex.quote(text or "")
