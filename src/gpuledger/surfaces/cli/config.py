"""`gpuledger config`: what the configuration says, and where each value came from."""

import os

import click

from gpuledger.surfaces.cli._context import Context, pass_context


@click.group(name="config", short_help="Check the configuration.")
def command() -> None:
    """Look at the configuration."""


@command.command(name="check")
@pass_context
def check(context: Context) -> int:
    """List every setting with its value and where it came from; exit code 1 when something is missing."""
    from gpuledger import registry
    from gpuledger.config import explain
    from gpuledger.errors import UsageError

    rows = list(explain(context.config_path, context.config, os.environ))
    if context.location:
        rows[0] |= {"value": context.location, "origin": "option --ledger or environment GPULEDGER_LEDGER"}
    for row in rows:
        if row["key"].endswith(".type"):
            try:
                registry.source(row["value"])
            except UsageError as error:
                row |= {"state": "fail", "hint": error.hint or error.message}
    context.emit("config check", rows)
    return 1 if any(row["state"] == "fail" for row in rows) else 0
