"""What a finding is based on, in one line."""

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from gpuledger.core.zombies.facts import HostLoad, Observation, State
from gpuledger.core.zombies.guards import KEEP_UNTIL
from gpuledger.core.zombies.stalls import Stall, board_watts
from gpuledger.core.zombies.words import percent, span


def evidence(
    one: Observation,
    state: State,
    stall: Stall | None,
    since: datetime | None,
    idle: timedelta | None,
    pattern: str | None,
    guard: str | None,
) -> str:
    """Say what was measured, for how long, and what speaks for and against."""
    said = [_stall(one, stall) if stall is not None else _activity(one, idle)]
    if idle is None:
        said.append("one look only")
    elif stall is None or stall.progress is None:
        begun = since is not None and since == one.measured_from
        said.append(f"for {'at least ' if begun or stall else ''}{span(idle)}")
    if one.memory_used_mib is not None and state != "stalled":
        said.append(f"{one.memory_used_mib / 1024:.1f} GiB resident")
    if one.processes:
        said.append(f"{len(one.processes)} process{'es' if len(one.processes) > 1 else ''}")
    if state == "orphan":
        said.append("no live job")
    if state == "unallocated":
        said.append("no holder" if one.holders_known else "no holder named")
    said += _holders(one, guard)
    if pattern == "trough":
        said.append(f"idle {percent(_decimal(one.idle_share))} of the time: scale down its trough")
    elif pattern == "zombie":
        said.append(f"idle {percent(_decimal(one.idle_share))} of the time")
    return ", ".join([*said, *([guard] if guard else [])])


def host_evidence(host: HostLoad, guard: str | None) -> str:
    """Say what stands in for a measurement of the card."""
    network = "" if host.bytes_per_second is None else f", network ≤ {host.bytes_per_second / 1000:.1f} kB/s"
    told = f"no GPU metric; CPU ≤ {percent(host.cpu)}{network} for {span(timedelta(seconds=host.seconds))}"
    return f"{told}, {guard}" if guard else told


def _activity(one: Observation, idle: timedelta | None) -> str:
    if one.measure == "requests":
        return "no request came" if idle is not None else "no request"
    return f"engine ≤ {percent(one.activity or Decimal(0))}"


def _stall(one: Observation, stall: Stall) -> str:
    load = stall.load
    watts = board_watts(one.gpu_model, one.model_name)
    power = "" if load.power_watts is None else f", {load.power_watts:.0f} W"
    power += f" of {watts} W" if power and watts else ""
    tensor = "" if load.tensor is None else f", tensor {percent(load.tensor)}"
    still = ""
    if stall.progress is not None:
        still = f", {stall.progress.counter} stands still for {span(stall.progress.still)}"
    return f"utilisation {percent(load.utilisation or Decimal(0))}{power}{tensor}{still}"


def _holders(one: Observation, guard: str | None) -> list[str]:
    said = [f"{KEEP_UNTIL} has passed" for held in one.holdings if KEEP_UNTIL in held.marks and guard is None]
    if any(not held.certain for held in one.holdings):
        said.append(f"one of {len(one.holdings)} holders of its node has it")
    served = [held.requests for held in one.holdings if held.requests is not None]
    if served and not sum(served) and one.measure != "requests":
        said.append("no request served")
    return said


def _decimal(share: Fraction | None) -> Decimal:
    share = share or Fraction(0)
    return Decimal(share.numerator) / share.denominator
