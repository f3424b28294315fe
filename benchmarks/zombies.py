"""Precision and recall of `gpuledger zombies` on a synthetic fleet with a known truth, beside two common rules.

All figures are of SYNTHETIC data made here by a seed: each state and guard, and cases that are hard or unfair to us.
Rivals: "engine at most 1 % for 15 minutes", and "CPU below 5 % for 24 hours", each applied to cards that are held.
"""

import csv
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from benchmarks._measure import WORK
from gpuledger.core.zombies import (
    KEEP_UNTIL,
    PROTECTED,
    Finding,
    Holding,
    Limits,
    Load,
    Observation,
    Progress,
    State,
    history,
    judge,
)

SEED = 20261124
EACH = 30
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = 1440
ZOMBIE, LEAVE = True, False  # the truth of a case
_RESIDENT = Decimal(30_000)


@dataclass(slots=True)
class Card:
    """A card's truth and what tools would have measured, a value a minute, the last one now."""

    case: str
    zombie: bool
    state: State
    engine: Sequence[float | None]
    cpu: Sequence[float]
    seen: Observation
    steady: tuple[float, float, float] | None = None  # utilisation, watts, tensor activity

    def observe(self) -> Observation:
        """Return what the finder would be told."""
        samples = [
            (NOW - timedelta(minutes=DAY - 1 - minute), Decimal(str(round(value, 4))))
            for minute, value in enumerate(self.engine)
            if value is not None
        ]
        limits = Limits()
        told = history(samples, limits.idle)
        if told is None:
            return replace(self.seen, activity=None)
        loads: tuple[Load, ...] = ()
        if self.steady is not None:
            utilisation, watts, tensor = (Decimal(str(value)) for value in self.steady)
            loads = tuple(Load(seconds, utilisation, watts, tensor) for seconds in (900, 3600))
        return replace(
            self.seen,
            activity=max((value for when, value in samples if NOW - when < limits.warn), default=Decimal(0)),
            measured_from=told.start,
            measured_to=told.end,
            last_busy=told.last_busy,
            idle_share=told.idle_share,
            loads=loads,
        )


Draw = random.Random


def idle(draw: Draw) -> float:
    """Return the noise of an idle card: profiling counters are seldom exactly 0."""
    return draw.choice((0.0, 0.0, draw.uniform(0, 0.008)))


def busy(draw: Draw) -> float:
    """Return the activity of one that works, pauses for data among it."""
    return draw.choice((0.0, 0.004, *(draw.uniform(0.2, 1) for _ in range(8))))


def held(job: str, **more: object) -> Observation:
    """Return a card that a pod has."""
    holding = Holding(job=job, kind="Deployment", namespace="ml", pod=f"{job}-0", live=True)
    return Observation(
        gpu=job, now=NOW, gpu_model="A100", memory_used_mib=_RESIDENT, holders_known=True,
        holdings=(replace(holding, **more),),  # type: ignore[arg-type]
    )  # fmt: skip


def nobody(name: str, memory: Decimal) -> Observation:
    """Return a card that no job has."""
    return Observation(gpu=name, now=NOW, gpu_model="A100", memory_used_mib=memory, holders_known=True)


def cards(draw: Draw) -> Iterator[Card]:
    """Yield the fleet: EACH cards of each case."""
    for number in range(EACH):
        for make in (_plain, _guarded, _jobs, _hard):
            yield from make(draw, number)


def _engine(draw: Draw, last: int, before: Callable[[Draw], float]) -> Sequence[float | None]:
    """Return a day that ends with so many idle minutes."""
    return [before(draw) for _ in range(DAY - last)] + [idle(draw) for _ in range(last)]


def _cpu(draw: Draw, low: float, high: float) -> list[float]:
    return [draw.uniform(low, high) for _ in range(DAY)]


def _plain(draw: Draw, number: int) -> Iterator[Card]:
    quiet, loud = _cpu(draw, 0, 0.04), _cpu(draw, 0.1, 0.9)
    long = draw.randint(61, DAY)
    yield Card(
        "held, idle, quiet CPU", ZOMBIE, "held-idle", _engine(draw, long, busy), quiet, held(f"a{number}")
    )
    yield Card(
        "held, idle, polling CPU", ZOMBIE, "held-idle", _engine(draw, long, busy), loud, held(f"b{number}")
    )
    free = nobody(f"c{number}", Decimal(4))
    yield Card("unallocated", ZOMBIE, "unallocated", _engine(draw, long, idle), quiet, free)
    left = nobody(f"d{number}", _RESIDENT)
    yield Card("orphan process", ZOMBIE, "orphan", _engine(draw, long, busy), loud, left)
    hung = held(f"e{number}", kind="PyTorchJob")
    full: list[float | None] = [1.0] * DAY
    watts = draw.uniform(80, 135)
    yield Card("stalled collective", ZOMBIE, "stalled", full, loud, hung, (1.0, watts, 0.0))
    yield Card("busy", LEAVE, "busy", _engine(draw, 0, busy), loud, held(f"f{number}"))
    yield Card("busy, little CPU", LEAVE, "busy", _engine(draw, 0, busy), quiet, held(f"g{number}"))
    pause = draw.randint(1, 13)
    yield Card("busy, pauses", LEAVE, "busy", _engine(draw, pause, busy), loud, held(f"h{number}"))
    yield Card("nobody measures it", LEAVE, "unknown", [None] * DAY, loud, held(f"i{number}"))


def _guarded(draw: Draw, number: int) -> Iterator[Card]:
    quiet = _cpu(draw, 0, 0.04)
    long = draw.randint(61, 600)
    young = held(f"j{number}", started=NOW - timedelta(minutes=draw.randint(16, 28)))
    yield Card("loads a model", LEAVE, "held-idle", _engine(draw, 30, idle), _cpu(draw, 0.1, 0.9), young)
    warm = held(f"k{number}", requests=Decimal(draw.randint(1, 500)))
    yield Card("warm replica", LEAVE, "held-idle", _engine(draw, long, busy), quiet, warm)
    kept = held(f"l{number}", marks={KEEP_UNTIL: "2026-12-01"})
    yield Card("kept", LEAVE, "held-idle", _engine(draw, long, busy), quiet, kept)
    safe = held(f"m{number}", marks={PROTECTED: "true"})
    yield Card("protected", LEAVE, "held-idle", _engine(draw, long, idle), quiet, safe)
    late = held(f"n{number}", marks={KEEP_UNTIL: "2026-11-20"})
    yield Card("keep mark expired", ZOMBIE, "held-idle", _engine(draw, long, busy), quiet, late)
    note = held(f"o{number}", kind="Notebook", notebook=True)
    short = draw.randint(16, 58)
    yield Card("notebook, a meeting", LEAVE, "busy", _engine(draw, short, busy), quiet, note)
    yield Card(
        "notebook, abandoned", ZOMBIE, "held-idle", _engine(draw, draw.randint(125, 900), busy), quiet,
        replace(note, gpu=f"p{number}"),
    )  # fmt: skip


def _jobs(draw: Draw, number: int) -> Iterator[Card]:
    loud = _cpu(draw, 0.1, 0.9)
    gang = held(f"q{number}", kind="PyTorchJob")
    other = replace(gang, gpu=f"q{number}-1", holdings=(replace(gang.holdings[0], pod=f"q{number}-1"),))
    waits = draw.randint(16, 200)
    yield Card("rank at a barrier", LEAVE, "held-idle", _engine(draw, waits, busy), loud, gang)
    yield Card("rank that works", LEAVE, "busy", _engine(draw, 0, busy), loud, other)
    greedy = held(f"r{number}", kind="PyTorchJob")
    used = replace(greedy, gpu=f"r{number}-1")
    yield Card("card too many of a job", ZOMBIE, "held-idle", _engine(draw, 0, idle), loud, greedy)
    yield Card("card that it uses", LEAVE, "busy", _engine(draw, 0, busy), loud, used)
    decode = held(f"s{number}")
    full: list[float | None] = [1.0] * DAY
    stuck = held(f"x{number}", progress=Progress("steps", timedelta(hours=draw.randint(2, 30))))
    yield Card("no step for hours, full power", ZOMBIE, "stalled", full, loud, stuck, (1.0, 390, 0.4))
    steps = held(f"y{number}", progress=Progress("steps", timedelta(minutes=draw.randint(0, 50))))
    yield Card("steps, and evaluates now", LEAVE, "busy", full, loud, steps, (1.0, 390, 0.4))
    yield Card("memory-bound decode", LEAVE, "busy", full, loud, decode, (1.0, draw.uniform(200, 390), 0.004))


def _hard(draw: Draw, number: int) -> Iterator[Card]:
    """Cases that the rules can't tell, or not from what is given here: they are in the figures too."""
    quiet, loud = _cpu(draw, 0, 0.04), _cpu(draw, 0.1, 0.9)
    if number % 3:
        return
    spare = held(f"t{number}")
    yield Card("cold standby, unmarked", LEAVE, "held-idle", _engine(draw, 0, idle), quiet, spare)
    dead = held(f"u{number}", kind="PyTorchJob")
    alive = replace(dead, gpu=f"u{number}-1", holdings=(replace(dead.holdings[0], pod=f"u{number}-1"),))
    yield Card("dead rank, others work", ZOMBIE, "held-idle", _engine(draw, 300, busy), loud, dead)
    yield Card("its others", LEAVE, "busy", _engine(draw, 0, busy), loud, alive)
    spin = held(f"v{number}")
    full: list[float | None] = [1.0] * DAY
    yield Card(
        "livelock without a counter", ZOMBIE, "stalled", full, loud, spin, (1.0, draw.uniform(200, 390), 0.4)
    )
    gaps = held(f"w{number}")
    torn = [value if draw.random() > 0.3 else None for value in _engine(draw, 200, busy)]  # noqa: PLR2004
    yield Card("idle, gaps in scraping", ZOMBIE, "held-idle", torn, quiet, gaps)


@dataclass(slots=True)
class Score:
    """Verdicts against the truth."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def count(self, *, said: bool, true: bool) -> None:
        """Count one card."""
        self.right += said and true
        self.wrong += said and not true
        self.missed += true and not said

    @property
    def precision(self) -> Fraction:
        """Part of the verdicts that are right."""
        return Fraction(self.right, max(1, self.right + self.wrong))

    @property
    def recall(self) -> Fraction:
        """Part of the zombies that were found."""
        return Fraction(self.right, max(1, self.right + self.missed))


def engine_only(card: Card) -> bool:
    """Tell whether all that was measured of the engine in the last 15 minutes was at most 1 %."""
    measured = [value for value in card.engine[-15:] if value is not None]
    return bool(measured) and max(measured) <= 0.01  # noqa: PLR2004


def cpu_only(card: Card) -> bool:
    """Tell whether the CPU was below 5 % for 24 hours."""
    return all(value < 0.05 for value in card.cpu)  # noqa: PLR2004


def scores(seed: int = SEED) -> tuple[dict[str, Score], dict[str, list[tuple[Card, Finding]]]]:
    """Judge the fleet by every rule; return scores by rule, and our findings by case."""
    fleet = list(cards(random.Random(seed)))
    found = judge([card.observe() for card in fleet])
    by_rule: dict[str, Score] = defaultdict(Score)
    by_case: dict[str, list[tuple[Card, Finding]]] = defaultdict(list)
    for card, finding in zip(fleet, found, strict=True):
        by_case[card.case].append((card, finding))
        by_rule["gpuledger zombies"].count(said=finding.verdict, true=card.zombie)
        by_rule["engine ≤ 1 % for 15 min"].count(said=engine_only(card), true=card.zombie)
        by_rule["CPU < 5 % for 24 h"].count(said=cpu_only(card), true=card.zombie)
    return by_rule, by_case


def write_truth(path: Path, by_case: dict[str, list[tuple[Card, Finding]]]) -> None:
    """Write what is true of each card, for whoever wants to score other rules on the same fleet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("gpu", "case", "state", "zombie"))
        for case, some in by_case.items():
            writer.writerows((card.seen.gpu, case, card.state, card.zombie) for card, _ in some)


def run() -> int:
    """Print both tables and write the truth; return 1 when a rival is better in precision or recall."""
    by_rule, by_case = scores()
    truth = WORK / "zombies-truth.csv"
    write_truth(truth, by_case)
    count = sum(len(some) for some in by_case.values())
    print(f"SYNTHETIC fleet of {count} cards, a day of minutes each, seed {SEED}; its truth is in {truth}\n")
    print(f"{'rule':26}{'precision':>10}{'recall':>9}{'right':>7}{'wrong':>7}{'missed':>8}")
    for rule, score in by_rule.items():
        print(
            f"{rule:26}{float(score.precision):10.3f}{float(score.recall):9.3f}"
            f"{score.right:7}{score.wrong:7}{score.missed:8}"
        )
    print(
        f"\n{'verdicts by case':31}{'cards':>6}{'truth':>9}{'ours':>6}{'state right':>13}{'engine':>8}{'CPU':>6}"
    )
    for case, some in by_case.items():
        state = sum(card.state == finding.state for card, finding in some)
        print(
            f"{case:31}{len(some):6}{'zombie' if some[0][0].zombie else 'leave':>9}"
            f"{sum(finding.verdict for _, finding in some):6}{state:13}"
            f"{sum(engine_only(card) for card, _ in some):8}{sum(cpu_only(card) for card, _ in some):6}"
        )
    ours, *rivals = by_rule.values()
    worse = any(ours.precision < other.precision or ours.recall < other.recall for other in rivals)
    return int(worse)


if __name__ == "__main__":
    raise SystemExit(run())
