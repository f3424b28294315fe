"""What an hour of a card costs: typed, of a file, of the load points, of the ledger's bills, or the lowest list price.

The first that knows wins, and each price says where it is from. The lowest list price is a bound, said as such; prices
of a contract are in the ledger. Unknown stays unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, NamedTuple

from gpuledger.core.windows import Window
from gpuledger.engines import duckdb
from gpuledger.errors import SourceError, UsageError
from gpuledger.pipeline import load_points
from gpuledger.pipeline.costs import Question, predicate
from gpuledger.prices import accelerator, cards, gpu_types

COLUMNS: Final = (
    "hardware", "gpu_model", "gpus", "usd_per_gpu_hour", "usd_per_instance_hour", "cloud", "region", "instance_type", "as_of",
)  # fmt: skip
_MICRO: Final = Decimal("0.000001")
_ALIKE: Final = Decimal("0.1")


class Price(NamedTuple):
    """USD an hour of one card, where that is from, and what kind of cost it is: given, effective or list."""

    usd_per_gpu_hour: Decimal
    source: str
    basis: str = "given"


@dataclass(slots=True)
class Prices:
    """Prices by what they were typed for, by file and by bill; `day` is that of the list prices."""

    day: date
    typed: Mapping[str, Decimal] = field(default_factory=dict)
    filed: Mapping[str, Price] = field(default_factory=dict)
    billed: Mapping[str, Price] = field(default_factory=dict)

    def of(
        self, names: Sequence[str], told: Decimal | None = None, memory_gib: Decimal | None = None
    ) -> Price | None:
        """Return the price of a card of hardware by any of its names; `told` and its memory are what the load points say."""
        keys = [*(name.casefold() for name in names), *(key(name) for name in names)]
        for name in keys:
            if name in self.typed:
                return Price(self.typed[name], "typed")
        for name in keys:
            if name in self.filed:
                return self.filed[name]
        if told is not None:
            return Price(told, "load points")
        for name in keys:
            if name in self.billed:
                return self.billed[name]
        return _listed(names, memory_gib, self.day)


def key(name: str) -> str:
    """Return what hardware is compared by: its accelerator's canonical name where one is known."""
    found = accelerator(name)
    return (found.model if found else name).strip().casefold()


def typed_prices(texts: Sequence[str]) -> dict[str, Decimal]:
    """Read HARDWARE=USD_PER_GPU_HOUR. Raises UsageError."""
    found = {}
    for text in texts:
        name, equals, price = text.rpartition("=")
        try:
            value = Decimal(price.strip())
        except InvalidOperation:
            value = Decimal("NaN")
        if not equals or not name.strip() or not value.is_finite() or value < 0:
            raise UsageError(
                f"can't read {text!r}",
                where="--price",
                hint="Write HARDWARE=USD, dollars an hour of one card: H100=2.95.",
            )
        found[name.strip().casefold()] = value
        found.setdefault(key(name), value)
    return found


def filed_prices(path: Path, columns: Mapping[str, str]) -> dict[str, Price]:
    """Read prices of a CSV, the lowest of each kind of card where there are several. Raises SourceError."""
    found: dict[str, Price] = {}
    for where, cells in load_points.table(path, columns, COLUMNS):
        named = cells.get("hardware") or cells.get("gpu_model")
        if named is None:
            continue
        price = load_points.number(cells, "usd_per_gpu_hour", where)
        if price is None:
            machine = load_points.number(cells, "usd_per_instance_hour", where)
            cards = load_points.number(cells, "gpus", where)
            if machine is None or not cards:
                continue
            price = machine / cards
        label = " ".join(cells[name] for name in ("cloud", "region", "instance_type") if name in cells)
        told = Price(price, f"{where}{f' {label}' if label else ''}")
        if key(named) not in found or price < found[key(named)].usd_per_gpu_hour:
            found[key(named)] = told
    if not found:
        raise SourceError(
            "holds no prices", where=str(path),
            hint=f"It needs gpu_model, and usd_per_gpu_hour or usd_per_instance_hour and gpus: name columns with --price-column. Names: {', '.join(COLUMNS)}.",
        )  # fmt: skip
    return found


def billed_prices(con: duckdb.Connection, window: Window) -> dict[str, Price]:
    """Return what an hour of a card came to on the ledger's bills: Σ EffectiveCost / Σ GPU hours, in USD only."""
    rows = con.execute(
        f"""SELECT x_GpuModel, sum(EffectiveCost), sum(x_GpuHours) FROM cost_and_usage
        WHERE {predicate(Question(window=window))} AND ChargeCategory = 'Usage' AND coalesce(CommitmentDiscountStatus, '') <> 'Unused' AND x_GpuModel IS NOT NULL AND x_GpuHours > 0 AND BillingCurrency = 'USD'
        GROUP BY 1 ORDER BY 1"""
    ).fetchall()
    return {
        key(model): Price((cost / hours).quantize(_MICRO), "ledger: effective cost / GPU hours", "effective")
        for model, cost, hours in rows
        if cost is not None and cost > 0
    }


def _listed(names: Sequence[str], memory_gib: Decimal | None, day: date) -> Price | None:
    """The lowest dated list price of the first name that is a known card, of its memory size where that is known."""
    named = next((card for name in names if (card := accelerator(name))), None)
    if named is None:
        return None
    wanted = memory_gib or named.memory_gib
    listed = [
        found for size in _sizes(named.model, wanted) if (found := cards.lowest(named.model, size, day))
    ]
    if not listed:
        return None
    lowest = min(listed)
    price = Decimal(lowest.usd_per_gpu_hour.numerator) / lowest.usd_per_gpu_hour.denominator
    return Price(price.quantize(_MICRO), f"lowest list price: {lowest.basis}", "list")


def _sizes(model: str, memory_gib: Decimal | None) -> list[Decimal | None]:
    """Memory sizes as sources state them: AWS says 22.35 GiB of a card of 24. None stands for any."""
    if memory_gib is None:
        return [None]
    known = {one.gpu_memory_gib for one in gpu_types() if one.gpu_model == model and one.gpu_memory_gib}
    near = [size for size in known if abs(size - memory_gib) <= memory_gib * _ALIKE]
    return [*sorted(near)] or [None]
