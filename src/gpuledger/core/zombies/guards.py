"""Why an idle card is left alone: start-up, barriers of a gang, warm replicas, protection and keep marks."""

import math
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import Final

from gpuledger.core.zombies.facts import Holding, Key, Limits, Observation, State
from gpuledger.core.zombies.words import clock, span

PROTECTED: Final = "gpuledger.io/protected"
KEEP_UNTIL: Final = "gpuledger.io/keep-until"
GANGS: Final = frozenset(
    {
        *("AppWrapper", "JAXJob", "Job", "JobSet", "LeaderWorkerSet", "MPIJob", "PaddleJob", "PodGroup"),
        *("PyTorchJob", "RayCluster", "RayJob", "Slurm", "TFJob", "TrainJob", "Workflow", "XGBoostJob"),
    }
)


def guard(
    one: Observation, state: State, idle: timedelta | None, limits: Limits, working: AbstractSet[Key]
) -> str | None:
    """Return why nothing should be done about an idle card yet. Nobody protects what no live job holds.

    `working` has the gangs of which some member works.
    """
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
    one: Observation, held: Holding, idle: timedelta | None, limits: Limits, working: AbstractSet[Key]
) -> str | None:
    worked = one.last_busy is not None and (held.started is None or one.last_busy > held.started)
    if held.started is not None and not worked and one.now - held.started < limits.grace:
        return f"started {span(one.now - held.started)} ago, may still load"
    # A rank that never worked while the others did isn't at a barrier: it is a card too many.
    if held.key in working and (worked or idle is None or idle < limits.recommend):
        return "other members of its job are busy: may wait at a barrier"
    if held.requests is not None and held.requests > 0:
        count = math.ceil(held.requests)  # a rate's growth needn't be whole
        return f"warm replica: {count:,} request{'' if count == 1 else 's'} in the time looked back on"
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
    return f"kept until {clock(until)}" if now < until else None


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
