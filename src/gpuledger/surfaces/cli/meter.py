"""`gpuledger meter`: what runs, priced before its bill comes, again and again."""

import csv
import json
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

import click

from gpuledger.surfaces.cli._context import Context, pass_context, plain, tell

if TYPE_CHECKING:
    from gpuledger.pipeline.metering import Metered

_UNITS = {"s": 1, "m": 60, "h": 3600}


def _interval(_: click.Context, __: click.Parameter, value: str) -> timedelta:
    """Read a time such as 30s, 5m or 1h; a bare number is seconds, at least one."""
    match = re.fullmatch(r"(\d{1,6})([smh]?)", value.strip().lower())
    if match is None or int(match[1]) == 0:
        raise click.BadParameter(f"{value!r} is no interval: use 30s, 5m or 1h")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2] or "s"])


@click.command(name="meter", short_help="Price what runs, before the bill comes.")
@click.option(
    "--interval", callback=_interval, default="30s", show_default=True, metavar="TIME", help="30s, 5m, 1h."
)
@click.option("--once", is_flag=True, help="One round, then end.")
@pass_context
def command(context: Context, interval: timedelta, *, once: bool) -> int:
    """Read the configured telemetry, write Estimated rows of what runs, and print one line per round.

    Final rows of a bill replace the estimates; `gpuledger costs --compare estimate` shows by how much they were off. A
    source that fails is told and doesn't end the loop (exit code 1 with --once). Ctrl-C ends it after the round under way. In JSON, the loop
    prints one object per line and round.
    """
    from gpuledger.pipeline.metering import Meter

    meter = Meter(context.ledger(), seen=max(2 * interval, timedelta(minutes=2)))
    if once:
        round_ = meter.collect_and_run(progress=context.progress())
        context.emit("meter", _rows(round_), totals=_totals(round_), diagnostics=round_.diagnostics)
        return int(any(one.severity == "error" for one in round_.diagnostics))
    show = _printer(context)
    with Interruption() as interruption, meter.watching():
        show(meter.round(context.progress()))
        while not interruption.came(within=interval):
            show(meter.round(context.progress()))
    return 0


class Interruption:
    """Ctrl-C as something to wait for; the second one interrupts as usual.

    A signal handler may come in the middle of anything, so it takes no lock: it writes into a pipe.
    """

    def __enter__(self) -> Self:
        self._heard, self._tell = os.pipe()
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)
        os.close(self._heard)
        os.close(self._tell)

    def _ask(self, _: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, self._before)
        os.write(self._tell, b"!")

    def came(self, within: timedelta = timedelta()) -> bool:
        """Wait for it; return whether it came."""
        return bool(select.select([self._heard], [], [], within.total_seconds())[0])


def _rows(round_: "Metered") -> list[dict[str, Any]]:
    return [asdict(round_.tick)] if round_.tick else []


def _totals(round_: "Metered") -> dict[str, Any]:
    return {"days": len(round_.days), "rows": sum(day.rows for day in round_.days)}


def _printer(context: Context) -> Callable[["Metered"], None]:
    """Return what prints a round; a finding is told when it is new, not with every round."""
    told: set[tuple[str, str, str]] = set()
    heading = [True]

    def show(round_: "Metered") -> None:
        rows = _rows(round_)
        fresh = [one for one in round_.diagnostics if (one.code, one.source, one.message) not in told]
        told.clear()
        told.update((one.code, one.source, one.message) for one in round_.diagnostics)
        if context.format == "json":
            findings = [one.as_dict() for one in round_.diagnostics]
            document = {
                "schema_version": 1,
                "command": "meter",
                "rows": rows,
                "totals": _totals(round_),
                "diagnostics": findings,
            }
            click.echo(json.dumps(document, default=plain, ensure_ascii=False))
        elif context.format == "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerows(rows if heading[0] else [])
            writer.writerows([_text(value) for value in row.values()] for row in rows)
            heading[0] = heading[0] and not rows
        else:
            for row in rows:
                click.echo(_line(row))
        sys.stdout.flush()
        for one in fresh if context.format != "json" else ():
            tell(one)

    return show


def _line(row: Mapping[str, Any]) -> str:
    """Write a round for a person."""

    def money(name: str) -> str:
        return "unknown" if row[name] is None else f"{row[name]:,.2f} {row['currency']}"

    parts = [
        f"{row['time']:%H:%M:%S}",
        f"{row['nodes']} nodes",
        f"{money('usd_per_hour')}/h",
        f"{money('spent_today')} today",
    ]
    if row["unpriced_nodes"]:
        parts.append(f"{row['unpriced_nodes']} unpriced")
    if row["new_nodes"]:
        parts.append(f"{row['new_nodes']} new, visible after {row['visibility_lag_seconds']:.0f} s")
    return "  ".join(parts)


def _text(value: object) -> object:
    return "" if value is None else value if isinstance(value, (int, str)) else plain(value)
