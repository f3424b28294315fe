"""`gpuledger unattributed`: money without an owner, with the best guess and its evidence."""

from typing import TYPE_CHECKING, Any

import click

from gpuledger.surfaces.cli._context import Context, pass_context

if TYPE_CHECKING:
    from gpuledger.pipeline.unattributed import Answer

_EXPLAINED = 3  # incidents that a person sees the evidence of


@click.command(name="unattributed", short_help="Show money without an owner and who most likely owns it.")
@click.option("--window", metavar="WINDOW", help="Default: the newest billing period in the ledger.")
@click.option(
    "--metric",
    type=click.Choice(["billed", "effective", "list", "contracted"]),
    default="effective",
    show_default=True,
)
@click.option(
    "--by",
    type=click.Choice(["incident", "resource"]),
    default="incident",
    show_default=True,
    help="One row for resources that began together, or one for each.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="The N dearest only; the totals stay whole.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="COL=VALUE",
    help="Only charges with this value (repeatable; COL!=VALUE too).",
)
@pass_context
def command(
    context: Context, window: str | None, metric: str, by: str, limit: int, where: tuple[str, ...]
) -> None:
    """Show what no cost centre, team, owner, project or job claims, the dearest first.

    Each row names the likeliest owner with the evidence for it and a confidence from 0 to 1, and how the spend stayed
    without an owner. The confidence is never 1, and where nothing points anywhere nobody is named. Tax, credits, unused
    commitments and other spend that is nobody's by nature are summed apart.
    """
    from gpuledger.pipeline import report as reports
    from gpuledger.pipeline import unattributed
    from gpuledger.pipeline.costs import Question

    ledger = context.ledger()
    ledger.require()
    text, span = reports.window_of(ledger, window)
    question = Question((), metric, where, span)
    answer = unattributed.investigate(ledger.connect(), question, limit=limit, by=by)
    if context.format == "table":
        _show(answer, f"Nobody owns this, {text}, {metric} cost")
        return
    totals = {
        "cost": answer.cost,
        "currency": answer.currency,
        "incidents": answer.incidents,
        "resources": answer.resources,
        "by_nature": answer.by_nature,
        "metric": metric,
        "window": text,
    }
    context.emit("unattributed", answer.rows, totals=totals)


def _show(answer: "Answer", title: str) -> None:
    from gpuledger.surfaces.cli._table import show

    rows = [
        {
            "what": row["what"],
            "account": row["account_name"] or row["account"],
            "since": row["first_seen"],
            "hours": row["hours"],
            "cost": row["cost"],
            "candidate owner": row["candidate_owner"] or "nobody can be named",
            "confidence": confidence(row),
        }
        for row in answer.rows
    ]
    show(rows, {"cost": answer.cost}, title)
    for number, row in enumerate(answer.rows[:_EXPLAINED], 1):
        _explain(number, row)
    if answer.by_nature:
        click.echo("Nobody's by nature:")
        show([{"what": one["nature"], "cost": one["cost"]} for one in answer.by_nature], {}, None)


def confidence(row: dict[str, Any]) -> str:
    """Write an incident's confidence for a person; nothing where nobody is named."""
    known = row["confidence"]
    return "" if known is None else f"{row['confidence_word']} ({known:.2f})"


def _explain(number: int, row: dict[str, Any]) -> None:
    where = row["account_name"] or row["account"]
    cost = "unknown cost" if row["cost"] is None else f"{row['cost']:,.2f}"
    click.echo(f"{number}. {row['what']} in {where or 'an unknown account'}: {cost}")
    if row["candidate_owner"] is None:
        click.echo("   Nothing points to an owner.")
    else:
        contact = f", ask {row['contact']}" if row["contact"] else ""
        click.echo(f"   {row['candidate_owner']}{contact}: {confidence(row)}")
    for sign in row["evidence"]:
        click.echo(f"   + {sign['strength']:.2f} {sign['detail']}")
    for sign in row["against"]:
        click.echo(f"   - {sign['strength']:.2f} {sign['detail']}")
    for gate in row["path"]:
        click.echo(f"   {'>' if gate['state'] == 'passed' else '?'} {gate['detail']}")
    click.echo()
