"""The arithmetic of a blast radius, line by line, as the command line and the page show it."""

from collections.abc import Mapping, Sequence
from typing import Final

from gpuledger.core.blast_radius import COUNTS, Pool, Radius, cost_of, least
from gpuledger.core.draws import MICRO, duration_text

_WORDS: Final = {
    "gpus": "asked for",
    "quota": "quota",
    "autoscaler_max": "autoscaler maximum",
    "obtainable": "obtainable",
    "lease_cap": "lease cap",
}


def money(micro: int) -> str:
    """Write millionths of a dollar to the cent, rounded half up."""
    whole, cents = divmod((micro + 5000) // 10000, 100)
    return f"${whole:,}.{cents:02d}"


def price(micro: int) -> str:
    """Write a price with all its decimals, at least two."""
    whole, rest = divmod(micro, MICRO)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"${whole:,}.{digits}"


def lines(radius: Radius) -> list[str]:
    """Return the arithmetic of the draws at P50 and P99 of the same mistake, and of the worst case; equal ones once."""
    found: list[str] = []
    pools = [result.pool for result in radius.pools]
    titles: dict[str, list[str]] = {}
    for title, case in radius.cases.items():
        titles.setdefault("\n".join(_case(pools, case)), []).append(title)
    for text, names in titles.items():
        found += [f"{', '.join(names)}:", *text.split("\n")]
    return found


def _case(pools: Sequence[Pool], case: Sequence[Mapping[str, int]]) -> list[str]:
    found, sums = [], []
    for pool, values in zip(pools, case, strict=True):
        told, cost = _pool(pool, values)
        found += [f"  {pool.name}: {line}" for line in told]
        sums.append(cost)
    if len(pools) > 1:
        found.append(f"  all pools at once: {' + '.join(map(money, sums))} = {money(sum(sums))}")
    return found


def _pool(pool: Pool, values: Mapping[str, int]) -> tuple[list[str], int]:
    told, seconds = [], _seconds(values)
    if pool.kind == "tokens":
        units, what = 1, ""
    else:
        counts = [(_WORDS[name], values[name]) for name in COUNTS if name in values]
        units, what = min(count for _, count in counts), "GPUs"
        said = "; ".join(f"{word} {count:,}" for word, count in counts)
        told.append(f"GPUs = min({said}) = {units:,}" if len(counts) > 1 else f"GPUs {said}")
        if pool.per_unit > 1:
            told.append(
                f"instances = {units:,} GPUs ÷ {pool.per_unit} = {units // pool.per_unit:,}, rounded down"
            )
            units, what = units // pool.per_unit, "instances"
        if free := pool.idle // pool.per_unit:
            paid = max(units - free, 0)
            told.append(f"{units:,} {what} − {free:,} that are paid for anyway = {paid:,}, not below 0")
            units = paid
    told.append(_time(values, seconds))
    cost = cost_of(units, values["price"], seconds)
    start = f"{units:,} {what} × " if what else ""
    told.append(f"loss = {start}{price(values['price'])} an hour × {duration_text(seconds)} = {money(cost)}")
    if pool.lease_usd is not None and cost > pool.lease_usd:
        cost = pool.lease_usd
        told.append(f"loss = at most the dollar lease = {money(cost)}")
    extra = []
    for word in ("storage", "egress"):
        if rate := values.get(f"{word}_usd_per_hour", 0):
            amount = cost_of(1, rate, seconds)
            told.append(f"{word} = {price(rate)} an hour × {duration_text(seconds)} = {money(amount)}")
            extra.append((word, amount))
        if amount := values.get(f"{word}_usd", 0):
            extra.append((f"{word} once" if rate else word, amount))
    if extra:
        said = " + ".join(f"{word} {money(amount)}" for word, amount in extra)
        whole = cost + sum(amount for _, amount in extra)
        told.append(f"loss = {money(cost)} + {said} = {money(whole)}")
        cost = whole
    return told, cost


def _ends(values: Mapping[str, int]) -> list[tuple[str, int]]:
    found = [("job limit", values["max_hours"])] if "max_hours" in values else []
    if "detect" in values:
        found.append(("detect + respond", values["detect"] + values.get("respond", 0)))
    if "look" in values:
        found.append(("someone looks", values["look"]))
    return found


def _seconds(values: Mapping[str, int]) -> int:
    found: int | None = None
    for _, seconds in _ends(values):
        found = least(found, seconds)
    return found or 0


def _time(values: Mapping[str, int], seconds: int) -> str:
    said = []
    for word, end in _ends(values):
        if word == "detect + respond":
            parts = f"{duration_text(values['detect'])} + respond {duration_text(values.get('respond', 0))}"
            said.append(f"detect {parts} = {duration_text(end)}")
        else:
            said.append(f"{word} {duration_text(end)}")
    if len(said) == 1:
        return f"time: {said[0]}"
    return f"time = min({'; '.join(said)}) = {duration_text(seconds)}"
