"""Jobs out of attempts: what they are, whose, and how we know."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from gpuledger.core import tags
from gpuledger.core.comments import pairs
from gpuledger.core.usage import Evidence, Job
from gpuledger.telemetry.slurm.attempts import Place
from gpuledger.telemetry.slurm.records import UNFINISHED, Allocation, Options

# Ranks: who says it. 0 administrators, 1 the person for this job, 2 Slurm's own fields, 3 a default, 9 our guess.
_ADMIN, _COMMENT, _FIELD, _DEFAULT, _GUESS = 0, 1, 2, 3, 9

# Dimensions that aren't tags of bills, with the keys that people use for them.
_MORE_KEYS: Final = {
    "workload_type": ("workload_type", "workload", "job_type"),
    "budget": ("budget", "budget_id"),
}
_WORKLOADS: Final = (
    (
        "fine-tuning",
        re.compile(
            r"(?:^|[^a-z])(?:fine[-_]?tun\w*|sft|dpo|lora|qlora|rlhf|grpo)(?:[^a-z]|$)", re.IGNORECASE
        ),
    ),
    ("evaluation", re.compile(r"(?:^|[^a-z])(?:eval\w*|benchmark\w*)(?:[^a-z]|$)", re.IGNORECASE)),
    ("notebook", re.compile(r"jupyter|notebook", re.IGNORECASE)),
    (
        "inference",
        re.compile(r"(?:^|[^a-z])(?:infer\w*|serv(?:e|ing)|vllm|sglang)(?:[^a-z]|$)", re.IGNORECASE),
    ),
    ("training", re.compile(r"(?:^|[^a-z])(?:pre)?train\w*", re.IGNORECASE)),
)
_MODEL: Final = re.compile(
    r"(?:llama|mi[sx]tral|qwen|gemma|deepseek|falcon|phi|bert|t5|whisper|sdxl|flux)[-_.]?\d*(?:\.\d+)?(?:[-_.]\d+x?\d*[bm])?(?![a-z])",
    re.IGNORECASE,
)
# What a job that is told in several records is, from all of them: something still going on comes first.
_ORDER: Final = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "PENDING")


@lru_cache(maxsize=4096)
def _dimensions_of(key: str, own: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[tuple[str, int], ...]:
    """Return the dimensions that a comment's key stands for, each with the alias's precedence."""
    known = tags.aliases(extra=dict(own))
    plain = tags.normalized(key)
    found = []
    for name in known.resolve([key]):
        spelled = known.by_name[name]
        found.append((name, spelled.index(plain) if plain in spelled else len(spelled)))
    for name, spellings in _MORE_KEYS.items():
        if plain in {tags.normalized(one) for one in spellings}:
            found.append((name, 0))
    return tuple(found)


class JobBuilder:
    """Gathers a job's records. `job` tells it; labels say Slurm's own words where a dimension doesn't."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._newest: Allocation | None = None
        self._place: Place | None = None
        self._submit: int | None = None
        self._start: int | None = None
        self._end: int | None = None
        self._attempts = 0
        self._of_parts: dict[str, list[tuple[int, str]]] = {}
        self._evidence: dict[str, Evidence] = {}
        self._labels: dict[str, str] = {}

    def add(self, record: Allocation, place: Place) -> None:
        """Add a record of the job, in any order."""
        newest = self._newest
        if newest is None or (record.submit, record.start or 0) >= (newest.submit, newest.start or 0):
            self._newest = record
        self._place = place
        self._submit = record.submit if self._submit is None else min(self._submit, record.submit)
        if record.start is not None:
            self._start = record.start if self._start is None else min(self._start, record.start)
        if record.end is not None:
            self._end = record.end if self._end is None else max(self._end, record.end)
        self._attempts = max(self._attempts, place.attempt)
        self._of_parts.setdefault(record.display, []).append((record.submit, record.state))
        for name, evidence in _evidence(record, self._options):
            known = self._evidence.get(name)
            if known is None or evidence.rank < known.rank:
                self._evidence[name] = evidence
        self._labels |= _labels(record)

    def job(self) -> Job:
        """Return the job as far as its records tell it."""
        record, place = self._newest, self._place
        if record is None or place is None:
            raise ValueError("a job without records")
        states = {part: [state for _, state in sorted(seen)] for part, seen in self._of_parts.items()}
        last = [seen[-1] for seen in states.values()]
        labels = dict(self._labels)
        if len(last) > 1:
            labels["slurm/states"] = ",".join(
                f"{state}={count}" for state, count in sorted(Counter(last).items())
            )
        elif len(next(iter(states.values()))) > 1:
            labels["slurm/attempts"] = ",".join(next(iter(states.values())))
        return Job(
            job_id=place.job_id,
            cluster=record.cluster,
            kind=record.kind,
            name=record.name,
            namespace=record.account or None,
            dimensions=dict(self._evidence),
            submitted=_moment(int(place.job_id.rpartition("@")[2])),
            started=_moment(self._start),
            ended=None if any(state in UNFINISHED for state in last) else _moment(self._end),
            state=_overall(last),
            attempts=self._attempts,
            labels=labels,
        )


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _overall(states: list[str]) -> str:
    """Return what goes on, else what went wrong most often, else the state that all have."""
    for state in _ORDER:
        if state in states:
            return state
    failed = Counter(state for state in states if state != "COMPLETED")
    return max(sorted(failed), key=lambda state: failed[state]) if failed else "COMPLETED"


def _labels(record: Allocation) -> dict[str, str]:
    own = {
        "partition": record.partition,
        "qos": record.qos,
        "reservation": record.reservation,
        "cancelled-by": record.cancelled_by or "",
    }
    return {f"slurm/{name}": value for name, value in own.items() if value} | pairs(record.comment)


def _evidence(record: Allocation, options: Options) -> Iterator[tuple[str, Evidence]]:
    own = tuple((name, tuple(spellings)) for name, spellings in options.aliases.items())
    for source, text, rank in (
        ("slurm admin comment", record.admin_comment, _ADMIN),
        ("slurm comment", record.comment, _COMMENT),
    ):
        yield from _of_pairs(pairs(text), source, rank, own)
    fields: Mapping[str, str] = {
        "account": record.account,
        "user": record.user,
        "qos": record.qos,
        "partition": record.partition,
        "reservation": record.reservation,
        "wckey": record.wckey,
    }
    for field, value in fields.items():
        by_default = field == "wckey" and record.wckey_by_default
        source, rank = (f"slurm {field} (default)", _DEFAULT) if by_default else (f"slurm {field}", _FIELD)
        for name in options.dimensions.get(field, ()):
            if value:
                yield name, Evidence(value, source, rank)
    workload = next((name for name, words in _WORKLOADS if words.search(record.name)), None)
    if workload:
        yield "workload_type", Evidence(workload, "slurm job name", _GUESS, inferred=True)
    if model := _MODEL.search(record.name):
        yield "model", Evidence(model[0], "slurm job name", _GUESS, inferred=True)


def _of_pairs(
    found: Mapping[str, str], source: str, rank: int, own: tuple[tuple[str, tuple[str, ...]], ...]
) -> Iterator[tuple[str, Evidence]]:
    """Yield the best key's value for each dimension: the first alias wins, as in tags of bills."""
    best: dict[str, tuple[int, str]] = {}
    for key in found:
        for name, precedence in _dimensions_of(key, own):
            if name not in best or (precedence, key) < best[name]:
                best[name] = (precedence, key)
    for name, (_, key) in best.items():
        yield name, Evidence(found[key], f"{source}: {key}", rank)
