"""`gpuledger policy`: what belongs to a policy file."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from gpuledger.surfaces.cli._context import Context, pass_context


@click.group(name="policy", short_help="The policy file: its form, and what the webhook knows beside it.")
def command() -> None:
    """The policy file: its form, and what the webhook knows beside it."""


@command.command(name="snapshot")
@click.argument("file", metavar="FILE")
@pass_context
def snapshot(context: Context, file: str) -> None:
    """Write rates and earlier runs of the ledger to FILE, for `admission serve --snapshot`.

    The webhook decides from memory and opens no ledger: run this where the ledger is, such as once an hour. FILE is
    replaced at once, and the webhook reads it anew by itself.
    """
    from gpuledger.pipeline import policy_prices
    from gpuledger.surfaces.admission.state import snapshot_document

    ledger = context.ledger()
    ledger.require()
    con = ledger.connect()
    rates, history = policy_prices.learnt_rates(con), policy_prices.history(con)
    path = Path(file)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(snapshot_document(rates, history, datetime.now(UTC)), indent=1), "utf-8")
    part.replace(path)
    rows = [{"gpu_model": model, "usd_per_gpu_hour": price} for model, price in sorted(rates.items())]
    context.emit(
        "policy snapshot", rows, totals={"file": str(path), "jobs": len(history.hours)}, title="Rates"
    )


@command.command(name="schema")
def schema() -> None:
    """Print the JSON Schema of policy files, for editors and other tools."""
    from gpuledger.pipeline import policy_files

    click.echo(json.dumps(policy_files.schema(), indent=2))
