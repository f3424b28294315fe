"""`gpuledger report`: the month on one page."""

from datetime import UTC, datetime
from typing import Any

import click

from gpuledger.surfaces.cli._context import Context, pass_context


@click.command(name="report", short_help="Show the month on one page.")
@click.option("--window", metavar="WINDOW", help="Default: the newest billing period in the ledger.")
@click.option("--metric", type=click.Choice(["billed", "effective"]), default="billed", show_default=True)
@pass_context
def command(context: Context, window: str | None, metric: str) -> None:
    """Show one month by provider, service, GPU model and team; what nobody owns; and what was wrong in the data."""
    from gpuledger.core import windows
    from gpuledger.pipeline import report as reports
    from gpuledger.pipeline.costs import METRICS
    from gpuledger.surfaces.cli._table import show

    ledger = context.ledger()
    ledger.require()
    text = window or reports.months(ledger)[-1]
    span = windows.parse(text, datetime.now(UTC))
    con = ledger.connect()
    rest = reports.unattributed(con, span, METRICS[metric])
    issues = reports.data_issues(con, span)
    rows: list[dict[str, Any]] = []
    total = None
    for section in reports.report(ledger, span, metric):
        total = section.total if total is None else total
        if context.format == "table":
            named = [
                {**row, "name": row["name"] or "(nobody)"} if section.title == "By team" else row
                for row in section.rows
            ]
            show(named, {"cost": section.total}, f"{section.title}, {text}, {metric} cost")
        rows += [{"section": section.title, **row} for row in section.rows]
    if context.format != "table":
        context.emit(
            "report", rows, totals={"cost": total, "unattributed": rest["cost"], "data_issues": issues}
        )
        return
    if rest["resources"]:
        largest = f"; the largest is {rest['largest']}" if rest["largest"] else ""
        click.echo(f"Nobody owns {rest['cost']:,.2f} on {rest['resources']:,} resources{largest}.\n")
    else:
        click.echo("Every charge has a team, an owner or a cost centre.\n")
    if issues:
        show(issues, {}, "What could not be read in the data")
    else:
        click.echo("Every value in the data could be read.")
