"""`gpuledger demo`: a synthetic company, written as native bills and ingested by the same connectors as yours."""

from dataclasses import asdict, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context
from gpuledger.surfaces.cli.report import SYNTHETIC_PREFIX

if TYPE_CHECKING:
    from gpuledger.demo.request_traces import Found
    from gpuledger.pipeline.ingest import Report


@click.command(name="demo", short_help="Write and ingest a synthetic example company.")
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed gives the same bytes.")
@click.option(
    "--month", metavar="YYYY-MM", default="2026-10", show_default=True, help="Month that the bills are for."
)
@click.option(
    "--rows", type=click.IntRange(min=1), metavar="N", help="About how many charges (default: about 55,000)."
)
@click.option(
    "--out", metavar="DIR", help="Folder to write to (default: demo-bills, or demo-trace with --trace)."
)
@click.option(
    "--trace",
    metavar="PATH",
    help="Instead of the company: a published trace. Of pods (openb, DLRM), as telemetry and a bill at invented prices; of requests (Azure LLM, Mooncake, GenAI), as token telemetry.",
)
@click.option(
    "--usd-per-gpu-hour", metavar="X", default="2.00", show_default=True, help="Price of a trace's cards."
)
@click.option(
    "--usd-per-core-hour",
    metavar="X",
    default="0.04",
    show_default=True,
    help="Price of a trace's machines without cards.",
)
@click.option(
    "--stats", is_flag=True, help="Show what the trace in the ledger says: hours held, demand, burstiness."
)
@click.option("--window", metavar="WINDOW", help="Window of --stats (default: all of the trace).")
@pass_context
def command(
    context: Context,
    seed: int,
    month: str,
    rows: int | None,
    out: str | None,
    trace: str | None,
    usd_per_gpu_hour: str,
    usd_per_core_hour: str,
    *,
    stats: bool,
    window: str | None,
) -> int:
    """Write a synthetic company's bills of one month (AWS, Azure, Google Cloud, a neocloud, Anthropic, OpenAI).

    They are native exports in the providers' own formats; telemetry beside them says which jobs held the machines, and
    truth.json what was put in. With --trace, a published trace of a real cluster takes the company's place: what was
    held is real, its prices are invented, and its second 0 is a Monday, 2026-06-01 00:00 UTC, by decree.
    """
    if trace is not None:
        prices = (
            _price("--usd-per-gpu-hour", usd_per_gpu_hour),
            _price("--usd-per-core-hour", usd_per_core_hour),
        )
        return _trace(context, trace, out or "demo-trace", prices, window=window, stats=stats)
    if stats or window:
        raise UsageError("--stats and --window are of a trace", hint="gpuledger demo --trace PATH --stats")
    return _company(context, seed, month, rows, out or "demo-bills")


def _company(context: Context, seed: int, month: str, rows: int | None, out: str) -> int:
    from gpuledger import demo
    from gpuledger.pipeline.ingest import Report
    from gpuledger.pipeline.telemetry import ingest_records

    progress = context.progress()
    progress(f"writing the example company for {month} (synthetic)")
    written = demo.write(Path(out), seed=seed, month=month, rows=rows)
    ledger, report = context.ledger(), Report()
    for source in written.sources:
        settings = {"map": str(source.path / "columns.toml")} if source.type == "columns" else {}
        report.extend(
            ledger.ingest(
                source.type,
                str(source.path),
                source=f"{SYNTHETIC_PREFIX}{source.name}",
                settings=settings,
                progress=progress,
            )
        )
    totals = {"rows": sum(row.rows for row in report.rows), "synthetic": True, "bills": str(written.root)}
    told = ingest_records(
        ledger,
        str(written.root / demo.TELEMETRY),
        source=f"{SYNTHETIC_PREFIX}{demo.TELEMETRY}",
        progress=progress,
    )
    totals["telemetry_rows"] = _add(report, told, month)
    return _show(context, report, totals)


def _trace(
    context: Context, path: str, out: str, prices: tuple[Decimal, Decimal], *, window: str | None, stats: bool
) -> int:
    from gpuledger.core import windows
    from gpuledger.demo import request_traces, traces
    from gpuledger.pipeline.ingest import Report
    from gpuledger.pipeline.telemetry import ingest_records
    from gpuledger.pipeline.trace_stats import trace_stats

    span = windows.parse(window, datetime.now(UTC)) if window else None
    progress = context.progress()
    progress(f"reading the trace at {path}")
    requests = request_traces.recognise(Path(path))
    if requests is not None:
        return _requests(context, requests, out, window=window, stats=stats)
    found = traces.convert(path, out, usd_per_gpu_hour=prices[0], usd_per_core_hour=prices[1])
    ledger, report, source = context.ledger(), Report(), f"{SYNTHETIC_PREFIX}{found.kind}"
    report.diagnostics += found.diagnostics
    report.extend(ledger.ingest("focus", str(found.bill), source=source, progress=progress))
    totals = {
        "rows": sum(row.rows for row in report.rows),
        "synthetic": "prices and calendar only: what was held is the trace's",
        "trace": found.kind,
        "second_0": traces.MONDAY,
        "usd_per_gpu_hour": prices[0],
        "usd_per_core_hour": prices[1],
        "files": str(Path(out) / found.kind),
    }
    told = ingest_records(ledger, str(found.telemetry), source=f"{source}-telemetry", progress=progress)
    totals["telemetry_rows"] = _add(report, told, None)
    if not stats:
        return _show(context, report, totals)
    rows = trace_stats(ledger.connect(), found.kind, span, found.arrivals)
    context.emit(
        "demo", rows, totals=totals, diagnostics=report.diagnostics, title="SYNTHETIC PRICES AND CALENDAR"
    )
    return _code(report)


def _requests(context: Context, found: "Found", out: str, *, window: str | None, stats: bool) -> int:
    """Take in a trace of single requests: token telemetry, no machines and so no bill."""
    from gpuledger.demo import request_traces
    from gpuledger.pipeline.ingest import Report
    from gpuledger.pipeline.request_stats import request_stats
    from gpuledger.pipeline.telemetry import ingest_records

    if window is not None:
        raise UsageError(
            "figures of a trace of requests are of all of it", where="--window", hint="Leave it out."
        )
    trace, ledger, report = request_traces.convert(found, out), context.ledger(), Report()
    source = f"{SYNTHETIC_PREFIX}{trace.kind}-telemetry"
    told = ingest_records(ledger, str(trace.telemetry), source=source, progress=context.progress())
    totals = {
        "trace": trace.kind, "requests": sum(map(len, trace.moments.values())), "clock": trace.clock,
        "files": str(trace.telemetry), "telemetry_rows": _add(report, told, None),
    }  # fmt: skip
    if not stats:
        return _show(context, report, totals)
    rows = request_stats(ledger.connect(), trace, source)
    context.emit("demo", rows, totals=totals, diagnostics=report.diagnostics, title="A PUBLISHED TRACE")
    return _code(report)


def _price(option: str, text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise UsageError(f"not a price: {text!r}", where=option, hint="Dollars, e.g. 2.00") from error


def _add(report: "Report", told: "Report", month: str | None) -> int:
    """Add a telemetry delivery as one line instead of one for each of its days; return its rows."""
    records = sum(row.rows for row in told.rows)
    report.rows += [replace(row, billing_period=month, rows=records) for row in told.rows[:1]]
    report.diagnostics += told.diagnostics
    return records


def _show(context: Context, report: "Report", totals: dict[str, object]) -> int:
    context.emit(
        "demo",
        [asdict(row) for row in report.rows],
        totals=totals,
        diagnostics=report.diagnostics,
        title="SYNTHETIC",
    )
    return _code(report)


def _code(report: "Report") -> int:
    return 1 if any(told.severity == "error" for told in report.diagnostics) else 0
