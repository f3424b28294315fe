"""`gpuledger commitments`: what was committed, used and left idle, what could move under it, and what to buy."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from gpuledger.surfaces.cli._context import Context, pass_context

_WINDOW = click.option("--window", metavar="WINDOW", help="Default: the newest billing period in the ledger.")
_WHERE = click.option(
    "--where",
    multiple=True,
    metavar="COL=VALUE",
    help="Only charges with this value (repeatable; COL!=VALUE too).",
)
_SHOWN = (
    "kind", "committed", "used", "unit", "utilization", "break_even", "coverage", "stranded_cost", "net_loss",
    "expires",
)  # fmt: skip


class Share(click.ParamType[Decimal]):
    """A share, as 75% or 0.75."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read a share between 0 and 1."""
        if isinstance(value, Decimal):
            return value
        text = str(value).strip()
        try:
            found = Decimal(text.removesuffix("%"))
        except InvalidOperation:
            self.fail(f"{text!r} is no share; write 75% or 0.75.", param, ctx)
        found = found / 100 if text.endswith("%") else found
        if not found.is_finite() or not 0 <= found <= 1:
            self.fail(f"{text!r} is not between 0 and 100 %.", param, ctx)
        return found


@click.group(name="commitments", short_help="Commitments: used, idle, what could move, what to buy.")
def command() -> None:
    """Look at reservations, savings plans, committed use discounts, reserved capacity, throughput and contracts."""


@command.command(name="utilization", short_help="Used and idle, break-even, stranded cost, expiry.")
@_WINDOW
@_WHERE
@click.option(
    "--by",
    type=click.Choice(["hour", "account", "region", "family", "gpu_model"]),
    help="One row per hour of each commitment, or per place over all of them, instead of per commitment.",
)
@click.option("--ladder", is_flag=True, help="Show which commitments end in which quarter instead.")
@click.option(
    "--threshold",
    type=Share(),
    default="75%",
    show_default=True,
    metavar="SHARE",
    help="Alert below this utilisation.",
)
@pass_context
@click.pass_context
def utilization(
    ctx: click.Context, context: Context, window: str | None, where: tuple[str, ...], by: str | None,
    ladder: bool, threshold: Decimal,
) -> None:  # fmt: skip
    """Show how each commitment of a window was used. Exit code 1 when one is below the threshold.

    Each has a break-even utilisation of its own (1 - discount): below it, it costs more than on demand would have, and
    that is the net loss. Used and unused add up to committed; what nobody can tell is unknown, not 0.
    """
    from gpuledger.pipeline import commitments

    if ladder:
        context.emit("commitments utilization", commitments.ladder(context.ledger(), window))
        return
    found = commitments.utilization(context.ledger(), window, by=by, where=where, alert=threshold)
    rows = found.rows
    if context.format == "table" and by is None:
        rows = [{"commitment": _short(row), **{name: row[name] for name in _SHOWN}} for row in rows]
    context.emit("commitments utilization", rows, totals=found.totals, diagnostics=found.diagnostics)
    ctx.exit(1 if found.below else 0)


def _short(row: Mapping[str, Any]) -> str:
    """A commitment's name for a person: its own, else the end of its id."""
    return str(row["name"] or row["commitment_id"].rstrip("/").rpartition("/")[2])
