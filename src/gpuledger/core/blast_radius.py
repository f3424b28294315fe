"""Blast radius: what a mistake can cost before it ends. Whole numbers in, whole numbers out; no clock, no input.

Money is in millionths of a dollar, time in seconds. Per pool and draw:

    gpus  = min(gpus asked for, quota, autoscaler maximum, obtainable, lease cap)
    units = gpus ÷ GPUs per priced unit (1, or those of an instance), without those that idle commitments already pay
    time  = min(job limit, detect + respond, until someone looks)
    loss  = min(units × price × time, dollar lease) + (storage + egress an hour) × time + storage + egress

*Same mistake*: all pools go wrong at once, and inputs of one kind share their draws. *Independent*: every input of every
pool is drawn for itself; each pool still goes wrong. A quantile is the draw of that rank, so it is exact money.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, overload

from gpuledger.core.draws import HOUR, Dist, draws, fixed
from gpuledger.errors import UsageError

if TYPE_CHECKING:
    from gpuledger.core.draws import Ints

    Column = int | Ints

Kind = Literal["gpu", "tokens"]

COUNTS: Final = ("gpus", "quota", "autoscaler_max", "obtainable", "lease_cap")
TIMES: Final = ("max_hours", "detect", "respond", "look")
SUMS: Final = ("storage_usd", "egress_usd")
RATES: Final = ("storage_usd_per_hour", "egress_usd_per_hour")
LIMIT: Final = 5_000_000_000_000_000  # 5 billion dollars: every sum stays exact in a browser's doubles
SAMPLES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Pool:
    """What one mistake can start, and what ends it.

    `inputs` has 'gpus' and 'price' (millionths of a dollar per unit and hour), and any other of COUNTS, TIMES, SUMS
    and RATES; an absent one limits nothing and costs nothing. `per_unit` is the GPUs of one priced unit, `idle` GPUs that are paid
    for anyway, `lease_usd` the most that its hours may cost (None: no dollar limit).
    """

    name: str
    inputs: Mapping[str, Dist]
    kind: Kind = "gpu"
    per_unit: int = 1
    idle: int = 0
    lease_usd: int | None = None


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A limit that isn't there yet. None: says nothing about it.

    Percentages are of the quota and autoscaler maximum that a pool has, or of the GPUs that can be asked for where it has
    none; times are seconds, `lease_usd` millionths of a dollar.
    """

    name: str
    detect: int | None = None
    respond: int | None = None
    max_hours: int | None = None
    look: int | None = None
    lease_cap: int | None = None
    lease_usd: int | None = None
    quota_percent: int | None = None
    autoscaler_percent: int | None = None


NONE: Final = Guardrail("none")


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Three ranks of a sorted list: half, nine in ten, ninety-nine in a hundred of the draws are at most this."""

    p50: int
    p90: int
    p99: int


@dataclass(frozen=True, slots=True)
class PoolResult:
    """One pool: medians of GPUs, seconds and burn per hour (after idle commitments), loss, and its worst case."""

    pool: Pool
    gpus: int
    seconds: int
    usd_per_hour: int
    loss: Quantiles
    worst: int


@dataclass(frozen=True, slots=True)
class GuardrailResult:
    """What a guardrail takes off the same-mistake loss, with the same draws; `left` is what remains."""

    guardrail: Guardrail
    removes_p50: int
    removes_p99: int
    left: Quantiles


@dataclass(frozen=True, slots=True)
class Radius:
    """The answer. `lines` is its arithmetic: the draws at ranks 50 % and 99 %, and the worst case."""

    pools: list[PoolResult]
    same: Quantiles
    independent: Quantiles
    worst: int
    guardrails: list[GuardrailResult]
    together: GuardrailResult | None
    cases: Mapping[str, list[dict[str, int]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Draws of a pool's inputs: an array where the input is uncertain, else its one value."""

    pool: Pool
    columns: "Mapping[str, Column]"


def assess(
    pools: Sequence[Pool], guardrails: Iterable[Guardrail] = (), *, seed: int = 1, samples: int = SAMPLES
) -> Radius:
    """Compute losses and what each guardrail removes. Raises UsageError for pools that nothing ends or that are absurd."""
    check(pools)
    drawn = [_draw(pool, str(seed), samples) for pool in pools]
    losses = [loss(one, NONE) for one in drawn]
    total = sum(losses)
    same = quantiles(total)
    if len(pools) == 1:
        independent = same
    else:
        apart = [_draw(pool, f"{seed}/{pool.name}", samples) for pool in pools]
        independent = quantiles(sum(loss(one, NONE) for one in apart))
    worst = [_worst(pool) for pool in pools]
    results = [_result(one, column, costs) for one, column, costs in zip(drawn, losses, worst, strict=True)]
    rails = list(guardrails)
    told = [_removes(rail, drawn, same) for rail in rails]
    told.sort(key=lambda one: (-one.removes_p99, -one.removes_p50))
    together = _removes(combined(rails), drawn, same) if len(rails) > 1 else None
    cases = {
        "P50": [_values(one, _place(total, same.p50)) for one in drawn],
        "P99": [_values(one, _place(total, same.p99)) for one in drawn],
        "worst case": [{name: dist.highest for name, dist in pool.inputs.items()} for pool in pools],
    }
    return Radius(results, same, independent, sum(worst), told, together, cases)


def check(pools: Sequence[Pool]) -> None:
    """Refuse pools without an end or with absurd sums; UsageError names the pool."""
    if not pools:
        raise UsageError(
            "no pool given",
            hint="Give --pool name=…,gpus=…,usd_per_gpu_hour=…,max_hours=…, --from-live or --from-ledger; --serve opens the page.",
        )
    names = [pool.name for pool in pools]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UsageError("there are two pools of this name", where=f"pool {twice[0]}", hint="Rename one.")
    for pool in pools:
        if not {"max_hours", "detect", "look"} & set(pool.inputs):
            raise UsageError(
                "nothing ends this pool's mistake",
                where=f"pool {pool.name}, max_hours",
                hint="Give max_hours=…, --detect, or --calendar weekend.",
            )
    whole = [_highest(replace(pool, lease_usd=None)) for pool in pools]
    burn = (paid_units(one, NONE) * one.columns["price"] for one in whole)
    if max(sum(loss(one, NONE) for one in whole), sum(burn)) > LIMIT:
        raise UsageError(
            "the worst case, or what an hour of it costs, is above 5 billion dollars",
            where=f"pool {max(pools, key=_worst).name}",
            hint="Check counts, price and hours.",
        )


def combined(rails: Sequence[Guardrail]) -> Guardrail:
    """Return all guardrails as one: the tightest of each limit."""
    limits: dict[str, int] = {}
    for name in Guardrail.__dataclass_fields__:
        said = [getattr(rail, name) for rail in rails if name != "name" and getattr(rail, name) is not None]
        if said:
            limits[name] = min(said)
    return Guardrail("all of them", **limits)


def loss(drawn: Drawn, rail: Guardrail) -> "Column":
    """Return the loss of each draw of a pool under a guardrail."""
    columns, seconds = drawn.columns, time(drawn, rail)
    cost = cost_of(paid_units(drawn, rail), columns["price"], seconds)
    lease = least(drawn.pool.lease_usd, rail.lease_usd)
    if lease is not None:
        cost = _least([cost, lease])
    for name in RATES:
        if name in columns:
            cost = cost + cost_of(1, columns[name], seconds)
    for name in SUMS:
        if name in columns:
            cost = cost + columns[name]
    return cost


@overload
def cost_of(units: int, price: int, seconds: int) -> int: ...
@overload
def cost_of(units: "Column", price: "Column", seconds: "Column") -> "Column": ...
def cost_of(units: "Column", price: "Column", seconds: "Column") -> "Column":
    """Return units × price per hour × time, rounded half up to a millionth of a dollar."""
    whole = units * seconds
    hours = whole // HOUR
    return price * hours + (price * (whole - hours * HOUR) + HOUR // 2) // HOUR


def gpus(drawn: Drawn, rail: Guardrail) -> "Column":
    """Return how many GPUs can be started."""
    columns, counts = drawn.columns, [drawn.columns[name] for name in COUNTS if name in drawn.columns]
    if drawn.pool.kind == "gpu":
        for name, percent in (("quota", rail.quota_percent), ("autoscaler_max", rail.autoscaler_percent)):
            if percent is not None:
                counts.append(columns.get(name, columns["gpus"]) * percent // 100)
        if rail.lease_cap is not None:
            counts.append(rail.lease_cap)
    return _least(counts)


def paid_units(drawn: Drawn, rail: Guardrail) -> "Column":
    """Return how many priced units are paid for because of the mistake."""
    size, free = drawn.pool.per_unit, drawn.pool.idle // drawn.pool.per_unit
    count = gpus(drawn, rail)
    if size > 1:
        count = count // size
    return count if free == 0 else -_least([free - count, 0])


def time(drawn: Drawn, rail: Guardrail) -> "Column":
    """Return how many seconds the mistake lasts."""
    columns = drawn.columns
    ends = [columns[name] for name in ("max_hours", "look") if name in columns]
    ends += [limit for limit in (rail.max_hours, rail.look) if limit is not None]
    detect = [columns["detect"]] if "detect" in columns else []
    detect += [] if rail.detect is None else [rail.detect]
    if detect:
        respond = [columns.get("respond", 0)] + ([] if rail.respond is None else [rail.respond])
        ends.append(_least(detect) + _least(respond))
    return _least(ends)


def least(one: int | None, other: int | None) -> int | None:
    """Return the smaller of two limits, None being no limit."""
    return other if one is None else one if other is None else min(one, other)


def quantiles(values: "Column") -> Quantiles:
    """Return the values of rank ⌈q × n⌉."""
    if isinstance(values, int):
        return Quantiles(values, values, values)
    import numpy as np

    ranks = [(percent * len(values) + 99) // 100 - 1 for percent in (50, 90, 99)]
    ranked = np.partition(values, ranks)
    return Quantiles(*(int(ranked[rank]) for rank in ranks))


def _draw(pool: Pool, stream: str, samples: int) -> Drawn:
    return Drawn(pool, {
        name: dist.points[0] if dist.is_fixed else draws(dist, f"{stream}/{name}", samples)
        for name, dist in pool.inputs.items()
    })  # fmt: skip


def _highest(pool: Pool) -> Drawn:
    certain = {name: fixed(dist.highest) for name, dist in pool.inputs.items()}
    return Drawn(replace(pool, inputs=certain), {name: dist.points[0] for name, dist in certain.items()})


def _worst(pool: Pool) -> int:
    return int(loss(_highest(pool), NONE))


def _result(drawn: Drawn, losses: "Column", worst: int) -> PoolResult:
    return PoolResult(
        drawn.pool,
        0 if drawn.pool.kind == "tokens" else quantiles(gpus(drawn, NONE)).p50,
        quantiles(time(drawn, NONE)).p50,
        quantiles(paid_units(drawn, NONE) * drawn.columns["price"]).p50,
        quantiles(losses),
        worst,
    )


def _removes(rail: Guardrail, drawn: Sequence[Drawn], same: Quantiles) -> GuardrailResult:
    left = quantiles(sum(loss(one, rail) for one in drawn))
    return GuardrailResult(rail, same.p50 - left.p50, same.p99 - left.p99, left)


def _place(values: "Column", wanted: int) -> int:
    """Return the first draw that has a value."""
    return 0 if isinstance(values, int) else int((values == wanted).argmax())


def _values(drawn: Drawn, index: int) -> dict[str, int]:
    return {
        name: column if isinstance(column, int) else int(column[index])
        for name, column in drawn.columns.items()
    }


def _least(columns: "Sequence[Column]") -> "Column":
    limit = min((column for column in columns if isinstance(column, int)), default=None)
    arrays = [column for column in columns if not isinstance(column, int)]
    if not arrays:
        assert limit is not None  # noqa: S101 - there is always one at least
        return limit
    import numpy as np

    found = arrays[0]
    for other in arrays[1:]:
        found = np.minimum(found, other)
    return found if limit is None else np.minimum(found, limit)
