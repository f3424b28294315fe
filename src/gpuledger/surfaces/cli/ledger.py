"""`gpuledger ledger`: what the ledger holds and held."""

from decimal import Decimal
from typing import Any

import click

from gpuledger.surfaces.cli._context import Context, pass_context


@click.group(name="ledger", short_help="What the ledger holds and held.")
def command() -> None:
    """Look at the ledger itself."""


@command.command(name="history")
@click.option("--source", metavar="NAME", help="Of one source only.")
@pass_context
def history(context: Context, source: str | None) -> None:
    """List every delivery ever loaded, newest first; `costs --as-of VERSION` reads the state after it."""
    rows: list[dict[str, Any]] = []
    for note in context.ledger().history():
        if source and note["source"] != source:
            continue
        rows += [
            {
                "version": note["version"],
                "committed": note["committed"],
                "source": note["source"],
                "billing_period": note["billing_period"],
                "delivery_id": note["delivery_id"],
                "rows": total["rows"],
                "billed_cost": None if total["billed_cost"] is None else Decimal(total["billed_cost"]),
                "currency": total["currency"],
                "location": note["location"],
            }
            for total in note["totals"]
        ]
    context.emit("ledger history", rows)


@command.command(name="units")
@pass_context
def units(context: Context) -> None:
    """List what the ledger holds now, by source and billing period."""
    rows = [
        {
            "source": unit.source,
            "billing_period": unit.billing_period,
            "delivery_id": unit.delivery_id,
            "rows": unit.rows,
        }
        for unit in context.ledger().units()
    ]
    context.emit("ledger units", rows, totals={"rows": sum(unit["rows"] for unit in rows)})
