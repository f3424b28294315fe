"""What on a bill looks like an accelerator and isn't in our tables: shown with its cost, never guessed."""

from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files

from gpuledger.core.contracts import Connection


@dataclass(frozen=True, slots=True)
class UnknownSku:
    """An instance type or SKU text that looks like an accelerator, and what its rows cost.

    `name` is as the bill spells it. `cost` is the EffectiveCost in `currency`, None when no row has one; `rows` counts
    them. One entry per currency.
    """

    name: str
    service: str | None
    currency: str | None
    rows: int
    cost: Decimal | None


def unknown_skus(con: Connection, relation: str) -> list[UnknownSku]:
    """Return usage of `relation` (recognised ledger columns) with an unknown accelerator, costliest first."""
    query = files("gpuledger.models.recognition").joinpath("unknown.sql").read_text("utf-8")
    return [UnknownSku(*row) for row in con.execute(query.replace("{relation}", relation)).fetchall()]
