"""`gpuledger build`: derived tables and audits."""

from dataclasses import asdict

import click

from gpuledger.surfaces.cli._context import Context, pass_context


@click.command(name="build", short_help="Write derived tables and audit the ledger.")
@pass_context
def command(context: Context) -> int:
    """Write the derived tables, then run the audits: each looks for rows that must not exist (exit code 1)."""
    from gpuledger.pipeline.build import build

    rows = [asdict(built) for built in build(context.ledger(), context.progress())]
    failed = [row for row in rows if row["state"] == "fail"]
    if context.format == "table":
        rows = [{key: value for key, value in row.items() if key != "example" or failed} for row in rows]
    context.emit("build", rows, totals={"failed": len(failed)})
    return 1 if failed else 0
