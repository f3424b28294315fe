"""`gpuledger report`: the month on one page."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context

if TYPE_CHECKING:
    from gpuledger.pipeline.report import Section

SYNTHETIC_PREFIX = "demo-"  # sources that `gpuledger demo` makes
_NOBODY = {"By team": "(nobody)"}


@click.command(name="report", short_help="Show the month on one page.")
@click.option("--window", metavar="WINDOW", help="Default: the newest billing period in the ledger.")
@click.option("--metric", type=click.Choice(["billed", "effective"]), default="effective", show_default=True)
@click.option(
    "--where",
    multiple=True,
    metavar="COL=VALUE",
    help="Only charges with this value (repeatable; COL!=VALUE too).",
)
@pass_context
def command(context: Context, window: str | None, metric: str, where: tuple[str, ...]) -> None:
    """Show one month by provider, service, GPU model and team; what nobody owns; and what was wrong in the data.

    Billed is what the invoices say; effective spreads prepaid commitments over the hours that they cover.
    """
    from gpuledger.core import windows
    from gpuledger.pipeline import report as reports

    ledger = context.ledger()
    ledger.require()
    text = window or next(reversed(reports.months(ledger)), None)
    if text is None:
        raise UsageError("no charge says its billing period", hint="Choose a --window.")
    span = windows.parse(text, datetime.now(UTC))
    sections = list(reports.report(ledger, span, metric, where))
    con = ledger.connect()
    rest = reports.unattributed(con, span, metric, where)
    issues = reports.data_issues(con, span, where)
    synthetic = sorted({unit.source for unit in ledger.units() if unit.source.startswith(SYNTHETIC_PREFIX)})
    if context.format == "table":
        if synthetic:
            click.echo(f"SYNTHETIC: {len(synthetic)} sources are the example company's, nobody's bills.\n")
        _show(text, metric, sections, rest, issues)
        return
    rows = [{"section": section.title, **row} for section in sections for row in section.rows]
    totals = {
        "cost": sections[0].total,
        "metric": metric,
        "unattributed": rest["cost"],
        "stranded": rest["stranded"],
        "largest_unattributed": rest["largest"],
        "data_issues": issues,
        "synthetic_sources": synthetic,
    }
    context.emit("report", rows, totals=totals)


def _show(
    text: str, metric: str, sections: "list[Section]", rest: dict[str, Any], issues: list[dict[str, Any]]
) -> None:
    from gpuledger.surfaces.cli._table import show

    for section in sections:
        named = [
            {
                "name": row["name"] or _NOBODY.get(section.title, "unknown"),
                "cost": row["cost"],
                "share": "unknown" if row["share_percent"] is None else f"{row['share_percent']:>5} %",
            }
            for row in section.rows
        ]
        show(named, {"cost": section.total}, f"{section.title}, {text}, {metric} cost")
    if rest["largest"]:
        click.echo(
            f"Nobody owns {rest['cost']:,.2f}: no team, owner or cost centre in the tags. The largest parts:"
        )
        show(
            [{**part, "first": _day(part["first"]), "last": _day(part["last"])} for part in rest["largest"]],
            {},
            None,
        )
    else:
        click.echo("Every charge has a team, an owner or a cost centre.\n")
    if rest["stranded"]:
        click.echo(f"Commitments left {rest['stranded']:,.2f} unused: paid for, and nothing ran on it.\n")
    if issues:
        show(issues, {}, "What could not be read in the data")
    else:
        click.echo("Every value in the data could be read.")


def _day(moment: datetime | None) -> str:
    return "unknown" if moment is None else f"{moment:%Y-%m-%d}"
