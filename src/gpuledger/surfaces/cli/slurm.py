"""`gpuledger slurm`: what goes back to Slurm: final costs, and what its job_submit.lua knows."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click

from gpuledger.surfaces.cli._context import Context, pass_context


@click.group(name="slurm", short_help="Final costs into AdminComment; prices and budgets for job_submit.lua.")
def command() -> None:
    """Final costs into AdminComment; prices and budgets for job_submit.lua."""


@command.command(name="report")
@click.option("--window", metavar="WINDOW", help="Only jobs that ended in it, such as 7d or 2026-10.")
@click.option("--dry-run", is_flag=True, help="Tell what would be written, and write nothing.")
@pass_context
def report(context: Context, window: str | None, *, dry_run: bool) -> None:
    """Write what jobs cost, as of the last `gpuledger build`, into their AdminComment: `sacct -o JobID,AdminComment`.

    What stands there stays; a cost of ours is replaced. Needs sacct and sacctmgr, as an operator of Slurm.
    """
    from gpuledger.core import windows
    from gpuledger.pipeline import slurm_report
    from gpuledger.telemetry.slurm import Commands

    ledger = context.ledger()
    ledger.require()
    span = windows.parse(window, datetime.now(UTC)) if window else slurm_report.ever()
    con = ledger.connect()
    try:
        costs = slurm_report.costs(con, span)
    finally:
        con.close()
    rows = list(slurm_report.report(costs, Commands(), dry_run=dry_run))
    states = Counter(str(row["state"]).replace(" ", "_") for row in rows)
    known = sum((row["cost_usd"] for row in rows if row["cost_usd"] is not None), Decimal(0))
    context.emit(
        "slurm report", rows, totals={"jobs": len(rows), "cost_usd": known, **states}, title="Slurm jobs"
    )


@command.command(name="cache")
@click.argument("file", metavar="FILE")
@click.option(
    "--policy", "policy_file", metavar="FILE", help="Default: gpuledger-policy.toml (or .yaml) here."
)
@click.option(
    "--leases", "url", metavar="URL", help="Leases of `admission serve` that draw on the same budgets."
)
@pass_context
def cache(context: Context, file: str, policy_file: str | None, url: str | None) -> None:
    """Write rates, earlier runs and what budgets have left to FILE, the gpuledger-cache.lua of job_submit.lua.

    Run it every few minutes where Slurm's commands are. Between two runs the script counts what it admits itself.
    """
    from gpuledger.core.policy.estimate import NO_HISTORY
    from gpuledger.errors import UsageError
    from gpuledger.pipeline import policy_files, policy_prices, slurm_cache
    from gpuledger.pipeline.leases import Leases

    path = policy_files.find(policy_file)
    if path is None:
        raise UsageError(
            "there is no policy", hint="Give --policy FILE; docs/policy.md has one to begin with."
        )
    policy = policy_files.load(path).policy
    now = datetime.now(UTC)
    ledger = context.ledger()
    learnt, history = {}, NO_HISTORY
    if ledger.units():
        con = ledger.connect()
        learnt, history = policy_prices.learnt_rates(con), policy_prices.history(con)
        con.close()
    leases = Leases(url) if url else None
    try:
        text, rows = slurm_cache.written(policy, learnt, history, now, leases=leases)
    finally:
        if leases:
            leases.close()
    target = Path(file)
    part = target.with_name(f"{target.name}.part")
    part.write_text(text, "utf-8")
    part.replace(target)
    totals = {"file": str(target), "models": len(learnt), "jobs": len(history.hours)}
    context.emit("slurm cache", rows, totals=totals, title="Budgets")
