"""`gpuledger budgets`: what budgets have reserved, spent and left."""

from datetime import UTC, datetime, timedelta

import click

from gpuledger.surfaces.cli._context import Context, pass_context


@click.command(name="budgets", short_help="What the policy's budgets have reserved, spent and left.")
@click.option(
    "--policy", "policy_file", metavar="FILE", help="Default: gpuledger-policy.toml (or .yaml) here."
)
@click.option("--leases", "url", metavar="URL", help="Store of leases that `admission serve` reserves in.")
@click.option(
    "--settle", is_flag=True, help="First settle leases by what the ledger says their workloads cost."
)
@pass_context
def command(context: Context, policy_file: str | None, url: str | None, *, settle: bool) -> None:
    """Show each budget of the policy for its current period.

    A lease is reserved when a workload is admitted. It expires when nothing came of it, and --settle replaces it by
    the workload's cost in the ledger once it ended.
    """
    from gpuledger.errors import UsageError
    from gpuledger.pipeline import budgets, policy_files
    from gpuledger.pipeline.leases import DEFAULT_URL, Leases

    path = policy_files.find(policy_file)
    if path is None:
        raise UsageError(
            "there is no policy", hint="Give --policy FILE; docs/policy.md has one to begin with."
        )
    policy = policy_files.load(path).policy
    now = datetime.now(UTC)
    leases = Leases(url or DEFAULT_URL, grace=timedelta(minutes=policy.lease_minutes))
    try:
        totals: dict[str, object] = {"policy": str(path)}
        if settle:
            ledger = context.ledger()
            ledger.require()
            totals |= budgets.settle(ledger.connect(), leases, now)
        context.emit("budgets", budgets.rows(policy, leases, now), totals=totals, title="Budgets")
    finally:
        leases.close()
