"""Items of an allocation answer: the JSON form of one name in one set.

Numbers are JSON numbers because the form has them; the exact amounts are strings below `gpuledger`, where also stands
the currency and which figures leave something out (`partial`). What nobody knows is null.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.opencost.sharing import PARTS, Group
from gpuledger.core.opencost.windows import Span, stamp

Json = dict[str, Any]
_GIB: Final = 2**30
_SPLIT: Final = ("gpu", "cpu", "ram")
# The summary's fields, in OpenCost's order.
_SUMMARY: Final = (
    "name", "start", "end", "cpuCoreRequestAverage", "cpuCoreUsageAverage", "cpuCost", "cpuCostIdle",
    "gpuRequestAverage", "gpuUsageAverage", "gpuCost", "gpuCostIdle", "networkCost", "loadBalancerCost", "pvCost",
    "ramByteRequestAverage", "ramByteUsageAverage", "ramCost", "ramCostIdle", "sharedCost", "externalCost",
    "totalEfficiency", "totalCost", "gpuledger",
)  # fmt: skip


@dataclass(slots=True)
class Usage:
    """Card-, core- or GiB-hours of one resource: held, asked for, used, and asked for where use was measured.

    `unmeasured`, `unrequested`: some hours lack that figure.
    """

    held: float | None = None
    requested: float | None = None
    used: float | None = None
    used_of: float | None = None
    unmeasured: bool = False
    unrequested: bool = False

    @property
    def efficiency(self) -> float | None:
        """Used over asked for, over the hours that both are known of; 1 for use without a request."""
        if self.used is None:
            return None
        if self.used_of:
            return self.used / self.used_of
        return 1.0 if self.used > 0 else None


@dataclass(slots=True)
class Known:
    """What is known of one name beside its cost."""

    start: datetime
    end: datetime
    properties: Json = field(default_factory=dict)
    unpriced: int = 0
    priced: bool = True
    usage: dict[str, Usage] = field(default_factory=dict)
    proportions: Json | None = None


def item(
    group: Group, known: Known, span: Span, currency: str | None, *, exact: bool, breakdown: bool
) -> Json:
    """Return the item of one name; `span` is its set's window."""
    hours = (known.end - known.start) / timedelta(hours=1)
    cpu, ram, gpu = (known.usage.get(name, Usage()) for name in ("cpu", "memory", "gpu"))
    storage = known.usage.get("storage", Usage())
    costs = _costs(group, known)
    found: Json = {
        "name": group.name,
        "properties": known.properties,
        "window": span.json(),
        "start": stamp(known.start),
        "end": stamp(known.end),
        "minutes": hours * 60,
        "cpuCores": _per(cpu.held, hours),
        "cpuCoreRequestAverage": _per(cpu.requested, hours),
        "cpuCoreUsageAverage": _per(cpu.used, hours),
        "cpuCoreHours": cpu.held,
        **_resource("cpu", costs, group),
        "cpuEfficiency": cpu.efficiency,
        "gpuCount": _per(gpu.held, hours),
        "gpuRequestAverage": _per(gpu.requested, hours),
        "gpuUsageAverage": _per(gpu.used, hours),
        "gpuHours": gpu.held,
        **_resource("gpu", costs, group),
        "gpuEfficiency": gpu.efficiency,
        "networkTransferBytes": None,
        "networkReceiveBytes": None,
        "networkCost": number(costs["network"]),
        "networkCrossZoneCost": None,
        "networkCrossRegionCost": None,
        "networkInternetCost": None,
        "networkCostAdjustment": 0.0,
        "loadBalancerCost": None,
        "loadBalancerCostAdjustment": 0.0,
        "pvBytes": _per(_bytes(storage.held), hours),
        "pvByteHours": _bytes(storage.held),
        "pvCost": number(costs["pv"]),
        "pvs": None,
        "pvCostAdjustment": 0.0,
        "ramBytes": _per(_bytes(ram.held), hours),
        "ramByteRequestAverage": _per(_bytes(ram.requested), hours),
        "ramByteUsageAverage": _per(_bytes(ram.used), hours),
        "ramByteHours": _bytes(ram.held),
        **_resource("ram", costs, group),
        "ramEfficiency": ram.efficiency,
        "externalCost": number(costs["external"]),
        "sharedCost": number(costs["shared"]),
        "totalCost": number(group.cost) if known.priced else None,
        "totalEfficiency": _total_efficiency(group, {"cpu": cpu, "ram": ram, "gpu": gpu}),
        "lbAllocations": None,
    }
    if gpu.held is not None:
        found["gpuAllocation"] = {
            "gpuUsageAverage": found["gpuUsageAverage"],
            "gpuRequestAverage": found["gpuRequestAverage"],
        }
    if known.proportions is not None:
        found["proportionalAssetResourceCosts"] = known.proportions
    if breakdown:
        found["sharedCostBreakdown"] = {name: _broken(name, parts) for name, parts in group.breakdown.items()}
    found["gpuledger"] = _ours(group, known, costs, currency, exact=exact)
    return found


def summary(full: Mapping[str, Any]) -> Json:
    """Return the summary's form of an item."""
    return {name: full[name] for name in _SUMMARY}


def number(amount: Decimal | None) -> float | None:
    """Return an amount as a JSON number."""
    return None if amount is None else float(amount)


def exact_text(amount: Decimal) -> str:
    """Write all digits of an amount, without exponent and without trailing zeros."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _costs(group: Group, known: Known) -> dict[str, Decimal | None]:
    """Cost by part. Where a machine's cost was split, a resource without a part cost nothing; else it isn't known."""
    found: dict[str, Decimal | None] = {part: group.parts.get(part) for part in PARTS}
    if any(part in group.parts for part in _SPLIT):
        found.update({part: group.parts.get(part, Decimal(0)) for part in _SPLIT})
    if known.priced:
        found.update({part: group.parts.get(part, Decimal(0)) for part in ("external", "shared")})
    return found


def _resource(name: str, costs: Mapping[str, Decimal | None], group: Group) -> Json:
    return {
        f"{name}Cost": number(costs[name]),
        f"{name}CostAdjustment": 0.0,
        f"{name}CostIdle": None if costs[name] is None else number(group.idle.get(name, Decimal(0))),
    }


def _total_efficiency(group: Group, usage: Mapping[str, Usage]) -> float | None:
    """Efficiencies weighted by cost, over the resources that both are known of; accelerators count."""
    known = [
        (usage[part].efficiency, float(group.parts[part])) for part in _SPLIT if group.parts.get(part, 0) > 0
    ]
    weighed = [(efficiency, cost) for efficiency, cost in known if efficiency is not None]
    whole = sum(cost for _, cost in weighed)
    return sum(efficiency * cost for efficiency, cost in weighed) / whole if whole else None


def _broken(name: str, parts: Mapping[str, Decimal]) -> Json:
    costs = {f"{part}Cost": float(amount) for part, amount in parts.items()}
    return {"name": name, "totalCost": float(sum(parts.values(), Decimal(0))), **costs}


def _ours(
    group: Group, known: Known, costs: Mapping[str, Decimal | None], currency: str | None, *, exact: bool
) -> Json:
    found: Json = {
        "currency": currency or None,
        "totalCost": exact_text(group.cost) if known.priced else None,
    }
    if exact:
        found.update(
            {f"{part}Cost": None if amount is None else exact_text(amount) for part, amount in costs.items()}
        )
    partial = [
        f"{name}{figure}"
        for name, resource in (("cpuCore", "cpu"), ("ramByte", "memory"), ("gpu", "gpu"))
        for figure, missing in (
            ("UsageAverage", known.usage.get(resource, Usage()).unmeasured),
            ("RequestAverage", known.usage.get(resource, Usage()).unrequested),
        )
        if missing
    ]
    if known.unpriced:
        found["unpricedCharges"] = known.unpriced
        partial.append("totalCost")
    if partial:
        found["partial"] = partial
    return found


def _per(quantity: float | None, hours: float) -> float | None:
    return None if quantity is None or hours <= 0 else quantity / hours


def _bytes(gib: float | None) -> float | None:
    return None if gib is None else gib * _GIB
