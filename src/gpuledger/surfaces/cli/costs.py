"""`gpuledger costs`: any cost question."""

import click

from gpuledger.errors import UsageError
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
    "--allocated",
    is_flag=True,
    help="Show split charges under the job or pod they were allocated to; group by job, namespace, pod, cluster too.",
)
@click.option(
    "--as-of",
    metavar="WHEN",
    help="As the ledger was then: a date, a time or a version (see ledger history).",
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="The N largest rows only; the total stays whole."
)
@click.option(
    "--compare",
    type=click.Choice(["estimate"]),
    help="Set what was metered beside what was billed, and say why they differ (per ResourceId unless grouped).",
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
    compare: str | None,
    *,
    allocated: bool,
) -> None:
    """Sum costs over any columns. Sums are exact; charges in several currencies are never added up."""
    from gpuledger.pipeline.ledger import parse_as_of

    groups = [name.strip() for name in group_by.split(",") if name.strip()]
    if compare is not None:
        if allocated:
            raise UsageError(
                "--compare and --allocated don't go together", hint="Compare machines, not jobs."
            )
        _compare(context, groups, metric, where, window, as_of, limit)
        return
    answer = context.ledger().costs(
        groups,
        metric=metric,
        where=where,
        window=window,
        allocated=allocated,
        as_of=parse_as_of(as_of) if as_of else None,
        limit=limit,
    )
    totals = {"cost": answer.total, "currency": answer.currency, "charges": answer.charges, "metric": metric}
    context.emit("costs", answer.rows, totals=totals, diagnostics=answer.diagnostics)


def _compare(
    context: Context,
    groups: list[str],
    metric: str,
    where: tuple[str, ...],
    window: str | None,
    as_of: str | None,
    limit: int | None,
) -> None:
    from datetime import UTC, datetime

    from gpuledger.core import windows
    from gpuledger.pipeline.compare import compare
    from gpuledger.pipeline.costs import Question
    from gpuledger.pipeline.ledger import parse_as_of

    span = windows.parse(window, datetime.now(UTC)) if window else None
    question = Question(groups, metric, where, span, limit=limit)
    answer = compare(context.ledger(), question, parse_as_of(as_of) if as_of else None)
    totals = {**answer.totals, "error": answer.error, "currency": answer.currency, "metric": metric}
    context.emit("costs", answer.rows, totals=totals)
