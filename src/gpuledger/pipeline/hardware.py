"""Compare hardware for one demand: load curves, capacity within limits, whole replicas, cost, Pareto front, interval.

The arithmetic is `core.load_curves` and `core.hardware`; here load points meet prices and demand. Costs are summed and
divided in Decimal; what a curve says is a float, and a figure that rests on one says from which points.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from gpuledger.core import hardware
from gpuledger.core.load_curves import Capacity
from gpuledger.core.money import total
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import UsageError
from gpuledger.pipeline import hardware_fleets
from gpuledger.pipeline.hardware_fleets import Interval, Option
from gpuledger.pipeline.hardware_kinds import USABLE_MEMORY, Candidate, Need, memory_of, prepare, too_small
from gpuledger.pipeline.hardware_prices import Price, Prices, key
from gpuledger.pipeline.load_points import KINDS, Measured

_PLACES: Final = Decimal("1e-9")
_DIGITS: Final = 9


@dataclass(slots=True)
class Comparison:
    """Rows by kind of hardware, the cheapest that keeps the limits first, and what they have in common."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def compare(
    points: Sequence[Measured], prices: Prices, need: Need, asked_for: Sequence[str] = ()
) -> Comparison:
    """Compare the hardware of load points. `asked_for` names hardware that must be in the answer, even without points.

    Raises UsageError for a demand of sizes that nobody measured, and for points of several models.
    """
    one_model(points)
    _sizes_known(points, need)
    kinds = [prepare(name, some, prices, need) for name, some in _by_hardware(points, need.sizes).items()]
    fit = [kind for kind in kinds if not kind.why]
    capacities = {kind.name: kind.found for kind in fit}
    options: list[Option | None] = [hardware_fleets.alone(kind, capacities, need) for kind in fit]
    best = hardware_fleets.mixed(fit, capacities, need) if fit else None
    if best is not None and len(best.kinds) > 1:
        options.append(best)
    front = hardware.pareto(
        [(one.usd_per_hour, one.interactivity) if one else (None, None) for one in options]
    )
    bounds = hardware_fleets.intervals(options, fit, need)
    by_name = {kind.name: kind for kind in kinds}
    rows = []
    for place, (option, on_front, interval) in enumerate(zip(options, front, bounds, strict=True)):
        kind = fit[place] if place < len(fit) else None
        row = _kind_row(kind, need) if kind else _mixed_row(option, by_name, need)
        if option is None:
            row |= {"meets_slo": False, "note": _joined([_why_not(kind, need), row["note"]])}
        else:
            row |= _costs(option, by_name, need) | _interval(option, interval, need) | {"pareto": on_front}
            row["note"] = _joined([row["note"], _uncertain(interval)])
        rows.append(row)
    rows.sort(key=_order)
    rows += [
        _kind_row(kind, need) | {"note": f"not comparable: {'; '.join(kind.why)}"}
        for kind in kinds
        if kind.why
    ]
    rows += [_unmeasured(name, prices, need) for name in asked_for if not _seen(name, kinds)]
    return Comparison(rows, _totals(rows, need), _told(kinds, points))


def one_model(points: Sequence[Measured]) -> None:
    """Raise UsageError when the points are of several models."""
    models = sorted({point.model for point in points if point.model is not None})
    if len(models) > 1:
        raise UsageError(
            f"the load points are of {', '.join(models)}: tokens of different models don't compare",
            hint=f"Choose one: --model {models[0]}",
        )


def grouped(points: Sequence[Measured], key: Callable[[Measured], str]) -> dict[str, list[Measured]]:
    """Return points by a key, in their order."""
    found: dict[str, list[Measured]] = {}
    for point in points:
        found.setdefault(key(point), []).append(point)
    return found


def places(value: Decimal | None) -> Decimal | None:
    """Round to a billionth."""
    return None if value is None else value.quantize(_PLACES)


def precision_told(points: Sequence[Measured]) -> list[Diagnostic]:
    """Say when the points are of different precisions: their tokens may not be worth the same."""
    precisions = sorted({point.precision or "not stated" for point in points})
    if len(precisions) == 1:
        return []
    return [
        Diagnostic(
            "precision-differs", "warning", "load points", f"precisions differ: {', '.join(precisions)}; so may the answers' quality",
            hint="Compare within one precision, or check quality first.",
        )
    ]  # fmt: skip


def _sizes_known(points: Sequence[Measured], need: Need) -> None:
    known = {point.size for point in points}
    if unknown := set(need.sizes) - known:
        raise UsageError(
            f"no load points of the request size {', '.join(sorted(unknown))}", where="--demand",
            hint=f"Write --demand SIZE=TOK_S; the load points' sizes are {', '.join(sorted(known))}.",
        )  # fmt: skip


def _by_hardware(points: Sequence[Measured], sizes: Sequence[str]) -> dict[str, dict[str, list[Measured]]]:
    return {
        name: grouped([one for one in some if one.size in sizes] or some, lambda one: one.size)
        for name, some in grouped(points, lambda one: one.hardware).items()
    }


def _seen(name: str, kinds: Sequence[Candidate]) -> bool:
    known = {key(one) for kind in kinds for one in kind.first.names}
    return key(name) in known or name.casefold() in {kind.name.casefold() for kind in kinds}


def _empty(need: Need) -> dict[str, Any]:
    names = (
        "hardware", "replicas", "utilization", "cost_usd_per_hour", "tps_per_dollar", "cost_per_mtok", "meets_slo", "pareto",
        "note", "model", "gpu_model", "precision", "gpus_per_replica", "token_basis", "cost_basis", "cost_low", "cost_high",
        "pareto_share", "replicas_mean", "fixed_fleet_usd_per_hour", "interactivity", "capacity_tok_s", "at_concurrency",
        "ttft_s", "tpot_s", "binding", "extrapolated", "saturated_tok_s", "half_at_concurrency", "points",
        "usd_per_gpu_hour", "price_source", "mix",
    )  # fmt: skip
    return dict.fromkeys(names) | {"token_basis": need.basis, "note": ""}


def _kind_row(kind: Candidate, need: Need) -> dict[str, Any]:
    """What is known of one kind; capacity and curve where there is one request size."""
    only = need.sizes[0] if len(need.sizes) == 1 else None
    found, curve = (kind.found.get(only), kind.curves.get(only)) if only else (None, None)
    row = _empty(need) | {
        "hardware": kind.name, "model": kind.first.model, "gpu_model": kind.first.gpu_model,
        "precision": kind.first.precision, "gpus_per_replica": kind.gpus, "note": _joined(kind.notes),
        "points": sum(len(some) for some in kind.points.values()), **_price(kind.price),
    }  # fmt: skip
    if found is not None:
        row |= {
            "capacity_tok_s": _rounded(found.tok_s), "at_concurrency": _rounded(found.concurrency),
            "ttft_s": _rounded(found.ttft), "tpot_s": _rounded(found.tpot),
            "binding": found.binding, "extrapolated": found.extrapolated,
        }  # fmt: skip
    if curve is not None:
        row |= {"saturated_tok_s": _rounded(curve.saturated), "half_at_concurrency": _rounded(curve.half)}
    return row


def _mixed_row(option: Option | None, kinds: Mapping[str, Candidate], need: Need) -> dict[str, Any]:
    assert option is not None  # noqa: S101 - a mixed fleet is an option
    used = [kinds[name] for name in option.kinds]
    bases = {kind.price.basis for kind in used if kind.price}
    carried: dict[tuple[str, str], float] = {}
    for fleet in option.fleets:
        for load, amount in fleet.carried.items():
            carried[load] = carried.get(load, 0.0) + amount / len(option.fleets)
    most = option.most
    return _empty(need) | {
        "hardware": " + ".join(f"{most[name]} × {name}" for name in option.kinds),
        "model": used[0].first.model, "precision": _same(kind.first.precision for kind in used),
        "cost_basis": bases.pop() if len(bases) == 1 else "several",
        "extrapolated": any(found.extrapolated for kind in used for found in kind.found.values()),
        "points": sum(len(some) for kind in used for some in kind.points.values()),
        "mix": [
            {"size": size, "hardware": name, "tok_s": _rounded(amount)} for (size, name), amount in sorted(carried.items())
        ],
        "note": _joined(["several kinds together, by an integer program", *(note for kind in used for note in kind.notes)]),
    }  # fmt: skip


def _same(values: Any) -> Any:  # noqa: ANN401 - any values
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _price(price: Price | None) -> dict[str, Any]:
    if price is None:
        return {}
    return {
        "usd_per_gpu_hour": price.usd_per_gpu_hour,
        "price_source": price.source,
        "cost_basis": price.basis,
    }


def _costs(option: Option, kinds: Mapping[str, Candidate], need: Need) -> dict[str, Any]:
    """What an option comes to: exact sums of money over the demand as given."""
    demand, most = hardware_fleets.demand_of(need), option.most
    replicas = [sum(fleet.replicas.values()) for fleet in option.fleets]
    fixed = total(
        kind.price.usd_per_gpu_hour * kind.gpus * most[name]
        for name, kind in kinds.items() if name in most and kind.price
    )  # fmt: skip
    capacities = {name: kind.found for name, kind in kinds.items()}
    return {
        "replicas": sum(most.values()), "replicas_mean": _rounded(sum(replicas) / len(replicas)),
        "utilization": _rounded(hardware_fleets.utilization(option, capacities)),
        "cost_usd_per_hour": places(option.usd_per_hour), "fixed_fleet_usd_per_hour": fixed,
        "tps_per_dollar": places(hardware.tps_per_dollar(option.usd_per_hour, demand)),
        "cost_per_mtok": places(hardware.usd_per_mtok(option.usd_per_hour, demand)),
        "interactivity": _rounded(option.interactivity), "meets_slo": True,
    }  # fmt: skip


def _interval(option: Option, interval: Interval | None, need: Need) -> dict[str, Any]:
    bounds = interval.bounds if interval else None
    if interval is None or bounds is None:
        return {}
    share = None if option.interactivity is None else _rounded(interval.on_front / need.draws)
    return {"cost_low": places(bounds[0]), "cost_high": places(bounds[1]), "pareto_share": share}


def _uncertain(interval: Interval | None) -> str:
    if interval is None or len(interval.costs) == interval.draws:
        return ""
    return f"keeps the limits in {len(interval.costs)} of {interval.draws} draws only"


def _why_not(kind: Candidate | None, need: Need) -> str:
    """Say how far from the limits a kind is at the lowest load that was measured."""
    if kind is None:
        return ""
    failed = [_how_slow(size, found, need) for size, found in kind.found.items() if found.tok_s <= 0]
    return f"can't keep the limits at any load measured: {'; '.join(failed)}"


def _how_slow(size: str, found: Capacity, need: Need) -> str:
    parts = []
    for name in KINDS:
        limit, seconds = getattr(need, name), getattr(found, name)
        if limit is not None and seconds is not None and seconds > limit:
            parts.append(f"{name.upper()} {seconds:.3g} s, limit {limit:g} s")
    load = "" if found.concurrency is None else f" with {found.concurrency:g} at once"
    return f"{'' if size == 'all' else f'{size}: '}{', '.join(parts) or 'memory'}{load}"


def _unmeasured(name: str, prices: Prices, need: Need) -> dict[str, Any]:
    """Return the row of hardware without load points: what it costs doesn't say what it does."""
    why = ["no load points of this model on it"]
    memory = memory_of(name, None, None)
    if (
        need.weights_gib is not None
        and memory is not None
        and need.weights_gib > float(memory) * USABLE_MEMORY
    ):
        why.append(f"{too_small(need.weights_gib, Decimal(1), memory)}")
    return _empty(need) | {
        "hardware": name,
        **_price(prices.of([name])),
        "note": f"not comparable: {'; '.join(why)}",
    }


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    cost = row["cost_usd_per_hour"]
    return (row["meets_slo"] is not True, cost is None, cost or Decimal(0), row["hardware"])


def _totals(rows: Sequence[Mapping[str, Any]], need: Need) -> dict[str, Any]:
    best = next((row for row in rows if row["meets_slo"] is True), None)
    loads = [sum(hour.values()) for hour in need.hours]
    return {
        "cheapest": best["hardware"] if best else None, "cheapest_usd_per_hour": best["cost_usd_per_hour"] if best else None,
        "demand_tok_s": places(hardware_fleets.demand_of(need)), "peak_demand_tok_s": _rounded(max(loads)),
        "hours": len(need.hours), "token_basis": need.basis, "currency": "USD", "slo_ttft_s": need.ttft,
        "slo_tpot_s": need.tpot, "slo_rank": need.rank, "headroom": need.headroom,
        "interval": f"{hardware_fleets.CONFIDENCE:.0%}, {need.draws} draws of the curves' residuals, seed {need.seed}",
    }  # fmt: skip


def _told(kinds: Sequence[Candidate], points: Sequence[Measured]) -> list[Diagnostic]:
    found = precision_told(points)
    left_out = [kind.name for kind in kinds if kind.why]
    if left_out:
        found.append(
            Diagnostic(
                "hardware-not-comparable", "warning", "load points", f"{len(left_out)} kind(s) can't be compared: {', '.join(left_out)}",
                hint="Their rows say why.",
            )
        )  # fmt: skip
    return found


def _rounded(value: float | None) -> float | None:
    """Drop digits that a fit doesn't have."""
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _joined(parts: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(part for part in parts if part))
