"""Which cards burn money for nothing, told from what was observed of them: states, guards, evidence.

A card (or MIG slice) is *unallocated* (paid, nobody has it), *held-idle* (engine activity at most 1 %), an *orphan* (a
process without a live job), *stalled* (utilisation near 100 % while power, tensor activity or counters of progress say
that nothing gets done), *busy*, or *unknown* (nobody measured it: no data is never idleness). One look names
candidates; a verdict needs a look-back. Guards keep a row and its price but take the verdict away. docs/zombies.md
explains each threshold.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

from gpuledger.core.zombies.evidence import evidence, host_evidence
from gpuledger.core.zombies.facts import (
    IDLE_STATES,
    Advice,
    Finding,
    Holding,
    HostLoad,
    Key,
    Limits,
    Load,
    Observation,
    Progress,
    State,
)
from gpuledger.core.zombies.guards import GANGS, KEEP_UNTIL, PROTECTED, guard, keep_until
from gpuledger.core.zombies.reclaim import command, members, reclaim
from gpuledger.core.zombies.runs import History, history
from gpuledger.core.zombies.stalls import Stall, board_watts, stalled
from gpuledger.core.zombies.words import clock, percent, span

__all__ = [
    "IDLE_STATES",
    "KEEP_UNTIL",
    "PROTECTED",
    "RESIDENT_MIB",
    "Advice",
    "Finding",
    "History",
    "Holding",
    "HostLoad",
    "Limits",
    "Load",
    "Observation",
    "Progress",
    "State",
    "board_watts",
    "command",
    "history",
    "judge",
    "keep_until",
    "members",
    "reclaim",
]

RESIDENT_MIB: Final = Decimal(600)  # a driver and its contexts of no program take less


def judge(observations: Iterable[Observation], limits: Limits | None = None) -> list[Finding]:
    """Tell the state of each card. All cards are given at once: members of a gang excuse each other."""
    limits = limits or Limits()
    seen = list(observations)
    working = {
        holding.key
        for one in seen
        if _fresh(one, limits) and one.activity is not None and one.activity > limits.idle
        for holding in one.holdings
        if holding.kind in GANGS
    }
    return [_judge(one, limits, working) for one in seen]


def _fresh(one: Observation, limits: Limits) -> bool:
    return one.measured_to is None or one.now - one.measured_to <= limits.fresh


def _judge(one: Observation, limits: Limits, working: AbstractSet[Key]) -> Finding:
    if one.activity is None:
        return _unmeasured(one, limits, working)
    if not _fresh(one, limits):
        return Finding(one, "unknown", f"no measurement since {clock(one.measured_to)}")
    stall = stalled(one, limits)
    if one.activity > limits.idle and stall is None:
        busy = "requests come" if one.measure == "requests" else f"engine {percent(one.activity)}"
        return Finding(one, "busy", busy)
    if stall is not None:
        state: State = "stalled"
        since = one.now - stall.span if stall.span else None
    else:
        state, since = _idle_state(one), _idle_since(one)
    # An exporter's clock may be ahead of ours: nobody is idle in the future.
    until = min(one.measured_to or one.now, one.now)
    idle = None if since is None else max(timedelta(0), until - since)
    warn, recommend = limits.of(notebook=any(held.notebook for held in one.holdings))
    if idle is not None and idle < warn:
        told = f"idle for {span(idle)} only" if stall is None else "full for a moment"
        return Finding(one, "busy", told, since, idle)
    return _idle(one, state, since, idle, stall, (limits, recommend, working))


def _idle(
    one: Observation,
    state: State,
    since: datetime | None,
    idle: timedelta | None,
    stall: Stall | None,
    by: tuple[Limits, timedelta, AbstractSet[Key]],
) -> Finding:
    limits, recommend, working = by
    pattern = _pattern(one, limits)
    reason = guard(one, state, idle, limits, working)
    return Finding(
        one,
        state,
        evidence(one, state, stall, since, idle, pattern, reason),
        since,
        idle,
        verdict=idle is not None and reason is None,
        candidate=idle is None and reason is None,
        advice=_advice(idle, recommend, reason),
        guard=reason,
        pattern=pattern,
    )


def _unmeasured(one: Observation, limits: Limits, working: AbstractSet[Key]) -> Finding:
    """Tell of a card that nobody measures: never a verdict."""
    if one.holders_known and not one.holdings and one.memory_used_mib is None:
        return Finding(
            one, "unallocated", "no holder; not measured, one look only", candidate=True, advice="watch"
        )
    host = one.host
    network = None if host is None else host.bytes_per_second
    if (
        host is not None
        and host.cpu <= limits.host_cpu
        and (network is None or network <= limits.host_bytes)
        and host.seconds >= limits.recommend.total_seconds()
    ):
        reason = guard(one, "held-idle", None, limits, working)
        told = host_evidence(host, reason)
        return Finding(one, "held-idle", told, candidate=reason is None, advice="watch", guard=reason)
    if not _fresh(one, limits):
        return Finding(one, "unknown", f"no measurement since {clock(one.measured_to)}")
    return Finding(one, "unknown", one.why_unknown or "nobody measures its activity")


def _advice(idle: timedelta | None, recommend: timedelta, reason: str | None) -> Advice:
    if reason is not None or idle is None:
        return "watch"
    return "reclaim" if idle >= recommend else "warn"


def _idle_state(one: Observation) -> State:
    """Tell who has an idle card: a live job, a process without one, or nobody."""
    if any(held.live is not False for held in one.holdings):
        return "held-idle"
    resident = one.memory_used_mib is not None and one.memory_used_mib > RESIDENT_MIB
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


def _pattern(one: Observation, limits: Limits) -> Literal["zombie", "trough"] | None:
    """Tell idle hours of something that works at other times from what never works."""
    if one.idle_share is None or one.measured_from is None or one.measured_to is None:
        return None
    if one.idle_share < limits.zombie_share:
        return "trough"
    return "zombie" if one.measured_to - one.measured_from >= limits.zombie_span else None
