"""`gpuledger doctor`: whether everything is set up, delivered and understood."""

from dataclasses import asdict

import click

from gpuledger.surfaces.cli._context import Context, pass_context


@click.command(name="doctor", short_help="Check the set-up and the health of each source.")
@pass_context
def command(context: Context) -> int:
    """Check configuration, deliveries, unreadable values, unknown SKUs and tag coverage; exit code 1 when one fails."""
    from gpuledger.pipeline.doctor import examine

    rows = [asdict(check) for check in examine(context.ledger())]
    counts = {
        state: sum(row["state"] == state for row in rows) for state in ("ok", "warn", "fail", "unknown")
    }
    context.emit("doctor", rows, totals=counts)
    return 1 if counts["fail"] else 0
