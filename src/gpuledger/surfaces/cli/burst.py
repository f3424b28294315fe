"""`gpuledger burst`: how bursty AI is against everything else, from the ledger's own charges and jobs."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context

if TYPE_CHECKING:
    from gpuledger.core.calendar import WorkingHours
    from gpuledger.core.windows import Window
    from gpuledger.pipeline.ledger import Ledger

_SHOWN = (
    "period",
    "workload",
    "basis",
    "measure",
    "window",
    "value",
    "low",
    "high",
    "periods",
    "covered_share",
)


@click.command(name="burst", short_help="How bursty AI is against other workloads, with intervals.")
@click.option(
    "--window",
    metavar="WINDOW",
    help="2026-10, 2026-10-01..2026-10-31, 7d (default: the newest month of bills).",
)
@click.option(
    "--by-month",
    is_flag=True,
    help="Each month by itself, to compare over time (default: all months of bills).",
)
@click.option(
    "--hours", metavar="FROM-TO", default="8-20", show_default=True, help="Working hours, Monday to Friday."
)
@click.option("--holidays", multiple=True, metavar="DATE,…", help="Days on which nobody works.")
@click.option(
    "--timezone",
    metavar="ZONE",
    default="UTC",
    show_default=True,
    help="Where these hours are, such as Europe/Berlin.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option(
    "--draws", type=click.IntRange(0, 5000), default=500, show_default=True, help="Draws of the bootstrap."
)
@pass_context
def command(
    context: Context, window: str | None, hours: str, holidays: tuple[str, ...], timezone: str, seed: int, draws: int,
    *, by_month: bool,
) -> None:  # fmt: skip
    """Measure how uneven the money of AI and of everything else is by hour and day, how jobs arrive, what is stranded.

    The burst index is p99 / mean of AI's money over that of everything else: 1.4 means that capacity for all but one in a
    hundred windows takes 40 % more per unit used. It is of this ledger and these windows alone.
    """
    from gpuledger.pipeline.burst import Settings, bursts

    ledger = context.ledger()
    ledger.require()
    settings = Settings(_working(hours, holidays, timezone), draws, seed)
    found = bursts(ledger.connect(), _periods(ledger, window, by_month=by_month), settings)
    rows = found.rows
    if context.format == "table":
        rows = [{name: row[name] for name in _SHOWN} for row in rows]
    context.emit("burst", rows, totals=found.totals, diagnostics=found.diagnostics)


def _periods(ledger: "Ledger", window: str | None, *, by_month: bool) -> "list[tuple[str, Window]]":
    from gpuledger.core import windows
    from gpuledger.pipeline.report import months, window_of

    if not by_month:
        return [window_of(ledger, window)]
    now = datetime.now(UTC)
    names = sorted(months(ledger)) if window is None else windows.parse(window, now).billing_periods
    if not names:
        raise UsageError(
            "--by-month needs whole months", where="--window", hint="Write 2026-08..2026-10, or leave it out."
        )
    return [(name, windows.parse(name, now)) for name in names]


def _working(text: str, days: tuple[str, ...], zone: str) -> "WorkingHours":
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from gpuledger.core.calendar import WorkingHours, holidays

    opens, dash, closes = text.partition("-")
    if not dash or not opens.isdecimal() or not closes.isdecimal() or not 0 <= int(opens) < int(closes) <= 24:  # noqa: PLR2004
        raise UsageError(f"can't read --hours {text!r}", hint="Write 8-20: whole hours, from before to.")
    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UsageError(
            f"no time zone {zone!r}", where="--timezone", hint="Such as Europe/Berlin."
        ) from error
    return WorkingHours(int(opens), int(closes), holidays(days), place)
