"""`gpuledger costs`: any cost question."""

import click

from gpuledger.surfaces.cli._context import Context, pass_context


@click.command(name="costs", short_help="Answer any cost question.")
@click.option(
    "--group-by", metavar="COL,…", default="", help="FOCUS columns, team, gpu_model, day, Tags.KEY and so on."
)
@click.option(
    "--metric",
    type=click.Choice(["billed", "effective", "list", "contracted"]),
    default="effective",
    show_default=True,
)
@click.option(
    "--where",
    multiple=True,
    metavar="COL=VALUE",
    help="Keep charges with this value (repeatable; COL!=VALUE too).",
)
@click.option(
    "--window", metavar="WINDOW", help="2026-10 (that month's bills), 2026-10-01..2026-10-31, 7d, lastmonth."
)
@click.option(
    "--allocated", is_flag=True, help="Show split charges under the job or pod they were allocated to; group by job, namespace, pod, cluster too."
)
@click.option(
    "--as-of",
    metavar="WHEN",
    help="As the ledger was then: a date, a time or a version (see ledger history).",
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="The N largest rows only; the total stays whole."
)
@pass_context
def command(
    context: Context,
    group_by: str,
    metric: str,
    where: tuple[str, ...],
    window: str | None,
    as_of: str | None,
    limit: int | None,
    *,
    allocated: bool,
) -> None:
    """Sum costs over any columns. Sums are exact; charges in several currencies are never added up."""
    from gpuledger.pipeline.ledger import parse_as_of

    answer = context.ledger().costs(
        [name.strip() for name in group_by.split(",") if name.strip()],
        metric=metric,
        where=where,
        window=window,
        allocated=allocated,
        as_of=parse_as_of(as_of) if as_of else None,
        limit=limit,
    )
    totals = {"cost": answer.total, "currency": answer.currency, "charges": answer.charges, "metric": metric}
    context.emit("costs", answer.rows, totals=totals, diagnostics=answer.diagnostics)
