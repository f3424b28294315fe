"""`gpuledger savings`: what every rule finds, ranked, the same dollar counted once."""

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context, tell

if TYPE_CHECKING:
    from gpuledger.pipeline.savings import Savings

_SHOWN = ("rule", "scope", "owner", "saving_low", "saving_high", "confidence")
_EXPLAINED = 10  # findings that a person sees the evidence of


@click.command(name="savings", short_help="List what could be saved, ranked, each dollar counted once.")
@click.option("--window", metavar="WINDOW", help="Default: the newest billing period in the ledger.")
@click.option("--rule", "rules", multiple=True, metavar="RULE", help="Only this rule (repeatable).")
@click.option(
    "--min-saving",
    default="1",
    show_default=True,
    metavar="AMOUNT",
    help="Leave out findings that save less at most.",
)
@click.option("--owner", metavar="NAME", help="Only what this owner, team or cost centre bears.")
@click.option(
    "--where",
    multiple=True,
    metavar="COL=VALUE",
    help="Only charges with this value (repeatable; COL!=VALUE too).",
)
@click.option(
    "--all",
    "show_all",
    is_flag=True,
    help="Also what other findings cover, rules that found nothing, and what can't be measured.",
)
@pass_context
@click.pass_context
def command(
    ctx: click.Context,
    context: Context,
    window: str | None,
    rules: tuple[str, ...],
    min_saving: str,
    owner: str | None,
    where: tuple[str, ...],
    show_all: bool,
) -> None:
    """Ask every savings rule about a window, the likeliest saving first.

    A saving is a range: `low` is what is sure as far as telemetry shows, `high` what may be had. No dollar is counted
    twice, and no saving exceeds the spend that it touches. A rule whose telemetry is missing says so and guesses
    nothing. docs/savings.md explains each rule. Exit code 1: something could be saved.
    """
    from gpuledger.pipeline import report as reports
    from gpuledger.pipeline.savings import Wanted, savings

    ledger = context.ledger()
    ledger.require()
    text, _ = reports.window_of(ledger, window)
    wanted = Wanted(tuple(rules) or None, _amount(min_saving), owner, where, show_all)
    answer = savings(ledger, text, wanted)
    if context.format == "table":
        _show(answer, f"Could be saved, {text}")
        for told in answer.diagnostics:
            if told.severity != "info":
                tell(told)
    else:
        context.emit("savings", answer.rows, totals=answer.totals, diagnostics=answer.diagnostics)
    ctx.exit(1 if answer.totals["findings"] else 0)


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise UsageError(f"can't read the amount {text!r}", hint="Write it as 100 or 12.50.")
    return amount


def _show(answer: "Savings", title: str) -> None:
    from gpuledger.surfaces.cli._table import show

    shown = [row for row in answer.rows if row["scope"] is not None]
    totals = {name: answer.totals[name] for name in ("saving_low", "saving_high")}
    show([{name: row[name] for name in _SHOWN} for row in shown], totals, title)
    for number, row in enumerate(shown[:_EXPLAINED], 1):
        _explain(number, row)
    if silent := [row for row in answer.rows if row["scope"] is None]:
        for row in silent:
            click.echo(f"{row['rule']} ({row['status']}): {row['evidence']}. {row['action']}".rstrip())
    elif answer.totals["unmeasured_rules"]:
        count = len(answer.totals["unmeasured_rules"])
        click.echo(f"{count} rules can't be measured with what the ledger holds; --all says what each lacks.")


def _explain(number: int, row: dict[str, Any]) -> None:
    click.echo(f"{number}. {row['scope']}: {row['saving_low']:,.2f} to {row['saving_high']:,.2f}")
    click.echo(f"   + {row['evidence']}.")
    click.echo(f"   > {row['action']}")
