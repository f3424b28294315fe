"""`gpuledger lenses`: of what there was, how much was held, used, idle or fragmented."""

import click

from gpuledger.surfaces.cli._context import Context, pass_context

_BY = {
    "gpu": "cluster, pool, namespace or gpu_model (default cluster).",
    "storage": "cluster or namespace (default cluster).",
}
_WINDOW = click.option(
    "--window", metavar="WINDOW", help="2026-10 (that month's bills), 2026-10-01..2026-10-31, 7d, lastmonth."
)


@click.group(name="lenses", short_help="Cards and volumes: held, used, idle, fragmented.")
def command() -> None:
    """Look at cards or volumes as a whole: hours there were, hours held, used and idle, and what these cost."""


@command.command(name="gpu", short_help="Cards: held, used, idle, fragmented, in hours and cost.")
@click.option("--by", metavar="COL,…", default="", help=f"Group by {_BY['gpu']}")
@_WINDOW
@pass_context
def gpu(context: Context, by: str, window: str | None) -> None:
    """Show card-hours and their effective cost.

    Idle is what nobody held. Of it, fragmented are the free cards of machines where others are held: nobody who wants
    whole machines can have them. Used and its cost are of measured hours only. What nobody knows is unknown, not 0.
    """
    _show(context, "gpu", by, window)


@command.command(name="storage", short_help="Volumes: provisioned, claimed, used, and what is wasted.")
@click.option("--by", metavar="COL,…", default="", help=f"Group by {_BY['storage']}")
@_WINDOW
@pass_context
def storage(context: Context, by: str, window: str | None) -> None:
    """Show GiB-hours of volumes and their effective cost.

    Wasted is what was paid while nobody claimed a volume, and for the unused part of claims where use is measured.
    `untold_cost` is of volumes that no telemetry tells of.
    """
    _show(context, "storage", by, window)


def _show(context: Context, name: str, by: str, window: str | None) -> None:
    from gpuledger.pipeline.lenses import lens

    groups = [one.strip() for one in by.split(",") if one.strip()]
    found = lens(context.ledger(), name, by=groups, window=window)
    context.emit(f"lenses {name}", found.rows, totals=found.totals, diagnostics=found.diagnostics)
