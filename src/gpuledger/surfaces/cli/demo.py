"""`gpuledger demo`: a synthetic company, written as native bills and ingested by the same connectors as yours."""

from dataclasses import asdict, replace
from pathlib import Path

import click

from gpuledger.surfaces.cli._context import Context, pass_context
from gpuledger.surfaces.cli.report import SYNTHETIC_PREFIX


@click.command(name="demo", short_help="Write and ingest a synthetic example company.")
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed gives the same bytes.")
@click.option(
    "--month", metavar="YYYY-MM", default="2026-10", show_default=True, help="Month that the bills are for."
)
@click.option(
    "--rows", type=click.IntRange(min=1), metavar="N", help="About how many charges (default: about 55,000)."
)
@click.option("--out", metavar="DIR", help="Folder for the native bills (default: demo-bills).")
@pass_context
def command(context: Context, seed: int, month: str, rows: int | None, out: str | None) -> int:
    """Write a synthetic company's bills of one month (AWS, Azure, Google Cloud, a neocloud, Anthropic, OpenAI).

    They are native exports in the providers' own formats; telemetry beside them says which jobs held the machines, and
    truth.json what was put in.
    """
    from gpuledger import demo
    from gpuledger.pipeline.ingest import Report
    from gpuledger.pipeline.telemetry import ingest_records

    progress = context.progress()
    progress(f"writing the example company for {month} (synthetic)")
    written = demo.write(Path(out or "demo-bills"), seed=seed, month=month, rows=rows)
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
    # A line for the month instead of one for each of its days.
    records = sum(row.rows for row in told.rows)
    report.extend(
        Report([replace(row, billing_period=month, rows=records) for row in told.rows[:1]], told.diagnostics)
    )
    totals["telemetry_rows"] = records
    context.emit(
        "demo",
        [asdict(row) for row in report.rows],
        totals=totals,
        diagnostics=report.diagnostics,
        title="SYNTHETIC",
    )
    return 1 if any(told.severity == "error" for told in report.diagnostics) else 0
