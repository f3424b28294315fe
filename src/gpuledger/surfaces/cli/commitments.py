"""`gpuledger commitments`: what was committed, used and left idle, what could move under it, and what to buy."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from gpuledger.surfaces.cli._context import Context, pass_context

_WINDOW = click.option("--window", metavar="WINDOW", help="Default: the newest billing period in the ledger.")
_WHERE = click.option(
    "--where",
    multiple=True,
    metavar="COL=VALUE",
    help="Only charges with this value (repeatable; COL!=VALUE too).",
)
_SHOWN = (
    "kind", "committed", "used", "unit", "utilization", "break_even", "coverage", "stranded_cost", "net_loss",
    "expires",
)  # fmt: skip
_MOVES = ("team", "region", "instance_type", "on_demand_cost", "hours", "blocker")
_PLANNED = ("method", "term", "size", "unit", "utilization", "coverage", "saving", "payback_days")
_TOLD = 8  # actions that a person sees


class Share(click.ParamType[Decimal]):
    """A share, as 75% or 0.75."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read a share between 0 and 1."""
        if isinstance(value, Decimal):
            return value
        text = str(value).strip()
        try:
            found = Decimal(text.removesuffix("%"))
        except InvalidOperation:
            self.fail(f"{text!r} is no share; write 75% or 0.75.", param, ctx)
        found = found / 100 if text.endswith("%") else found
        if not found.is_finite() or not 0 <= found <= 1:
            self.fail(f"{text!r} is not between 0 and 100 %.", param, ctx)
        return found


class Amount(click.ParamType[Decimal]):
    """A number that is not negative."""

    name = "amount"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read a number exactly."""
        try:
            found = Decimal(str(value))
        except InvalidOperation:
            self.fail(f"{value!r} is no number.", param, ctx)
        if not found.is_finite() or found < 0:
            self.fail(f"{value!r} can't be an amount.", param, ctx)
        return found


@click.group(name="commitments", short_help="Commitments: used, idle, what could move, what to buy.")
def command() -> None:
    """Look at reservations, savings plans, committed use discounts, reserved capacity, throughput and contracts."""


@command.command(name="utilization", short_help="Used and idle, break-even, stranded cost, expiry.")
@_WINDOW
@_WHERE
@click.option(
    "--by",
    type=click.Choice(["hour", "account", "region", "family", "gpu_model"]),
    help="One row per hour of each commitment, or per place over all of them, instead of per commitment.",
)
@click.option("--ladder", is_flag=True, help="Show which commitments end in which quarter instead.")
@click.option(
    "--threshold",
    type=Share(),
    default="75%",
    show_default=True,
    metavar="SHARE",
    help="Alert below this utilisation.",
)
@pass_context
@click.pass_context
def utilization(
    ctx: click.Context, context: Context, window: str | None, where: tuple[str, ...], by: str | None,
    ladder: bool, threshold: Decimal,
) -> None:  # fmt: skip
    """Show how each commitment of a window was used. Exit code 1 when one is below the threshold.

    Each has a break-even utilisation of its own (1 - discount): below it, it costs more than on demand would have, and
    that is the net loss. Used and unused add up to committed; what nobody can tell is unknown, not 0.
    """
    from gpuledger.pipeline import commitments

    if ladder:
        context.emit("commitments utilization", commitments.ladder(context.ledger(), window))
        return
    found = commitments.utilization(context.ledger(), window, by=by, where=where, alert=threshold)
    rows = found.rows
    if context.format == "table" and by is None:
        rows = [{"commitment": _short(row), **{name: row[name] for name in _SHOWN}} for row in rows]
    context.emit("commitments utilization", rows, totals=found.totals, diagnostics=found.diagnostics)
    ctx.exit(1 if found.below else 0)


def _short(row: Mapping[str, Any]) -> str:
    """A commitment's name for a person: its own, else the end of its id."""
    return str(row["name"] or row["commitment_id"].rstrip("/").rpartition("/")[2])


@command.command(name="rebalance", short_help="On-demand jobs that fit idle commitments, and what to do.")
@_WINDOW
@click.option(
    "--keep",
    type=click.Choice(["account", "zone", "region"]),
    multiple=True,
    help="Leave this as it is (repeatable); by default discounts may be shared and jobs moved to another zone or region.",
)
@click.option(
    "--deferrable",
    multiple=True,
    metavar="COL=VALUE",
    help="Jobs that may wait, such as workload_type=evaluation (repeatable), beside those labelled deferrable-hours.",
)
@click.option(
    "--within",
    type=click.IntRange(1, 336),
    default=24,
    show_default=True,
    metavar="HOURS",
    help="How long they may wait.",
)
@click.option("--all", "everything", is_flag=True, help="Also jobs that can't move, with what is in the way.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="The N rows that save most; totals stay whole."
)
@pass_context
def rebalance(
    context: Context, window: str | None, keep: tuple[str, ...], deferrable: tuple[str, ...], within: int, everything: bool,
    limit: int | None,
) -> None:  # fmt: skip
    """Name the on-demand jobs that could have run on commitments that were idle in the same hours, and the dollars.

    Each row says what is in the way (account, zone, region, time) and what to do about it. The plan is the best there is,
    to within the proven gap in the totals. Then: what each provider lets you do with what stays idle.
    """
    from gpuledger.pipeline import commitment_moves

    rules = commitment_moves.Rules(
        tuple(name for name in commitment_moves.REMOVABLE if name not in keep), deferrable, within
    )
    found = commitment_moves.rebalance(context.ledger(), window, rules)
    rows = [row for row in found.rows if everything or row["saved"] > 0][:limit]
    if context.format != "table":
        context.emit("commitments rebalance", rows, totals=found.totals, diagnostics=found.diagnostics)
        return
    shown = [
        {"job": row["name"] or row["job_id"], **{name: row[name] for name in _MOVES}, "saved": row["saved"]}
        for row in rows
    ]
    totals = {name: value for name, value in found.totals.items() if name != "next_steps"}
    context.emit("commitments rebalance", shown, totals=totals, diagnostics=found.diagnostics)
    _say(rows, found.totals["next_steps"])


def _say(rows: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> None:
    """Print what to do, each thing once."""
    for text in dict.fromkeys(row["action"] for row in rows[:_TOLD] if row["action"]):
        click.echo(f"- {text}")
    left = [step for step in steps if step["stranded_left"] > 0]
    if left:
        click.echo("Then, for what stays idle:")
    for step in left:
        mark = {True: "yes", False: "no", None: "ask"}[step["possible"]]
        name = step["commitment_id"].rstrip("/").rpartition("/")[2]
        click.echo(f"- {name}, {step['stranded_left']:,.2f} idle: {step['step']}: {mark}. {step['text']}")


class Offered(click.ParamType[Any]):
    """An offer: NAME=DISCOUNT, with /any where it is good for every family of the provider."""

    name = "offer"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  # a Term; importing it would slow --help down
        """Read an offer."""
        from gpuledger.pipeline.commitment_plan import Term

        name, sign, rest = str(value).partition("=")
        discount, _, scope = rest.partition("/")
        if not sign or not name.strip() or scope not in {"", "any"}:
            self.fail(f"{value!r} is no offer; write 1yr=28%, or flexible=20%/any.", param, ctx)
        years = re.search(r"(\d+)\s*(y|m)", name.casefold())
        days = int(years[1]) * (365 if years[2] == "y" else 30) if years else None
        return Term(name.strip(), Share().convert(discount, param, ctx), days, scope == "any")


@command.command(name="plan", short_help="What to commit to: levels, backtest, spread.")
@_WINDOW
@click.option(
    "--demand",
    type=click.Choice(["bill", "cards"]),
    default="bill",
    show_default=True,
    help="Dollars an hour on demand by family, or cards that jobs held.",
)
@click.option(
    "--term",
    "terms",
    type=Offered(),
    multiple=True,
    metavar="NAME=DISCOUNT",
    help="An offer, such as 1yr=28% or flexible=20%/any (repeatable). Default: the mean discount of your commitments.",
)
@click.option(
    "--assume-committed",
    "assumed",
    type=Amount(),
    multiple=True,
    metavar="N",
    help="Show what a commitment of N cards, or N dollars an hour on demand, would have come to (repeatable).",
)
@click.option(
    "--usd-per-card-hour",
    "price",
    type=Amount(),
    metavar="X",
    help="On-demand price of a card, with --demand cards.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The same seed draws the same histories."
)
@pass_context
def plan(
    context: Context, window: str | None, demand: str, terms: tuple[Any, ...], assumed: tuple[Decimal, ...],
    price: Decimal | None, seed: int,
) -> None:  # fmt: skip
    """Plan purchases by the demand of a window: the quantile rule for each offer alone, and all offers together.

    A level is worth it as far as demand exceeds it in more than the share of hours that the offer costs of on demand.
    Each is tested week by week against doing nothing, the mean and the peak, and given with its 10th, 50th and 90th
    percentile over resampled histories. Run `commitments rebalance` first: what is idle is used before more is bought.
    """
    from gpuledger.pipeline import commitment_plan

    asked = commitment_plan.Asked(demand, terms, assumed, price, seed)
    found = commitment_plan.plan(context.ledger(), window, asked)
    rows = found.rows
    if context.format == "table":
        rows = [_planned(row) for row in rows]
    context.emit("commitments plan", rows, totals=found.totals, diagnostics=found.diagnostics)


def _planned(row: Mapping[str, Any]) -> dict[str, Any]:
    what = " ".join(str(row[name]) for name in ("provider", "region", "family", "cluster") if row.get(name))
    tested = row.get("backtest")
    return {
        "what": what, **{name: row.get(name) for name in _PLANNED},
        "p10-p90": f"{row['size_p10']}-{row['size_p90']}" if row.get("size_p10") is not None else None,
        "backtest": tested["best"] if tested else None,
    }  # fmt: skip
