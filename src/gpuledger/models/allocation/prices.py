"""Unit prices that split a machine's cost into GPU, CPU and memory: a default, list prices, and the user's own.

Only their ratios count: whatever the machine cost, its parts keep them. Where the instance's list price is known, the
GPUs get what CPU and memory at the default prices leave of it.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from gpuledger.core.allocation import UnitPrice
from gpuledger.core.contracts import Connection
from gpuledger.models.allocation import relations
from gpuledger.models.allocation.relations import typed
from gpuledger.prices.points import ANY_REGION, load_prices

# Google sells cards, cores and memory apart, so the ratio is a market's: on-demand list prices per hour of an A100
# 40 GB, an N2 or A2 core and its GiB in us-central1, as OpenCost's Google provider and its tests quote them (read on
# 2026-11-24). A convention for machines without a price of their own, at any time.
DEFAULT: Final = UnitPrice(gpu=Decimal("2.933908"), cpu=Decimal("0.031611"), memory=Decimal("0.004237"))

_BILLIONTH: Final = Decimal("0.000000001")
_COLUMNS: Final = (
    "gpu DECIMAL(38, 14), cpu DECIMAL(38, 14), memory DECIMAL(38, 14), valid_from TIMESTAMPTZ, "
    "gpu_model VARCHAR, instance_type VARCHAR, region VARCHAR"
)


def list_price_ratios(con: Connection, nodes: str, default: UnitPrice = DEFAULT) -> list[UnitPrice]:
    """Return unit prices of the instance types in `nodes` (a relation of node intervals) whose list price is known.

    A type's oldest price holds before its day too: only ratios count, and its own are nearer than the general ones.
    Types whose list price doesn't even pay for cores and memory at the default prices are left out.
    """
    relation = typed(con, nodes, relations.NODES, relations.NODES_OPTIONAL)
    shapes = con.execute(
        f"""SELECT lower(instance_type), max(gpu_count), max(cpu_cores), max(memory_gib) FROM {relation}
            WHERE gpu_count > 0 AND cpu_cores > 0 AND memory_gib > 0 AND instance_type IS NOT NULL
            GROUP BY 1 ORDER BY 1"""
    ).fetchall()
    capacity = {name: (gpus, cores, memory) for name, gpus, cores, memory in shapes}
    cpu, memory = default.cpu or Decimal(0), default.memory or Decimal(0)
    seen: set[tuple[str, str]] = set()
    found = []
    for point in sorted(load_prices(), key=lambda point: point.as_of):
        if point.instance_type not in capacity or point.on_demand is None:
            continue
        gpus, cores, gib = capacity[point.instance_type]
        rest = point.on_demand - cores * cpu - gib * memory
        if rest <= 0:
            continue
        place = point.instance_type, point.region
        found.append(
            UnitPrice(
                gpu=(rest / gpus).quantize(_BILLIONTH),
                cpu=cpu,
                memory=memory,
                valid_from=datetime(point.as_of.year, point.as_of.month, point.as_of.day, tzinfo=UTC)
                if place in seen
                else None,
                instance_type=point.instance_type,
                region=None if point.region == ANY_REGION else point.region,
            )
        )
        seen.add(place)
    return found


def write_prices(con: Connection, prices: Iterable[UnitPrice], table: str = "unit_price") -> str:
    """Create a table of unit prices for `Inputs.prices`; return its name."""
    con.execute(f"CREATE OR REPLACE TABLE {table} ({_COLUMNS})")
    for price in prices:
        con.execute(
            f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                price.gpu, price.cpu, price.memory, price.valid_from, price.gpu_model, price.instance_type, price.region,
            ],
        )  # fmt: skip
    return table
