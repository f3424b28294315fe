"""On-demand machines beside the example's idle savings plan: what it could have covered, and why it didn't.

One is in an account that discounts aren't shared with, one in another region, one is bound to its region; and a job that
may wait runs exactly when the plan is used up. What could be recovered is reckoned here, in whole machines and hours,
from the numbers that the bill was made from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gpuledger.demo.aws_commitments import PLAN_ARN, PLAN_KIND, PLAN_MACHINES, plan_counts
from gpuledger.demo.aws_lines import Line, Lines, Machine, created_by
from gpuledger.demo.aws_usage import running
from gpuledger.demo.company import LIST_PRICE, ZERO, identifier, plain, stream, tags
from gpuledger.demo.truth import Truth

_HEX: Final = "0123456789abcdef"
_PROD, _RESEARCH = "111122223333", "444455556666"
_RUN: Final = 6  # hours of a run that may wait
WAITS: Final = 48
_BOUND: Final = 60
_ONE: Final = Decimal(1)


@dataclass(frozen=True, slots=True)
class _Beside:
    """A machine, its hours with the part of each, what is in the way, and what becomes possible: '' where nothing does."""

    machine: Machine
    hours: dict[int, Decimal]
    blocker: str
    way: str


def _machine(lines: Lines, name: str, account: str, owner: dict[str, str], region: str) -> Machine:
    rng = stream(lines.seed, lines.month, f"aws/beside/{name}")
    return Machine(f"i-0{identifier(rng, _HEX, 16)}", PLAN_KIND, account, owner, region)


def _stretches(counts: Sequence[int]) -> Iterator[int]:
    """First hours of runs that fit where the plan is used up, one in every such stretch, the first day left out."""
    index = 24
    while index + _RUN <= len(counts):
        if min(counts[index : index + _RUN]) == PLAN_MACHINES:
            yield index
            while index < len(counts) and counts[index] == PLAN_MACHINES:
                index += 1
        index += 1


def _all(lines: Lines, counts: Sequence[int]) -> list[_Beside]:
    month, ada = lines.month, created_by("ada@example.com")
    pattern = {
        name: {
            int((moment - month.start).total_seconds()) // 3600: part
            for moment, part in running(month, lines.seed, f"beside/{name}", "jobs")
        }
        for name in ("research", "west")
    }
    research = tags("aws", "vision-research", user_name="p5-dino", user_env="prod") | created_by(
        "svc-trainer", "IAMUser"
    )
    west = tags("aws", "llm-pretraining", user_name="p5-west-0", user_env="prod") | ada
    nightly = tags("aws", "llm-pretraining", user_name="p5-nightly", user_deferrable_hours=str(WAITS)) | ada
    serving = tags("aws", "rag-serving", user_name="p5-serving-0", user_region_bound="true") | created_by(
        "terraform-shared"
    )
    waiting = {index + hour: _ONE for index in _stretches(counts) for hour in range(_RUN)}
    bound = {100 + hour: _ONE for hour in range(_BOUND)}
    return [
        _Beside(_machine(lines, "research", _RESEARCH, research, "us-east-1"), pattern["research"], "account", "sharing"),
        _Beside(_machine(lines, "west", _PROD, west, "us-west-2"), pattern["west"], "region", "moving"),
        _Beside(_machine(lines, "nightly", _PROD, nightly, "us-east-1"), waiting, "time", "waiting"),
        _Beside(_machine(lines, "bound", _PROD, serving, "us-west-2"), bound, "bound to its region", ""),
    ]  # fmt: skip


def _recoverable(all_beside: Sequence[_Beside], counts: Sequence[int]) -> dict[str, Decimal]:
    """Machine hours that the idle part could take: hour by hour, then runs that wait, each to its first whole place."""
    free = [Decimal(PLAN_MACHINES - count) for count in counts]
    found = {"sharing": ZERO, "moving": ZERO, "waiting": ZERO}
    for one in all_beside:
        if one.way in {"sharing", "moving"}:
            for hour, part in one.hours.items():
                taken = min(part, free[hour])
                free[hour] -= taken
                found[one.way] += taken
    starts = [
        hour for one in all_beside if one.way == "waiting" for hour in one.hours if hour - 1 not in one.hours
    ]
    for start in starts:
        last = min(start + WAITS, len(free) - _RUN)
        place = next((at for at in range(start + 1, last + 1) if min(free[at : at + _RUN]) >= 1), None)
        if place is not None:
            for hour in range(place, place + _RUN):
                free[hour] -= 1
            found["waiting"] += _RUN
    return found


def beside(lines: Lines, truth: Truth) -> Iterator[Line]:
    """Rows of the machines beside the plan; tells the truth about what could be recovered."""
    counts = plan_counts(lines)
    all_beside = _all(lines, counts)
    price = LIST_PRICE[PLAN_KIND]
    hours = _recoverable(all_beside, counts)
    truth.commitments[PLAN_ARN].recoverable = {
        "definition": "on-demand cost that the plan's idle hours could have paid for: of work in another account or region "
        "in the same hours, and of work that may wait",
        "saving": plain(sum(hours.values(), ZERO) * price),
        **{f"by_{way}": plain(machine_hours * price) for way, machine_hours in hours.items()},
        "beside": [
            {
                "resource": one.machine.resource, "account": one.machine.account, "region": one.machine.region,
                "blocker": one.blocker, "recoverable": bool(one.way),
                "on_demand_cost": plain(sum(one.hours.values(), ZERO) * price),
            }
            for one in all_beside
        ],
    }  # fmt: skip
    for one in all_beside:
        for hour, part in one.hours.items():
            yield lines.on_demand(one.machine, lines.month.hour(hour), part)
