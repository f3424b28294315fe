"""`gpuledger compare-hardware`: which hardware serves a demand cheapest within the service levels."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context

if TYPE_CHECKING:
    from gpuledger.core.windows import Window
    from gpuledger.engines.duckdb import Connection
    from gpuledger.pipeline.hardware import Comparison
    from gpuledger.pipeline.hardware_kinds import Need
    from gpuledger.pipeline.hardware_prices import Prices
    from gpuledger.pipeline.load_points import Measured

_SHOWN = (
    "hardware", "replicas", "utilization", "cost_usd_per_hour", "cost_low", "cost_high", "tps_per_dollar", "cost_per_mtok",
    "meets_slo", "pareto", "binding", "note",
)  # fmt: skip
_DIGITS = 3
_SHOWN_POINTS = (
    "hardware", "concurrency", "interactivity", "tok_s_per_gpu", "usd_per_gpu_hour", "cost_per_mtok", "pareto", "note",
)  # fmt: skip


@click.command(
    name="compare-hardware", short_help="Which hardware serves a demand cheapest within its service levels."
)
@click.option(
    "--demand",
    multiple=True,
    metavar="[SIZE=]TOK_S",
    help="Tokens a second to serve; by request size, such as 1024x128=500, when the load points have several (repeatable).",
)
@click.option(
    "--demand-by-hour", "hours", metavar="FILE", help="CSV of hour, tok_s and perhaps size instead."
)
@click.option(
    "--demand-from-ledger",
    "of_ledger",
    is_flag=True,
    help="Demand by hour from the ledger's token telemetry.",
)
@click.option(
    "--slo-ttft", "ttft", type=float, metavar="S", help="Time to first token that must be kept, seconds."
)
@click.option(
    "--slo-tpot", "tpot", type=float, metavar="S", help="Time per output token that must be kept, seconds."
)
@click.option(
    "--slo-rank",
    "rank",
    type=click.Choice(["p95", "p99", "median", "mean"]),
    default="p95",
    show_default=True,
    help="Of which rank these limits are.",
)
@click.option(
    "--curves", metavar="FILE", help="CSV of measured load points; default: the ledger's token telemetry."
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=THEIRS",
    help="What a column is called there (repeatable).",
)
@click.option("--model", metavar="M", help="The model served, when there are several.")
@click.option(
    "--window",
    metavar="WINDOW",
    help="Window of the ledger's telemetry and prices (default: its newest 30 days).",
)
@click.option(
    "--token-basis",
    "basis",
    type=click.Choice(["output", "input", "total"]),
    default="output",
    show_default=True,
    help="Which tokens are counted, in demand and cost alike.",
)
@click.option(
    "--price", "typed", multiple=True, metavar="HARDWARE=USD", help="USD an hour of one card (repeatable)."
)
@click.option(
    "--prices",
    metavar="FILE",
    help="CSV of prices: gpu_model and usd_per_gpu_hour, or usd_per_instance_hour and gpus.",
)
@click.option(
    "--price-column",
    "price_columns",
    multiple=True,
    metavar="NAME=THEIRS",
    help="What a column is called there (repeatable).",
)
@click.option("--as-of", metavar="DATE", help="Day of the list prices (default: today).")
@click.option(
    "--headroom",
    type=click.FloatRange(0.05, 1),
    default=0.8,
    show_default=True,
    help="Part of its capacity that a replica is planned for.",
)
@click.option(
    "--min-replicas",
    "at_least",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Fewest replicas of a fleet.",
)
@click.option(
    "--slices",
    type=click.IntRange(1, 64),
    metavar="N",
    help="In a mixed fleet, cut each size's demand into N parts that stay whole (default: any split).",
)
@click.option(
    "--extrapolate",
    "beyond",
    type=click.FloatRange(1, 10),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="Follow curves up to this factor beyond the load that was measured.",
)
@click.option(
    "--weights-gib",
    "weights",
    type=click.FloatRange(0),
    metavar="GIB",
    help="Memory that the model's weights take; checked against the cards.",
)
@click.option(
    "--kv-gib-per-1k-tokens",
    "kv",
    type=click.FloatRange(0),
    metavar="GIB",
    help="KV cache of a thousand tokens; limits requests at once.",
)
@click.option(
    "--at-interactivity",
    "speed",
    metavar="TOK_S",
    help="Without --demand: cost at this speed per user, between the measured points.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option(
    "--draws", type=click.IntRange(0, 2000), default=200, show_default=True, help="Draws of the bootstrap."
)
@pass_context
def command(context: Context, /, **given: Any) -> None:  # noqa: ANN401 - click's options, by name
    """Compare hardware for one demand: whole replicas with headroom, within TTFT and TPOT, at their prices.

    Without --demand, every measured load is priced as it stands. Prices: --price, --prices, the load points' own, the
    ledger's bills (for its own telemetry), else the lowest dated list price, and each row says which. Hardware without data
    is 'not comparable', never guessed.
    """
    from gpuledger.pipeline import hardware_points
    from gpuledger.pipeline.hardware import compare

    wanted = sum(1 for name in ("demand", "hours", "of_ledger") if given[name])
    if wanted > 1:
        raise UsageError(
            "several demands", hint="Give one of --demand, --demand-by-hour, --demand-from-ledger."
        )
    asked = _Asked(context, given)
    points, prices = asked.points(), asked.prices()
    if not wanted:
        if given["ttft"] is not None or given["tpot"] is not None:
            raise UsageError("service levels without a demand", hint="Add --demand TOK_S.")
        found = (
            hardware_points.at_interactivity(points, prices, given["basis"], asked.speed)
            if given["speed"] else hardware_points.price_points(points, prices, given["basis"])
        )  # fmt: skip
        _emit(context, found, _SHOWN_POINTS)
        return
    if given["speed"]:
        raise UsageError(
            "--at-interactivity is for points, not for a demand", hint="Give --slo-tpot instead."
        )
    need = asked.need(points)
    found = compare(points, prices, need, [text.rpartition("=")[0].strip() for text in given["typed"]])
    found.totals["window"] = asked.told_window
    found.totals["curves"] = given["curves"] or "ledger"
    _emit(context, found, _SHOWN)


def _emit(context: Context, found: "Comparison", shown: tuple[str, ...]) -> None:
    rows = found.rows
    if context.format == "table":
        rows = [{name: _short(row[name]) for name in shown if name in row} for row in rows]
    context.emit("compare-hardware", rows, totals=found.totals, diagnostics=found.diagnostics)


def _short(value: object) -> object:
    """Drop digits that a person doesn't need."""
    return round(value, _DIGITS) if isinstance(value, float) else value


class _Asked:
    """The options, as the pipeline takes them. The ledger is opened only when something of it is asked for."""

    def __init__(self, context: Context, given: dict[str, Any]) -> None:
        self.context, self.given = context, given

    @property
    def told_window(self) -> str | None:
        if self.given["curves"] and not self.given["of_ledger"]:
            return None
        return f"{self.window.start:%Y-%m-%dT%H:%MZ}..{self.window.end:%Y-%m-%dT%H:%MZ}"

    @cached_property
    def window(self) -> "Window":
        """Return the window asked for: by default the thirty days before the newest telemetry of tokens."""
        from gpuledger.core import windows

        if self.given["window"]:
            return windows.parse(self.given["window"], datetime.now(UTC))
        newest = (self.ledger.execute('SELECT max("end") FROM tokens').fetchone() or (None,))[0]
        return (
            windows.Window(newest - timedelta(days=30), newest)
            if newest
            else windows.parse("30d", datetime.now(UTC))
        )

    @cached_property
    def ledger(self) -> "Connection":
        found = self.context.ledger()
        found.require()
        return found.connect()

    def points(self) -> "list[Measured]":
        from gpuledger.pipeline import hardware_demand, load_points

        if self.given["curves"]:
            columns = load_points.read_columns(self.given["columns"])
            return load_points.read(Path(self.given["curves"]), columns, model=self.given["model"])
        found = hardware_demand.measured(self.ledger, self.window, self.given["model"])
        if not found:
            raise UsageError(
                "the ledger's telemetry shows no load of a model on cards that are known",
                hint="It needs token telemetry of pods (requests running, tokens) and what cards their jobs hold; or give --curves FILE.",
            )
        return found

    def prices(self) -> "Prices":
        from gpuledger.pipeline import hardware_prices, load_points

        given = self.given
        columns = load_points.read_columns(given["price_columns"], "--price-column", hardware_prices.COLUMNS)
        try:
            day = date.fromisoformat(given["as_of"]) if given["as_of"] else datetime.now(UTC).date()
        except ValueError as error:
            raise UsageError(
                f"no date: {given['as_of']!r}", where="--as-of", hint="Write 2026-10-31."
            ) from error
        return hardware_prices.Prices(
            day, hardware_prices.typed_prices(given["typed"]),
            hardware_prices.filed_prices(Path(given["prices"]), columns) if given["prices"] else {},
            {} if given["curves"] else hardware_prices.billed_prices(self.ledger, self.window),
        )  # fmt: skip

    def need(self, points: "list[Measured]") -> "Need":
        from gpuledger.pipeline import hardware_demand
        from gpuledger.pipeline.hardware_kinds import Need

        given = self.given
        for name in ("ttft", "tpot"):
            if given[name] is not None and not 0 < given[name] < float("inf"):
                raise UsageError(
                    f"no time: {given[name]}", where=f"--slo-{name}", hint="Seconds, such as 0.5."
                )
        if given["of_ledger"]:
            hours = hardware_demand.by_hour(self.ledger, self.window, given["basis"], given["model"])
        else:
            hours = (
                hardware_demand.of_file(Path(given["hours"]))
                if given["hours"]
                else hardware_demand.typed(given["demand"])
            )
        if not any(load > 0 for hour in hours for load in hour.values()):
            raise UsageError(
                "there is no demand", hint="The window has no tokens: choose another, or give --demand TOK_S."
            )
        return Need(
            hardware_demand.named(hours, points), given["ttft"], given["tpot"], given["rank"], given["basis"], given["headroom"],
            given["at_least"], given["slices"], given["beyond"], given["weights"], given["kv"], given["seed"], given["draws"],
        )  # fmt: skip

    @property
    def speed(self) -> Decimal:
        try:
            found = Decimal(self.given["speed"])
        except InvalidOperation:
            found = Decimal(0)
        if not found.is_finite() or found <= 0:
            raise UsageError(
                f"no speed: {self.given['speed']!r}",
                where="--at-interactivity",
                hint="Tokens a second per user, such as 50.",
            )
        return found
