"""`gpuledger jobs`: what each job held and cost, and whose it is."""

import click

from gpuledger.surfaces.cli._context import Context, pass_context

_SHOWN = (
    "name",
    "kind",
    "cluster",
    "namespace",
    "team",
    "owner",
    "gpu_model",
    "gpu_hours",
    "cost",
    "idle_cost",
    "state",
)


@click.command(name="jobs", short_help="List jobs: cards held, cost, owner and the evidence for it.")
@click.option(
    "--group-by",
    metavar="COL,…",
    default="",
    help="Sum by team, owner, cost_center, namespace, cluster, kind and so on.",
)
@click.option(
    "--window", metavar="WINDOW", help="2026-10 (that month's bills), 2026-10-01..2026-10-31, 7d, lastmonth."
)
@click.option(
    "--where",
    multiple=True,
    metavar="COL=VALUE",
    help="Keep jobs with this value (repeatable; COL!=VALUE too).",
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="The N rows that cost most; totals stay whole."
)
@pass_context
def command(
    context: Context, group_by: str, window: str | None, where: tuple[str, ...], limit: int | None
) -> None:
    """List the jobs of a window by effective cost: what they held, what of it they used, and who owns them.

    A job that was never scheduled costs 0; a cost that nobody can tell is unknown. Costs are as of the last
    `gpuledger build`.
    """
    from gpuledger.pipeline.jobs import jobs

    groups = [name.strip() for name in group_by.split(",") if name.strip()]
    found = jobs(context.ledger(), group_by=groups, window=window, where=where, limit=limit)
    rows = found.rows
    if context.format == "table" and not groups:
        rows = [{name: row[name] for name in _SHOWN} for row in rows]
    context.emit("jobs", rows, totals=found.totals, diagnostics=found.diagnostics)
