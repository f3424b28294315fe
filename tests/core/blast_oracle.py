"""The blast radius again, written from docs/blast-radius.md alone: a draw at a time, fractions, sorted lists.

It shares no code with the package, knows no lognormal's approximation (it takes the exact normal quantile), and is slow.
"""

import math
import re
from fractions import Fraction
from statistics import NormalDist
from typing import Any

Model = dict[str, Any]
MASK = 0xFFFFFFFF
SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
DOLLARS = ("price", "lease_usd", "storage_usd", "egress_usd", "storage_usd_per_hour", "egress_usd_per_hour")
TIMES = ("max_hours", "detect", "respond", "look")
Z90, Z999 = NormalDist().inv_cdf(0.9), NormalDist().inv_cdf(0.999)


def lowbias32(x: int) -> int:
    """Chris Wellons's mixing function."""
    x ^= x >> 16
    x = x * 0x7FEB352D & MASK
    x ^= x >> 15
    x = x * 0x846CA68B & MASK
    return x ^ x >> 16


def share(stream: str, number: int) -> float:
    """Draw `number` of a stream."""
    key = 0x811C9DC5
    for byte in stream.encode():
        key = (key ^ byte) * 0x01000193 & MASK
    return (lowbias32(lowbias32(key) + number * 0x9E3779B9 & MASK) + 0.5) / 2**32


def one(key: str, text: str) -> int:
    """A plain value in its smallest part: millionths of a dollar, seconds, cards."""
    if key in DOLLARS:
        return int(Fraction(text) * 10**6)
    if key in TIMES:
        return int(
            sum(Fraction(count) * SECONDS[unit] for count, unit in re.findall(r"([\d.]+)([dhms])", text))
        )
    return int(text)


def drawn(key: str, text: str, p: float) -> int:
    """The value below which a share of the distribution lies."""
    if text.startswith("lognormal"):
        median, p90 = (one(key, part) for part in text[10:-1].split(","))
        spread = math.log(p90 / median) / Z90
        return math.floor(median * math.exp(spread * min(NormalDist().inv_cdf(p), Z999)) + 0.5)
    points = [one(key, part) for part in text.split("..")]
    low, high = points[0], points[-1]
    if low == high:
        return low
    if len(points) == 2:
        return math.floor(low + p * (high - low) + 0.5)
    mode = points[1]
    if p < (mode - low) / (high - low):
        return math.floor(low + math.sqrt(p * (high - low) * (mode - low)) + 0.5)
    return math.floor(high - math.sqrt((1 - p) * (high - low) * (high - mode)) + 0.5)


def worst(key: str, text: str) -> int:
    """The highest value."""
    if text.startswith("lognormal"):
        return drawn(key, text, 1 - 2**-40)
    return one(key, text.rsplit("..", maxsplit=1)[-1])


def half_up(amount: Fraction) -> int:
    """Round half up."""
    return math.floor(amount + Fraction(1, 2))


def loss(pool: Model, values: dict[str, int], rail: dict[str, int]) -> int:
    """What one draw of a pool costs under a guardrail."""
    cards = [
        values[key] for key in ("gpus", "quota", "autoscaler_max", "obtainable", "lease_cap") if key in values
    ]
    if pool["kind"] == "gpu":
        for key, percent in (("quota", "quota_percent"), ("autoscaler_max", "autoscaler_percent")):
            if percent in rail:
                cards.append(values.get(key, values["gpus"]) * rail[percent] // 100)
        if "lease_cap" in rail:
            cards.append(rail["lease_cap"])
    units = max(min(cards) // pool["per_unit"] - pool["idle"] // pool["per_unit"], 0)
    ends = [limits[key] for limits in (values, rail) for key in ("max_hours", "look") if key in limits]
    detects = [limits["detect"] for limits in (values, rail) if "detect" in limits]
    if detects:
        responds = [values.get("respond", 0), *([rail["respond"]] if "respond" in rail else [])]
        ends.append(min(detects) + min(responds))
    hours = Fraction(min(ends), 3600)
    cost = half_up(units * values["price"] * hours)
    leases = [one("lease_usd", pool["lease_usd"])] if pool["lease_usd"] else []
    cost = min([cost, *leases, *([rail["lease_usd"]] if "lease_usd" in rail else [])])
    for word in ("storage", "egress"):
        cost += half_up(values.get(f"{word}_usd_per_hour", 0) * hours) + values.get(f"{word}_usd", 0)
    return cost


def ranks(losses: list[int]) -> dict[str, int]:
    """The draws of rank half, nine in ten, and 99 in a hundred."""
    ranked = sorted(losses)
    return {
        f"p{percent}": ranked[math.ceil(Fraction(percent * len(ranked), 100)) - 1] for percent in (50, 90, 99)
    }


def figures(model: Model) -> Model:
    """All figures of a model: by pool, same mistake, independent, worst, and what each guardrail takes off."""
    pools, count = model["pools"], range(model["samples"])

    def all_draws(stream: str, pool: Model) -> list[dict[str, int]]:
        return [
            {key: drawn(key, text, share(f"{stream}/{key}", number)) for key, text in pool["inputs"].items()}
            for number in count
        ]

    together = [all_draws(str(model["seed"]), pool) for pool in pools]
    apart = (
        [all_draws(f"{model['seed']}/{pool['name']}", pool) for pool in pools] if len(pools) > 1 else together
    )

    def sums(draws: list[list[dict[str, int]]], rail: dict[str, int]) -> dict[str, int]:
        return ranks(
            [
                sum(loss(pool, each[number], rail) for pool, each in zip(pools, draws, strict=True))
                for number in count
            ]
        )

    rails = [{key: limit for key, limit in rail.items() if key != "name"} for rail in model["guardrails"]]
    same = sums(together, {})
    tightest = {key: min(rail[key] for rail in rails if key in rail) for rail in rails for key in rail}
    highest = [{key: worst(key, text) for key, text in pool["inputs"].items()} for pool in pools]
    return {
        "pools": [
            {
                "loss": ranks([loss(pool, values, {}) for values in each]),
                "worst": loss(pool, high, {}),
            }
            for pool, each, high in zip(pools, together, highest, strict=True)
        ],
        "same": same,
        "independent": sums(apart, {}),
        "worst": sum(loss(pool, high, {}) for pool, high in zip(pools, highest, strict=True)),
        "guardrails": {
            rail["name"]: same["p99"] - sums(together, limits)["p99"]
            for rail, limits in zip(model["guardrails"], rails, strict=True)
        },
        "together": same["p99"] - sums(together, tightest)["p99"],
    }
