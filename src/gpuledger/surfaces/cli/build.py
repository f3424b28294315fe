"""`gpuledger build`: derived tables and audits."""

from dataclasses import asdict

import click

from gpuledger.surfaces.cli._context import Context, pass_context


@click.command(name="build", short_help="Write derived tables and audit the ledger.")
@pass_context
def command(context: Context) -> int:
    """Split machines' charges among jobs, write the derived tables, then run the audits.

    Only what changed is split anew. Each audit looks for rows that must not exist (exit code 1).
    """
    from gpuledger.diagnostics import Diagnostic
    from gpuledger.pipeline.build import build

    told = list(build(context.ledger(), context.progress()))
    rows = [asdict(built) for built in told if not isinstance(built, Diagnostic)]
    failed = [row for row in rows if row["state"] == "fail"]
    if context.format == "table":
        rows = [{key: value for key, value in row.items() if key != "example" or failed} for row in rows]
    found = [one for one in told if isinstance(one, Diagnostic)]
    context.emit("build", rows, totals={"failed": len(failed)}, diagnostics=found)
    return 1 if failed else 0
