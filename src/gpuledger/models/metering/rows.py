"""Telemetry and prices to Estimated rows: small tables in the connection, and the queries over them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Final

from gpuledger.core.contracts import Connection
from gpuledger.core.metering import Account, BilledDay, PriceBook, Shape, UnitPrice
from gpuledger.models.recognition.recognize import HOURS
from gpuledger.prices import gpu_type

# What bills call the service that rents out machines, as our connectors write it: provider, issuer, service.
_CLOUDS: Final[Mapping[str, tuple[str | None, str | None, str]]] = {
    "": (None, None, "Compute"),
    "aws": ("AWS", "Amazon Web Services, Inc.", "Amazon Elastic Compute Cloud"),
    "azure": ("Microsoft", "Microsoft", "Virtual Machines"),
    "gcp": ("Google Cloud", "Google Cloud", "Compute Engine"),
    "oci": ("Oracle", "Oracle", "COMPUTE"),
    "alibaba": ("Alibaba Cloud", "Alibaba Cloud", "Elastic Compute Service"),
    "coreweave": ("CoreWeave", "CoreWeave", "Compute"),
    "lambda": ("Lambda", "Lambda", "On-demand instances"),
    "nebius": ("Nebius", "Nebius", "Compute Cloud"),
    "runpod": ("Runpod", "Runpod", "Pods"),
    "hyperstack": ("Hyperstack", "Hyperstack", "Compute"),
    "digitalocean": ("DigitalOcean", "DigitalOcean", "Droplets"),
}
_ATTRIBUTES: Final = (
    *("provider_id", "instance_type", "cloud", "region", "zone", "pool", "gpu_model", "gpu_count"),
    *("cpu_cores", "memory_gib", "spot", "labels"),
)
# Facts that a machine keeps while it lives.
_LASTING: Final = ("instance_type", "cloud", "region", "zone", "gpu_model", "gpu_count", "spot")
_AMOUNT: Final = "STRUCT(units HUGEINT, rest BIGINT, amount DECIMAL(32, 18))"
_UNIT: Final = 10**18
# The columns of rate.sql, without the account.
_BILLED: Final = (
    *("instance_type", "region", "spot", "counted", "day", "currency"),
    *("effective", "billed", "contracted", "listed", "hours", "gpu_hours", "gpu_count"),
)


def load(con: Connection) -> None:
    """Create the macros of exact arithmetic; the connection must have those of `focus/macros.sql`."""
    con.execute(_text("macros"))


def machines(con: Connection, nodes: str, start: datetime, end: datetime) -> None:
    """Create the table `metered_machine`: each machine over [start, end), told once, from a `node_interval` relation.

    Its columns are machine (the key), start, end, cluster, node, teller and the attributes of a node.
    """
    told = _text("machine").format(nodes=nodes)
    con.execute(f"CREATE OR REPLACE TEMP TABLE metered_told AS {told}", {"from": start, "until": end})
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE metered_node AS {_sweep('metered_told', 'cluster, node', _ATTRIBUTES)}"
    )
    # A node that one source knows by its id and another doesn't is one machine, unless its name had several ids.
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE metered_known AS
            SELECT *, coalesce(lower(provider_id), cluster || '/' || node) AS machine
            FROM ({_filled("metered_node", "cluster, node", ("provider_id",))})"""
    )
    swept = _sweep("metered_known", "machine", ("cluster", "node", *_ATTRIBUTES))
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE metered_machine AS {_filled(f'({swept})', 'machine', _LASTING)}"
    )


def _filled(relation: str, keys: str, columns: Sequence[str]) -> str:
    """A query that carries facts to the times when nobody told them, unless they changed between."""
    values = ", ".join(
        f"CASE WHEN {name} IS NULL AND min({name}) OVER same = max({name}) OVER same "
        f"THEN min({name}) OVER same ELSE {name} END AS {name}"
        for name in columns
    )
    return f"SELECT * REPLACE ({values}) FROM {relation} WINDOW same AS (PARTITION BY {keys})"


def _sweep(told: str, keys: str, attributes: Sequence[str]) -> str:
    listed = ", ".join(attributes)
    return _text("sweep").format(
        told=f'(SELECT {keys}, start, "end", teller, hash({listed}) AS facts, {listed} FROM {told})',
        keys=keys,
        meant=", ".join(f"any_value({name}) AS {name}" for name in attributes),
        texts=", ".join(f"CAST({name} AS VARCHAR)" for name in attributes),
        best=", ".join(f"arg_min({name}, _rank) AS {name}" for name in attributes),
    )


def shapes(con: Connection) -> list[Shape]:
    """Return what the prices of the machines in `metered_machine` depend on, in a fixed order."""
    names = "instance_type, gpu_model, gpu_count, region, spot, cloud"
    found = con.execute(f"SELECT DISTINCT {names} FROM metered_machine ORDER BY ALL").fetchall()
    return [Shape(*row) for row in found]


def prices(con: Connection, book: PriceBook, start: datetime, end: datetime) -> None:
    """Create `metered_shape` and `metered_price` for the machines in `metered_machine`, over [start, end)."""
    con.execute(
        """CREATE OR REPLACE TEMP TABLE metered_shape (
               shape INTEGER, instance_type VARCHAR, gpu_model VARCHAR, gpu_count DECIMAL(38, 14), region VARCHAR,
               spot BOOLEAN, cloud VARCHAR, known_model VARCHAR, known_count DECIMAL(38, 14),
               known_memory DECIMAL(9, 2), known_cloud VARCHAR)"""
    )
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE metered_price (
                shape INTEGER, valid_from TIMESTAMPTZ, valid_until TIMESTAMPTZ,
                price STRUCT(source VARCHAR, basis VARCHAR, effective {_AMOUNT}, billed {_AMOUNT}, contracted {_AMOUNT},
                             listed {_AMOUNT}, currency VARCHAR, account_id VARCHAR, account_name VARCHAR))"""
    )
    for number, shape in enumerate(shapes(con)):
        values = [
            number, shape.instance_type, shape.gpu_model, shape.gpu_count, shape.region, shape.spot, shape.cloud,
            *_known(shape),
        ]  # fmt: skip
        con.execute(f"INSERT INTO metered_shape VALUES ({', '.join('?' * len(values))})", values)
        for piece in book.over(shape, start, end):
            con.execute(
                "INSERT INTO metered_price VALUES (?, ?, ?, ?)",
                [number, piece.start, piece.end, _price(piece.price)],
            )


def _known(shape: Shape) -> tuple[str | None, Decimal | None, Decimal | None, str | None]:
    """What the instance type says of the machine: accelerator, count, memory of one in GiB, and cloud."""
    known = gpu_type(shape.instance_type) if shape.instance_type else None
    if known is None:
        return None, None, None, None
    count = known.gpu_count
    cards = None if count is None else Decimal(count.numerator) / Decimal(count.denominator)
    return known.gpu_model, cards, known.gpu_memory_gib, known.cloud


def _price(price: UnitPrice | None) -> dict[str, Any]:
    names = ("effective", "billed", "contracted", "listed")
    if price is None:
        return dict.fromkeys(("source", "basis", *names, "currency", "account_id", "account_name"))
    return {
        "source": price.source,
        "basis": price.basis,
        **{name: _amount(getattr(price, name)) for name in names},
        "currency": price.currency,
        "account_id": price.account.id,
        "account_name": price.account.name,
    }


def _amount(price: Decimal | None) -> dict[str, Any] | None:
    if price is None:
        return None
    units, rest = divmod(int(price.scaleb(18)), _UNIT)
    return {"units": units, "rest": rest, "amount": price}


def estimate() -> str:
    """Return the query of Estimated rows; the connection has seen `load`, `machines` and `prices`."""
    clouds = ", ".join(
        f"'{cloud}': {{'provider': {_literal(provider)}, 'issuer': {_literal(issuer)}, 'service': {_literal(service)}}}"
        for cloud, (provider, issuer, service) in _CLOUDS.items()
    )
    return _text("estimate").format(clouds=f"MAP {{{clouds}}}")


def billed_days(con: Connection, final: str, start: datetime, end: datetime) -> list[BilledDay]:
    """Return what bills say of instance types in charges that end in (start, end], per day."""
    query = _text("rate").format(final=final, hours=", ".join(_literal(unit) for unit in HOURS))
    rows = con.execute(query, {"since": start, "until": end}).fetchall()
    return [
        BilledDay(**dict(zip(_BILLED, row, strict=False)), account=Account(row[-2], row[-1])) for row in rows
    ]


def _literal(text: str | None) -> str:
    return "NULL::VARCHAR" if text is None else "'" + text.replace("'", "''") + "'"


@cache
def _text(name: str) -> str:
    return files("gpuledger.models.metering").joinpath(f"{name}.sql").read_text("utf-8").rstrip()
