"""`gpuledger report`: the month on one page."""

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from gpuledger.surfaces.cli._context import Context, pass_context, tell

if TYPE_CHECKING:
    from gpuledger.pipeline.jobs import Jobs
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
    """Show one month on one page: providers, services, GPU models, teams, jobs, idle machines, and spend nobody owns.

    Billed is what the invoices say; effective spreads prepaid commitments over the hours that they cover.
    """
    from gpuledger.pipeline import report as reports
    from gpuledger.surfaces.cli._table import show

    ledger = context.ledger()
    ledger.require()
    text, span = reports.window_of(ledger, window)
    sections = list(reports.report(ledger, span, metric, where))
    con = ledger.connect()
    top = None if where else reports.top_jobs(ledger, text)
    rest = reports.unattributed(con, span, metric, where)
    issues = reports.data_issues(con, span, where)
    synthetic = sorted({unit.source for unit in ledger.units() if unit.source.startswith(SYNTHETIC_PREFIX)})
    if context.format == "table":
        if synthetic:
            click.echo(f"SYNTHETIC: {len(synthetic)} sources are the example company's, nobody's bills.\n")
        _show_sections(text, metric, sections)
        if top is not None:
            _show_jobs(text, top)
        _show_unowned(rest)
        if issues:
            show(issues, {}, "What could not be read in the data")
        else:
            click.echo("Every value in the data could be read.")
        return
    rows = [{"section": section.title, **row} for section in sections for row in section.rows]
    totals = {
        "jobs": None if top is None else top.totals,
        "largest_jobs": [] if top is None else top.rows,
        "cost": sections[0].total,
        "metric": metric,
        "unattributed": rest["cost"],
        "stranded": rest["stranded"],
        "by_nature": rest["by_nature"],
        "largest_unattributed": rest["largest"],
        "data_issues": issues,
        "synthetic_sources": synthetic,
    }
    context.emit("report", rows, totals=totals, diagnostics=[] if top is None else top.diagnostics)


def _show_sections(text: str, metric: str, sections: "list[Section]") -> None:
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


def _show_jobs(text: str, top: "Jobs") -> None:
    from gpuledger.surfaces.cli._table import show

    keys = ("name", "kind", "cluster", "team", "gpu_model", "gpu_hours", "cost", "idle_cost")
    rows = [{key: row[key] for key in keys} for row in top.rows]
    show(rows, {}, f"By job, {text}, effective cost: the largest of {top.totals['jobs']}")
    if top.diagnostics:  # sums of yesterday's allocation would mislead
        for one in top.diagnostics:
            tell(one)
        return
    said = [
        f"All jobs together: {_money(top.totals['cost'])}.",
        "" if top.totals["idle_cost"] is None else f"Of that, {top.totals['idle_cost']:,.2f} paid for cards that were held and not used.",
        f"Nobody held machines worth {top.totals['idle']:,.2f} (idle);",
        f"who held {top.totals['unknown']:,.2f} is unknown: no telemetry saw it.\n",
    ]  # fmt: skip
    click.echo(" ".join(part for part in said if part))


def _money(cost: Decimal | None) -> str:
    return "unknown" if cost is None else f"{cost:,.2f}"


def _show_unowned(rest: dict[str, Any]) -> None:
    from gpuledger.surfaces.cli._table import show
    from gpuledger.surfaces.cli.unattributed import confidence

    if rest["largest"]:
        click.echo(f"Nobody owns {rest['cost']:,.2f}. The largest parts, and who most likely owns them:")
        show(
            [
                {
                    "what": part["what"],
                    "account": part["account_name"] or part["account"],
                    "since": _day(part["first_seen"]),
                    "hours": part["hours"],
                    "cost": part["cost"],
                    "candidate": part["candidate_owner"] or "nobody can be named",
                    "confidence": confidence(part),
                }
                for part in rest["largest"]
            ],
            {},
            None,
        )
        click.echo("gpuledger unattributed shows the evidence.\n")
    else:
        click.echo("Every charge has a team, an owner or a cost centre.\n")
    if rest["stranded"]:
        click.echo(f"Commitments left {rest['stranded']:,.2f} unused: paid for, and nothing ran on it.\n")


def _day(moment: datetime | None) -> str:
    return "unknown" if moment is None else f"{moment:%Y-%m-%d}"
