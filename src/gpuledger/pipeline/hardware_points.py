"""Measured load points priced as they stand, and between them at one speed per user: what published tables show."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from gpuledger.core import hardware, load_curves
from gpuledger.pipeline.hardware import Comparison, grouped, one_model, places, precision_told
from gpuledger.pipeline.hardware_kinds import as_float
from gpuledger.pipeline.hardware_prices import Price, Prices
from gpuledger.pipeline.load_points import Measured


def price_points(points: Sequence[Measured], prices: Prices, basis: str) -> Comparison:
    """Price every measured load as it stands: no demand, no fit, no limits. `pareto` is of these points alone."""
    one_model(points)
    rows = [_priced(point, prices, basis) for point in points]
    best = hardware.pareto([(row["cost_per_mtok"], as_float(row["interactivity"])) for row in rows])
    for row, front in zip(rows, best, strict=True):
        row["pareto"] = front
    totals = {"points": len(rows), "token_basis": basis, "currency": "USD"}
    return Comparison(rows, totals, precision_told(points))


def at_interactivity(points: Sequence[Measured], prices: Prices, basis: str, wanted: Decimal) -> Comparison:
    """Price each hardware at tokens/s per user between its measured points: Steffen's spline over their front.

    A hardware is what `gpu_model`, or else `hardware`, names; its front may be of replicas of several shapes.
    """
    one_model(points)
    rows = []
    for name, some in grouped(points, lambda one: one.gpu_model or one.hardware).items():
        measured = [
            (float(one.interactivity), float(speed / one.gpus))
            for one in some if one.interactivity is not None and (speed := one.tok_s[basis])
        ]  # fmt: skip
        price, front = (
            prices.of([name, *some[0].names], some[0].usd_per_gpu_hour, some[0].gpu_memory_gib),
            hardware.front(measured),
        )
        rate, note = None, "not comparable: no price" if price is None else ""
        if len(front) < 2 or not front[0][0] <= float(wanted) <= front[-1][0]:  # noqa: PLR2004
            seen = f"{front[0][0]:.4g} to {front[-1][0]:.4g}" if front else "nowhere"
            note = (
                f"not comparable: measured from {seen} tokens/s per user"
                if front
                else "not comparable: no interactivity"
            )
        else:
            found = load_curves.steffen([at for at, _ in front], [value for _, value in front], float(wanted))
            rate = Decimal(repr(found))
        cost = None if rate is None or price is None else hardware.usd_per_mtok(price.usd_per_gpu_hour, rate)
        rows.append(
            {
                "hardware": name,
                "interactivity": wanted,
                "tok_s_per_gpu": places(rate),
                "token_basis": basis,
                "usd_per_gpu_hour": price.usd_per_gpu_hour if price else None,
                "cost_per_mtok": places(cost),
                "front_points": len(front),
                "price_source": price.source if price else None,
                "note": note,
            }
        )
    rows.sort(key=lambda row: (row["cost_per_mtok"] is None, row["cost_per_mtok"]))
    return Comparison(rows, {"token_basis": basis, "currency": "USD"}, precision_told(points))


def _point_notes(point: Measured, price: Price | None, basis: str) -> list[str]:
    """Say what is unknown, and what the usual cost per decode or prefill card would leave out."""
    notes = []
    if price is None:
        notes.append("not comparable: no price is known")
    if point.tok_s[basis] is None:
        notes.append(f"not comparable: {basis} tokens aren't told")
    role, cards = {"output": ("decode", point.decode_gpus), "input": ("prefill", point.prefill_gpus)}.get(
        basis, ("", None)
    )
    if cards and price is not None and (speed := point.tok_s[basis]):
        alone = places(hardware.usd_per_mtok(price.usd_per_gpu_hour * cards, speed))
        notes.append(
            f"all {point.gpus.normalize():f} cards are charged; of its {role} cards alone it would be {alone}"
        )
    return notes


def _priced(point: Measured, prices: Prices, basis: str) -> dict[str, Any]:
    price = prices.of(point.names, point.usd_per_gpu_hour, point.gpu_memory_gib)
    speed = point.tok_s[basis] or None
    hourly = None if price is None else price.usd_per_gpu_hour * point.gpus
    cost = rate = None
    if hourly is not None and speed is not None:
        cost, rate = hardware.usd_per_mtok(hourly, speed), hardware.tps_per_dollar(hourly, speed)
    return {
        "hardware": point.hardware, "replicas": 1, "utilization": None, "cost_usd_per_hour": hourly,
        "tps_per_dollar": places(rate),
        "cost_per_mtok": places(cost),
        "meets_slo": None, "pareto": None, "note": "; ".join(_point_notes(point, price, basis)),
        "model": point.model, "gpu_model": point.gpu_model, "precision": point.precision, "size": point.size,
        "concurrency": point.concurrency, "interactivity": places(point.interactivity), "token_basis": basis,
        "tok_s": places(speed), "tok_s_per_gpu": None if speed is None else places(speed / point.gpus),
        "gpus": point.gpus, "usd_per_gpu_hour": price.usd_per_gpu_hour if price else None,
        "cost_basis": price.basis if price else None, "price_source": price.source if price else None, "where": point.where,
    }  # fmt: skip
