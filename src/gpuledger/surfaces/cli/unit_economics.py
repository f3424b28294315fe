"""`gpuledger unit-economics`: tokens per second per dollar, cost per token, and why they change."""

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

import click

from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context

if TYPE_CHECKING:
    from gpuledger.core.unit_economics import Basis

_SHOWN = (
    "deployment", "model", "gpu_model", "cost", "tokens_per_second", "tps_per_dollar", "peak_tps_per_dollar",
    "cost_per_mtok", "slo_met_share", "flags",
)  # fmt: skip
_SHOWN_RUNS = (
    "run_id", "model", "gpu_model", "tokens", "cost", "gpu_hours", "goodput", "cost_per_mtok", "cost_per_useful_hour", "discarded_share",
)  # fmt: skip


@click.command(name="unit-economics", short_help="TPS/$, cost per token, per inference and per training run.")
@click.option("--token-basis", metavar="BASIS", default="output", show_default=True, help="output, total, computed (input from caches left out) or weighted.")  # fmt: skip
@click.option("--cost-basis", metavar="BASIS", default=None, help="list, effective (default) or fully_loaded (with shares of idle machines and unused commitments; default of --compare).")  # fmt: skip
@click.option("--weights", metavar="A,B", default=None, help="What an input token and one read from a cache count in output tokens, with --token-basis weighted.  [default: 0.2,0.02]")  # fmt: skip
@click.option("--group-by", metavar="COL,…", default="", help="deployment, model, gpu_model, provider, cluster, namespace, team, owner, hour, day, week and so on.")  # fmt: skip
@click.option(
    "--window", metavar="WINDOW", help="2026-10 (that month's bills), 2026-10-01..2026-10-31, 7d, lastmonth."
)
@click.option("--where", multiple=True, metavar="COL=VALUE", help="Keep rows with this value (repeatable; COL!=VALUE too).")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N rows; totals stay whole.")
@click.option("--training", is_flag=True, help="Training runs instead: cost per run, per token and per useful hour, and what was discarded.")  # fmt: skip
@click.option("--compare", metavar="A,B", default=None, help="Why the figure changed from window A to window B: price, load, mix, idle, stranded; 2026-09..2026-10 are two months.")  # fmt: skip
@click.option("--of", type=click.Choice(["cost_per_mtok", "cost"]), default="cost_per_mtok", show_default=True, help="Figure that --compare takes apart.")  # fmt: skip
@click.option("--against-api", metavar="MODEL", default=None, help="From which load on serving it oneself is cheaper than this model behind an API.")  # fmt: skip
@pass_context
def command(
    context: Context, token_basis: str, cost_basis: str | None, weights: str | None, group_by: str,
    window: str | None, where: tuple[str, ...], limit: int | None, compare: str | None, of: str,
    against_api: str | None, *, training: bool,
) -> None:  # fmt: skip
    """Show what a dollar buys, by deployment: TPS/$ is tokens per second for each dollar an hour, idle time included.

    Every figure names its token basis and cost basis; figures of different bases are never ranked together. Best TPS/$
    first; of training runs, the largest cost. Costs are as of the last `gpuledger build`.
    """
    groups = [name.strip() for name in group_by.split(",") if name.strip()]
    basis = _basis(token_basis, cost_basis or ("fully_loaded" if compare else "effective"), weights)
    if sum((training, compare is not None, against_api is not None)) > 1:
        raise UsageError(
            "--training, --compare and --against-api are three different questions", hint="Ask one at a time."
        )
    if compare is not None:
        if window:
            raise UsageError("--compare has its own windows", hint="--compare 2026-09,2026-10")
        from gpuledger.pipeline.unit_change import change

        found = change(context.ledger(), compare, of=of, group_by=groups, where=where, basis=basis)
        context.emit("unit-economics", found.rows, totals=found.totals, diagnostics=found.diagnostics)
        return
    if against_api is not None:
        from gpuledger.pipeline.unit_against import against

        found = against(context.ledger(), against_api, window=window, where=where, basis=basis)
        context.emit("unit-economics", found.rows, totals=found.totals, diagnostics=found.diagnostics)
        return
    from gpuledger.pipeline.unit_economics import unit_economics

    found = unit_economics(context.ledger(), group_by=groups, window=window, where=where, basis=basis, limit=limit, training=training)  # fmt: skip
    rows = found.rows
    if context.format == "table":
        shown = _SHOWN_RUNS if training else _SHOWN
        rows = [
            {name: row[name] for name in [*list(row)[: len(groups)], *shown] if name in row} for row in rows
        ]
    context.emit("unit-economics", rows, totals=found.totals, diagnostics=found.diagnostics)


def _basis(token_basis: str, cost_basis: str, weights: str | None) -> "Basis":
    from gpuledger.core import unit_economics as core

    if weights is None:
        return core.Basis(core.token_basis(token_basis), core.cost_basis(cost_basis))
    try:
        first, second = (Decimal(text) for text in weights.split(","))
    except (ValueError, InvalidOperation) as error:
        raise UsageError(
            f"not two weights: {weights!r}", where="--weights", hint="For example 0.2,0.02"
        ) from error
    if not (first.is_finite() and second.is_finite() and first >= 0 and second >= 0):
        raise UsageError(
            f"not weights: {weights!r}", where="--weights", hint="Zero or more, for example 0.2,0.02"
        )
    return core.Basis(core.token_basis(token_basis), core.cost_basis(cost_basis), core.Weights(first, second))
