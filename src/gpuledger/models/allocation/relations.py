"""The relations that allocation reads, with their columns, and how any table with these columns becomes one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from gpuledger.core.contracts import Connection
from gpuledger.errors import LedgerError
from gpuledger.focus.schema import INSTANT, MONEY, QUANTITY, TAGS, TEXT, quoted

Columns = Mapping[str, str]

COSTS: Final = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "PricingCurrencyEffectiveCost")
QUANTITIES: Final = ("ConsumedQuantity", "PricingQuantity", "CommitmentDiscountQuantity", "x_GpuHours")

CHARGES: Final[Columns] = {
    "charge_id": TEXT, "cluster": TEXT, "node": TEXT, "ChargePeriodStart": INSTANT, "ChargePeriodEnd": INSTANT,
    **dict.fromkeys(COSTS[:4], MONEY),
}  # fmt: skip
CHARGES_OPTIONAL: Final[Columns] = {
    COSTS[4]: MONEY, **dict.fromkeys(QUANTITIES, QUANTITY), "Tags": TAGS,
    "part": TEXT, "gpu_count": QUANTITY, "machine_seconds": QUANTITY,
}  # fmt: skip
USAGE: Final[Columns] = {
    "cluster": TEXT, "node": TEXT, "job_id": TEXT, "resource": TEXT, "start": INSTANT, "end": INSTANT,
}  # fmt: skip
USAGE_OPTIONAL: Final[Columns] = {
    "namespace": TEXT, "pod": TEXT, "pod_uid": TEXT, "container": TEXT, "attempt": "INTEGER", "state": TEXT,
    "device": TEXT, "sharing": TEXT, "share_numerator": "BIGINT", "share_denominator": "BIGINT",
    "requested": QUANTITY, "used": QUANTITY,
}  # fmt: skip
NODES: Final[Columns] = {"cluster": TEXT, "node": TEXT, "start": INSTANT, "end": INSTANT}
NODES_OPTIONAL: Final[Columns] = {
    "gpu_count": QUANTITY, "cpu_cores": QUANTITY, "memory_gib": QUANTITY,
    "gpu_model": TEXT, "instance_type": TEXT, "region": TEXT,
}  # fmt: skip
PRICES: Final[Columns] = {"gpu": QUANTITY, "cpu": QUANTITY, "memory": QUANTITY}
PRICES_OPTIONAL: Final[Columns] = {
    "valid_from": INSTANT, "gpu_model": TEXT, "instance_type": TEXT, "region": TEXT,
}  # fmt: skip
JOBS: Final[Columns] = {"job_id": TEXT}
JOBS_OPTIONAL: Final[Columns] = {"name": TEXT, "tags": TAGS}
NO_JOBS: Final = "(SELECT NULL AS job_id LIMIT 0)"

_LONG: Final = 80  # characters; what is longer is a query, not a name


@dataclass(frozen=True, slots=True)
class Inputs:
    """The relations to allocate from: names of tables or views, or queries in parentheses.

    The package's docstring lists their columns.
    """

    charges: str
    usage: str
    nodes: str
    prices: str
    jobs: str = NO_JOBS


def typed(con: Connection, relation: str, required: Columns, optional: Columns, **given: str) -> str:
    """Return the relation with these columns in these types; optional ones that it lacks are NULL.

    `given` has SQL for columns under other names. Raises LedgerError when a required column is missing.
    """
    has = _columns(con, relation)
    missing = sorted(set(required) - set(has))
    if missing:
        raise LedgerError(
            f"no column {', '.join(missing)}",
            where=relation if len(relation) < _LONG else "allocation",
            hint="the package gpuledger.models.allocation lists the columns that allocation reads",
        )
    columns = (
        f"CAST({given.get(name) or (quoted(name) if name in has else 'NULL')} AS {kind}) AS {quoted(name)}"
        for name, kind in {**required, **optional}.items()
    )
    return f"(SELECT {', '.join(columns)} FROM {relation})"


def usage(con: Connection, relation: str) -> str:
    """Return usage intervals as allocation reads them; a fraction may be two columns or a STRUCT `share`."""
    if _columns(con, relation).get("share", "").startswith("STRUCT"):
        parts = {f"share_{part}": f"share.{part}" for part in ("numerator", "denominator")}
        return typed(con, relation, USAGE, USAGE_OPTIONAL, **parts)
    return typed(con, relation, USAGE, USAGE_OPTIONAL)


def _columns(con: Connection, relation: str) -> dict[str, str]:
    return {row[0]: row[1] for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}


@cache
def _text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.sql").read_text("utf-8")


def sql(name: str, values: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> str:
    """Return the SQL file of that name with its {names} filled in."""
    text = _text(name)
    for key, value in dict(values).items():
        text = text.replace("{" + key + "}", value)
    return text
